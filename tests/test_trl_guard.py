"""No training without the term, the rule or the schedule that it was asked for: whatever a subclass or a patch has replaced."""

import logging

import numpy as np
import pytest
import torch
from test_trl import Recording, even_length, make, rows, sometimes_silent, trained, weights
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from differential_smoothing.integrations.trl import DSGRPOConfig, DSGRPOTrainer, shared_prefix_rollout


def own_loss(self, model, inputs, *args, **kwargs):
    """REINFORCE with the batch's advantages: a loss that knows neither TRL's nor ours."""
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    mask, length = inputs["completion_mask"], inputs["completion_ids"].size(1)
    logits = model(input_ids=ids, attention_mask=torch.cat([inputs["prompt_mask"], mask], 1)).logits[
        :, -length - 1 : -1
    ]
    logps = logits.log_softmax(-1).gather(-1, inputs["completion_ids"][..., None])[..., 0]
    advantages = inputs["advantages"]
    advantages = advantages if advantages.dim() == 2 else advantages[:, None]
    return -(advantages * logps * mask).sum() / mask.sum()


def hosts(name):
    """The host's own method, called past ours."""

    def method(self, *args, **kwargs):
        return getattr(GRPOTrainer, name)(self, *args, **kwargs)

    return method


REPLACED = {
    "compute_loss": own_loss,
    "_compute_loss": own_loss,
    "_get_per_token_logps_and_entropies": hosts("_get_per_token_logps_and_entropies"),
    "_generate_and_score_completions": hosts("_generate_and_score_completions"),
}


def subclass(**methods):
    return type("Mine", (DSGRPOTrainer,), methods)


@pytest.mark.parametrize("name", REPLACED)
def test_a_subclass_that_replaces_a_method_does_not_train_as_with_gamma_0(name, tiny_model, tmp_path):
    trainer = make(subclass(**{name: REPLACED[name]}), DSGRPOConfig, tiny_model, tmp_path, gamma_p=0.3)
    before = weights(trainer).clone()
    with pytest.raises(
        ValueError, match=rf"Step 1 .*without the term of gamma_p=0\.3.*The cause is Mine\.{name}: call super\(\)"
    ):
        trainer.train()
    assert torch.equal(weights(trainer), before)  # the optimiser has not moved
    assert not torch.equal(
        weights(trained(subclass(**{name: REPLACED[name]}), DSGRPOConfig, tiny_model, tmp_path)), before
    )


def test_a_patch_on_the_object_or_of_the_host_is_found_too(tiny_model, tmp_path, monkeypatch):
    trainer = make(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, gamma_n=0.2)
    trainer.compute_loss = own_loss.__get__(trainer)
    with pytest.raises(ValueError, match=r"gamma_n=0\.2.*The cause is compute_loss, set on the trainer object"):
        trainer.train()
    monkeypatch.setattr(GRPOTrainer, "_compute_loss", own_loss)  # as a library that patches TRL does
    with pytest.raises(ValueError, match=r"The cause is GRPOTrainer\._compute_loss"):
        trained(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, gamma_p=0.3)
    trained(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path)


def test_the_advice_of_the_message_works(tiny_model, tmp_path):
    """stage='reward' puts the term where a loss of one's own reads it, and so does a rollout with log-probs."""
    kind = subclass(compute_loss=own_loss)
    stock = weights(trained(kind, DSGRPOConfig, tiny_model, tmp_path))
    for options in ({"stage": "reward", "level": "mean"}, {"rollout": shared_prefix_rollout}):
        plain = weights(
            trained(kind, DSGRPOConfig, tiny_model, tmp_path, **{k: v for k, v in options.items() if k == "rollout"})
        )
        assert torch.equal(plain, stock) or "rollout" in options
        assert not torch.equal(
            weights(trained(kind, DSGRPOConfig, tiny_model, tmp_path, gamma_p=0.3, **options)), plain
        )


