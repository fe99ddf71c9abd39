"""The oracle against exact rationals, the trainer and itself; biases and dynamics against brute force and sampling."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from differential_smoothing import group_advantages
from differential_smoothing.tabular import biases, dynamics
from differential_smoothing.tabular.oracle import (
    closed_form_gradient,
    ds_grpo,
    enumerate_groups,
    expected_gradient,
    group_advantage,
    sampled_gradient,
    step_moments,
    surrogate_gradient,
)
from differential_smoothing.tabular.trajectories import random_tree, sequences, token_logps

BANDIT = sequences([[i] for i in range(5)])
TREE = sequences([[0, 0], [0, 1, 1], [0, 1, 0], [1], [2, 2, 0]])
CORRECT = np.array([True, False, True, True, False])
DS = {"gamma_p": 0.3, "gamma_n": 0.2}
OPTIONS = {
    "GRPO": {},
    "token": DS,
    "sum": {**DS, "level": "sum"},
    "mean": {**DS, "level": "mean"},
    "centred": {**DS, "level": "mean", "center": True},
    "reward stage": {**DS, "level": "sum", "stage": "reward", "scale": "none"},
    "no scale": {**DS, "scale": "none"},
    "population std": {**DS, "correction": 0, "eps": 1e-6},
}


def logits_of(trajectories, seed=0):
    return np.random.default_rng(seed).normal(size=trajectories.allowed.shape)


def groups_of(logits, trajectories, size):
    counts = enumerate_groups(len(trajectories.mask), size)
    log_pi = token_logps(logits, trajectories).sum(-1)
    factorial = np.array([math.lgamma(n + 1) for n in range(size + 1)])
    return counts, np.exp(counts @ log_pi + factorial[size] - factorial[counts].sum(1))


@pytest.mark.parametrize("size", [2, 4, 8])
@pytest.mark.parametrize("trajectories", [BANDIT, TREE], ids=["bandit", "tree"])
@pytest.mark.parametrize("name", OPTIONS)
def test_enumeration_closed_form_and_autograd_are_one_gradient(name, trajectories, size):
    logits, option = logits_of(trajectories), OPTIONS[name]
    exact = expected_gradient(logits, trajectories, CORRECT, ds_grpo(**option), size)
    closed = closed_form_gradient(logits, trajectories, CORRECT, size, **option)
    counts, weight = groups_of(logits, trajectories, size)
    auto = surrogate_gradient(logits, trajectories, CORRECT, ds_grpo(**option), counts, weight)
    assert np.abs(exact).max() > 1e-3
    assert np.abs(exact - closed).max() < 1e-10
    assert np.abs(exact - auto).max() < 1e-10
    assert weight.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_sampling_agrees_within_its_own_error(size):
    for seed, trajectories in enumerate((BANDIT, TREE)):
        logits, rule = logits_of(trajectories), ds_grpo(**DS)
        exact = expected_gradient(logits, trajectories, CORRECT, rule, size)
        mean, error = sampled_gradient(logits, trajectories, CORRECT, rule, size, groups=4000, seed=seed)
        far = np.abs(mean - exact)[trajectories.allowed] / np.maximum(error[trajectories.allowed], 1e-15)
        assert far.max() < 4.5
        assert 1e-3 < error.max() < 0.02
        again, _ = sampled_gradient(logits, trajectories, CORRECT, rule, size, groups=4000, seed=seed)
        assert np.array_equal(mean, again)


def test_a_wrong_sign_is_seen():
    """Terms of the opposite sign differ by far more than the tolerances above."""
    logits = logits_of(BANDIT)
    plus, minus = (closed_form_gradient(logits, BANDIT, CORRECT, 4, gamma_p=g) for g in (0.3, -0.3))
    assert np.abs(plus - minus).max() > 0.05


def test_against_rationals_over_ordered_groups():
    """Groups of 2 and 3 from p = (1/2, 1/3, 1/6), only the first correct, Dr. GRPO's advantages: all fractions."""
    p, right = [Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)], [1, 0, 0]
    bandit = sequences([[0], [1], [2]])
    for size in (2, 3):
        exact = [Fraction(0)] * 3
        for group in itertools.product(range(3), repeat=size):
            chance = math.prod(p[i] for i in group)
            mean = Fraction(sum(right[i] for i in group), size)
            for i in group:
                for arm in range(3):
                    exact[arm] += chance * (right[i] - mean) * ((arm == i) - p[arm]) / size
        got = expected_gradient(
            np.log([[float(x) for x in p]]), bandit, np.array([True, False, False]), ds_grpo(scale="none"), size
        )
        assert got[0] == pytest.approx([float(x) for x in exact], abs=1e-15)


