"""Every rule against a slow twin written from its formula, its invariances and its limits."""

import itertools
import math
import random
from fractions import Fraction

import pytest
import torch

from differential_smoothing.rules import RULES, make_rule

NAN, INF = math.nan, math.inf


def close(a, b, tolerance=1e-9):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# --- twins in plain Python: one group in, one list of advantages out ---------------------------------------------------
# A member is (reward, correct, its log-probabilities that count, its number of tokens).


def unknown(member):
    return math.isnan(member[0]) or math.isnan(member[1])


def mean(values):
    return math.fsum(values) / len(values)


def deviation(values, correction):
    centre = mean(values)
    return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / max(len(values) - correction, 1))


def grpo(members, scale="group", eps=1e-4, correction=1):
    scored = [m[0] for m in members if not math.isnan(m[0])]
    divide = deviation(scored, correction) + eps if scale == "group" and scored else 1.0
    return [0.0 if math.isnan(m[0]) else (m[0] - mean(scored)) / divide for m in members]


def dr_grpo(members):
    return grpo(members, scale="none")


def maxrl(members, eps=1e-6):
    scored = [m[0] for m in members if not math.isnan(m[0])]
    if not scored or mean(scored) == 0:
        return [0.0] * len(members)
    return [0.0 if math.isnan(m[0]) else (m[0] - mean(scored)) / (mean(scored) + eps) for m in members]


def best_of(members, scale="none", eps=1e-6):
    scored = sorted((m[0] for m in members if not math.isnan(m[0])), reverse=True)
    if len(scored) < 2:
        return [0.0] * len(members)
    gap = (scored[0] - scored[1]) / (deviation(scored, 1) + eps if scale == "group" else 1.0)
    return [gap if m[0] == scored[0] else 0.0 for m in members]


def f_grpo(members, focus=1.0):
    counted = [m for m in members if not unknown(m)]
    share = Fraction(sum(m[1] == 1 for m in counted), max(len(counted), 1))
    return [float(1 - share) ** focus * a for a in grpo(members)]


def ucpo(members, share=0.2):
    right = [i for i, m in enumerate(members) if not unknown(m) and m[1] == 1 and m[2]]
    length = [mean(m[2]) if m[2] else NAN for m in members]
    odds = {i: math.exp(length[i]) for i in right}
    q = {i: odds[i] / math.fsum(odds.values()) for i in right}
    result = grpo(members)
    for i in right:
        w = (1 - share) / len(right) + share * (1 / q[i]) / math.fsum(1 / q[j] for j in right)
        result[i] *= w * len(right)
    return result


def unlikeliness(members, weight=0.25, level="mean"):
    likely = [(mean(m[2]) if level == "mean" else math.fsum(m[2])) if m[2] else NAN for m in members]
    counted = [i for i, m in enumerate(members) if not unknown(m) and m[2]]
    shaped = []
    for i, m in enumerate(members):
        r = m[0]
        if i in counted and m[1] == 1:
            below = sum(likely[j] < likely[i] for j in counted)
            equal = sum(likely[j] == likely[i] for j in counted)
            r *= 1 - weight * (below + (equal + 1) / 2) / len(counted)
        shaped.append((r, *m[1:]))
    return grpo(shaped)


def pass_at_k_training(members, k=4):
    """Literally: GRPO with the population's deviation over all subgroups of k; a completion takes the mean of its own."""
    counted = [i for i, m in enumerate(members) if not unknown(m)]
    groups = list(itertools.combinations(counted, k))
    right = [int(any(members[i][1] == 1 for i in g)) for g in groups]
    chance = Fraction(sum(right), max(len(groups), 1))
    result = [0.0] * len(members)
    if 0 < chance < 1:
        spread = math.sqrt(chance * (1 - chance))
        for i in counted:
            own = [r - chance for g, r in zip(groups, right, strict=True) if i in g]
            result[i] = float(sum(own) / len(own)) / spread
    return result


