"""configs/verl against verl's own configuration, and what verl reads of data and rewards. `make test-verl` runs this."""

import asyncio
import copy
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

verl = pytest.importorskip("verl")

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config
from verl.utils.reward_score import default_compute_score

from differential_smoothing.integrations.verl import plugin
from differential_smoothing.integrations.verl.estimator import correct_of
from differential_smoothing.integrations.verl.options import DSOptions

CONFIGS = Path(__file__).parents[1] / "configs" / "verl"
RUNS = sorted(file.stem for file in CONFIGS.glob("*.yaml"))
#: What may stand behind a run, by the folders of configs/verl.
BEHIND = {
    "alone": [],
    "several nodes": ["+nodes=several", "trainer.nnodes=4"],
    "40 GB": ["+gpus=of_40gb"],
    "several nodes of 40 GB": ["+nodes=several", "+gpus=of_40gb"],
}


def composed(name, *overrides, folder=CONFIGS):
    return copy.deepcopy(_composed(name, overrides, folder))


@functools.cache
def _composed(name, overrides, folder):
    with initialize_config_dir(str(folder), version_base=None):
        return compose(name, overrides=list(overrides))


def paths(node, prefix=""):
    for key, value in node.items():
        yield from paths(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [f"{prefix}{key}"]


def unknown(config):
    """Keys outside ``algorithm.ds`` that verl's own configuration does not have: settings that would do nothing."""
    stock = composed("ppo_trainer", folder=Path(verl.__file__).parent / "trainer" / "config")
    known = set(paths(OmegaConf.to_container(stock)))
    return {
        path
        for path in paths(OmegaConf.to_container(config))
        if path not in known and not path.startswith("algorithm.ds.")
    }


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("name", RUNS)
def test_every_config_is_one_of_verls(name, behind):
    config = composed(name, *BEHIND[behind])
    assert not unknown(config)
    OmegaConf.resolve(config)
    validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    assert not need_critic(config)
    # sections that verl turns into dataclasses refuse keys that they do not know
    for section in ("actor_rollout_ref.actor", "actor_rollout_ref.rollout"):
        omega_conf_to_dataclass(OmegaConf.select(config, section))
    options = plugin.check_config(config)
    assert options.smooths and options.correct_key == "acc"

    # what verl would find out on the cluster, or never
    actor, rollout, trainer = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout, config.trainer
    gpus = trainer.nnodes * trainer.n_gpus_per_node
    assert trainer.n_gpus_per_node % rollout.tensor_model_parallel_size == 0
    for prompts in (config.data.train_batch_size, actor.ppo_mini_batch_size):
        assert prompts * rollout.n % gpus == 0  # no rows to fill up with
    assert config.data.train_batch_size % actor.ppo_mini_batch_size == 0
    longest = config.data.max_prompt_length + config.data.max_response_length
    assert actor.use_dynamic_bsz and longest <= actor.ppo_max_token_len_per_gpu
    assert rollout.log_prob_max_token_len_per_gpu == actor.ppo_max_token_len_per_gpu
    assert actor.fsdp_config.fsdp_size in (-1, trainer.n_gpus_per_node)
    assert trainer.default_local_dir == f"runs/{name}/checkpoints"


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("actor_rollout_ref: {actor: {optim: {learning_rate: 1.0e-6}}}", "actor_rollout_ref.actor.optim.learning_rate"),
        ("trainer: {nodes: 2}", "trainer.nodes"),
        ("data: {max_response_len: 4096}", "data.max_response_len"),
        ("algorithm: {gamma_p: 0.2}", "algorithm.gamma_p"),
    ],
)
def test_a_wrong_key_in_a_file_would_be_seen(text, wrong, tmp_path):
    """Hydra itself takes any key that stands in a file."""
    head = f"hydra: {{searchpath: [pkg://verl.trainer.config, 'file://{CONFIGS}']}}"
    (tmp_path / "mine.yaml").write_text(f"{head}\ndefaults: [ppo_trainer, shared/math, _self_]\n{text}\n")
    assert unknown(composed("mine", folder=tmp_path)) == {wrong}


def test_a_wrong_option_of_ours_in_a_file_would_be_seen(tmp_path):
    head = f"hydra: {{searchpath: [pkg://verl.trainer.config, 'file://{CONFIGS}']}}"
    text = "algorithm: {ds: {gama_p: 0.2}}"
    (tmp_path / "mine.yaml").write_text(f"{head}\ndefaults: [ppo_trainer, shared/math, _self_]\n{text}\n")
    with pytest.raises(ValueError, match="algorithm.ds.gama_p.*Did you mean gamma_p"):
        plugin.check_config(composed("mine", folder=tmp_path))


