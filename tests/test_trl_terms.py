"""The trainer's relative strength, densities, variety target and shared prompts, over real steps of a real model."""

import math

import pytest
import torch
from test_trl import Recording, even_length, make, trained, weights
from trl import GRPOConfig, GRPOTrainer

from differential_smoothing import ds_grpo_advantages
from differential_smoothing.integrations.trl import DSGRPOConfig, DSGRPOTrainer, shared_prefix_rollout
from differential_smoothing.integrations.trl.shared_prompts import refuse_images, shared_prompt_logps
from differential_smoothing.integrations.trl.variety import GAIN, WARMUP, VarietyTarget, success_correction

TERMS = {
    "relative-token": {"relative": True},
    "relative-sum": {"relative": True, "level": "sum", "relative_floor": 0.5},
    "base": {"density": "base"},
    "ratio": {"density": "ratio", "base_weight": 0.5},
    "ratio-mean-centred": {"density": "ratio", "level": "mean", "center": True},
    "ratio-relative": {"density": "ratio", "relative": True},
}


@pytest.mark.parametrize("rollout", [None, shared_prefix_rollout], ids=["logps of the loss", "logps of the sampler"])
@pytest.mark.parametrize("name", TERMS)
def test_the_loss_gets_the_advantages_of_the_pure_function(name, rollout, tiny_model, tmp_path):
    term = TERMS[name]
    # two steps from one generation: in the second one the policy is no longer the base
    trainer = trained(
        Recording,
        DSGRPOConfig,
        tiny_model,
        tmp_path,
        max_steps=2,
        rollout=rollout,
        gamma_p=0.3,
        gamma_n=0.1,
        learning_rate=0.1,
        **term,
    )
    seen = trainer.seen[-1]
    mask, logps, base = seen["completion_mask"], seen["logps"], seen.get("ref_per_token_logps")
    texts = trainer.processing_class.batch_decode(
        [ids[m.bool()] for ids, m in zip(seen["completion_ids"], mask)], skip_special_tokens=True
    )
    rewards = torch.tensor(even_length(texts))
    prompts = [str(ids.tolist()) for ids in seen["prompt_ids"]]
    options = {k: v for k, v in term.items() if k != "relative_floor"} | {"floor": term.get("relative_floor", 0.2)}
    expected = ds_grpo_advantages(
        rewards,
        logps,
        mask,
        correct=rewards > 0.5,
        group=torch.tensor([sorted(set(prompts)).index(p) for p in prompts]),
        gamma_p=0.3,
        gamma_n=0.1,
        base_logps=base,
        **options,
    )
    given = seen["advantages"] if seen["advantages"].dim() == 2 else seen["advantages"][:, None]
    torch.testing.assert_close(given * mask, expected, rtol=1e-4, atol=1e-5)
    assert expected.abs().max() > 0.1
    if base is not None:
        assert (base - logps).abs().max() > 1e-3  # the base stayed where it was


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relative": True}, "relative=True has no effect while gamma_p and gamma_n are 0"),
        ({"density": "base"}, "density='base' has no effect while gamma_p"),
        ({"gamma_p": 0.2, "relative_floor": 0.1}, "relative_floor=0.1 has no effect without relative"),
        ({"gamma_p": 0.2, "base_weight": 0.1}, "base_weight=0.1 has no effect without density='ratio'"),
        ({"gamma_p": 0.2, "density": "bse"}, "density must be one of old, base, ratio; got 'bse'"),
        ({"gamma_p": 0.2, "relative": True, "center": True}, "Leave center out"),
        ({"gamma_p": 0.2, "density": "ratio", "center": True}, "needs density='old'"),
        ({"gamma_p": 0.2, "density": "ratio", "base_weight": math.nan}, "base_weight must be"),
        ({"gamma_p": 0.2, "relative": True, "relative_floor": -1.0}, "relative_floor must be >= 0, got -1.0"),
        ({"center": True}, "center=True has no effect while gamma_p"),
        ({"share_prompts": True}, "gradient_checkpointing=True throws away"),
        ({"rule": "maxrl", "stage": "reward", "level": "sum", "variety_target": 0.5}, "use stage='advantage'"),
        ({"variety_target": 1.5}, "above 0 and at most 1; got 1.5"),
        ({"variety_target": 0.5, "schedule": "entropy_discrepancy", "gamma_p": 0.1}, "both set gamma_p"),
        ({"variety_target": 0.5, "rule": "ds_a"}, "gammas of its own"),
    ],
)
def test_options_without_effect_or_against_each_other_are_errors(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        DSGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **options)


# --- prompts read once ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"beta": 0.1}, {"gamma_p": 0.3, "center": True}, {"temperature": 0.7}], ids=str
)
def test_shared_prompts_train_as_the_stock_trainer_but_for_rounding(options, tiny_model, tmp_path):
    def after(share):
        return weights(
            trained(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path / str(share), share_prompts=share, **options)
        )

    before = weights(make(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path / "before"))
    stock, shared = after(False), after(True)
    moved = (stock - before).norm()
    assert (shared - stock).norm() < 1e-3 * moved and moved > 0.1


def test_shared_prompts_read_each_prompt_once(tiny_model, tmp_path):
    trainer = make(
        DSGRPOTrainer,
        DSGRPOConfig,
        tiny_model,
        tmp_path,
        share_prompts=True,
        max_steps=1,
        rollout=shared_prefix_rollout,
    )
    tokens = []

    def seen(module, args, kwargs):
        if torch.is_grad_enabled():
            tokens.append(kwargs["input_ids"].shape)

    trainer.model.base_model.register_forward_pre_hook(seen, with_kwargs=True)
    trainer.train()
    prompts, completions = tokens
    assert prompts[0] == 4 and completions[0] == 16  # 4 prompts x 4 completions
    assert completions[1] <= 8