def test_every_part_of_an_accumulated_step_is_looked_at(tiny_model, tmp_path):
    class Second(DSGRPOTrainer):
        calls = 0

        def compute_loss(self, model, inputs, *args, **kwargs):
            self.calls += 1
            return (
                own_loss(self, model, inputs)
                if self.calls == 2
                else super().compute_loss(model, inputs, *args, **kwargs)
            )

    options = {"gradient_accumulation_steps": 2, "gamma_p": 0.3}
    trainer = make(Second, DSGRPOConfig, tiny_model, tmp_path, **options)
    with pytest.raises(ValueError, match=r"Step 1 .*The cause is Second\.compute_loss"):
        trainer.train()
    assert trainer.calls == 2


def test_an_evaluation_with_the_term_does_not_speak_for_the_training(tiny_model, tmp_path):
    class Evaluates(DSGRPOTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            if self.model.training:
                return own_loss(self, model, inputs)
            return super().compute_loss(model, inputs, *args, **kwargs)

    trainer = make(
        Evaluates, DSGRPOConfig, tiny_model, tmp_path, gamma_p=0.3, eval_on_start=True, per_device_eval_batch_size=8
    )
    trainer.eval_dataset = rows(8)
    with pytest.raises(ValueError, match=r"Step 1 .*Evaluates\.compute_loss"):
        trainer.train()
    assert any("eval_ds/term_correct" in entry for entry in trainer.state.log_history)


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"rule": "maxrl"}, r"the advantages of rule='maxrl'"),
        ({"schedule": "entropy_discrepancy", "entropy_coef": 0.1}, r"schedule='entropy_discrepancy'"),
        ({"gamma_p": 0.3, "center": True, "level": "sum"}, r"the term of gamma_p=0\.3 with center"),
        (
            {"gamma_p": 0.3, "gamma_n": 0.1, "rule": "psr"},
            r"the term of gamma_p=0\.3, gamma_n=0\.1 and the advantages of rule='psr'",
        ),
    ],
)
def test_a_rule_a_schedule_and_a_centre_are_looked_for_too(options, asked, tiny_model, tmp_path):
    name = "_generate_and_score_completions"
    with pytest.raises(ValueError, match=rf"without {asked}: .*Mine\.{name}"):
        trained(subclass(**{name: REPLACED[name]}), DSGRPOConfig, tiny_model, tmp_path, **options)


@pytest.mark.parametrize(
    "options",
    [
        {
            "rewards": lambda completions, **_: [0.0] * len(completions)
        },  # nothing is correct, gamma_n is 0: the term is 0
        {"rewards": lambda completions, **_: [None] * len(completions)},
        {"rewards": sometimes_silent, "mask_truncated_completions": True},
        {"gradient_accumulation_steps": 2, "steps_per_generation": 4, "num_iterations": 2, "max_steps": 5},
        {"center": True},
        {"schedule": "entropy_discrepancy"},
    ],
    ids=["none correct", "none known", "some silent", "buffer", "centre", "schedule"],
)
def test_a_term_that_is_0_for_good_reason_is_no_missing_one(options, tiny_model, tmp_path):
    trainer = trained(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, gamma_p=0.3, **options)
    assert trainer.state.global_step == options.get("max_steps", 3)


