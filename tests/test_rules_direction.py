"""Where each rule pushes in expectation, exactly: by enumeration of all groups from a policy over five answers."""

import math

import numpy as np
import pytest
import torch
from test_rules import TWINS, a_grae

from differential_smoothing.rules import make_rule
from differential_smoothing.tabular.oracle import expected_gradient
from differential_smoothing.tabular.trajectories import sequences, token_logps

SIZE = 4
BANDIT = sequences([[i] for i in range(5)])
CORRECT = np.array([True, False, True, True, False])
# solved 74, 39 and 93 % of the time
POLICIES = [np.random.default_rng(seed).normal(size=(1, 5)) for seed in (0, 1, 3)]
each_policy = pytest.mark.parametrize("logits", POLICIES, ids=["0.74", "0.39", "0.93"])


def oracle_rule(name, **options):
    """The shipped rule as the oracle calls it. A-GRAE looks over groups, so each of its groups is asked alone."""
    bound = make_rule(name, options)

    def rule(rewards, logps, mask, *, correct, group):
        if name != "a_grae":
            result = bound(rewards, logps, mask, correct=correct.double(), group=group)
        else:
            result = torch.empty_like(rewards)
            for one in group.unique():
                at = group == one
                result[at] = bound(rewards[at], None, mask[at], correct=correct[at].double(), group=group[at])
        return (result if result.dim() == 2 else result[:, None]) * mask

    return rule


def gradient(logits, name, size=SIZE, **options):
    return expected_gradient(logits, BANDIT, CORRECT, oracle_rule(name, **options), size)[0]


def policy(logits):
    return np.exp(token_logps(logits, BANDIT))[:, 0]


def analytic(logits, objective):
    """The gradient of a function of the success rate with respect to the logits, by autograd."""
    free = torch.tensor(logits[0], requires_grad=True)
    objective(torch.softmax(free, 0)[torch.from_numpy(CORRECT)].sum()).backward()
    return free.grad.numpy()


def success(logits):
    return policy(logits)[CORRECT].sum()


def entropy_change(logits, direction):
    """The rate of the entropy among correct answers when the logits move along ``direction``."""
    free = torch.tensor(logits[0], requires_grad=True)
    q = torch.softmax(free[torch.from_numpy(CORRECT)], 0)
    (-(q * q.log()).sum()).backward()
    return float(free.grad.numpy() @ direction)


def success_change(logits, direction):
    return float(analytic(logits, lambda rho: rho) @ direction)


def close(a, b, tolerance=1e-10):
    assert np.abs(b).max() > 1e-6
    assert np.abs(a - b).max() < tolerance


# --- whose gradient it is -----------------------------------------------------------------------------------------------


