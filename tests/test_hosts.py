"""The files for other trainers give the advantages of ``ds_grpo_advantages``, from batches of the shapes that those trainers hand over.

The shapes are those of rLLM 9beb6e0f, slime 624b824a8, prime-rl 559b44772 and SkyRL a9564572e (August 2026); ``docs/hosts.md`` states what was
run against the trainers' own code.
"""

import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from differential_smoothing import ds_grpo_advantages
from differential_smoothing.integrations.hosts import prime_rl, rllm, skyrl, slime
from differential_smoothing.rules import make_rule

LENGTHS = [3, 1, 4, 2, 5, 2, 3, 4, 1, 2]
GROUP = torch.tensor([7, 2, 7, 2, 7, 2, 5, 5, 7, 2])  # interleaved and of unequal sizes
RIGHT = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, math.nan, 1.0])


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).float()
    logps = -torch.rand(len(LENGTHS), max(LENGTHS), generator=generator, dtype=torch.float64) * 3
    return torch.where(mask != 0, logps, 0.0), mask


def expected(gamma_p, gamma_n, **options):
    logps, mask = batch()
    return ds_grpo_advantages(
        RIGHT.double(), logps, mask, correct=RIGHT, group=GROUP, gamma_p=gamma_p, gamma_n=gamma_n, **options
    ), mask


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-6, rtol=0, check_dtype=False)


def rows_of(values):
    return [values[i, :n] for i, n in enumerate(LENGTHS)]


# --- slime ----------------------------------------------------------------------------------------------------------------


def slime_data(name="log_probs"):
    logps, mask = batch()
    stock = make_rule("grpo")(RIGHT.double(), None, mask, correct=RIGHT, group=GROUP)
    return {
        name: rows_of(logps),
        "rewards": stock.tolist(),  # slime standardises them within the group before this call
        "local_raw_reward": [None if math.isnan(r) else r for r in RIGHT.tolist()],
        "loss_masks": [torch.ones(n, dtype=torch.int) for n in LENGTHS],
    }


@pytest.mark.parametrize("level", ["token", "mean", "sum"])
@pytest.mark.parametrize("gammas", [(0.3, 0.0), (0.2, 0.1)])
def test_slime(level, gammas):
    data = slime_data()
    slime.advantages(SimpleNamespace(ds_gamma_p=gammas[0], ds_gamma_n=gammas[1], ds_level=level), data)
    want, _ = expected(*gammas, level=level)
    for got, row in zip(data["advantages"], rows_of(want), strict=True):
        close(got, row)
    assert data["returns"] is data["advantages"]


def test_slime_reads_the_log_probs_of_the_sampler_and_a_part_of_the_tokens():
    whole = slime_data("rollout_log_probs")
    args = SimpleNamespace(ds_gamma_p=0.3, use_rollout_logprobs=True)
    slime.advantages(args, whole)
    part = slime_data("rollout_log_probs")
    part["rollout_log_probs"] = [row[1:] for row in part["rollout_log_probs"]]  # context parallelism
    slime.advantages(args, part)
    for a, b in zip(part["advantages"], whole["advantages"], strict=True):
        close(a, b[1:])
    args.ds_level = "sum"
    with pytest.raises(ValueError, match="context parallelism"):
        slime.advantages(args, part)


@pytest.mark.parametrize("given", [{}, {"ds_gamma_p": 0.0}, {"ds_gamma_p": -0.1}, {"ds_gamma_p": "0.1"}])
def test_slime_without_a_strength_is_refused(given):
    with pytest.raises(ValueError, match="ds_gamma_p"):
        slime.advantages(SimpleNamespace(**given), slime_data())


# --- rLLM -----------------------------------------------------------------------------------------------------------------


@dataclass
class Step:
    logprobs: list
    response_ids: list = field(default_factory=list)