def pkpo(members, k=4, baseline="loo"):
    """Literally: sums over the subsets of k, as in the paper's definitions, times n."""
    counted = {i: int(m[1] == 1) for i, m in enumerate(members) if not unknown(m)}
    result = [0.0] * len(members)
    n = len(counted)

    def s(among, i):
        """1 / C(n, k) times the sum of the maximum over the subsets of ``among`` that hold i."""
        sets = [g for g in itertools.combinations(among, k) if i in g]
        return Fraction(sum(max(counted[j] for j in g) for g in sets), math.comb(len(among), k))

    if n < k + (baseline in ("loo", "rloo")):
        return result
    for i in counted:
        value, others = s(list(counted), i), [j for j in counted if j != i]
        if baseline in ("loo", "rloo"):
            value -= sum(s(others, j) for j in others) / (n - 1 if baseline == "loo" else n)
        elif baseline == "loo_minus_one":
            rest = itertools.combinations(others, k - 1)
            value -= Fraction(sum(max((counted[j] for j in g), default=0) for g in rest), math.comb(n, k))
        result[i] = float(n * value)
    return result


def weighted(right, wrong):
    return lambda members: [0.0 if unknown(m) else right if m[1] == 1 else wrong for m in members]


def w_reinforce(members, positive_weight=0.1, negative_weight=1.0):
    return weighted(positive_weight, -negative_weight)(members)


def smoothed(value, *, correction, eps, divide=True, before=False):
    """DS: ``value(logps, tokens)`` is log pi_old, a list of one number for each of the tokens that count."""

    def rule(members, gamma_p, gamma_n):
        k = [0.0 if unknown(m) else -gamma_p if m[1] == 1 else gamma_n for m in members]
        terms = [[c * v for v in value(m[2], m[3])] for c, m in zip(k, members, strict=True)]
        if before:
            shaped = [(m[0] + (t[0] if t else 0.0), *m[1:]) for m, t in zip(members, terms, strict=True)]
            terms = [[0.0] * len(t) for t in terms]
        else:
            shaped = members
        stock = grpo(shaped, scale="group" if divide else "none", eps=eps, correction=correction)
        return [[a + t for t in row] for a, row in zip(stock, terms, strict=True)]

    return rule


def rs_grpo(members, risk=2.0):
    scored = [math.exp(risk * m[0]) for m in members if not math.isnan(m[0])]
    return [0.0 if math.isnan(m[0]) else (math.exp(risk * m[0]) / mean(scored) - 1) / risk for m in members]


def qae(members, quantile=0.4, eps=1e-4):
    scored = sorted(m[0] for m in members if not math.isnan(m[0]))
    if not scored:
        return [0.0] * len(members)
    baseline = next(r for r in scored if sum(other <= r for other in scored) >= quantile * len(scored) - 1e-9)
    return [0.0 if math.isnan(m[0]) else (m[0] - baseline) / (deviation(scored, 1) + eps) for m in members]


def uniqueness(members, power=1.0):
    def alike(m):
        return not unknown(m) and m[1] == 1 and m[5] >= 0

    return [
        a / sum(alike(other) and other[5] == m[5] for other in members) ** power if alike(m) else a
        for m, a in zip(members, grpo(members), strict=True)
    ]


def batch_exploration(members, weight=0.5, center=False):
    known = [m for m in members if not unknown(m) and m[1] == 1 and m[5] >= 0]
    repeats = [(sum(other[5] == m[5] for other in known) - 1) / len(known) for m in known]
    centre = mean(repeats) if center and repeats else 0.0
    left = iter(repeats)
    return [
        a - weight * (next(left) - centre) if any(m is k for k in known) else a
        for m, a in zip(members, grpo(members), strict=True)
    ]


def flow(members, temperature=1 / 15):
    spoken = [mean(m[2]) for m in members if m[2] and not math.isnan(m[0])]
    return [
        a - temperature * (mean(m[2]) - mean(spoken)) if m[2] and not math.isnan(m[0]) else a
        for m, a in zip(members, grpo(members), strict=True)
    ]


