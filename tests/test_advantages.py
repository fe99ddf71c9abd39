"""The method against a slow twin, by hand, in its limits to GRPO, its invariances, gradients and errors."""

import math
import random

import pytest
import torch

from differential_smoothing import (
    completion_logps,
    ds_grpo_advantages,
    group_advantages,
    smoothing_coefficient,
    smoothing_term,
)

NAN, INF = math.nan, math.inf
LEVELS = ("token", "mean", "sum")
# level='token' has no meaning at the reward stage and is refused there, see the tests of errors
READINGS = [
    (level, stage) for level in LEVELS for stage in ("advantage", "reward") if (level, stage) != ("token", "reward")
]
every_reading = pytest.mark.parametrize(("level", "stage"), READINGS)
every_scale = pytest.mark.parametrize("scale", ["group", "batch", "none"])


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# --- a twin in plain Python ---------------------------------------------------------------------------------


def twin(rewards, logps, mask, *, correct, group, gamma_p, gamma_n, level, stage, scale, eps, correction, center=False):
    """DS-GRPO from the formulas: lists in, lists out, one completion after the other."""
    coefficient, whole = [], []
    for r, c, row, keep in zip(rewards, correct, logps, mask, strict=True):
        unknown = math.isnan(r) or math.isnan(c)
        coefficient.append(0.0 if unknown else -gamma_p if c else gamma_n)
        heard = [lp for lp, k in zip(row, keep, strict=True) if k and not math.isnan(lp)]
        whole.append(math.fsum(heard) / (len(heard) or 1) if level == "mean" else math.fsum(heard))
    if center:
        kinds = [
            (g, c) if any(keep) and not math.isnan(r) and not math.isnan(c) else None
            for r, c, g, keep in zip(rewards, correct, group, mask, strict=True)
        ]
        peers = {kind: [w for w, k in zip(whole, kinds, strict=True) if k == kind] for kind in kinds}
        whole = [
            w - math.fsum(peers[kind]) / len(peers[kind]) if kind else 0.0 for w, kind in zip(whole, kinds, strict=True)
        ]
    if stage == "reward":
        rewards = [r + k * w for r, k, w in zip(rewards, coefficient, whole, strict=True)]

    members = {}
    for r, g in zip(rewards, group, strict=True):
        if not math.isnan(r):
            members.setdefault(g, []).append(r)

    def deviation(values):
        centre = math.fsum(values) / len(values)
        return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / max(len(values) - correction, 1))

    result = []
    for r, g, k, w, row, keep in zip(rewards, group, coefficient, whole, logps, mask, strict=True):
        advantage = 0.0
        if not math.isnan(r):
            advantage = r - math.fsum(members[g]) / len(members[g])
            if scale == "group":
                advantage /= deviation(members[g]) + eps
            elif scale == "batch":
                advantage /= deviation([v for values in members.values() for v in values]) + eps
        line = []
        for lp, kept in zip(row, keep, strict=True):
            log_pi = w if level != "token" else 0.0 if math.isnan(lp) else lp
            line.append((advantage + (k * log_pi if stage == "advantage" else 0.0)) if kept else 0.0)
        result.append(line)
    return result


def random_batch(seed, size=14, tokens=6):
    """Ragged groups under any ids, unscored and unknown completions, holes in the mask, unscored tokens."""
    rng = random.Random(seed)
    ids = [rng.randint(-50, 10**9) for _ in range(rng.randint(1, 6))]
    return {
        "rewards": [rng.choice([0.0, 1.0, 0.1, -1.0, rng.gauss(0, 1), NAN]) for _ in range(size)],
        "logps": [[NAN if rng.random() < 0.05 else -rng.expovariate(0.5) for _ in range(tokens)] for _ in range(size)],
        "mask": [
            [int(rng.random() < 0.75) for _ in range(tokens)] if rng.random() < 0.9 else [0] * tokens
            for _ in range(size)
        ],
        "correct": [rng.choice([0.0, 1.0, 1.0, NAN]) for _ in range(size)],
        "group": [rng.choice(ids) for _ in range(size)],
    }


def tensors(batch):
    return {
        name: torch.tensor(values, dtype=torch.long if name in ("mask", "group") else torch.float64)
        for name, values in batch.items()
    }