def trajectory_groups():
    logps, _ = batch()
    groups = {}
    for i, (row, gid) in enumerate(zip(rows_of(logps), GROUP.tolist(), strict=True)):
        values = row.tolist()
        cut = len(values) // 2  # two steps
        steps = [Step(part, list(range(len(part)))) for part in (values[:cut], values[cut:])]
        groups.setdefault(gid, []).append((i, SimpleNamespace(steps=steps)))
    order = [i for members in groups.values() for i, _ in members]
    wrapped = [SimpleNamespace(group_id=str(g), trajectories=[t for _, t in members]) for g, members in groups.items()]
    rewards = [np.array([float(RIGHT[i]) for i, _ in members]) for members in groups.values()]
    return rewards, wrapped, order


@pytest.mark.parametrize("options", [{"level": "mean"}, {"level": "sum"}, {"level": "sum", "center": True}])
@pytest.mark.parametrize("std", [True, False])
def test_rllm(options, std):
    rewards, groups, order = trajectory_groups()
    estimator = rllm.make_estimator(gamma_p=0.3, gamma_n=0.1, **options)
    got, returns = estimator(rewards, SimpleNamespace(norm_adv_by_std_in_grpo=std), traj_groups=groups)
    assert [len(g) for g in got] == [len(r) for r in rewards] and returns is got
    scale = {"scale": "group" if std else "none", "eps": 1e-6, "correction": 0}
    want, _ = expected(0.3, 0.1, **options, **scale)
    close(torch.tensor(np.concatenate(got)), want[order, 0])


def test_rllm_with_gammas_0_is_its_own_grpo_and_other_rules_fit():
    rewards, groups, order = trajectory_groups()
    config = SimpleNamespace(norm_adv_by_std_in_grpo=True)
    known = [r for r in rewards if not np.isnan(r).any()]
    got, _ = rllm.make_estimator()(known, config)
    for r, a in zip(known, got, strict=True):
        assert np.allclose(a, (r - r.mean()) / (r.std() + 1e-6))
    _, mask = batch()
    for rule in ("maxrl", "ucpo"):
        logps = batch()[0]
        want = make_rule(rule)(RIGHT.double(), logps, mask, correct=RIGHT, group=GROUP)
        got, _ = rllm.make_estimator(rule=rule)(rewards, config, traj_groups=groups)
        close(torch.tensor(np.concatenate(got)), want[order])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma_p": -1}, ">= 0"),
        ({"gamma_p": 0.1, "level": "token"}, "'mean' or 'sum'"),
        ({"center": True}, "no effect"),
        ({"rule_options": {"k": 2}}, "rLLM's own GRPO"),
        ({"rule": "uniqueness"}, "does not hand over"),
    ],
)
def test_rllm_refuses_what_it_cannot_do(options, message):
    with pytest.raises(ValueError, match=message):
        rllm.make_estimator(**options)


def test_rllm_names_a_step_without_log_probs():
    rewards, groups, _ = trajectory_groups()
    groups[0].trajectories[0].steps[1].logprobs = []
    with pytest.raises(ValueError, match="0 log-probs for 2 tokens"):
        rllm.make_estimator(gamma_p=0.1)(rewards, SimpleNamespace(), traj_groups=groups)


# --- prime-rl -------------------------------------------------------------------------------------------------------------


def test_prime_rl_in_mixed_groups():
    logps, mask = batch()
    want, _ = expected(0.3, 0.1)
    stock = make_rule("grpo")(RIGHT.double(), None, mask, correct=RIGHT, group=GROUP)
    for i, n in enumerate(LENGTHS):
        advantages = stock[i].expand(n)
        got = prime_rl.shaped_advantages(advantages, logps[i, :n], mask[i, :n].bool(), gamma_p=0.3, gamma_n=0.1)
        close(got, want[i, :n] if stock[i] != 0 else advantages)  # an all-correct group has no sign to go by