def spread(logps, tokens):
    return [mean(logps) if logps else 0.0] * tokens


TWINS = {
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "maxrl": maxrl,
    "best_of": best_of,
    "f_grpo": f_grpo,
    "ucpo": ucpo,
    "unlikeliness": unlikeliness,
    "pass_at_k_training": pass_at_k_training,
    "pkpo": pkpo,
    "w_reinforce": w_reinforce,
    "rs_grpo": rs_grpo,
    "qae": qae,
    "uniqueness": uniqueness,
    "batch_exploration": batch_exploration,
    "flow": flow,
    "psr": weighted(1.0, 0.0),
    "nsr": weighted(0.0, -1.0),
}


def a_grae(groups, alpha=1.0, eps=1e-6):
    """The only one that looks over groups: a list of groups in, a list of lists out."""
    scored = [[m[0] for m in members if not math.isnan(m[0])] for members in groups]
    whole = mean([mean(s) for s in scored if s]) if any(scored) else 0.0
    result = []
    for members, s in zip(groups, scored, strict=True):
        root = math.sqrt(mean(s)) if s else 0.0
        weight = (1 - whole) / 2 / (1 - root + eps) + whole / 2 / (root + eps)
        advantages = [weight * a for a in grpo(members, eps=eps)]
        result.append([a * min(1, whole / alpha) if a > 0 else a for a in advantages])
    return result


# --- random ragged batches --------------------------------------------------------------------------------------------


def random_batch(seed, groups=4, tokens=5):
    """Groups of 1 to 9 in shuffled rows; unscored, of unknown correctness, empty; masked and unscored tokens."""
    rng = random.Random(seed)
    ids = rng.sample(range(-(10**9), 10**9), groups)
    rows = [
        {
            "rewards": rng.choice([0.0, 1.0, 1.0, 0.0, 0.1, 0.7, NAN]),
            "correct": rng.choice([0.0, 1.0, 0.0, 1.0, NAN]),
            "mask": [0] * tokens if rng.random() < 0.07 else [int(rng.random() < 0.75) for _ in range(tokens)],
            "logps": [NAN if rng.random() < 0.07 else -rng.expovariate(0.5) for _ in range(tokens)],
            "group": group,
        }
        for group in ids
        for _ in range(rng.randint(1, 9))
    ]
    for row in rows:  # masked entries may hold anything
        row["logps"] = [
            lp if k else rng.choice([INF, NAN, 7.0]) for lp, k in zip(row["logps"], row["mask"], strict=True)
        ]
    rng.shuffle(rows)
    answers = random.Random(f"answers {seed}")
    for row in rows:
        row["answer"] = answers.choice([0, 1, 2, -1]) if row["correct"] == 1 else -1
    return {name: [row[name] for row in rows] for name in rows[0]}


def tensors(batch, dtype=torch.float64):
    return {
        n: torch.tensor(v, dtype=torch.long if n in ("mask", "group", "answer") else dtype) for n, v in batch.items()
    }


def by_twin(name, batch, **options):
    """(batch, tokens) of the twin: every completion's advantage on its tokens that count."""
    places = {}
    for i, g in enumerate(batch["group"]):
        places.setdefault(g, []).append(i)
    columns = (batch[name] for name in ("rewards", "correct", "logps", "mask", "answer"))
    members = [
        (r, c, [lp for lp, keep in zip(row, kept, strict=True) if keep and not math.isnan(lp)], row, kept, answer)
        for r, c, row, kept, answer in zip(*columns, strict=True)
    ]
    groups = [[members[i] for i in at] for at in places.values()]
    if name == "a_grae":
        values = a_grae(groups, **options)
    elif name in DS:
        values = [DS[name]([(*m[:3], sum(m[4])) for m in g], **options) for g in groups]
    else:
        values = [TWINS[name](g, **options) for g in groups]
    result = [None] * len(members)
    for at, rows in zip(places.values(), values, strict=True):
        for i, value in zip(at, rows, strict=True):
            kept = iter(value if isinstance(value, list) else itertools.repeat(value))
            result[i] = [next(kept) if keep else 0.0 for keep in batch["mask"][i]]
    return torch.tensor(result, dtype=torch.float64)