def test_shared_prompts_in_parts_and_in_any_order_are_the_host_s_log_probs(tiny_model, tmp_path):
    trainer = make(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path)
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(5, 60, (3, 6), generator=generator)[torch.tensor([2, 0, 1, 0, 2, 2, 1])]
    ids = torch.cat([prompts, torch.randint(5, 60, (7, 4), generator=generator)], 1)
    mask = torch.ones_like(ids)
    mask[[1, 3], :2] = 0  # padded on the left
    mask[0, 8:] = 0  # ended
    expected = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, 4, compute_entropy=True)
    for rows in (7, 3, 1):
        found = shared_prompt_logps(trainer.model, ids, mask, 4, compute_entropy=True, batch_size=rows)
        for a, b in zip(found, expected):
            torch.testing.assert_close(a * mask[:, 6:], b * mask[:, 6:], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="reads text only, and the batch has pixel_values"):
        refuse_images({"pixel_values": ids, "batch_size": 3})


# --- the variety target ---------------------------------------------------------------------------------------


def test_the_correction_is_an_estimate_of_the_log_success_rate():
    generator = torch.Generator().manual_seed(0)
    for rate in (0.3, 0.5, 0.9):
        for size in (4, 8, 16):
            correct = (torch.rand(200_000 // size, size, generator=generator) < rate).float().view(-1)
            value = success_correction(correct, size)
            bias = sum((1 - rate) ** k / k for k in range(size, 400))
            assert abs(float(value[correct == 1].mean()) - math.log(rate) - bias) < 0.02


def test_unscored_completions_do_not_count_and_a_group_without_a_right_one_has_no_correction():
    nan = math.nan
    value = success_correction(torch.tensor([1.0, 0, nan, nan, 0, 0, 0, 0]), 4)
    assert value.tolist() == pytest.approx([-1.0] * 4 + [0.0] * 4)  # Hm(0) - Hm(1)


def plant(controller, *, speed=0.01, steps=2000, pull=0.3, start=1.0):
    """Variety falls at a rate of pull - gamma_p, as in the laboratory, down to 0, from where it does not return."""
    variety, path = start, []
    for step in range(steps):
        lr = 1 - step / steps
        controller.observe(10, 70, variety * 70)
        controller.move(lr)
        variety = max(0.0, variety + speed * lr * (controller.gamma_p - pull) * (variety > 0))
        path.append(variety)
    return path


@pytest.mark.parametrize("target", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("speed", [0.003, 0.01, 0.03])
@pytest.mark.parametrize("pull", [0.1, 0.3, 0.6])
def test_the_target_is_held_where_a_fixed_strength_collapses_or_overshoots(target, speed, pull):
    path = plant(VarietyTarget(target), speed=speed, pull=pull)
    assert path[-1] == pytest.approx(max(target, 1 - speed * 1000 * pull), rel=0.1)


def test_the_warm_up_measures_the_base_without_a_term():
    controller = VarietyTarget(0.5, level="token")
    for step in range(WARMUP):
        assert controller.gamma_p == 0
        controller.observe(2, 14, 14 * (1.0 + 0.1 * step))
        controller.move(1.0)
    assert controller.base == pytest.approx(1.2) and controller.gamma_p == pytest.approx(1.4 / 7)
    assert VarietyTarget(0.5, start=0.7).start == 0.7 and GAIN > 1


def test_a_step_without_a_right_answer_changes_nothing():
    controller = VarietyTarget(0.5)
    for _ in range(20):
        controller.observe(2, 14, 10.0)
        controller.move(1.0)
    before = controller.state()
    controller.observe(0, 0, 0.0)
    controller.move(1.0)
    assert controller.state() == before


def test_a_base_without_variety_gets_no_term():
    controller = VarietyTarget(0.5)
    for _ in range(20):
        controller.observe(
            2, 14, -1.0
        )  # the correction of a rare success is more than the surprisal of a certain answer
        controller.move(1.0)
    assert controller.gamma_p == 0


def test_a_target_needs_the_base_in_the_checkpoint(tiny_model, tmp_path):
    options = dict(max_steps=4, save_strategy="steps", save_steps=2)
    trained(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path / "run", **options)
    late = make(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path / "run", variety_target=0.5, **options)
    with pytest.raises(ValueError, match="resumed at step 2 from a checkpoint without it"):
        late.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))


def test_a_resumed_training_has_the_same_strengths_and_weights(tiny_model, tmp_path):
    options = dict(
        variety_target=0.9,
        max_steps=10,
        save_strategy="steps",
        save_steps=7,
        rollout=shared_prefix_rollout,
        logging_steps=1,
    )
    whole = trained(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path / "run", **options)
    again = make(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path / "run", **options)
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-7"))
    first, second = ([e["ds/gamma_p"] for e in t.state.log_history if "ds/gamma_p" in e][-3:] for t in (whole, again))
    assert first == second and first[0] > 0
    assert torch.equal(weights(whole), weights(again))


def test_a_target_costs_no_forward_pass(tiny_model, tmp_path):
    def passes(trainer, config, **options):
        made = make(trainer, config, tiny_model, tmp_path, rollout=shared_prefix_rollout, max_steps=8, **options)
        count = [0]
        made.model.register_forward_hook(lambda *_: count.__setitem__(0, count[0] + 1))
        made.train()
        return count[0]

    # the completions differ once the term acts, and with them the sampler's passes; up to the warm-up they are the same
    stock = passes(GRPOTrainer, GRPOConfig)
    for options in ({"variety_target": 0.5}, {"relative": True, "gamma_p": 0.3}):
        assert abs(passes(DSGRPOTrainer, DSGRPOConfig, **options) - stock) <= 8