def test_prime_rl_leaves_masked_tokens_alone_and_refuses_no_strength():
    advantages, logps = torch.ones(3), torch.tensor([-1.0, -2.0, math.nan])
    got = prime_rl.shaped_advantages(advantages, logps, torch.tensor([True, False, True]), gamma_p=0.5, gamma_n=0.0)
    assert got.tolist() == [1.5, 1.0, 1.0]
    with pytest.raises(ValueError, match="one above 0"):
        prime_rl.shaped_advantages(advantages, logps, torch.ones(3), gamma_p=0.0, gamma_n=0.0)


# --- SkyRL ----------------------------------------------------------------------------------------------------------------


class Data(dict):
    def __init__(self, *args, metadata, **kwargs):
        super().__init__(*args, **kwargs)
        self.metadata = metadata


class Trainer:
    """What the mixin needs of SkyRL's trainer: its GRPO on the batch."""

    cfg = SimpleNamespace(generator=SimpleNamespace(step_wise_trajectories=False))

    def compute_advantages_and_returns(self, data):
        score = data["rewards"].sum(-1)
        data["advantages"] = (
            make_rule("grpo", {"eps": 1e-6})(score, None, data["response_mask"], correct=score, group=GROUP)[:, None]
            * (data["response_mask"])
        )
        return data


def skyrl_data(name="action_log_probs"):
    logps, mask = batch()
    rewards = torch.zeros_like(logps)
    rewards[torch.arange(len(LENGTHS)), torch.tensor(LENGTHS) - 1] = RIGHT.double()
    return Data(
        {name: logps, "response_mask": mask, "rewards": rewards},
        metadata={"uids": [f"prompt-{g}" for g in GROUP.tolist()]},
    )


@pytest.mark.parametrize("name", ["action_log_probs", "rollout_logprobs"])
@pytest.mark.parametrize("options", [{}, {"level": "mean"}, {"level": "sum", "center": True}, {"relative": True}])
def test_skyrl(options, name):
    got = skyrl.smoothed(Trainer, gamma_p=0.3, gamma_n=0.1, **options)().compute_advantages_and_returns(
        skyrl_data(name)
    )
    want, mask = expected(0.3, 0.1, eps=1e-6, **options)
    close(got["advantages"], want * mask)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one above 0"),
        ({"gamma": 0.1}, "no option 'gamma'"),
        ({"gamma_p": 0.1, "level": "tokens"}, "token, mean or sum"),
        ({"gamma_p": 0.1, "center": True}, "entropies"),
        ({"gamma_p": 0.1, "center": True, "relative": True, "level": "sum"}, "exclude each other"),
    ],
)
def test_skyrl_refuses_what_it_cannot_do(options, message):
    with pytest.raises(ValueError, match=message):
        skyrl.smoothed(Trainer, **options)


def test_skyrl_needs_log_probs_and_whole_completions():
    data = skyrl_data()
    del data["action_log_probs"]
    made = skyrl.smoothed(Trainer, gamma_p=0.3)()
    with pytest.raises(ValueError, match="neither action_log_probs nor rollout_logprobs"):
        made.compute_advantages_and_returns(data)
    made.cfg = SimpleNamespace(generator=SimpleNamespace(step_wise_trajectories=True))
    with pytest.raises(ValueError, match="Step-wise"):
        made.compute_advantages_and_returns(skyrl_data())


@pytest.mark.parametrize("value", [np.bool_(True), np.str_("0.1"), True, "0.1", math.nan])
def test_a_strength_that_is_not_a_number_is_refused_by_every_host(value):
    advantages, logps = torch.ones(3), -torch.ones(3)
    for refuse in (
        lambda: slime.advantages(SimpleNamespace(ds_gamma_p=value), slime_data()),
        lambda: rllm.make_estimator(gamma_p=value),
        lambda: prime_rl.shaped_advantages(advantages, logps, torch.ones(3), gamma_p=value, gamma_n=0.0),
        lambda: skyrl.smoothed(Trainer, gamma_p=value),
    ):
        with pytest.raises(ValueError, match="gamma_p must be a finite number"):
            refuse()