# a token without a log-probability is in the mask and has no term: the readings by token are tested by their own twin below


def but_not_alone(rule):
    """UCPO's baseline: without the term where a completion is the only one of its kind in the group."""

    def changed(members, gamma_p, gamma_n):
        kinds = [None if unknown(m) else m[1] for m in members]
        with_term, without = rule(members, gamma_p, gamma_n), rule(members, 0.0, 0.0)
        return [
            b if kind is not None and kinds.count(kind) == 1 else a
            for a, b, kind in zip(with_term, without, kinds, strict=True)
        ]

    return changed


DS = {
    "ds_b": smoothed(lambda lps, n: [v / max(n, 1) for v in spread(lps, n)], correction=0, eps=1e-6),
    "ds_c": smoothed(spread, correction=0, eps=0.0, divide=False, before=True),
    "ds_e": smoothed(spread, correction=0, eps=1e-6),
    "ds_f": but_not_alone(smoothed(lambda lps, n: [math.fsum(lps)] * n, correction=1, eps=1e-8)),
    "ds_g": smoothed(lambda lps, n: [math.fsum(lps)] * n, correction=1, eps=1e-6),
}
GAMMAS = {"gamma_p": 0.3, "gamma_n": 0.07}
CASES = [
    ("grpo", {}),
    ("grpo", {"scale": "none"}),
    ("grpo", {"eps": 1e-6, "correction": 0}),
    ("dr_grpo", {}),
    ("maxrl", {}),
    ("maxrl", {"eps": 0.0}),
    ("best_of", {}),
    ("best_of", {"scale": "group"}),
    ("f_grpo", {}),
    ("f_grpo", {"focus": 2.0}),
    ("f_grpo", {"focus": 0.5}),
    ("ucpo", {}),
    ("ucpo", {"share": 0.7}),
    ("ucpo", {"share": 1.0}),
    ("unlikeliness", {}),
    ("unlikeliness", {"weight": 0.8, "level": "sum"}),
    *[("pass_at_k_training", {"k": k}) for k in (1, 2, 4)],
    *[("pkpo", {"k": k, "baseline": b}) for k in (1, 2, 4) for b in ("loo", "rloo", "loo_minus_one", "none")],
    ("w_reinforce", {}),
    ("w_reinforce", {"positive_weight": 0.5, "negative_weight": 2.0}),
    ("psr", {}),
    ("nsr", {}),
    ("a_grae", {}),
    ("a_grae", {"alpha": 0.5}),
    ("rs_grpo", {}),
    ("rs_grpo", {"risk": 8.0}),
    ("qae", {}),
    ("qae", {"quantile": 0.7}),
    ("uniqueness", {}),
    ("uniqueness", {"power": 0.5}),
    ("batch_exploration", {}),
    ("batch_exploration", {"weight": 2.0, "center": True}),
    ("flow", {}),
    ("flow", {"temperature": 0.5}),
    *[(name, GAMMAS) for name in DS],
]
every_case = pytest.mark.parametrize(
    ("name", "options"), CASES, ids=[f"{n}-{'-'.join(f'{v}' for v in o.values())}" for n, o in CASES]
)
TOKEN_RULES = [("ds_grpo", {**GAMMAS, "level": "token"}), ("ds_a", GAMMAS), ("ds_d", GAMMAS)]
every_rule = pytest.mark.parametrize(
    ("name", "options"), [*dict(CASES).items(), *TOKEN_RULES], ids=lambda v: v if isinstance(v, str) else ""
)


def shipped(name, options, batch, dtype=torch.float64):
    data = tensors(batch, dtype)
    rows = make_rule(name, options)(**data)
    return torch.where(data["mask"] != 0, rows if rows.dim() == 2 else rows[:, None], 0.0)