@pytest.mark.parametrize("correction", [0, 1])
@every_scale
@every_reading
def test_agrees_with_the_twin_on_random_ragged_batches(level, stage, scale, correction):
    for seed in range(25):
        batch = random_batch(seed)
        how = {
            "gamma_p": 0.3,
            "gamma_n": 0.07,
            "level": level,
            "stage": stage,
            "scale": scale,
            "eps": 1e-6,
            "correction": correction,
        }
        close(ds_grpo_advantages(**tensors(batch), **how), torch.tensor(twin(**batch, **how), dtype=torch.float64))


@pytest.mark.parametrize("level", ["mean", "sum"])
def test_centring_agrees_with_the_twin(level):
    for seed in range(50):
        batch = random_batch(seed)
        how = dict(gamma_p=0.3, gamma_n=0.2, level=level, stage="advantage", scale="group", eps=1e-4, correction=1)
        close(ds_grpo_advantages(**tensors(batch), **how, center=True), f64(*twin(**batch, **how, center=True)))


def test_a_centred_term_sums_to_zero_over_the_answers_of_a_kind():
    correct = torch.tensor([True, True, True, False, False, True, True])
    group = torch.tensor([0, 0, 0, 0, 0, 1, 1])
    generator = torch.Generator().manual_seed(0)
    logps, mask = -torch.rand(7, 3, dtype=torch.float64, generator=generator), torch.ones(7, 3)
    rewards = correct.double()
    shaped = ds_grpo_advantages(
        rewards, logps, mask, correct=correct, group=group, gamma_p=0.5, gamma_n=0.2, level="sum", center=True
    )
    term = (shaped - group_advantages(rewards, group)[:, None])[:, 0]
    for members in ([0, 1, 2], [3, 4], [5, 6]):
        close(term[members].sum(), torch.tensor(0.0, dtype=torch.float64))
        assert term[members].abs().max() > 0.01
        # the rarer of two right answers gains, the rarer of two wrong ones loses
        rarest = min(members, key=lambda i: logps[i].sum())
        assert (term[rarest] > 0) == bool(correct[rarest])


def test_a_token_is_centred_by_the_entropy_of_its_distribution():
    """Against a twin, token by token; entropies of masked tokens and of tokens without a log-probability mean nothing."""
    for seed in range(25):
        batch, rng = random_batch(seed), random.Random(seed)
        how = dict(gamma_p=0.3, gamma_n=0.07, level="token", stage="advantage", scale="group", eps=1e-4, correction=1)
        heard = [[k and not math.isnan(v) for v, k in zip(*pair)] for pair in zip(batch["logps"], batch["mask"])]
        entropies = [[rng.uniform(0, 3) if h else rng.choice([NAN, INF]) for h in row] for row in heard]
        surprise = [[v + e if h else v for v, e, h in zip(*rows)] for rows in zip(batch["logps"], entropies, heard)]
        expected = twin(**{**batch, "logps": surprise}, **how)
        given = {**tensors(batch), "entropies": f64(*entropies)}
        close(ds_grpo_advantages(**given, **how, center=True), f64(*expected))
        plain = ds_grpo_advantages(**tensors(batch), **how)
        close(ds_grpo_advantages(**given, **how), plain, 0)  # without center nobody reads them


def test_a_centred_token_term_is_zero_on_average_over_the_draws():
    """sum of p (log p + H) = 0 for any distribution: so it pushes no token up for free, a likely one down, a rare one up."""
    for p in ([0.7, 0.2, 0.1], [0.25] * 4, [1.0]):
        chance = f64(*p)
        logps = chance.log()[:, None]
        entropy = -(chance * chance.log()).sum()
        term = smoothing_term(
            logps, torch.ones_like(logps), coefficient=torch.full_like(chance, -0.5), entropies=entropy.expand_as(logps)
        )[:, 0]
        close((chance * term).sum(), torch.tensor(0.0, dtype=torch.float64))
        if len(set(p)) == 1:  # a uniform or a certain token says nothing
            close(term, torch.zeros_like(term))
        else:
            assert term[0] < 0 < term[2] and term.abs().max() > 0.1


def test_entropies_belong_to_the_token_level():
    tokens = torch.zeros(2, 3)
    for level in ("mean", "sum"):
        with pytest.raises(ValueError, match=f"need level='token' and the shape of logps, .* got level='{level}'"):
            smoothing_term(tokens, torch.ones(2, 3), coefficient=torch.zeros(2), level=level, entropies=tokens)