@pytest.mark.parametrize("name", RUNS)
def test_the_command_in_a_file_is_that_of_the_file(name):
    text = (CONFIGS / f"{name}.yaml").read_text()
    assert f"--config-path $PWD/configs/verl --config-name {name}\n" in text


MATHS = dict(n=8, temperature=0.7, clip=(0.2, 0.25), kl=None, prompts=(64, 64), gammas=(0.01, 0.01))
PAPER = {
    "math_qwen2.5_math_1.5b": dict(MATHS, model="Qwen/Qwen2.5-Math-1.5B", lr=1e-6, response=2048),
    "math_qwen2.5_math_7b": dict(MATHS, model="Qwen/Qwen2.5-Math-7B", lr=1e-6, response=2048),
    "math_qwen3_1.7b": dict(MATHS, model="Qwen/Qwen3-1.7B", lr=5e-7, response=4096),
    "math_ministral_8b": dict(MATHS, model="mistralai/Ministral-8B-Instruct-2410", lr=3e-7, response=2048),
    "countdown_qwen2.5_3b": dict(
        model="Qwen/Qwen2.5-3B",
        lr=1e-6,
        response=1024,
        n=5,
        temperature=1.0,
        clip=(0.2, 0.2),
        kl=0.001,
        prompts=(128, 64),
        gammas=(0.2, 0.0),
    ),
}


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("name", RUNS)
def test_the_settings_are_the_papers(name, behind):
    config = composed(name, *BEHIND[behind])
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    options = plugin.check_config(config)
    assert PAPER[name] == dict(
        model=config.actor_rollout_ref.model.path,
        lr=actor.optim.lr,
        response=rollout.response_length,
        n=rollout.n,
        temperature=rollout.temperature,
        clip=(actor.clip_ratio_low, actor.clip_ratio_high),
        kl=actor.kl_loss_coef if actor.use_kl_loss else None,
        prompts=(config.data.train_batch_size, actor.ppo_mini_batch_size),
        gammas=(options.gamma_p, options.gamma_n),
    )
    assert actor.loss_agg_mode == "token-mean" and not config.algorithm.use_kl_in_reward and actor.entropy_coeff == 0


def test_what_is_for_several_nodes_and_small_gpus():
    config = composed("math_qwen2.5_math_7b", *BEHIND["several nodes of 40 GB"], "trainer.nnodes=3")
    actor = config.actor_rollout_ref.actor
    assert (config.trainer.nnodes, actor.fsdp_config.fsdp_size) == (3, 8)
    assert actor.fsdp_config.optimizer_offload and actor.fsdp_config.param_offload
    assert config.actor_rollout_ref.rollout.tensor_model_parallel_size == 2


def test_a_rule_of_its_own_behind_a_config():
    config = composed("math_qwen2.5_math_1.5b", "algorithm.ds.rule=pkpo", "+algorithm.ds.rule_options.k=4")
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
    """Of DAPO's data a dictionary with ``acc``, of MATH a number, which verl's reward manager calls ``acc``."""
    wrong, right = (default_compute_score("math_dapo", f"so Answer: {x}", "7") for x in ("8", "7"))
    assert (wrong["acc"], right["acc"], wrong["score"]) == (False, True, -1.0)

    from verl import DataProto
    from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager

    class Words:
        def decode(self, ids, **_):
            return r"so \boxed{7}" if ids[0] == 1 else r"so \boxed{8}"

    config = composed("math_qwen2.5_math_1.5b")
    assert config.reward.reward_manager.name == "naive"
    infos = []
    for first in (0, 1):
        row = DataProto.from_dict(
            {"responses": torch.tensor([[first, 2]]), "attention_mask": torch.ones(1, 2, dtype=torch.long)},
            non_tensors={
                "data_source": np.array(["HuggingFaceH4/MATH-500"], dtype=object),
                "reward_model": np.array([{"ground_truth": "7"}], dtype=object),
                "extra_info": np.array([{}], dtype=object),
            },
        )
        infos.append(_scored(NaiveRewardManager, config, Words(), row)["reward_extra_info"])
    assert correct_of(torch.zeros(2), infos, plugin.check_config(config)).tolist() == [0.0, 1.0]


def _scored(manager, config, tokenizer, row):
    async def scored():
        return await manager(config, tokenizer, None).run_single(row)

    return asyncio.run(scored())


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
