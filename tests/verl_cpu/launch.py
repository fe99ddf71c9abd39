"""A real run of ``verl.trainer.main_ppo`` on this machine: Ray, two FSDP2 workers over gloo, the shipped Countdown base."""

import os
import subprocess
import sys
from pathlib import Path

from differential_smoothing.tasks import make_task
from differential_smoothing.tasks.export import write_problems
from differential_smoothing.training.base_model import SHIPPED_BASE

TESTS = Path(__file__).parents[1]
PLAIN_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def prepare(folder: Path) -> None:
    """The model with a chat template that adds nothing, and compact problems."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHIPPED_BASE)
    tokenizer.chat_template = PLAIN_TEMPLATE
    tokenizer.save_pretrained(folder / "model")
    AutoModelForCausalLM.from_pretrained(SHIPPED_BASE).save_pretrained(folder / "model")
    write_problems(
        make_task("countdown"), folder / "data", format="verl", sizes={"train": 64, "val": 8}, seed=0, chat=False
    )


def arguments(folder: Path, output: Path, *, mode: str, estimator: str, steps: int, save_every: int = -1) -> list[str]:
    rollout, actor = "actor_rollout_ref.rollout", "actor_rollout_ref.actor"
    return [
        "trainer.device=cpu",
        "trainer.n_gpus_per_node=2",
        "trainer.nnodes=1",
        "trainer.logger=[console]",
        f"trainer.total_training_steps={steps}",
        "trainer.total_epochs=100",
        "trainer.val_before_train=False",
        "trainer.test_freq=-1",
        f"trainer.save_freq={save_every}",
        "trainer.resume_mode=auto",
        f"trainer.default_local_dir={output}/checkpoints",
        f"trainer.rollout_data_dir={output}/rollouts",
        "ray_kwargs.ray_init.num_cpus=24",
        "+ray_kwargs.ray_init.num_gpus=2",
        "+ray_kwargs.ray_init.include_dashboard=False",
        "+ray_kwargs.ray_init.object_store_memory=300000000",
        f"data.train_files={folder}/data/train.parquet",
        f"data.val_files={folder}/data/val.parquet",
        "data.train_batch_size=8",
        "data.max_prompt_length=16",
        "data.max_response_length=16",
        "data.dataloader_num_workers=0",
        "data.filter_overlong_prompts=False",
        "data.seed=1",
        f"actor_rollout_ref.model.path={folder}/model",
        "+actor_rollout_ref.model.override_config.attn_implementation=sdpa",
        "actor_rollout_ref.model.use_remove_padding=False",
        "actor_rollout_ref.model.enable_gradient_checkpointing=False",
        f"{actor}.strategy=fsdp2",
        f"{actor}.ppo_mini_batch_size=8",
        f"{actor}.ppo_micro_batch_size_per_gpu=32",
        f"{actor}.use_torch_compile=False",
        f"{actor}.fsdp_config.use_torch_compile=False",
        f"{actor}.optim.lr=1e-4",
        f"+{actor}.fsdp_config.mixed_precision.param_dtype=fp32",
        f"{rollout}.name=hf_cpu",
        f"{rollout}.tensor_model_parallel_size=1",
        f"{rollout}.n=8",
        f"{rollout}.agent.num_workers=1",
        f"{rollout}.log_prob_micro_batch_size_per_gpu=32",
        f"{rollout}.free_cache_engine=False",
        f"{rollout}.calculate_log_probs=True",
        "reward.num_workers=1",
        "reward.custom_reward_function.path=pkg://differential_smoothing.integrations.verl.reward",
        "reward.custom_reward_function.name=compute_score",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
        f"trainer.v1.trainer_mode={mode}",
        f"algorithm.adv_estimator={estimator}",
    ]


def environment(record: Path, seconds_per_token: float = 0.0) -> dict[str, str]:
    modules = ["verl_cpu.platform", "differential_smoothing.integrations.verl.plugin", "verl_cpu.recording"]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent / "src"), os.environ.get("PYTHONPATH", "")]),
        "VERL_PLATFORM": "cpu",
        "VERL_USE_EXTERNAL_MODULES": ",".join(modules),
        "RECORD": str(record),
        "VERL_CPU_SECONDS_PER_TOKEN": str(seconds_per_token),
        "OMP_NUM_THREADS": "1",
        "HYDRA_FULL_ERROR": "1",
        "RAY_DEDUP_LOGS": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TORCH_COMPILE_DISABLE": "1",
        "HF_HUB_OFFLINE": "1",
        "VERL_LOGGING_LEVEL": "WARN",
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_worker_niceness": "0",  # Ray is nice by 15 otherwise
    }


def start(folder: Path, output: Path, *overrides: str, seconds_per_token: float = 0.0, **options) -> subprocess.Popen:
    """Start a run that writes ``output/record/STEP.pt`` and ``output/log.txt``. ``seconds_per_token``: wait in the rollout server."""
    (output / "record").mkdir(parents=True, exist_ok=True)
    with (output / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [
                sys.executable,
                "-W",
                "ignore",
                "-m",
                "verl.trainer.main_ppo",
                *arguments(folder, output, **options),
                *overrides,
            ],
            env=environment(output / "record", seconds_per_token),
            cwd=output,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