@each_policy
@pytest.mark.parametrize("baseline", ["loo", "rloo", "loo_minus_one", "none"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_pkpo_is_the_gradient_of_pass_at_k(k, baseline, logits):
    got = gradient(logits, "pkpo", k=k, baseline=baseline)
    close(got, analytic(logits, lambda rho: 1 - (1 - rho) ** k))


@each_policy
@pytest.mark.parametrize("size", [2, 4, 5])
def test_dr_grpo_is_the_gradient_of_the_success_rate_but_for_its_own_baseline(size, logits):
    close(gradient(logits, "dr_grpo", size), (1 - 1 / size) * analytic(logits, lambda rho: rho))


@each_policy
@pytest.mark.parametrize("size", [2, 4, 5])
def test_flow_adds_the_gradient_of_the_entropy_to_grpo_but_for_its_own_baseline(size, logits):
    """Of the whole policy's entropy, incorrect answers included: one token, so the mean log-prob is the answer's."""
    free = torch.tensor(logits[0], requires_grad=True)
    logp = torch.log_softmax(free, 0)
    (-(logp.exp() * logp).sum()).backward()
    extra = gradient(logits, "flow", size, temperature=0.3) - gradient(logits, "grpo", size)
    close(extra, 0.3 * (1 - 1 / size) * free.grad.numpy())


@each_policy
@pytest.mark.parametrize("size", [2, 4, 5])
def test_maxrl_is_the_gradient_of_the_log_likelihood_of_success_cut_off(size, logits):
    """log(rho) = -sum of (1-rho)^k / k over all k; a group of G gives the terms below G (its baseline costs the last)."""
    got = gradient(logits, "maxrl", size, eps=0.0)
    close(got, analytic(logits, lambda rho: -sum((1 - rho) ** k / k for k in range(1, size))))


@each_policy
@pytest.mark.parametrize("size", [2, 4, 5])
def test_best_of_is_the_gradient_of_pass_at_the_group_s_size(size, logits):
    close(gradient(logits, "best_of", size), analytic(logits, lambda rho: (1 - (1 - rho) ** size) / size))


@each_policy
def test_psr_and_nsr_push_alike_in_expectation(logits):
    """They differ by a constant advantage, which no expectation sees: their difference is one of noise and of clipping."""
    rate = analytic(logits, lambda rho: rho)
    close(gradient(logits, "psr"), rate)
    close(gradient(logits, "nsr"), rate)
    close(gradient(logits, "w_reinforce"), 1.1 * rate)


def test_but_what_a_group_teaches_is_not_alike():
    """One wrong answer drawn: NSR lifts all others in proportion to what they had. One right: PSR lowers all others so."""
    pi = policy(POLICIES[1])
    for name, drawn, sign in (("nsr", 1, 1), ("psr", 0, -1)):
        right = torch.tensor([float(CORRECT[drawn])])
        group = torch.zeros(1, dtype=torch.long)
        advantage = make_rule(name)(right, None, torch.ones(1, 1), correct=right, group=group).item()
        push = advantage * ((np.arange(5) == drawn) - pi)
        others = np.arange(5) != drawn
        assert np.allclose(push[others], sign * pi[others]) and np.sign(push[drawn]) == -sign


# --- rules that only count cannot tell right answers apart ----------------------------------------------------------------

COUNTING = {
    "grpo": {},
    "dr_grpo": {},
    "maxrl": {},
    "f_grpo": {"focus": 2.0},
    "pass_at_k_training": {"k": 2},
    "pkpo": {"k": 2},
    "best_of": {"scale": "group"},
    "psr": {},
    "nsr": {},
    "w_reinforce": {},
    "a_grae": {},
    "rs_grpo": {},
    "qae": {},
}


def factor(name, rho, size=SIZE, **options):
    """E[A | correct] - E[A | wrong] over the other G - 1 completions, by the twins: what multiplies the gradient of rho."""
    total = 0.0
    for others in range(size):
        chance = math.comb(size - 1, others) * rho**others * (1 - rho) ** (size - 1 - others)
        for first, sign in ((1.0, 1), (0.0, -1)):
            kinds = [first] + [1.0] * others + [0.0] * (size - 1 - others)
            members = [(r, r, [-1.0]) for r in kinds]
            twin = a_grae([members], **options)[0] if name == "a_grae" else TWINS[name](members, **options)
            total += sign * chance * twin[0]
    return total


@each_policy
@pytest.mark.parametrize("name", COUNTING)
def test_they_all_follow_the_success_rate_and_lose_the_same_entropy_per_success(name, logits):
    got = gradient(logits, name, **COUNTING[name])
    close(got, factor(name, success(logits), **COUNTING[name]) * analytic(logits, lambda rho: rho))
    stock = gradient(logits, "grpo")
    assert success_change(logits, got) > 0 > entropy_change(logits, got)
    assert entropy_change(logits, got) / success_change(logits, got) == pytest.approx(
        entropy_change(logits, stock) / success_change(logits, stock), rel=1e-8
    )


RATES = [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("maxrl", {}),
        ("f_grpo", {}),
        ("pass_at_k_training", {"k": 2}),
        ("pkpo", {"k": 2}),
        ("best_of", {}),
        ("rs_grpo", {}),
    ],
    ids=["maxrl", "f_grpo", "pass_at_k_training", "pkpo", "best_of", "rs_grpo"],
)
def test_they_weigh_hard_prompts_more_than_grpo_does(name, options):
    """Their point: the weight relative to GRPO's falls with the success rate, all the way."""
    ratio = [factor(name, rho, **options) / factor("grpo", rho) for rho in RATES]
    assert ratio == sorted(ratio, reverse=True) and ratio[0] > 1.5 * ratio[-1] > 0


def test_maxrl_s_weight_is_one_over_the_success_rate_up_to_the_group_s_size():
    for rho in RATES:
        assert factor("maxrl", rho, 64, eps=0.0) == pytest.approx((1 - (1 - rho) ** 63) / rho, rel=1e-9)


@pytest.mark.parametrize("focus", [0.5, 1.0, 2.0])
def test_f_grpo_s_weight_runs_from_all_but_one_of_the_group_to_one(focus):
    """Rare success: one of G is right, so (1 - 1/G)^focus of GRPO's weight. Rare failure: (1/G)^focus."""
    for rho, share in ((1e-7, 1 - 1 / SIZE), (1 - 1e-7, 1 / SIZE)):
        assert factor("f_grpo", rho, focus=focus) / factor("grpo", rho) == pytest.approx(share**focus, rel=1e-5)


def test_a_grae_turns_from_easy_to_hard_prompts_and_holds_right_answers_back_early():
    def weights(*successes):
        """|advantage| of a wrong and of a right completion over GRPO's, per group of 8 with so many successes."""
        kinds = [float(i < c) for c in successes for i in range(8)]
        data = {"rewards": torch.tensor(kinds), "logps": None, "mask": torch.ones(len(kinds), 1)}
        data |= {"correct": torch.tensor(kinds), "group": torch.arange(len(successes)).repeat_interleave(8)}
        ratio = make_rule("a_grae")(**data) / make_rule("grpo", {"eps": 1e-6})(**data)
        return ratio.view(-1, 8)[:, -1].tolist(), ratio.view(-1, 8)[:, 0].tolist()

    # the last of a group is wrong, the first right; the groups behind the two say how far the training is
    early, early_right = weights(1, 7, *[1] * 30)
    late, late_right = weights(1, 7, *[8] * 30)
    assert early[1] > 2 * early[0] and late[0] > 1.5 * late[1]
    for right, wrong, solved in ((early_right, early, 38 / 256), (late_right, late, 248 / 256)):
        assert [r / w for r, w in zip(right[:2], wrong[:2], strict=True)] == pytest.approx([solved] * 2, rel=1e-4)


# --- rules that can ---------------------------------------------------------------------------------------------------------


@each_policy
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ucpo", {}),
        ("ucpo", {"share": 1.0}),
        ("unlikeliness", {}),
        ("ds_g", {"gamma_n": 0.0}),
        ("ds_e", {"gamma_n": 0.0}),
    ],
    ids=["ucpo", "ucpo, all of it", "unlikeliness", "ds_g", "ds_e"],
)
def test_they_lose_less_entropy_per_success_than_grpo(name, options, logits):
    got, stock = gradient(logits, name, **options), gradient(logits, "grpo")
    assert success_change(logits, got) > 0
    assert entropy_change(logits, got) / success_change(logits, got) > (
        entropy_change(logits, stock) / success_change(logits, stock) + 1e-4
    )