@every_case
def test_agrees_with_its_twin_on_ragged_batches(name, options):
    moved = 0
    for seed in range(12):
        batch = random_batch(seed)
        expected = by_twin(name, batch, **options)
        close(shipped(name, options, batch), expected)
        moved += (expected != 0).sum().item()
    assert moved > 50


@pytest.mark.parametrize(("name", "options"), TOKEN_RULES, ids=[n for n, _ in TOKEN_RULES])
def test_the_token_readings_agree_with_their_twin(name, options):
    eps, correction = (1e-4, 1) if name == "ds_grpo" else (1e-6, 0)
    for seed in range(12):
        batch = random_batch(seed)
        expected = by_twin("grpo", batch, eps=eps, correction=correction)
        for i, (r, c) in enumerate(zip(batch["rewards"], batch["correct"], strict=True)):
            for t, (lp, keep) in enumerate(zip(batch["logps"][i], batch["mask"][i], strict=True)):
                if keep and not math.isnan(lp + r + c):
                    expected[i, t] += -0.3 * lp if c else 0.07 * lp
        close(shipped(name, options, batch), expected)


def test_every_shipped_rule_is_tested_here():
    assert {n for n, _ in CASES} | {n for n, _ in TOKEN_RULES} == set(RULES)


# --- invariances ------------------------------------------------------------------------------------------------------


@every_rule
def test_rows_and_ids_mean_nothing(name, options):
    rng = random.Random(name)
    batch = random_batch(100, groups=7)
    size = len(batch["group"])
    order = rng.sample(range(size), size)
    new = dict(zip(set(batch["group"]), rng.sample(range(10**6), size), strict=False))
    moved = {n: [values[i] for i in order] for n, values in batch.items()}
    moved["group"] = [new[g] for g in moved["group"]]
    before = shipped(name, options, batch)
    assert before.abs().max() > 0.01
    close(shipped(name, options, moved), before[order], 1e-12)


@every_rule
def test_another_batch_in_the_same_call_changes_nothing(name, options):
    """but A-GRAE, which measures by the batch how far the training is."""
    one, two = random_batch(200, groups=3), random_batch(201, groups=2)
    together = shipped(name, options, {n: one[n] + two[n] for n in one})
    apart = torch.cat([shipped(name, options, one), shipped(name, options, two)])
    if name == "a_grae":
        assert (together - apart).abs().max() > 0.01
    else:
        close(together, apart, 1e-12)


@every_rule
def test_inputs_stay_as_they_are_and_no_gradient_comes_out(name, options):
    data = tensors(random_batch(300, groups=7))
    for differentiable in ("rewards", "logps"):
        data[differentiable].requires_grad_()
    before = {n: v.detach().clone() for n, v in data.items()}
    assert not make_rule(name, options)(**data).requires_grad
    for n, v in data.items():
        torch.testing.assert_close(v.detach(), before[n], rtol=0, atol=0, equal_nan=True)


@every_rule
def test_float32_gives_float32_and_the_same_numbers(name, options):
    batch = random_batch(400)
    single = shipped(name, options, batch, torch.float32)
    assert single.dtype == torch.float32
    close(single.double(), shipped(name, options, batch), 1e-3)


@every_rule
def test_log_probs_are_needed_where_the_registry_says_so(name, options):
    data = tensors(random_batch(500))
    rule = make_rule(name, options)
    assert rule.needs_logps == RULES[name][1]
    before = rule(**data)
    if not rule.needs_logps:
        assert torch.equal(rule(**{**data, "logps": None}), before)
    # the least likely completions become the likeliest, so that no rule that reads log-probs can miss it
    turned = torch.where(data["mask"] != 0, -10 - data["logps"].nan_to_num(), NAN)
    other = rule(**{**data, "logps": turned})
    assert torch.equal(other, before) != rule.needs_logps