def test_any_rule_and_any_reward_can_be_asked():
    """A rule of one's own, and rewards that are not correctness."""

    def leave_one_out(rewards, logps, mask, *, correct, group):
        size = torch.bincount(group)[group]
        total = torch.zeros(int(group.max()) + 1, dtype=rewards.dtype).index_add_(0, group, rewards)[group]
        return (rewards - (total - rewards) / (size - 1))[:, None] * mask

    rewards = np.array([1.0, 0.2, -0.5, 2.0, 0.0])
    logits = logits_of(BANDIT)
    pi = np.exp(token_logps(logits, BANDIT))[:, 0]
    got = expected_gradient(logits, BANDIT, CORRECT, leave_one_out, 4, rewards=rewards)
    assert got[0] == pytest.approx(pi * (rewards - pi @ rewards), abs=1e-12)  # leave-one-out is unbiased


def test_mean_advantages_are_those_of_the_shipped_function():
    for size in (2, 5):
        for chance in (0.0, 0.3, 1.0):
            up = down = 0.0
            for others in itertools.product([0.0, 1.0], repeat=size - 1):
                weight = math.prod(chance if r else 1 - chance for r in others)
                for own in (1.0, 0.0):
                    rewards = torch.tensor([own, *others], dtype=torch.float64)
                    value = weight * group_advantages(rewards, torch.zeros(size, dtype=torch.long))[0].item()
                    up, down = (up + value, down) if own else (up, down + value)
            assert [float(v) for v in group_advantage(np.array(chance), size)] == pytest.approx([up, down], abs=1e-12)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: sequences([[0], [0, 1]]), "none of which begins another"),
        (lambda: sequences([[0]]), "at least two"),
        (lambda: enumerate_groups(100, 8), "limit"),
        (
            lambda: closed_form_gradient(logits_of(BANDIT), BANDIT, CORRECT, 4, level="sum", stage="reward"),
            "expected_gradient",
        ),
        (lambda: closed_form_gradient(logits_of(TREE), TREE, CORRECT, 4, center=True), "no meaning"),
        (
            lambda: closed_form_gradient(
                logits_of(BANDIT), BANDIT, CORRECT, 4, level="sum", stage="reward", scale="none", center=True
            ),
            "advantage stage",
        ),
        (lambda: token_logps(np.zeros((2, 5)), BANDIT), "one softmax per node"),
        (lambda: sampled_gradient(logits_of(BANDIT), BANDIT, CORRECT, ds_grpo(), 4, groups=1, seed=0), "groups >= 2"),
        (lambda: dynamics.population(4, 3, solutions=3, sharpness=1.0, noise=0.0, seed=0), "solutions < answers"),
        (lambda: dynamics.train(people(), lambda x, s: x, steps=1, lr=0.0), "lr > 0"),
        (lambda: dynamics.train(people(), lambda x, s: x * np.nan, steps=1, lr=1.0), "no longer finite"),
    ],
)
def test_errors_say_what_was_expected(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_random_trees_are_whole_and_the_seed_decides():
    for seed in range(20):
        tree = random_tree(7, seed)
        logits = np.random.default_rng(seed).normal(size=tree.allowed.shape)
        assert len(tree.mask) == 7 and np.exp(token_logps(logits, tree).sum(1)).sum() == pytest.approx(1)
        assert all(np.array_equal(a, b) for a, b in zip(tree, random_tree(7, seed), strict=True))
    assert len({random_tree(7, seed).node.tobytes() for seed in range(20)}) > 10
    with pytest.raises(ValueError, match="leaves >= 2"):
        random_tree(1, 0)


def test_moments_of_a_step_over_all_ordered_groups():
    p, correct, size, rule = np.array([0.3, 0.1, 0.6]), np.array([True, True, False]), 3, ds_grpo(gamma_n=0.5)
    bandit = sequences([[0], [1], [2]])
    slope = p * (correct - p[correct].sum())
    first = second = 0.0
    for group in itertools.product(range(3), repeat=size):
        index = np.array(group)
        advantage = rule(
            torch.tensor(correct[index]).double(),
            torch.from_numpy(np.log(p[index]))[:, None],
            torch.ones(size, 1),
            correct=torch.tensor(correct[index]),
            group=torch.zeros(size, dtype=torch.long),
        ).numpy()[:, 0]
        weight = np.bincount(index, advantage, 3) / size
        gain = slope @ (weight - p * weight.sum())
        first, second = first + math.prod(p[index]) * gain, second + math.prod(p[index]) * gain**2
    mean, spread = step_moments(np.log(p)[None], bandit, correct, rule, size, slope[None])
    assert (mean, spread) == (pytest.approx(first, abs=1e-14), pytest.approx(math.sqrt(second - first**2), abs=1e-12))


# biases


def test_biases_are_frequencies_over_all_ordered_groups():
    p, correct, size = np.array([0.4, 0.15, 0.05, 0.4]), np.array([True, True, True, False]), 4
    drawn, selected, gained = np.zeros(3), np.zeros(3), np.zeros(3)
    for group in itertools.product(range(4), repeat=size):
        chance, rewards = math.prod(p[list(group)]), torch.tensor(correct[list(group)]).double()
        advantages = group_advantages(rewards, torch.zeros(size, dtype=torch.long)).numpy()
        for y in range(3):
            if y in group:
                drawn[y] += chance
                selected[y] += chance * (3 in group)
                gained[y] += chance * sum(advantages[i] for i in range(size) if group[i] == y) / size
    got = biases.biases(np.log(p), correct, size)
    assert got.drawn[:3] == pytest.approx(drawn, abs=1e-12)
    assert got.selected[:3] == pytest.approx(selected, abs=1e-12)
    assert got.gain[:3] == pytest.approx(gained / selected, rel=1e-10)
    assert np.isnan(got.gain[3])


@pytest.mark.parametrize("size", [2, 8])
def test_diversity_rates_are_derivatives_along_the_closed_form_gradient(size):
    logits = np.random.default_rng(3).normal(size=(40, 1, 5))
    correct = np.broadcast_to(CORRECT, (40, 5))
    log_pi = token_logps(logits, BANDIT)[..., 0]

    def diversity(values):
        q = np.where(CORRECT, np.exp(token_logps(values, BANDIT)[..., 0]), 0.0)
        q = q / q.sum(-1, keepdims=True)
        return -(q * np.log(np.where(q > 0, q, 1.0))).sum(-1)

    rates, grpo = (biases.diversity_rates(log_pi, correct, size), closed_form_gradient(logits, BANDIT, correct, size))
    for name, option in {
        "gamma_p": {"gamma_p": 1.0},
        "gamma_p_centred": {"gamma_p": 1.0, "level": "sum", "center": True},
        "gamma_n": {"gamma_n": 1.0},
    }.items():
        term = closed_form_gradient(logits, BANDIT, correct, size, **option) - grpo
        slope = (diversity(logits + 1e-5 * term) - diversity(logits - 1e-5 * term)) / 2e-5
        assert getattr(rates, name) == pytest.approx(slope, abs=1e-9)
        assert biases.diversity_rate(log_pi, correct, term[:, 0]) == pytest.approx(slope, abs=1e-9)
    assert rates.grpo == pytest.approx(biases.diversity_rate(log_pi, correct, grpo[:, 0]), abs=1e-12)
    assert (rates.grpo < 0).all() and (rates.gamma_p_centred > 0).all() and (rates.gamma_n < 0).all()
    assert (rates.gamma_p < 0).any() and (rates.gamma_p > 0).any()  # the published term can do either


@pytest.mark.parametrize("size", [2, 4, 8])
def test_correctness_rates_are_derivatives_and_their_price_does_not_hang_on_the_group(size):
    logits, correct = np.random.default_rng(4).normal(size=(40, 1, 5)), np.broadcast_to(CORRECT, (40, 5))
    log_pi = token_logps(logits, BANDIT)[..., 0]

    def correctness(values):
        return np.exp(token_logps(values, BANDIT)[..., 0])[:, CORRECT].sum(1)

    grpo = closed_form_gradient(logits, BANDIT, correct, size)
    term = closed_form_gradient(logits, BANDIT, correct, size, gamma_n=1.0) - grpo
    rates = biases.correctness_rates(log_pi, correct, size)
    for rate, gradient in zip(rates, (grpo, term), strict=True):
        up, down = (correctness(logits + sign * 1e-5 * gradient) for sign in (1, -1))
        assert rate == pytest.approx((up - down) / 2e-5, abs=1e-9)
    cost, pair = biases.diversity_rates(log_pi, correct, size), biases.diversity_rates(log_pi, correct, 2)
    assert cost.grpo / rates[0] == pytest.approx(pair.grpo / biases.correctness_rates(log_pi, correct, 2)[0], rel=1e-9)
    assert rates[1] == pytest.approx(biases.correctness_rates(log_pi, correct, 2)[1], rel=1e-9)


# dynamics


def people(prompts=3):
    return dynamics.population(prompts, 5, solutions=2, sharpness=1.0, noise=0.5, seed=0)


def test_sampled_training_ends_where_the_expectation_says():
    crowd, options = people(), {"gamma_p": 0.2, "level": "sum"}
    exact = dynamics.train(crowd, dynamics.closed_form(crowd, 4, **options), steps=25, lr=0.5, coupling=0.5)
    ends = []
    for seed in range(12):
        gradient = dynamics.sampled(crowd, 4, ds_grpo(**options), groups=64, seed=seed)
        run = dynamics.train(crowd, gradient, steps=25, lr=0.5, coupling=0.5)
        ends.append([*run.pass_at_k[-1], run.diversity[-1], run.entropy[-1]])
    ends = np.array(ends)
    error = ends.std(0, ddof=1) / np.sqrt(len(ends))
    target = np.array([*exact.pass_at_k[-1], exact.diversity[-1], exact.entropy[-1]])
    assert (np.abs(ends.mean(0) - target) < 4 * error + 1e-3).all()
    assert np.abs(target - [*exact.pass_at_k[0], exact.diversity[0], exact.entropy[0]]).max() > 50 * error.min()


@pytest.mark.parametrize("name", OPTIONS)
def test_enumerated_training_is_the_closed_form(name):
    crowd, option = people(2), OPTIONS[name]
    one = dynamics.train(crowd, dynamics.closed_form(crowd, 3, **option), steps=4, lr=1.0)
    two = dynamics.train(crowd, dynamics.enumerated(crowd, 3, ds_grpo(**option)), steps=4, lr=1.0)
    assert one.logits == pytest.approx(two.logits, abs=1e-10)


def test_entropy_term_is_the_gradient_of_the_entropy():
    crowd = people()
    zero = dynamics.closed_form(crowd, 4, scale="none")
    slope = dynamics.with_entropy(crowd, lambda x, s: np.zeros_like(x), 0.3)(crowd.logits, 0)
    assert dynamics.with_entropy(crowd, zero, 0.3)(crowd.logits, 0) == pytest.approx(slope + zero(crowd.logits, 0))
    leaf = torch.tensor(crowd.logits, requires_grad=True)
    log_policy = torch.log_softmax(leaf, -1)
    (-0.3 * (log_policy.exp() * log_policy).sum()).backward()
    assert slope == pytest.approx(leaf.grad.numpy(), abs=1e-12)


def test_what_is_recorded_is_exact():
    crowd = people()
    run = dynamics.train(crowd, dynamics.closed_form(crowd, 4), steps=3, lr=1.0, ks=(1, 8))
    assert run.step.tolist() == [0, 1, 2, 3] and run.pass_at_k.shape == (4, 2)
    pi = np.exp(token_logps(crowd.logits, crowd.trajectories)[..., 0])
    rate = np.where(crowd.correct, pi, 0).sum(1)
    assert run.pass_at_k[0] == pytest.approx([rate.mean(), (1 - (1 - rate) ** 8).mean()])
    assert run.distinct[0] == pytest.approx(np.where(crowd.correct, 1 - (1 - pi) ** 8, 0).sum(1).mean())
    assert run.modes[0] > 1 and run.diversity[-1] < run.diversity[0]


def test_sharpening_needs_shared_parameters_and_ds_holds_it_back():
    """Pass@64 falls under GRPO only where a step is shared; gamma_p keeps more of it, gamma_n less."""
    crowd = dynamics.population(48, 30, solutions=5, sharpness=0.7, noise=1.5, seed=0)

    def ends(coupling, **options):
        gradient = dynamics.closed_form(crowd, 8, **options)
        return dynamics.train(crowd, gradient, steps=300, lr=2.0, coupling=coupling, records=1).pass_at_k

    alone, shared = ends(0.0), ends(1.0)
    assert alone[-1, 1] > alone[0, 1] and shared[-1, 1] < shared[0, 1] - 0.02
    assert shared[-1, 0] > shared[0, 0] + 0.05
    assert ends(1.0, gamma_p=0.3)[-1, 1] > shared[-1, 1] + 0.01
    assert ends(1.0, gamma_n=0.1)[-1, 1] < shared[-1, 1] - 0.05


# the trainer


@pytest.mark.parametrize("name", ["GRPO", "token", "sum", "centred"])
def test_the_trainer_has_the_oracle_s_gradient(name, tiny_model, tmp_path):
    """Completions of one token: the model's next-token distribution is the table, the batch decides the groups."""
    from datasets import Dataset
    from transformers import AutoTokenizer

    from differential_smoothing.integrations.trl import DSGRPOConfig, DSGRPOTrainer

    option, size = OPTIONS[name], 8
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    seen = {}

    class Recorder(DSGRPOTrainer):
        def _compute_loss(self, model, inputs):
            seen.update(ids=inputs["completion_ids"], prompt=inputs["prompt_ids"][0], correct=inputs["ds_correct"])
            return super()._compute_loss(model, inputs)

        def training_step(self, *args, **kwargs):
            loss = super().training_step(*args, **kwargs)
            head = self.model.get_output_embeddings().weight
            seen.update(gradient=head.grad.clone(), weight=head.detach().clone())
            hidden = self.model.model(seen["prompt"][None]).last_hidden_state[0, -1]
            seen["hidden"] = hidden.detach()
            return loss

    def reward(completion_ids, **_):
        return [float(ids[0] % 2) for ids in completion_ids]

    rows = Dataset.from_list([{"prompt": tokenizer.decode([20, 21, 22])}] * 4)
    trainer = Recorder(
        model=tiny_model,
        reward_funcs=reward,
        train_dataset=rows,
        processing_class=tokenizer,
        args=DSGRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=size,
            num_generations=size,
            max_completion_length=1,
            max_steps=1,
            learning_rate=1e-9,
            use_cpu=True,
            bf16=False,
            report_to=[],
            save_strategy="no",
            seed=1,
            disable_tqdm=True,
            gradient_checkpointing=False,
            loss_type="grpo",
            max_grad_norm=0.0,
            **option,
        ),
    )
    trainer.train()
    assert (seen["prompt"] == seen["prompt"][0]).any() and seen["ids"].shape == (size, 1)
    logits = (seen["weight"].double() @ seen["hidden"].double()).numpy()[None]
    table = sequences([[token] for token in range(logits.shape[1])])
    counts = np.bincount(seen["ids"][:, 0].numpy(), minlength=logits.shape[1])[None]
    correct = np.arange(logits.shape[1]) % 2 == 1
    assert np.array_equal(correct[seen["ids"][:, 0].numpy()], seen["correct"].bool().numpy())
    oracle = surrogate_gradient(logits, table, correct, ds_grpo(**option), counts, np.ones(1))[0]
    # the head's gradient is the outer product of the loss's gradient with respect to the logits and the hidden state
    hidden = seen["hidden"].double()
    got = -(seen["gradient"].double() @ hidden / (hidden @ hidden)).numpy()
    assert np.abs(oracle).max() > 1e-2
    assert got == pytest.approx(oracle, abs=1e-5)