@each_policy
def test_ucpo_only_slows_the_loss(logits):
    """However large its share: GRPO's advantage is shared out within a group, but likely answers are drawn more often."""
    loss = [-entropy_change(logits, gradient(logits, "ucpo", share=share)) for share in (0.0, 0.2, 0.6, 1.0)]
    assert loss == sorted(loss, reverse=True) and 0 < loss[-1] < 0.9 * loss[0]


def test_unlikeliness_turns_the_loss_into_a_gain_where_groups_are_mostly_right_and_only_there():
    change = [entropy_change(logits, gradient(logits, "unlikeliness")) for logits in POLICIES]
    assert change[0] > 0.01 and change[2] > 0.05 and change[1] < -0.01


def test_ds_turns_it_where_gamma_p_is_large_and_groups_are_mostly_right():
    change = [[entropy_change(z, gradient(z, "ds_g", gamma_p=g, gamma_n=0.0)) for z in POLICIES] for g in (0.0, 1.0)]
    assert all(c < 0 for c in change[0])
    assert change[1][0] > 0.005 and change[1][2] > 0.1
    # where few are right, the uncentred term pushes all right answers up, so it sharpens: what center is for
    assert change[1][1] < change[0][1]
    centred = [entropy_change(z, gradient(z, "ds_grpo", gamma_p=1.0, level="sum", center=True)) for z in POLICIES]
    assert all(c > stock for c, stock in zip(centred, change[0], strict=True))


def test_gamma_n_has_its_paper_s_direction():
    """It makes wrong answers more alike: the likely wrong ones lose less, the unlikely ones more."""
    logits = POLICIES[2]
    added = gradient(logits, "ds_g", gamma_p=0.0, gamma_n=0.5) - gradient(logits, "ds_g", gamma_p=0.0, gamma_n=0.0)
    pi = policy(logits)
    likely, unlikely = sorted(np.flatnonzero(~CORRECT), key=lambda i: -pi[i])
    assert added[likely] / pi[likely] > added[unlikely] / pi[unlikely]


@pytest.mark.parametrize(("name", "moves"), [("grpo", False), ("ucpo", False), ("unlikeliness", True), ("ds_g", True)])
def test_an_all_correct_group(name, moves):
    ones = torch.ones(3)
    data = {"rewards": ones, "logps": torch.tensor([[-1.0], [-2.0], [-4.0]]), "mask": torch.ones(3, 1)}
    got = make_rule(name)(**data, correct=ones, group=torch.zeros(3, dtype=torch.long)).flatten().tolist()
    assert (max(map(abs, got)) > 0) == moves
    if name == "unlikeliness":  # ranks 3, 2, 1
        assert got[0] < 0 and got[1] == pytest.approx(0, abs=1e-6) and got[2] == pytest.approx(-got[0], rel=1e-5)