@every_rule
def test_a_batch_without_any_score_or_token_gives_zeros(name, options):
    batch = random_batch(600)
    size = len(batch["group"])
    assert not shipped(name, options, {**batch, "rewards": [NAN] * size}).any()
    empty = {**batch, "mask": [[0] * 5] * size, "correct": [NAN] * size}
    assert not shipped(name, options, empty).any()


# --- limits: what a rule becomes ----------------------------------------------------------------------------------------


def binary(seed, **options):
    """A random batch whose rewards are its correctness."""
    batch = random_batch(seed, **options)
    return {**batch, "rewards": batch["correct"]}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("f_grpo", {"focus": 0.0}),
        ("ucpo", {"share": 0.0}),
        ("uniqueness", {"power": 0.0}),
        ("batch_exploration", {"weight": 0.0}),
        ("flow", {"temperature": 0.0}),
        ("unlikeliness", {"weight": 0.0}),
        ("ds_grpo", {"gamma_p": 0.0}),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_switched_off_it_is_grpo(name, options):
    for seed in range(5):
        close(shipped(name, options, random_batch(seed)), shipped("grpo", {}, random_batch(seed)), 1e-12)


def test_rs_grpo_becomes_dr_grpo_and_maxrl():
    for seed in range(5):
        batch = binary(seed)
        close(shipped("rs_grpo", {"risk": 1e-6}, batch), shipped("dr_grpo", {}, batch), 1e-5)
        close(30 * shipped("rs_grpo", {"risk": 30.0}, batch), shipped("maxrl", {"eps": 0.0}, batch), 1e-9)
    assert shipped("rs_grpo", {"risk": 1e4}, binary(0)).isfinite().all()


def test_qae_reinforces_rare_successes_and_corrects_rare_failures():
    for c in range(1, 8):
        right = torch.tensor([1.0] * c + [0.0] * (8 - c))
        got = make_rule("qae")(right, None, torch.ones(8, 1), correct=right, group=torch.zeros(8, dtype=torch.long))
        hard = c / 8 <= 0.6
        assert (
            (got[:c] > 0).all() == hard
            and (got[c:] < 0).all() == (not hard)
            and (got == 0).sum() == (8 - c if hard else c)
        )


def test_uniqueness_gives_different_answers_more_than_a_repeated_one():
    right = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0])
    data = {"correct": right, "group": torch.zeros(5, dtype=torch.long), "answer": torch.tensor([4, 4, 7, -1, -1])}
    got = make_rule("uniqueness")(right, None, torch.ones(5, 1), **data)
    assert got[0] == got[1] == got[2] / 2 and got[2] == got[3] > 0 > got[4]


def test_batch_exploration_acts_where_all_are_correct_and_centred_only_where_answers_differ():
    right = torch.ones(4)
    data = {"correct": right, "group": torch.zeros(4, dtype=torch.long)}

    def got(answers, **options):
        answer = torch.tensor(answers)
        return make_rule("batch_exploration", options)(right, None, torch.ones(4, 1), answer=answer, **data)

    assert got([3, 3, 3, 5]).tolist() == [-0.25, -0.25, -0.25, 0.0]
    assert got([3, 3, 3, 5], center=True).tolist() == [-0.0625, -0.0625, -0.0625, 0.1875]
    assert not got([3, 3, 3, 3], center=True).any() and not got([1, 2, 3, 4]).any()


def test_flow_rests_where_log_probs_follow_the_rewards():
    """Equal rewards: no advantage at equal log-probs, else the unlikely rise. A group at its flow balance has none at all."""
    one = torch.ones(4, 1)
    data = {"correct": torch.ones(4), "group": torch.zeros(4, dtype=torch.long)}
    rule = make_rule("flow", {"temperature": 0.1})
    assert not rule(torch.ones(4), -one, one, **data).any()
    rising = rule(torch.ones(4), torch.tensor([[-1.0], [-2.0], [-3.0], [-4.0]]), one, **data)
    assert (rising.diff() > 0).all()
    rewards = torch.tensor([1.0, 1.0, 0.0, 0.0])
    balanced = make_rule("grpo")(rewards, None, one, **data)[:, None] / 0.1
    assert rule(rewards, balanced, one, **data).abs().max() < 1e-6