def test_float32_loses_no_more_than_its_rounding():
    batch = tensors(random_batch(3))
    how = {"gamma_p": 0.3, "gamma_n": 0.07, "level": "sum"}
    single = {k: v.float() if v.is_floating_point() else v for k, v in batch.items()}
    close(ds_grpo_advantages(**single, **how).double(), ds_grpo_advantages(**batch, **how), 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_log_probabilities_of_any_precision_are_summed_in_that_of_the_rewards(dtype):
    logps = torch.full((1, 300), -1.0, dtype=dtype)
    logps[0, 0] = -0.5  # 299.5 is no number of bfloat16
    how = {"correct": torch.tensor([True]), "group": torch.tensor([0]), "gamma_p": 1, "gamma_n": 0, "level": "sum"}
    out = ds_grpo_advantages(torch.ones(1), logps, torch.ones(1, 300), **how)
    assert out.dtype == torch.float32 and out[0, 0].item() == 299.5


def test_a_gamma_is_not_rounded_to_single_precision_on_the_way():
    for correct in (torch.tensor([True, False]), torch.tensor([1, 0]), f64(1.0, 0.0), torch.tensor([1.0, 0.0])):
        out = ds_grpo_advantages(
            f64(1.0, 1.0),
            f64([-1.0], [-1.0]),
            torch.ones(2, 1),
            correct=correct,
            group=torch.tensor([0, 1]),
            gamma_p=0.1,
            gamma_n=0.3,
        )
        assert out.dtype == torch.float64 and out.flatten().tolist() == [0.1, -0.3]


# --- reductions ---------------------------------------------------------------------------------------------


@every_scale
@every_reading
def test_without_gammas_every_token_has_exactly_the_advantage_of_grpo(level, stage, scale):
    for seed in range(10):
        batch = tensors(random_batch(seed))
        plain = group_advantages(batch["rewards"], batch["group"], scale=scale)
        expected = torch.where(batch["mask"] != 0, plain[:, None], 0.0)
        how = {"gamma_p": 0, "gamma_n": 0.0, "level": level, "stage": stage, "scale": scale}
        assert torch.equal(ds_grpo_advantages(**batch, **how), expected)


def test_correction_and_eps_by_hand():
    rewards, group = f64(1.0, 0.0, 0.0, 0.0), torch.zeros(4, dtype=torch.long)
    unbiased, population = math.sqrt(0.75 / 3), math.sqrt(0.75 / 4)
    assert group_advantages(rewards, group)[0].item() == pytest.approx(0.75 / (unbiased + 1e-4), abs=1e-14)
    verl = group_advantages(rewards, group, correction=0, eps=1e-6)
    assert verl[0].item() == pytest.approx(0.75 / (population + 1e-6), abs=1e-14)


def test_dr_grpo_is_the_reward_less_its_groups_mean_and_nothing_else():
    out = group_advantages(f64(1.0, 0.0, 5.0, 2.0, 2.0), torch.tensor([7, 7, 3, 3, 3]), scale="none")
    assert out.tolist() == [0.5, -0.5, 2.0, -1.0, -1.0]


@pytest.mark.parametrize("stage", ["advantage", "reward"])
def test_levels_differ_by_the_length_and_by_nothing_else(stage):
    batch = tensors(random_batch(1))
    batch["mask"] = torch.zeros(14, 6, dtype=torch.long)
    batch["mask"][:, 1:5] = 1
    batch["logps"] = batch["logps"].nan_to_num(nan=-1.0)
    mean = ds_grpo_advantages(**batch, gamma_p=4 * 0.2, gamma_n=4 * 0.1, level="mean", stage=stage)
    close(mean, ds_grpo_advantages(**batch, gamma_p=0.2, gamma_n=0.1, level="sum", stage=stage))


def test_all_levels_are_one_on_completions_of_one_token():
    batch = tensors(random_batch(2))
    batch["mask"] = torch.zeros(14, 6, dtype=torch.long)
    batch["mask"][:, 2] = 1
    token, mean, total = (ds_grpo_advantages(**batch, gamma_p=0.2, gamma_n=0.1, level=level) for level in LEVELS)
    assert torch.equal(token, mean) and torch.equal(token, total)


def test_the_sum_level_is_the_sum_of_the_token_levels():
    batch = tensors(random_batch(4))
    coefficient = smoothing_coefficient(batch["correct"], gamma_p=0.2, gamma_n=0.1)
    token = smoothing_term(batch["logps"], batch["mask"], coefficient=coefficient)
    total = smoothing_term(batch["logps"], batch["mask"], coefficient=coefficient, level="sum")
    close(torch.where(batch["mask"] != 0, token.sum(1, keepdim=True), 0.0), total)
    close(
        total[:, 0],
        torch.where(
            batch["mask"][:, 0] != 0, coefficient * completion_logps(batch["logps"], batch["mask"], level="sum"), 0.0
        ),
    )


@every_scale
@pytest.mark.parametrize("level", ["mean", "sum"])
def test_at_the_reward_stage_the_advantages_of_a_group_sum_to_zero(level, scale):
    for seed in range(10):
        batch = tensors(random_batch(seed))
        batch["mask"][:, 0] = 1  # so that the first token shows each completion's advantage
        how = {"gamma_p": 0.4, "gamma_n": 0.2, "scale": scale, "level": level}
        by_reward = ds_grpo_advantages(**batch, **how, stage="reward")[:, 0]
        by_advantage = ds_grpo_advantages(**batch, **how, stage="advantage")[:, 0]
        for g in batch["group"].unique():
            assert by_reward[batch["group"] == g].sum().abs() < 1e-10
        assert by_advantage.sum().abs() > 1e-3  # what makes the two stages different methods


ALIKE = {"group": torch.zeros(3, dtype=torch.long), "mask": torch.ones(3, 1), "logps": f64([-1.0], [-2.0], [-6.0])}


def test_a_group_that_is_all_correct_is_pushed_at_the_advantage_stage_and_moved_within_at_the_reward_stage():
    how = dict(**ALIKE, correct=torch.ones(3, dtype=torch.bool), gamma_p=0.1, gamma_n=0.5, scale="none", level="sum")
    close(ds_grpo_advantages(f64(1.0, 1.0, 1.0), **how)[:, 0], f64(0.1, 0.2, 0.6))
    close(ds_grpo_advantages(f64(1.0, 1.0, 1.0), **how, stage="reward")[:, 0], f64(-0.2, -0.1, 0.3))


def test_a_group_that_is_all_wrong_is_pushed_down_most_where_the_policy_was_unlikely():
    how = dict(**ALIKE, correct=torch.zeros(3, dtype=torch.bool), gamma_p=0.5, gamma_n=0.1, scale="none", level="sum")
    close(ds_grpo_advantages(f64(0.0, 0.0, 0.0), **how)[:, 0], f64(-0.1, -0.2, -0.6))
    close(ds_grpo_advantages(f64(0.0, 0.0, 0.0), **how, stage="reward")[:, 0], f64(0.2, 0.1, -0.3))


@pytest.mark.parametrize("reward", [1.1, 0.1, 0.3, -0.7])
@pytest.mark.parametrize("size", [3, 5, 8, 61])
def test_equal_rewards_have_exactly_no_advantage_however_small_eps_is(reward, size):
    rewards = torch.full((2 * size,), reward)  # float32, where a plain mean of equal numbers is off by 1e-7
    group = torch.arange(2).repeat(size)
    assert not group_advantages(rewards, group, eps=1e-8).any()


def test_correctness_is_read_from_its_own_mask_and_not_from_the_reward():
    rewards, group = f64(0.1, -1.0), torch.tensor([0, 1])  # a format reward; rewards in {-1, 1}
    how = {"logps": f64([-1.0], [-1.0]), "mask": torch.ones(2, 1), "group": group, "gamma_p": 0.1, "gamma_n": 0.2}
    assert ds_grpo_advantages(rewards, correct=torch.tensor([False, False]), **how).tolist() == [[-0.2], [-0.2]]
    assert ds_grpo_advantages(rewards, correct=torch.tensor([True, True]), **how).tolist() == [[0.1], [0.1]]
    assert ds_grpo_advantages(rewards, correct=f64(NAN, NAN), **how).tolist() == [[0.0], [0.0]]


def test_an_unscored_completion_is_out_of_everything():
    how = {
        "logps": f64([-1.0], [-2.0], [-9.0]),
        "mask": torch.ones(3, 1),
        "group": torch.zeros(3, dtype=torch.long),
        "correct": f64(1.0, 0.0, 1.0),
        "gamma_p": 0.1,
        "gamma_n": 0.1,
        "scale": "none",
    }
    close(ds_grpo_advantages(f64(1.0, 0.0, NAN), **how)[:, 0], f64(0.6, -0.7, 0.0))
    close(ds_grpo_advantages(f64(1.0, 0.0, NAN), **how, level="sum", stage="reward")[:, 0], f64(0.65, -0.65, 0.0))


def test_an_unscored_token_is_left_out_of_the_mean_and_keeps_its_advantage():
    logps, mask = f64([-1.0, NAN, -3.0, 5.0]), torch.tensor([[1, 1, 1, 0]])
    terms = {level: smoothing_term(logps, mask, coefficient=f64(-0.5), level=level).tolist() for level in LEVELS}
    assert terms == {"token": [[0.5, 0.0, 1.5, 0.0]], "mean": [[1.0, 1.0, 1.0, 0.0]], "sum": [[2.0, 2.0, 2.0, 0.0]]}
    assert [completion_logps(logps, mask, level=level).tolist() for level in ("mean", "sum")] == [[-2.0], [-4.0]]


# --- the published variants ---------------------------------------------------------------------------------

# One group of a correct answer of two tokens and a wrong one of three. Rewards 1 and 0: the mean is 1/2, the
# standard deviation 1/2 (population) or sqrt(1/2) (unbiased); log pi_old sums to -4 and -12, means -2 and -4.
PAIR = {
    "rewards": f64(1.0, 0.0),
    "logps": f64([-1.0, -3.0, 0.0], [-2.0, -4.0, -6.0]),
    "mask": torch.tensor([[1, 1, 0], [1, 1, 1]]),
    "correct": torch.tensor([True, False]),
    "group": torch.tensor([5, 5]),
}
VERL, UNBIASED = 0.5 / (0.5 + 1e-6), 0.5 / (math.sqrt(0.5) + 1e-8)
PUBLISHED = {
    "A": (
        {"gamma_p": 0.02, "gamma_n": 0.01, "level": "token", "correction": 0, "eps": 1e-6},
        [[VERL + 0.02, VERL + 0.06, 0.0], [-VERL - 0.02, -VERL - 0.04, -VERL - 0.06]],
    ),
    "C": (
        {"gamma_p": 0.01, "gamma_n": 0.01, "level": "mean", "stage": "reward", "scale": "none"},
        [[0.53, 0.53, 0.0], [-0.53, -0.53, -0.53]],  # rewards 1.02 and -0.04 around 0.49
    ),
    "E": (
        {"gamma_p": 0.05, "gamma_n": 0.05, "level": "mean", "correction": 0, "eps": 1e-6},
        [[VERL + 0.1, VERL + 0.1, 0.0], [-VERL - 0.2] * 3],
    ),
    "F": (
        {"gamma_p": 0.1, "gamma_n": 1.0, "level": "sum", "correction": 1, "eps": 1e-8},
        [[UNBIASED + 0.4, UNBIASED + 0.4, 0.0], [-UNBIASED - 12.0] * 3],
    ),
}


@pytest.mark.parametrize(("how", "expected"), PUBLISHED.values(), ids=PUBLISHED)
def test_a_published_variant_has_the_numbers_computed_by_hand(how, expected):
    close(ds_grpo_advantages(**PAIR, **how), f64(*expected))


def test_variant_b_is_the_mean_level_spread_over_the_tokens():
    coefficient = smoothing_coefficient(PAIR["correct"], gamma_p=0.02, gamma_n=0.01).double()
    mask = PAIR["mask"]
    term = smoothing_term(PAIR["logps"], mask, coefficient=coefficient, level="mean") / mask.sum(1, keepdim=True)
    close(term, f64([0.02, 0.02, 0.0], [-0.04 / 3] * 3), 1e-7)  # the gammas came as float32 with a bool mask


def test_the_coefficient_is_negative_on_correct_positive_on_wrong_and_zero_on_unknown():
    assert smoothing_coefficient(f64(1.0, 0.0, NAN), gamma_p=0.25, gamma_n=0.5).tolist() == [-0.25, 0.5, 0.0]
    assert smoothing_coefficient(torch.tensor([True, False]), gamma_p=0.25, gamma_n=0.5).tolist() == [-0.25, 0.5]
    assert smoothing_coefficient(torch.tensor([1, 0]), gamma_p=0.25, gamma_n=0.5).dtype == torch.get_default_dtype()


# --- invariances --------------------------------------------------------------------------------------------


def how_of(level, stage):
    return {"gamma_p": 0.3, "gamma_n": 0.2, "level": level, "stage": stage}


@every_scale
@every_reading
def test_permuting_the_batch_permutes_the_result(level, stage, scale):
    for seed in range(5):
        batch = tensors(random_batch(seed))
        order = torch.randperm(14, generator=torch.Generator().manual_seed(seed))
        moved = {name: values[order] for name, values in batch.items()}
        how = how_of(level, stage)
        close(ds_grpo_advantages(**moved, **how, scale=scale), ds_grpo_advantages(**batch, **how, scale=scale)[order])


@every_reading
def test_the_names_of_the_groups_mean_nothing(level, stage):
    batch = tensors(random_batch(6))
    names = {g: i for i, g in enumerate(sorted(batch["group"].unique().tolist(), key=str, reverse=True))}
    renamed = torch.tensor([names[g] * 10**6 - 3 for g in batch["group"].tolist()])
    assert len(names) > 2
    out = ds_grpo_advantages(**batch, **how_of(level, stage))
    assert torch.equal(ds_grpo_advantages(**{**batch, "group": renamed}, **how_of(level, stage)), out)


@pytest.mark.parametrize("garbage", [NAN, INF, -INF, 1e30, 0.0])
@every_reading
def test_what_lies_under_the_masked_positions_means_nothing(level, stage, garbage):
    batch = tensors(random_batch(7))
    out = ds_grpo_advantages(**batch, **how_of(level, stage))
    batch["logps"] = torch.where(batch["mask"] != 0, batch["logps"], garbage)
    assert torch.equal(ds_grpo_advantages(**batch, **how_of(level, stage)), out)


@every_reading
def test_padding_adds_zeros_and_changes_nothing(level, stage):
    batch = tensors(random_batch(8))
    out = ds_grpo_advantages(**batch, **how_of(level, stage))
    batch["mask"] = torch.nn.functional.pad(batch["mask"], (2, 3))
    batch["logps"] = torch.nn.functional.pad(batch["logps"], (2, 3), value=-7.0)
    close(ds_grpo_advantages(**batch, **how_of(level, stage)), torch.nn.functional.pad(out, (2, 3)))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.float32])
