"""A launch for several processes that runs as one is noticed, with the real launchers; and nothing else is."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from test_trl import make

from differential_smoothing.integrations.launch import lone_process
from differential_smoothing.integrations.trl import DSGRPOConfig, DSGRPOTrainer
from differential_smoothing.training import parse_config
from differential_smoothing.training.plan import placement_of

ROOT = Path(__file__).parents[1]
# what the trainer asks, without the ten seconds that loading TRL takes
SCRIPT = """
import os
from accelerate import PartialState
from differential_smoothing.integrations.launch import lone_process
state = PartialState(cpu=True)
print("NOTICE", state.num_processes, lone_process(os.environ, processes=state.num_processes, gpus=0), flush=True)
"""
LAUNCHERS = {
    "accelerate, two processes on a CPU": (
        ["accelerate.commands.accelerate_cli", "launch", "--cpu", "--num_processes", "2"],
        True,
    ),
    "torchrun, two processes": (["torch.distributed.run", "--standalone", "--nproc_per_node", "2"], False),
    "accelerate, two processes and no GPU": (
        ["accelerate.commands.accelerate_cli", "launch", "--num_processes", "2"],
        True,
    ),
    "accelerate, one process": (
        ["accelerate.commands.accelerate_cli", "launch", "--cpu", "--num_processes", "1"],
        False,
    ),
    "torchrun, one process": (["torch.distributed.run", "--standalone", "--nproc_per_node", "1"], False),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if i > 1 else ()) for i, name in enumerate(LAUNCHERS)]
)
def test_real_launchers(name, tmp_path):
    launcher, alone = LAUNCHERS[name]
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    inherited = {k: v for k, v in os.environ.items() if k not in ("MASTER_ADDR", "WORLD_SIZE", "RANK", "LOCAL_RANK")}
    done = subprocess.run(
        [sys.executable, "-m", *launcher, str(script)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**inherited, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = [line for line in done.stdout.splitlines() if line.startswith("NOTICE")]
    assert len(said) == (2 if "torchrun, two" in name else 1)
    for line in said:
        assert ("although accelerate launch was asked for several" in line) == alone
        assert line.endswith(" None") != alone


def test_a_plain_start_is_not_remarked_on():
    assert lone_process({}, processes=1, gpus=0) is None
    assert lone_process({}, processes=1, gpus=1) is None
    assert (
        lone_process({"MASTER_ADDR": "node0", "WORLD_SIZE": "1"}, processes=1, gpus=1) is None
    )  # exported by a cluster
    assert lone_process({"ACCELERATE_MIXED_PRECISION": "no"}, processes=1, gpus=1) is None
    assert lone_process({"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1"}, processes=1, gpus=8) is None
    assert lone_process({"WORLD_SIZE": "many"}, processes=1, gpus=0) is None
    assert lone_process({"WORLD_SIZE": "8", "RANK": "3"}, processes=8, gpus=8) is None


def test_several_gpus_and_a_world_that_nobody_launched():
    assert "sees 8 GPUs" in lone_process({}, processes=1, gpus=8)
    assert "CUDA_VISIBLE_DEVICES=0" in lone_process({}, processes=1, gpus=2)
    pod = {
        "WORLD_SIZE": "4",
        "RANK": "2",
        "MASTER_ADDR": "pod-0",
        "MASTER_PORT": "23456",
    }  # a job of Kubeflow, without torchrun
    assert "WORLD_SIZE=4 announces 4" in lone_process(pod, processes=1, gpus=1)


def test_the_trainer_says_it_and_trains(tiny_model, tmp_path, monkeypatch, caplog):
    with caplog.at_level(logging.WARNING, logger="differential_smoothing"):
        make(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, max_steps=1)
        assert not caplog.messages
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
        trainer = make(DSGRPOTrainer, DSGRPOConfig, tiny_model, tmp_path, max_steps=1)
    (said,) = caplog.messages
    assert "one process" in said and "torchrun --nproc_per_node N" in said and "\n" not in said
    trainer.train()
    assert trainer.state.global_step == 1


@pytest.mark.parametrize(
    ("name", "environment"),
    [
        ("ddp", {}),
        ("fsdp2", {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}),
        (
            "zero3",
            {
                "ACCELERATE_USE_DEEPSPEED": "true",
                "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3",
                "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "true",
            },
        ),
    ],
)
def test_the_configs_of_accelerate_mean_what_they_say(name, environment):
    path = ROOT / "configs" / "accelerate" / f"{name}.yaml"
    assert load_config_from_file(str(path)).num_processes == 8  # refuses an unknown key
    words = ["--config_file", str(path), "-m", "differential_smoothing", "train"]
    args, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    args.deepspeed_fields_from_accelerate_config = ",".join(getattr(defaults, "deepspeed_config", None) or {})
    prepare = prepare_deepspeed_cmd_env if name == "zero3" else lambda a: (a, prepare_multi_gpu_env(a))
    launched, given = prepare(args)
    assert given["ACCELERATE_MIXED_PRECISION"] == "bf16" and args.num_processes == 8
    assert {k: given.get(k, "").removeprefix("FSDP_") for k in environment} == environment


def test_the_page_names_every_config_of_accelerate():
    page = (ROOT / "configs" / "README.md").read_text()
    for path in sorted((ROOT / "configs" / "accelerate").glob("*.yaml")):
        assert path.name in page
        assert f"--config_file configs/accelerate/{path.name}" in path.read_text()


def test_vllm_as_a_server_is_an_option_of_the_config():
    flags = [
        "--config",
        str(ROOT / "configs" / "countdown_qwen2.5_3b.yaml"),
        "--vllm_mode",
        "server",
        "--vllm_server_base_url",
        "http://10.0.0.2:8000",
        "--use_cpu",
        "true",
        "--bf16",
        "false",
    ]
    run, config = parse_config(flags)
    assert (config.use_vllm, config.vllm_mode, run.rollout) == (True, "server", "host")
    assert config.vllm_server_base_url == "http://10.0.0.2:8000"


def test_fsdp2_of_transformers_is_an_option_of_the_config(tmp_path):
    (tmp_path / "run.yaml").write_text(
        f"output_dir: {tmp_path}\nuse_cpu: true\nbf16: false\nmodel_init_kwargs: {{distributed_config: {{fsdp_size: 2}}}}\n"
    )
    run, config = parse_config(["--config", str(tmp_path / "run.yaml")])
    assert config.model_init_kwargs == {"distributed_config": {"fsdp_size": 2}}
    assert placement_of(run, config).sharding == "fsdp"
    assert (
        placement_of(run, parse_config(["--output_dir", str(tmp_path), "--use_cpu", "--bf16=False"])[1]).sharding
        == "ddp"
    )
