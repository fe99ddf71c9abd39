"""The diagnosis, on made-up pairs whose truth is known."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from typer.testing import CliRunner

from differential_smoothing.cli import app
from differential_smoothing.evaluation import diagnose
from differential_smoothing.evaluation.diagnosis.findings import SLOPES, root
from differential_smoothing.rollouts import write_rollouts


def draw(name, success, modes, n, rng, seed=0):
    """A rollouts table: problem x is solved with probability success[x], by mode m with probability modes[x, m]."""
    problems = len(success)
    mode = (rng.random((problems, n, 1)) > modes.cumsum(1)[:, None, :]).sum(2).clip(max=modes.shape[1] - 1)
    correct = rng.random((problems, n)) < success[:, None]
    wrong = rng.integers(0, 50, (problems, n))
    text = np.where(correct, np.char.add("m", mode.astype(str)), np.char.add("w", wrong.astype(str))).ravel()
    right = np.log(success[:, None] * np.take_along_axis(modes, mode, 1) + 1e-300)
    logp = np.where(correct, right, np.log((1 - success[:, None]) / 50 + 1e-300))
    frame = pd.DataFrame(
        {
            "prompt_id": np.repeat([f"p{x:04d}" for x in range(problems)], n),
            "sample": np.tile(np.arange(n), problems),
            "correct": correct.ravel(),
            "completion": text,
            "logp": logp.ravel(),
        }
    )
    frame["canonical"] = frame["completion"].where(frame["correct"], None)
    return frame.assign(model=name, seed=seed, step=-1)


def made_up(kind, seed, *, problems=800, n=64, slope=0.6):
    rng = np.random.default_rng(seed)
    success = rng.beta(1, 3, problems) * 0.98 + 0.01
    modes = rng.dirichlet(np.full(8, 0.5), problems) + 1e-6
    modes *= np.arange(8) < rng.integers(1, 9, (problems, 1))
    modes /= modes.sum(1, keepdims=True)
    later, later_modes = success, modes
    if kind == "gain":
        later = success**0.6
    if kind == "sharpening":
        later = success**0.8
        later_modes = modes ** (1 + slope)
        later_modes /= later_modes.sum(1, keepdims=True)
    return draw("base", success, modes, n, rng), draw("rl", later, later_modes, n, rng)


def finding(diagnosis, name):
    return diagnosis.findings.set_index("finding").loc[name]


TRUTH = {"nothing": "not sharpened", "gain": "not sharpened", "sharpening": "sharpened"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRUTH)
def test_the_verdict_is_right_on_every_one_of_twenty_seeds(kind):
    found = [diagnose(*made_up(kind, 100 + seed), seed=seed) for seed in range(20)]
    assert [d.verdict for d in found] == [TRUTH[kind]] * 20
    slopes = np.array([finding(d, "reinforcement slope")[["estimate", "low", "high"]] for d in found], dtype=float)
    truth = 0.6 if kind == "sharpening" else 0.0
    assert slopes[:, 0].mean() == pytest.approx(truth, abs=0.03)
    assert ((slopes[:, 1] <= truth) & (truth <= slopes[:, 2])).sum() >= 17  # 95% of 20, less 2 standard errors


@pytest.mark.parametrize("kind", TRUTH)
def test_ten_problems_tell_nothing(kind):
    for seed in range(20):
        found = diagnose(*made_up(kind, seed, problems=10), seed=seed, replications=200)
        assert found.verdict == "cannot tell"
        assert "10 problems are too few" in found.sentences[0]
        assert "sample more problems" in found.sentences[-1]
        assert len(found.sentences) == 2  # and nothing else is claimed


def test_from_samples_alone_the_slope_is_nearly_the_same():
    before, after = made_up("sharpening", 3)
    exact = finding(diagnose(before, after, seed=0), "reinforcement slope")
    blind = [frame.assign(logp=np.nan) for frame in (before, after)]
    counted = diagnose(*blind, seed=0)
    assert counted.verdict == "sharpened"
    assert finding(counted, "reinforcement slope").estimate == pytest.approx(exact.estimate, abs=0.2)
    assert np.isnan(finding(counted, "surprisal of correct").estimate)
    unchanged = [frame.assign(logp=np.nan) for frame in made_up("nothing", 3)]
    slope = finding(diagnose(*unchanged, seed=0), "reinforcement slope")
    assert slope.low < 0 < slope.high


def test_a_flattened_model_has_a_slope_below_zero():
    before, after = made_up("sharpening", 5, slope=-0.5)
    found = diagnose(before, after, seed=0)
    slope = finding(found, "reinforcement slope")
    assert slope.low < -0.5 < slope.high < 0
    assert finding(found, "variety").low > 0
    assert found.verdict == "not sharpened"


def test_the_slope_solves_the_pairwise_equation():
    """The factorised sums on a grid against every pair of answers and a root finder."""
    rng = np.random.default_rng(0)
    n, problems, z_of = 40, 12, {}
    rows = []
    for which in ("base", "rl"):
        for x in range(problems):
            modes = np.random.default_rng(x).dirichlet(np.ones(5))
            weight = modes if which == "base" else modes**1.7 / (modes**1.7).sum()
            for i, m in enumerate(rng.choice(5, n, p=weight)):
                z_of[x, m] = np.log(modes[m])
                rows.append((which, f"p{x:02d}", i, f"m{m}", z_of[x, m], x, m))
    frame = pd.DataFrame(rows, columns=["model", "prompt_id", "sample", "completion", "logp", "x", "m"])
    frame = frame.assign(correct=True, canonical=frame["completion"], seed=0, step=-1)
    before, after = (frame[frame["model"] == name] for name in ("base", "rl"))
    found = finding(diagnose(before, after, seed=7, replications=200), "reinforcement slope")
    # The halves, drawn as the diagnosis draws them.
    u = pd.Series(np.random.default_rng(7).random(len(before)), index=before.index)
    half = u.groupby(before["x"]).rank(method="first").astype(int) % 2

    def equation(s):
        total = 0.0
        for h, x in itertools.product((0, 1), range(problems)):
            selected = before[(half == h) & (before["x"] == x)]
            b = before[(half != h) & (before["x"] == x)]["m"].value_counts()
            a = after[after["x"] == x]["m"].value_counts()
            part = 0.0
            for i, j in itertools.combinations(selected["m"].unique(), 2):
                d = z_of[x, i] - z_of[x, j]
                part += d * a.get(i, 0) * b.get(j, 0) * np.exp(-s * d / 2)
                part -= d * a.get(j, 0) * b.get(i, 0) * np.exp(s * d / 2)
            total += part / len(selected)
        return total

    assert found.estimate == pytest.approx(brentq(equation, -1, 10), abs=2e-3)


def test_roots_beyond_the_grid_stop_at_its_ends():
    assert root(np.ones((1, len(SLOPES))))[0] == SLOPES[-1]
    assert root(-np.ones((1, len(SLOPES))))[0] == SLOPES[0]
    assert np.isnan(root(np.zeros((1, len(SLOPES))))[0])
    assert root((0.3 - SLOPES)[None])[0] == pytest.approx(0.3)


def test_variety_and_pass_at_k_are_those_of_every_pair_of_samples():
    before, after = made_up("sharpening", 1, problems=6, n=12)
    found = diagnose(before, after, seed=0, replications=200)
    differences = []
    for prompt in before["prompt_id"].unique():
        chance = []
        for frame in (before, after):
            answers = frame[(frame["prompt_id"] == prompt) & frame["correct"]]["canonical"]
            pairs = [a != b for a, b in itertools.combinations(answers, 2)]
            chance.append(np.mean(pairs) if pairs else np.nan)
        differences.append(chance[1] - chance[0])
    assert finding(found, "variety").estimate == pytest.approx(np.nanmean(differences))
    assert finding(found, "variety").problems == np.isfinite(differences).sum()
    gain = after["correct"].mean() - before["correct"].mean()
    assert finding(found, "pass@1").estimate == pytest.approx(gain)


def test_an_unchanged_model_gives_up_nothing_and_loses_no_rare_answer():
    """Naively, answers seen once are mostly lost in new samples. Against the other half they are not."""
    changes, naive = [], []
    for seed in range(20):
        before, after = made_up("nothing", seed, problems=150, n=16)
        found = diagnose(before, after, seed=seed, replications=200)
        changes.append([finding(found, name).estimate for name in ("given up", "survival of rare answers")])
        naive.append((found.modes[found.modes["before"] == 1]["after"] > 0).mean())
    assert np.mean(naive) < 0.6
    z = np.mean(changes, axis=0) / (np.std(changes, axis=0) / np.sqrt(len(changes)))
    assert (abs(z) < 3).all(), z


def test_a_model_that_drops_rare_answers_and_hard_problems_is_caught_at_both():
    before, after = made_up("nothing", 2, problems=400)
    rate = before.groupby("prompt_id")["correct"].transform("mean").to_numpy()
    kept = after["correct"].to_numpy() & (rate > np.quantile(rate, 0.25)) & (after["completion"] == "m0").to_numpy()
    after = after.assign(correct=kept, canonical=after["canonical"].where(kept, None))
    found = diagnose(before, after, seed=0)
    assert finding(found, "given up").low > 0.05
    assert finding(found, "survival of rare answers").high < 0
    assert found.problems["given_up"].sum() >= 90
    assert found.survival["change"].iloc[0] < 0


def test_the_order_of_rows_and_the_names_of_answers_decide_nothing():
    before, after = made_up("sharpening", 4, problems=60, n=16)
    found = diagnose(before, after, seed=0, replications=200)
    shuffled = diagnose(
        before.sample(frac=1, random_state=1), after.sample(frac=1, random_state=2), seed=0, replications=200
    )
    renamed = diagnose(
        *(frame.assign(canonical="x" + frame["canonical"]) for frame in (before, after)), seed=0, replications=200
    )
    for other in (shuffled, renamed):
        pd.testing.assert_frame_equal(found.findings, other.findings)
        assert found.sentences == other.sentences


def test_the_seed_reproduces_every_digit_and_another_changes_the_halves():
    before, after = made_up("sharpening", 4, problems=60, n=16)
    first, again, other = (diagnose(before, after, seed=s, replications=200) for s in (0, 0, 1))
    pd.testing.assert_frame_equal(first.findings, again.findings)
    assert finding(first, "given up").estimate != finding(other, "given up").estimate


def test_several_training_seeds_stand_beside_one_base():
    before, _ = made_up("sharpening", 6, problems=100, n=16)
    runs = [made_up("sharpening", 6, problems=100, n=16)[1].assign(seed=s) for s in (0, 1)]
    once = diagnose(before, runs[0], seed=0, replications=200)
    twice = diagnose(before, pd.concat(runs), seed=0, replications=200)
    for name in ("pass@1", "variety"):
        assert finding(twice, name).estimate == pytest.approx(finding(once, name).estimate)
    assert (twice.problems["n_after"] == 32).all()
    with pytest.raises(ValueError, match="expected the same seeds, or one seed before"):
        diagnose(pd.concat([before, before.assign(seed=5)]), pd.concat(runs), seed=0)


def test_without_canonical_forms_variety_is_unknown_and_said_to_be():
    before, after = (f.assign(canonical=None, logp=np.nan) for f in made_up("nothing", 0, problems=100))
    found = diagnose(before, after, seed=0, replications=200)
    assert found.verdict == "cannot tell"
    assert "canonical form" in found.sentences[0]
    assert "--canonical" in found.sentences[-1]
    for name in ("variety", "reinforcement slope", "survival of rare answers", "solution multiplicity"):
        assert np.isnan(finding(found, name).estimate), name
        assert finding(found, name).problems == 0
    assert found.problems["distinct_before"].isna().any()


def test_a_model_that_is_worse_everywhere_is_not_called_sharpened():
    before, after = made_up("nothing", 8, problems=400)
    rng = np.random.default_rng(0)
    kept = after["correct"].to_numpy() & (rng.random(len(after)) < 0.3)
    after = after.assign(correct=kept, canonical=after["canonical"].where(kept, None))
    found = diagnose(before, after, seed=0)
    assert found.verdict != "sharpened"
    assert "Pass@1 down" in found.sentences[1]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda b, a: (b.iloc[:0], a), "has 0 rows"),
        (lambda b, a: (b.drop(columns="correct"), a), "lacks the columns"),
        (lambda b, a: (b.assign(correct=None), a), "no scored completion"),
        (lambda b, a: (b, a[a["prompt_id"] != "p0000"]), "do not share 1 problems"),
        (lambda b, a: (pd.concat([b, a]), a), "mixes 2 models"),
        (lambda b, a: (b, pd.concat([a, a.assign(step=3)])), "mixes 2 steps"),
        (lambda b, a: (b, pd.concat([a, a])), "repeat the identity"),
        (lambda b, a: (b[b["sample"] < 2], a), "at least 4 before and 4 after"),
    ],
)
def test_errors_say_what_to_do(change, message):
    before, after = made_up("nothing", 0, problems=5, n=8)
    with pytest.raises(ValueError, match=message):
        diagnose(*change(before, after), seed=0)


def test_the_same_samples_twice_are_refused():
    before, _ = made_up("nothing", 0, problems=40, n=8)
    with pytest.raises(ValueError, match="hold the same samples"):
        diagnose(before, before.assign(model="copy"), seed=0)
    plain = before.assign(logp=np.nan, completion="")  # as other tools' files are
    with pytest.raises(ValueError, match="hold the same samples: verdicts, answers and places"):
        diagnose(plain, plain.sample(frac=1, random_state=0).assign(model="copy"), seed=0)
    one_answer = plain.assign(correct=True, canonical="x")  # two models that always say the same are two models
    diagnose(one_answer, one_answer.assign(model="copy"), seed=0)


def test_an_effect_too_small_to_act_on_is_not_called_sharpening():
    before, after = made_up("sharpening", 1, problems=1500, n=128, slope=0.06)
    found = diagnose(before, after, seed=0)
    assert finding(found, "reinforcement slope").low > 0
    assert found.verdict == "not sharpened"
    assert "none moved enough" in found.sentences[0]


def test_the_advice_names_only_causes_that_are_clear():
    before, after = made_up("nothing", 3, problems=800)
    hard = (before.groupby("prompt_id")["correct"].transform("mean") < 0.15).to_numpy()
    kept = after["correct"].to_numpy() & ~hard
    after = after.assign(correct=kept, canonical=after["canonical"].where(kept, None))
    easy = ~hard & ~after["correct"].to_numpy() & (np.random.default_rng(0).random(len(after)) < 0.2)
    after.loc[easy, ["correct", "canonical", "completion"]] = [True, "m0", "m0"]
    blind = [frame.assign(canonical=None, logp=np.nan) for frame in (before, after)]
    found = diagnose(*blind, seed=0)
    assert found.verdict == "sharpened"
    assert "fewer problems are solved" in found.sentences[-1] and "problems were given up" in found.sentences[-1]
    assert "reinforced" not in found.sentences[-1] and "alike" not in found.sentences[-1]


def test_few_certain_problems_are_not_given_up_by_chance():
    clear = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        both = [draw(name, np.full(40, 0.4), np.full((40, 2), 0.5), 16, rng) for name in ("base", "rl")]
        clear += finding(diagnose(*both, seed=seed, replications=200), "given up").low > 0
    assert clear <= 4


@pytest.mark.parametrize("seed", [-1, True, 0.5, None])
def test_a_seed_is_required(seed):
    before, after = made_up("nothing", 0, problems=5, n=8)
    with pytest.raises(ValueError, match="seed"):
        diagnose(before, after, seed=seed)


def test_the_command_prints_the_verdict_and_writes_what_it_rests_on(tmp_path):
    files = []
    for frame in made_up("sharpening", 9, problems=120, n=32):
        files.append(tmp_path / f"{frame['model'].iloc[0]}.parquet")
        write_rollouts(frame, files[-1])
    result = CliRunner().invoke(
        app, ["diagnose", "--before", str(files[0]), "--after", str(files[1]), "--output", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    assert result.output.startswith("Sharpened: yes")
    assert "reinforcement slope" in result.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "findings.csv",
        "modes.csv",
        "problems.csv",
        "survival.csv",
        "verdict.txt",
    ]
    assert len(pd.read_csv(tmp_path / "out" / "problems.csv")) == 120


def cut_at(frame, share, rng, limit=64):
    """The same answers with lengths, a ``share`` of them cut at the limit and therefore incorrect."""
    cut = rng.random(len(frame)) < share
    return frame.assign(
        num_tokens=np.where(cut, limit, rng.integers(10, limit - 1, len(frame))),
        correct=frame["correct"] & ~cut,
        canonical=frame["canonical"].where(~cut, None),
    )


def test_a_fall_of_pass_at_k_by_truncation_is_not_called_sharpening():
    """Easy problems get easier, and on hard ones answers grow past the limit: Pass@1 rises and Pass@k falls."""
    rng = np.random.default_rng(0)
    problems, n = 600, 64
    hard = np.arange(problems) % 3 > 0
    modes = np.full((problems, 8), 1 / 8)
    before = cut_at(draw("base", np.where(hard, 0.06, 0.3), modes, n, rng), 0.02, rng)
    after = draw("rl", np.where(hard, 0.06, 0.6), modes, n, rng)
    after = cut_at(after, np.repeat(np.where(hard, 0.45, 0.0), n), rng)
    blind = diagnose(before.drop(columns="num_tokens"), after.drop(columns="num_tokens"), seed=0)
    assert blind.verdict == "sharpened"
    seeing = diagnose(before, after, seed=0)
    assert seeing.verdict != "sharpened" and any("Truncation: " in sentence for sentence in seeing.sentences)
    assert finding(seeing, "truncation").estimate == pytest.approx(0.28, abs=0.02)
    assert finding(seeing, "pass@32 of ended").low > finding(seeing, "pass@32").high


def test_sharpening_is_seen_behind_truncation():
    rng = np.random.default_rng(0)
    before, after = made_up("sharpening", 3, problems=300, n=32)
    assert diagnose(cut_at(before, 0.02, rng), cut_at(after, 0.1, rng), seed=0).verdict == "sharpened"


def test_correct_answers_of_the_largest_length_are_not_cut():
    before, after = made_up("nothing", 3, problems=40, n=16)
    lengths = np.where(np.arange(len(before)) % 3 == 0, 9, 8)
    same = diagnose(before.assign(num_tokens=lengths), after.assign(num_tokens=lengths), seed=0)
    assert "truncation" not in set(same.findings["finding"])