def test_a_mask_of_any_kind_is_read_the_same(dtype):
    batch = tensors(random_batch(9))
    out = ds_grpo_advantages(**batch, **how_of("mean", "advantage"))
    assert torch.equal(
        ds_grpo_advantages(**{**batch, "mask": batch["mask"].to(dtype)}, **how_of("mean", "advantage")), out
    )


@every_scale
@every_reading
def test_adding_a_constant_to_every_reward_changes_nothing(level, stage, scale):
    batch = tensors(random_batch(10))
    out = ds_grpo_advantages(**batch, **how_of(level, stage), scale=scale)
    batch["rewards"] = batch["rewards"] + 3.0
    close(ds_grpo_advantages(**batch, **how_of(level, stage), scale=scale), out, 1e-10)


@pytest.mark.parametrize("scale", ["group", "none"])
@every_reading
def test_other_groups_do_not_leak(level, stage, scale):
    batch = tensors(random_batch(11))
    mine = batch["group"] == batch["group"][0]
    assert 1 < mine.sum() < 13
    out = ds_grpo_advantages(**batch, **how_of(level, stage), scale=scale)
    batch["rewards"] = torch.where(mine, batch["rewards"], batch["rewards"] * -9 + 4)
    batch["correct"] = torch.where(mine, batch["correct"], 1.0)
    batch["logps"] = torch.where(mine[:, None], batch["logps"], -0.5)
    changed = ds_grpo_advantages(**batch, **how_of(level, stage), scale=scale)
    assert torch.equal(changed[mine], out[mine]) and not torch.equal(changed[~mine], out[~mine])