STD = {"ds_a": (0, 1e-6), "ds_b": (0, 1e-6), "ds_d": (0, 1e-6), "ds_e": (0, 1e-6), "ds_f": (1, 1e-8), "ds_g": (1, 1e-6)}


@pytest.mark.parametrize("name", [*STD, "ds_c"])
def test_without_gammas_every_reading_of_ds_is_grpo_with_its_own_deviation(name):
    stock = {"scale": "none"} if name == "ds_c" else dict(zip(("correction", "eps"), STD[name], strict=True))
    for seed in range(5):
        got = shipped(name, {"gamma_p": 0.0, "gamma_n": 0.0}, random_batch(seed))
        close(got, shipped("grpo", stock, random_batch(seed)), 1e-12)
    assert torch.equal(
        shipped("ds_d", {}, random_batch(0)), shipped("ds_d", {"gamma_p": 0.0, "gamma_n": 0.0}, random_batch(0))
    )


def test_reading_b_is_reading_e_divided_by_the_length_once_more():
    data = tensors(random_batch(1))
    stock = make_rule("ds_e", {"gamma_p": 0.0, "gamma_n": 0.0})(**data)
    e, b = (make_rule(name, GAMMAS)(**data) - stock for name in ("ds_e", "ds_b"))
    close(b, e / data["mask"].sum(1, keepdim=True).clamp(min=1), 1e-12)
    assert (e - b).abs().max() > 0.1


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_ucpo_shares_out_grpo_s_total(share):
    data = tensors(binary(3))
    stock, shared = make_rule("grpo")(**data), make_rule("ucpo", {"share": share})(**data)
    for g in data["group"].unique():
        right = (data["group"] == g) & (data["correct"] == 1)
        close(shared[right].sum(), stock[right].sum(), 1e-12)
        if right.sum() == 1:
            close(shared[right], stock[right], 1e-12)
    wrong = data["correct"] == 0
    close(shared[wrong], stock[wrong], 0)
    assert ((shared - stock).abs().max() > 0.01) == (share > 0)


@pytest.mark.parametrize("baseline", ["rloo", "loo"])
def test_pkpo_at_k_1_is_leave_one_out(baseline):
    """The paper takes the baseline from n - 1 completions, each with weight 1/(n-1): n/(n-1) of the others' mean."""
    data = tensors(binary(4))
    got, r, group = make_rule("pkpo", {"k": 1, "baseline": baseline})(**data), data["rewards"], data["group"]
    for i in range(len(r)):
        others = [r[j].item() for j in range(len(r)) if j != i and group[j] == group[i] and not r[j].isnan()]
        n, expected = len(others) + 1, 0.0
        if others and not r[i].isnan():
            expected = r[i].item() - (n / (n - 1) if baseline == "loo" else 1) * mean(others)
        assert got[i].item() == pytest.approx(expected, abs=1e-12)
    assert got.unique().numel() > 3


def test_pkpo_anneals_k_to_1():
    data = tensors(binary(5, groups=9))
    plain = [make_rule("pkpo", {"k": k})(**data) for k in (1, 2, 3, 4)]
    annealed = make_rule("pkpo", {"k": 4, "anneal": True})
    assert torch.equal(annealed(**data, progress=0.0), plain[3])
    assert torch.equal(annealed(**data, progress=1.0), plain[0])
    seen = []
    for step in range(41):
        now = annealed(**data, progress=step / 40)
        seen.append(next(k for k in (1, 2, 3, 4) if torch.equal(now, plain[k - 1])))
    assert seen == sorted(seen, reverse=True) and min(seen.count(k) for k in (1, 2, 3, 4)) >= 9
    assert torch.equal(make_rule("pkpo", {"k": 4})(**data, progress=0.9), plain[3])


