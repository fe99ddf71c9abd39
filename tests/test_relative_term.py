"""The relative strength and the densities of the term: a slow twin, reductions, invariances, errors. Pure functions only."""

import math
import random

import pytest
import torch

from differential_smoothing import ds_grpo_advantages
from differential_smoothing.advantages import density_logps, group_advantages

NAN = math.nan
LEVELS = ("token", "mean", "sum")


def batch(seed, size=12, tokens=5):
    """Ragged groups, unscored and unknown completions, holes in the mask, tokens without a log-prob."""
    rng = random.Random(seed)
    return {
        "rewards": [rng.choice([0.0, 1.0, NAN]) for _ in range(size)],
        "correct": [rng.choice([0.0, 1.0, 1.0, NAN]) for _ in range(size)],
        "group": [rng.choice([7, 3, 12]) for _ in range(size)],
        "logps": [[NAN if rng.random() < 0.05 else -rng.expovariate(0.5) for _ in range(tokens)] for _ in range(size)],
        "mask": [[int(rng.random() < 0.8) for _ in range(tokens)] for _ in range(size)],
    }


def advantages(b, **options):
    f64 = torch.float64
    tensors = {k: torch.tensor(b[k], dtype=f64) for k in ("rewards", "correct", "logps")}
    return ds_grpo_advantages(
        tensors["rewards"],
        tensors["logps"],
        torch.tensor(b["mask"]),
        correct=tensors["correct"],
        group=torch.tensor(b["group"]),
        **{"gamma_p": 0.3, "gamma_n": 0.1, **options},
    )


def twin(b, level, floor, gamma_p=0.3, gamma_n=0.1):
    """The docstring's formula, one completion after the other."""
    size = len(b["rewards"])
    stock = group_advantages(torch.tensor(b["rewards"], dtype=torch.float64), torch.tensor(b["group"])).tolist()
    counted = [[lp for lp, m in zip(b["logps"][i], b["mask"][i]) if m and lp == lp] for i in range(size)]
    kind = [
        (b["group"][i], b["correct"][i])
        if b["rewards"][i] == b["rewards"][i] and any(b["mask"][i]) and b["correct"][i] == b["correct"][i]
        else None
        for i in range(size)
    ]
    result = []
    for i in range(size):
        row = []
        for lp, m in zip(b["logps"][i], b["mask"][i]):
            term = 0.0
            if kind[i] is not None:
                peers = [j for j in range(size) if kind[j] == kind[i]]
                if level == "token":
                    pool = [value for j in peers for value in counted[j]]
                    value = lp - math.fsum(pool) / len(pool) if lp == lp else 0.0
                else:
                    whole = {
                        j: math.fsum(counted[j]) / (max(len(counted[j]), 1) if level == "mean" else 1) for j in peers
                    }
                    value = whole[i] - math.fsum(whole.values()) / len(peers)
                coefficient = -gamma_p if b["correct"][i] else gamma_n
                term = coefficient * max(abs(stock[i]), floor) * value
            row.append(stock[i] + term if m else 0.0)
        result.append(row)
    return torch.tensor(result, dtype=torch.float64)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", range(25))
def test_the_relative_term_equals_its_slow_twin(level, seed):
    b = batch(seed)
    found, expected = advantages(b, relative=True, level=level), twin(b, level, 0.2)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("level", LEVELS)
def test_it_multiplies_the_advantage_of_a_mixed_group_and_the_floor_of_one_that_is_all_correct(level):
    b = batch(0) | {"rewards": [1.0] * 4 + [1.0, 1.0, 0.0, 0.0] + [0.0] * 4, "group": [0] * 4 + [1] * 4 + [2] * 4}
    b |= {
        "correct": b["rewards"],
        "mask": [[1] * 5] * 12,
        "logps": [[-1.0 - 0.1 * i - 0.01 * t for t in range(5)] for i in range(12)],
    }
    plain = advantages(b, gamma_p=0.0, gamma_n=0.0)
    for floor in (0.0, 0.5):
        shift = advantages(b, relative=True, level=level, floor=floor, gamma_n=0.0) - plain
        assert bool((shift[:4] != 0).any()) == (floor > 0)  # all correct: only the floor acts
        assert shift[4:6].abs().max() > 0.01 and not shift[6:].any()
        for rows in (slice(0, 4), slice(4, 6)):  # relative to its mean over the group's correct tokens
            assert abs(float(shift[rows].sum())) < 1e-12


@pytest.mark.parametrize("level", LEVELS)
def test_equal_log_probs_give_no_term_and_order_of_rows_does_not_matter(level):
    b = batch(3)
    even = b | {"logps": [[-1.5] * 5] * 12, "mask": [[1] * 5] * 12}
    torch.testing.assert_close(advantages(even, relative=True, level=level), advantages(even, gamma_p=0.0, gamma_n=0.0))
    order = random.Random(1).sample(range(12), 12)
    shuffled = {k: [v[i] for i in order] for k, v in b.items()}
    torch.testing.assert_close(
        advantages(shuffled, relative=True, level=level), advantages(b, relative=True, level=level)[order]
    )


def test_the_density_reduces_to_old_and_to_base():
    b = batch(5) | {"logps": [[-1.0 - 0.1 * i * t for t in range(5)] for i in range(12)]}
    base = torch.tensor(batch(6)["logps"], dtype=torch.float64).nan_to_num(nan=-2.0)
    old = advantages(b)
    assert torch.equal(advantages(b, density="ratio", base_logps=base, base_weight=0.0), old)
    assert torch.equal(advantages(b, density="base", base_logps=base), advantages(b | {"logps": base.tolist()}))
    same = torch.tensor(b["logps"], dtype=torch.float64)
    torch.testing.assert_close(advantages(b, density="ratio", base_logps=same), advantages(b, gamma_p=0.0, gamma_n=0.0))
    ratio = advantages(b, density="ratio", base_logps=base, base_weight=0.7)
    torch.testing.assert_close(ratio, advantages(b | {"logps": (same - 0.7 * base).tolist()}))
    assert not torch.allclose(ratio, old)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relative": True, "center": True, "level": "sum"}, "relative=True is centred by itself"),
        ({"relative": True, "stage": "reward", "level": "sum"}, "relative=True is centred by itself"),
        ({"relative": True, "floor": -1.0}, "floor must be a finite number >= 0, got -1.0"),
        ({"density": "old_base"}, "density must be one of 'old', 'base', 'ratio'; got 'old_base'"),
        ({"density": "base"}, r"needs base_logps of the shape of logps, \(12, 5\).*got None"),
        ({"density": "ratio", "base_logps": torch.zeros(12, 4)}, r"got \(12, 4\)"),
        ({"density": "ratio", "center": True, "base_logps": torch.zeros(12, 5)}, "Use relative=True"),
    ],
)
def test_errors_say_what_to_do(options, message):
    with pytest.raises(ValueError, match=message):
        advantages(batch(0), **options)


def test_the_base_is_not_read_where_it_is_not_needed():
    logps = torch.zeros(2, 3)
    assert density_logps(logps, torch.full((1, 1), NAN)) is logps