def test_the_arguments_are_left_as_they_were():
    batch = tensors(random_batch(12))
    before = {name: values.clone() for name, values in batch.items()}
    ds_grpo_advantages(**batch, **how_of("sum", "reward"))
    for name, values in batch.items():
        assert torch.equal(values.nan_to_num(nan=-99.0), before[name].nan_to_num(nan=-99.0))


# --- gradients ----------------------------------------------------------------------------------------------


def test_the_gradient_of_the_loss_is_the_one_derived_by_hand():
    # Two tokens, each from a softmax of its own: d log pi(y_t) / d theta_t[k] = 1[y_t = k] - pi_t[k]
    theta = torch.tensor([[0.3, -1.0, 2.0], [1.0, 0.0, -0.5]], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([[0, 1], [2, 2], [1, 0], [2, 0]])
    logp = torch.log_softmax(theta, 1)[torch.arange(2), y]
    advantages = ds_grpo_advantages(
        f64(1.0, 1.0, 0.0, 0.0),
        logp,
        torch.tensor([[1, 1], [1, 1], [1, 1], [1, 0]]),
        correct=torch.tensor([True, True, False, False]),
        group=torch.tensor([0, 0, 0, 0]),
        gamma_p=0.3,
        gamma_n=0.1,
    )
    assert not advantages.requires_grad
    (-(advantages * logp).sum()).backward()

    pi = torch.softmax(theta.detach(), 1)
    grpo = 0.5 / (math.sqrt(1 / 3) + 1e-4)  # two of four correct: the unbiased variance is 4 * 0.25 / 3
    expected = torch.zeros(2, 3, dtype=torch.float64)
    for i in range(4):
        for t in range(2):
            if (i, t) == (3, 1):  # masked
                continue
            log_pi = math.log(pi[t, y[i, t]])
            advantage = grpo - 0.3 * log_pi if i < 2 else -grpo + 0.1 * log_pi
            for k in range(3):
                expected[t, k] -= advantage * ((1.0 if y[i, t] == k else 0.0) - pi[t, k])
    close(theta.grad, expected)


@pytest.mark.parametrize(
    ("correct", "gamma_p", "gamma_n", "direction"),
    [(True, 0.3, 0.0, 1), (False, 0.0, 0.3, -1)],
    ids=["flatten", "sharpen"],
)
@pytest.mark.parametrize("stage", ["advantage", "reward"])
def test_a_step_flattens_correct_answers_and_sharpens_wrong_ones(correct, gamma_p, gamma_n, direction, stage):
    theta = f64(2.0, 0.5, 0.0, -1.0, -1.5).requires_grad_()
    logp = torch.log_softmax(theta, 0)
    advantages = ds_grpo_advantages(
        torch.full((5,), float(correct), dtype=torch.float64),
        logp[:, None],
        torch.ones(5, 1),
        correct=torch.full((5,), correct),
        group=torch.zeros(5, dtype=torch.long),
        gamma_p=gamma_p,
        gamma_n=gamma_n,
        level="sum",
        stage=stage,
        scale="none",
    )
    probability = logp.detach().exp()  # the exact expectation over all outcomes, nothing is sampled
    (probability * advantages[:, 0] * logp).sum().backward()

    def entropy(logits):
        return torch.distributions.Categorical(logits=logits).entropy().item()

    change = entropy(theta.detach() + 0.1 * theta.grad) - entropy(theta.detach())
    assert change * direction > 1e-3


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"gamma_p": -0.1}, "gamma_p must be a finite number >= 0, got -0.1.*both gammas are >= 0"),
        ({"gamma_n": -0.1}, "gamma_n must be a finite number >= 0, got -0.1"),
        ({"gamma_p": NAN}, "gamma_p must be a finite number >= 0, got nan"),
        ({"gamma_n": INF}, "gamma_n must be a finite number >= 0, got inf"),
        (
            {"rewards": torch.zeros(2, 1)},
            r"rewards must be a non-empty \(batch,\) tensor of floats, got shape \(2, 1\)",
        ),
        ({"rewards": torch.tensor([1, 0])}, "tensor of floats, got shape .* of torch.int64"),
        ({"rewards": f64(1.0, INF)}, "rewards must be finite, or NaN for unscored"),
        ({"rewards": f64(-INF, 0.0)}, "rewards must be finite, or NaN for unscored"),
        ({"group": torch.tensor([0])}, r"one integer id per reward, shape \(2,\); got \(1,\)"),
        ({"group": f64(0.0, 0.0)}, "got .* of torch.float64.*repeat_interleave"),
        ({"correct": torch.tensor([True])}, r"correct must have the shape of rewards, \(2,\), got \(1,\)"),
        ({"correct": f64(0.1, 0.0)}, "True/False .* got values such as 0.1.*mask of its own"),
        ({"correct": torch.tensor([-1, 1])}, "got values such as -1.0"),
        ({"logps": torch.zeros(2, 4)}, r"logps and mask must both be .* batch = 2; got \(2, 4\) and \(2, 3\)"),
        ({"logps": torch.zeros(3, 3), "mask": torch.ones(3, 3)}, r"batch = 2; got \(3, 3\) and \(3, 3\)"),
        ({"logps": torch.zeros(2), "mask": torch.ones(2)}, r"got \(2,\) and \(2,\)"),
        ({"logps": torch.full((2, 3), -INF)}, "infinite log-probability under the mask"),
        ({"stage": "loss"}, "stage must be one of 'advantage', 'reward'; got 'loss'"),
        ({"level": "sequence"}, "level must be one of 'token', 'mean', 'sum'; got 'sequence'"),
        ({"scale": "std"}, "scale must be one of 'group', 'batch', 'none'; got 'std'"),
        ({"stage": "reward"}, "level='token' has no meaning there. Use level='mean' or level='sum'"),
        ({"center": True}, "center=True at level='token' needs entropies, .* Pass them, or take level='mean' or 'sum'"),
        ({"center": True, "stage": "reward", "level": "sum"}, "the reward stage is centred by itself. Set stage='adv"),
        (
            {"center": True, "entropies": torch.ones(2, 4)},
            r"need level='token' and the shape of logps, \(2, 3\); got level='token' and \(2, 4\)",
        ),
    ],
)
def test_a_mistake_is_an_error_that_says_what_to_do(changed, message):
    with pytest.raises(ValueError, match=message):
        ds_grpo_advantages(**{**PAIR, "gamma_p": 0.1, "gamma_n": 0.1, **changed})