def test_pass_at_1_training_is_grpo_with_the_population_s_deviation():
    for seed in range(5):
        batch = binary(seed)
        close(
            shipped("pass_at_k_training", {"k": 1}, batch),
            shipped("grpo", {"correction": 0, "eps": 1e-300}, batch),
            1e-12,
        )


def test_best_of_teaches_only_a_lone_winner():
    def rule(*rewards):
        data = {"rewards": torch.tensor(rewards), "logps": None, "mask": torch.ones(len(rewards), 1)}
        return make_rule("best_of")(
            **data, correct=data["rewards"].round(), group=torch.zeros(len(rewards), dtype=torch.long)
        ).tolist()

    assert rule(0.0, 0.0, 1.0, 0.0) == [0, 0, 1, 0]
    assert not any(rule(0.0, 1.0, 1.0, 0.0) + rule(1.0) + rule(0.0, 0.0) + rule(NAN, 1.0, NAN))
    assert rule(0.25, 0.75, NAN, -1.0) == [0, 0.5, 0, 0]


def test_maxrl_is_silent_without_success_and_refuses_negative_rewards():
    data = tensors(binary(6))
    assert not make_rule("maxrl")(**{**data, "rewards": data["rewards"] * 0}).any()
    with pytest.raises(ValueError, match="maxrl.*step 3"):
        make_rule("maxrl")(**{**data, "rewards": data["rewards"] - 1}, where="step 3")


def test_w_reinforce_is_a_tenth_of_psr_and_nsr():
    data = tensors(random_batch(7))
    psr, nsr, both = (make_rule(name)(**data) for name in ("psr", "nsr", "w_reinforce"))
    close(both, 0.1 * psr + nsr, 1e-12)
    assert both.max() == 0.1 and both.min() == -1


def test_dr_grpo_is_proportional_to_grpo_within_a_group():
    data = tensors(random_batch(8))
    stock, ours = make_rule("grpo")(**data), make_rule("dr_grpo")(**data)
    ratios = set()
    for g in data["group"].unique():
        rows = (data["group"] == g) & (stock != 0)
        if rows.any():
            ratio = (ours / stock)[rows]
            close(ratio, ratio[0].expand_as(ratio), 1e-9)
            ratios.add(round(ratio[0].item(), 6))
    assert len(ratios) > 1 and min(ratios) > 0


# --- wrong options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("grpo", {"scale": "groups"}),
        ("best_of", {"scale": "batch"}),
        ("f_grpo", {"focus": -1.0}),
        ("f_grpo", {"focus": NAN}),
        ("ucpo", {"share": 1.5}),
        ("ucpo", {"share": -0.1}),
        ("ucpo", {"share": NAN}),
        ("unlikeliness", {"weight": 2.0}),
        ("unlikeliness", {"weight": -1}),
        ("unlikeliness", {"level": "token"}),
        ("pass_at_k_training", {"k": 0}),
        ("pass_at_k_training", {"k": 2.5}),
        ("pass_at_k_training", {"k": "4"}),
        ("pkpo", {"k": 0}),
        ("pkpo", {"k": 1.5}),
        ("pkpo", {"baseline": "mean"}),
        ("a_grae", {"alpha": 0.0}),
        ("a_grae", {"alpha": NAN}),
        ("ds_grpo", {"level": "word"}),
        ("ds_a", {"gamma_p": -0.1}),
        ("w_reinforce", {"positive_weight": -1.0}),
        ("w_reinforce", {"negative_weight": INF}),
        ("f_grpo", {"focus": "2"}),
    ],
    ids=lambda v: str(v),
)
def test_a_wrong_option_names_rule_and_option(name, options):
    with pytest.raises(ValueError) as caught:
        make_rule(name, options)  # before any batch: a mistake must not cost a generation
    message = str(caught.value)
    assert name in message and next(iter(options)) in message and repr(next(iter(options.values()))) in message
