"""configs/verl against verl's own configuration, and what verl reads of data and rewards. `make test-verl` runs this."""

import json
from pathlib import Path

import pytest

verl = pytest.importorskip("verl")

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config
from verl.utils.reward_score import default_compute_score

from differential_smoothing.integrations.verl import plugin
from differential_smoothing.integrations.verl.options import DSOptions

CONFIGS = Path(__file__).parents[1] / "configs" / "verl"


def composed(name, *overrides):
    with initialize_config_dir(str(CONFIGS), version_base=None):
        return compose(name, overrides=list(overrides))


@pytest.mark.parametrize("name", sorted(file.stem for file in CONFIGS.glob("*.yaml")))
def test_every_config_is_one_of_verls(name):
    config = composed(name)
    OmegaConf.resolve(config)
    validate_config(
        config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config)
    )
    assert not need_critic(config)
    # sections that verl turns into dataclasses refuse keys that they do not know
    for section in ("actor_rollout_ref.actor", "actor_rollout_ref.rollout"):
        omega_conf_to_dataclass(OmegaConf.select(config, section))
    options = plugin.check_config(config)
    assert options.smooths and options.correct_key == "acc"


@pytest.mark.parametrize("name", sorted(file.stem for file in CONFIGS.glob("*.yaml")))
def test_no_key_is_one_that_verl_does_not_have(name):
    """Outside algorithm.ds: a key that verl does not read would be a setting that does nothing."""
    ours = OmegaConf.load(CONFIGS / f"{name}.yaml")
    with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
        stock = compose("ppo_trainer")

    def paths(node, prefix=""):
        for key, value in node.items():
            yield from paths(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]

    known = set(paths(OmegaConf.to_container(stock)))
    given = OmegaConf.to_container(ours)
    del given["hydra"], given["defaults"], given["algorithm"]["ds"]
    assert set(paths(given)) <= known


def test_the_settings_are_the_papers():
    config = composed("countdown_qwen2.5_3b")
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    assert (config.data.train_batch_size, actor.ppo_mini_batch_size, rollout.n, rollout.response_length) == (
        128,
        64,
        5,
        1024,
    )
    assert (actor.optim.lr, actor.use_kl_loss, actor.kl_loss_coef) == (1e-6, True, 0.001)
    config = composed("math_qwen2.5_math_1.5b", "algorithm.ds.rule=pkpo", "+algorithm.ds.rule_options.k=4")
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    assert (actor.clip_ratio_low, actor.clip_ratio_high, rollout.temperature, rollout.n) == (
        0.2,
        0.25,
        0.7,
        8,
    )
    assert plugin.check_config(config) == DSOptions(
        rule="pkpo", rule_options={"k": 4}, gamma_p=0.01, gamma_n=0.01, correct_key="acc"
    )


class TestWhatDoesNotFit:
    def check(self, *overrides):
        return plugin.check_config(composed("countdown_qwen2.5_3b", *overrides))

    def test_another_estimator(self):
        with pytest.raises(ValueError, match="algorithm.adv_estimator=dsmooth; got grpo"):
            self.check("algorithm.adv_estimator=grpo")

    def test_an_unknown_key(self):
        with pytest.raises(ValueError, match="algorithm.ds.gamma_q.*Did you mean gamma_"):
            self.check("+algorithm.ds.gamma_q=0.1")

    def test_entropies_that_nobody_computes(self):
        assert self.check("+algorithm.ds.center=true").needs_entropies
        with pytest.raises(ValueError, match="bypass_mode"):
            self.check("+algorithm.ds.center=true", "algorithm.rollout_correction.bypass_mode=true")

    def test_dropping_the_groups_that_smoothing_needs(self):
        with pytest.warns(UserWarning, match="drops groups"):
            self.check("algorithm.filter_groups.enable=true")


def test_verls_own_scorers_of_mathematics_give_what_correct_key_reads():
    wrong, right = (default_compute_score("math_dapo", f"so Answer: {x}", "7") for x in ("8", "7"))
    assert (wrong["acc"], right["acc"], wrong["score"]) == (False, True, -1.0)


def test_verl_loads_our_compute_score_by_the_configs_path():
    from verl.trainer.ppo.reward import get_custom_reward_fn

    score = get_custom_reward_fn(composed("countdown_qwen2.5_3b"))
    row = dict(data_source="countdown", ground_truth=json.dumps({"nums": [4, 8, 10], "target": 48}))
    assert score(solution_str="8*(10-4)", extra_info={"chat": False}, **row) == {"score": 1.0, "acc": 1.0}


@pytest.mark.parametrize("name", ["sync", "colocate_async", "separate_async"])
def test_each_trainer_is_verls_own_of_that_mode(name):
    """verl compares the mode with its own names: under another one, the synchronous trainer would get an asynchronous buffer."""
    from verl.trainer.ppo.v1 import get_trainer_cls

    rollout = "actor_rollout_ref.rollout"
    needed = [
        "actor_rollout_ref.actor.ppo_mini_batch_size=16",
        f"{rollout}.nnodes=1",
        f"{rollout}.checkpoint_engine.backend=nccl",
    ]
    ours, stock = (
        get_trainer_cls(mode)(composed("math_qwen2.5_math_1.5b", f"trainer.v1.trainer_mode={mode}", *needed))
        for mode in (f"dsmooth_{name}", name)
    )
    assert ours.trainer_mode == stock.trainer_mode == name
    assert type(ours.replay_buffer) is type(stock.replay_buffer)
    assert ours.parameter_sync_step == stock.parameter_sync_step