def test_an_empty_batch_is_an_error():
    with pytest.raises(ValueError, match="non-empty"):
        group_advantages(torch.zeros(0), torch.zeros(0, dtype=torch.long))


def test_the_log_probability_of_a_completion_has_no_token_level():
    with pytest.raises(ValueError, match="level must be one of 'mean', 'sum'; got 'token'"):
        completion_logps(PAIR["logps"], PAIR["mask"], level="token")


# --- never NaN ----------------------------------------------------------------------------------------------

CORNERS = {
    "a group without scores": {"rewards": f64(NAN, NAN), "group": torch.tensor([0, 0])},
    "a group without scores beside another": {"rewards": f64(NAN, 1.0), "group": torch.tensor([0, 1])},
    "groups of one": {"group": torch.tensor([0, 1])},
    "equal rewards": {"rewards": f64(1.0, 1.0)},
    "a completion without tokens": {"mask": torch.tensor([[0, 0, 0], [1, 1, 1]])},
    "no token at all": {"mask": torch.zeros(2, 3)},
    "no token columns": {"mask": torch.zeros(2, 0), "logps": torch.zeros(2, 0)},
    "tokens never scored": {"logps": torch.full((2, 3), NAN)},
    "nobody knows": {"correct": f64(NAN, NAN)},
    "a batch of one": {name: values[:1] for name, values in PAIR.items()},
    "a batch of one without score": {name: values[:1] for name, values in PAIR.items()} | {"rewards": f64(NAN)},
}


@pytest.mark.parametrize("correction", [0, 1])
@every_scale
@every_reading
@pytest.mark.parametrize("changed", CORNERS.values(), ids=CORNERS)
def test_no_corner_gives_nan_or_touches_what_it_should_not(changed, level, stage, scale, correction):
    batch = {**PAIR, **changed}
    how = {
        "gamma_p": 0.3,
        "gamma_n": 0.2,
        "level": level,
        "stage": stage,
        "scale": scale,
        "eps": 0.01,
        "correction": correction,
    }
    out = ds_grpo_advantages(**batch, **how)
    assert out.isfinite().all() and out.shape == batch["mask"].shape
    assert not out[batch["mask"] == 0].any() and not out[batch["rewards"].isnan()].any()
    names = ("rewards", "logps", "mask", "group")
    listed = {name: batch[name].tolist() for name in names} | {"correct": batch["correct"].double().tolist()}
    close(out, torch.tensor(twin(**listed, **how), dtype=torch.float64).reshape(out.shape))