def test_gammas_that_a_callback_sets_are_followed(tiny_model, tmp_path):
    class Turns(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            args.gamma_p = 0.3 if state.global_step in (0, 2) else 0.0

    for rollout in (None, shared_prefix_rollout):
        trainer = make(
            DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, gamma_p=0.3, rollout=rollout, steps_per_generation=2
        )
        trainer.add_callback(Turns())
        trainer.train()
        assert trainer.state.global_step == 3


def test_advantages_that_are_replaced_after_ours_are_told_of(tiny_model, tmp_path, caplog):
    class Scales(DSGRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            output = super()._generate_and_score_completions(inputs)
            output["advantages"] = output["advantages"] * 2
            return output

    class Replaces(DSGRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            output = super()._generate_and_score_completions(inputs)
            output["advantages"] = torch.ones(len(inputs))
            return output

    options = {"rollout": shared_prefix_rollout, "gamma_p": 0.3}
    with caplog.at_level(logging.WARNING):
        trained(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, **options)
        assert "were changed" not in caplog.text
        trained(Scales, DSGRPOConfig, tiny_model, tmp_path, **options)
        trained(Replaces, DSGRPOConfig, tiny_model, tmp_path, rule="maxrl")
    assert caplog.text.count("were changed after DSGRPOTrainer had set them (term), in Scales._generate") == 1
    assert caplog.text.count("were changed after DSGRPOTrainer had set them (rule), in Replaces._generate") == 1
    with pytest.raises(ValueError, match="the term of each token is gone"):
        trained(Replaces, DSGRPOConfig, tiny_model, tmp_path, **options)


# --- contracts of the methods that others override ------------------------------------------------------------------


def test_rewards_of_an_override_without_super_are_seen(tiny_model, tmp_path):
    """The rewards are those that the host gets: the override's, which here turns right and wrong around."""

    class Own(Recording):
        def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
            return torch.tensor([[1.0 - reward] for reward in even_length(completions)])

    trainer = trained(Own, DSGRPOConfig, tiny_model, tmp_path, gamma_p=0.3, max_steps=1)
    (seen,) = trainer.seen
    ids = [ids[m.bool()] for ids, m in zip(seen["completion_ids"], seen["completion_mask"])]
    texts = trainer.processing_class.batch_decode(ids, skip_special_tokens=True)
    assert seen["ds_correct"].tolist() == [1.0 - reward for reward in even_length(texts)]


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        (lambda n: [1.0] * n, "got list"),
        (lambda n: torch.ones(n), r"got shape \(16,\)"),
        (lambda n: (torch.ones(n, 1), {}), "got tuple"),
    ],
)
def test_rewards_of_another_shape_name_the_contract(returned, got, tiny_model, tmp_path):
    kind = subclass(_calculate_rewards=lambda self, inputs, prompts, completions, ids: returned(len(prompts)))
    with pytest.raises(
        ValueError, match=rf"Mine\._calculate_rewards must return one tensor .*\(16, 1\).*{got}\. Call super\(\)"
    ):
        trained(kind, DSGRPOConfig, tiny_model, tmp_path)


def test_rewards_that_nobody_calculates_name_the_contract(tiny_model, tmp_path):
    trainer = make(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path)
    trainer._calculate_rewards = lambda inputs, prompts, *rest: torch.ones(len(prompts), 1)
    with pytest.raises(ValueError, match=r"No rewards were seen: self\._calculate_rewards was set anew"):
        trainer.train()


@pytest.mark.parametrize("options", [{"stage": "reward", "level": "mean"}, {"rule": "ucpo"}], ids=["stage", "rule"])
def test_pairs_of_an_older_trl_name_the_contract(options, tiny_model, tmp_path):
    class Pairs(DSGRPOTrainer):
        def _get_per_token_logps_and_entropies(self, *args, **kwargs):
            return super()._get_per_token_logps_and_entropies(*args, **kwargs)[:2]

    with pytest.raises(
        ValueError, match=r"_get_per_token_logps_and_entropies must return three values.*got 2 values.*older TRL"
    ):
        trained(Pairs, DSGRPOConfig, tiny_model, tmp_path, gamma_p=0.0 if "rule" in options else 0.3, **options)


def test_the_rollout_says_that_it_calls_no_tools(tiny_model, tmp_path):
    trainer = make(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, rollout=shared_prefix_rollout)
    trainer.tools = [len]
    with pytest.raises(ValueError, match="shared_prefix_rollout .*calls no tools .*Leave the rollout to the host"):
        trainer.train()
    trainer.tools, trainer.environment_factories = [], {None: dict}
    with pytest.raises(ValueError, match="steps through no environment"):
        shared_prefix_rollout(["1 ="], trainer)


# --- a training that goes on with other settings --------------------------------------------------------------------


def test_resuming_with_other_settings_is_told_in_old_and_new_values(tiny_model, tmp_path, caplog):
    options = dict(save_strategy="steps", save_steps=2, max_steps=4, level="mean")
    with caplog.at_level(logging.WARNING):
        trained(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, gamma_p=0.3, **options)
        same = make(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, gamma_p=0.3, **options)
        same.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
        assert "other settings" not in caplog.text
        other = make(
            DSGRPOTrainer,
            DSGRPOConfig,
            tiny_model,
            tmp_path,
            gamma_p=0.1,
            rule="maxrl",
            **{**options, "level": "token"},
        )
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    (said,) = [r.getMessage() for r in caplog.records if "other settings" in r.getMessage()]
    assert "checkpoint at step 2" in said
    for part in ("gamma_p was 0.3 and is 0.1", "rule was 'grpo' and is 'maxrl'", "level was 'mean' and is 'token'"):
        assert part in said
    assert "gamma_n" not in said and other.state.global_step == 4


def test_settings_that_json_cannot_hold_end_no_training(tiny_model, tmp_path):
    rule = tmp_path / "mine.py"
    rule.write_text(
        "def mine(rewards, logps, mask, *, correct, group, scale=1.0):\n    return rewards * float(scale)\n\nmine.needs_logps = False\n"
    )
    trained(
        DSGRPOTrainer,
        DSGRPOConfig,
        tiny_model,
        tmp_path / "run",
        rule=f"{rule}:mine",
        rule_options={"scale": np.float32(0.5)},
        max_steps=1,
        save_strategy="steps",
        save_steps=1,
    )
    assert (tmp_path / "run" / "checkpoint-1" / "trainer_state.json").is_file()


# --- one ratio per completion ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"importance_sampling_level": "sequence"}, {"rule": "gspo"}, {"rule": "gspo", "center": True}]
)
def test_a_term_of_tokens_is_refused_where_the_loss_averages_it(options, tmp_path):
    common = dict(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    for gammas in ({"gamma_p": 0.1}, {"gamma_n": 0.1}):
        with pytest.raises(
            ValueError,
            match=r"level='token'.*Set level='mean', which is that, or 'sum'(, or importance_sampling_level='token')?\.$",
        ) as caught:
            DSGRPOConfig(**common, **gammas, **options)
        assert ("importance_sampling_level='token'" in str(caught.value)) == (
            "rule" not in options
        )  # which the preset would undo
        for level in ("mean", "sum"):
            assert DSGRPOConfig(**common, **gammas, **options, level=level).importance_sampling_level == "sequence"
    DSGRPOConfig(
        **common, **{name: value for name, value in options.items() if name != "center"}
    )  # which has no effect without a gamma


def test_what_is_refused_is_what_the_loss_averages(tiny_model, tmp_path):
    """With every loss that is refused, a term of tokens trains as the mean; with the others, as itself."""
    options = dict(
        gamma_p=0.5, level="mean", max_steps=1, importance_sampling_level="sequence", optim="sgd", learning_rate=1.0
    )
    for loss in ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "sapo", "cispo", "vespo"):
        ends = []
        for level in ("token", "mean"):
            trainer = make(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, loss_type=loss, **options)
            trainer.args.level = level  # past the check
            before = weights(trainer).clone()
            trainer.train()
            ends.append(weights(trainer) - before)
        distance = (ends[0] - ends[1]).norm() / ends[1].norm()
        assert distance < 1e-4 if trainer.args.averages_over_tokens else distance > 1e-2, (loss, distance)


def test_a_rule_of_tokens_is_refused_there_and_one_of_completions_is_not(tiny_model, tmp_path):
    rule = tmp_path / "mine.py"
    rule.write_text(
        "import torch\n\ndef tokens(rewards, logps, mask, *, correct, group, step=1.0):\n"
        "    return rewards[:, None] + step * torch.arange(mask.shape[1]) * mask\n\ntokens.needs_logps = False\n"
    )
    options = {"importance_sampling_level": "sequence", "max_steps": 1, "rule": f"{rule}:tokens"}
    with pytest.raises(ValueError, match=r"mine.py:tokens.* gives each token its own advantage.*only their mean"):
        trained(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, **options)
    trained(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, rule_options={"step": 0.0}, **options)
    trained(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, **{**options, "importance_sampling_level": "token"})


def test_the_stock_trainer_is_not_touched(tiny_model, tmp_path):
    assert trained(GRPOTrainer, GRPOConfig, tiny_model, tmp_path, max_steps=1).state.stateful_callbacks.keys() == {
        "TrainerControl"
    }
