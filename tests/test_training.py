"""Runs from a config: what is refused and how, and that an interruption costs nothing but time."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from differential_smoothing.files import claim_folder
from differential_smoothing.tasks import countdown
from differential_smoothing.training.models import resolve_model
from differential_smoothing.training.options import parse_config
from differential_smoothing.training.run import last_whole_checkpoint, train

FLAGS = [
    "--problems",
    "40",
    "--per_device_train_batch_size",
    "8",
    "--num_generations",
    "4",
    "--max_completion_length",
    "8",
    "--use_cpu",
    "true",
    "--bf16",
    "false",
    "--report_to",
    "none",
    "--disable_tqdm",
    "true",
    "--logging_steps",
    "1",
    "--learning_rate",
    "1e-2",
    "--gradient_checkpointing",
    "false",
    "--gamma_n",
    "0.2",  # a random model gets every answer wrong: only this moves it
]


def flags(model, folder, **options):
    return [*FLAGS, "--model", model, "--output_dir", str(folder), *(f"--{k}={v}" for k, v in options.items())]


def weights(folder):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_a_run_leaves_config_metrics_and_model(tiny_model, tmp_path):
    steps = []
    model = train(*parse_config(flags(tiny_model, tmp_path, max_steps=2)), on_step=lambda *at: steps.append(at))
    assert model == tmp_path / "model"
    assert steps == [(1, 2), (2, 2)]
    assert not torch.equal(weights(model), weights(tiny_model))
    metrics = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [m["step"] for m in metrics[:2]] == [1, 2] and "ds/correct" in metrics[0]
    assert json.loads((tmp_path / "config.json").read_text())["gamma_n"] == 0.2


def test_a_finished_run_is_left_alone(tiny_model, tmp_path):
    train(*parse_config(flags(tiny_model, tmp_path, max_steps=1)))
    before = (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns
    steps = []
    train(*parse_config(flags(tiny_model, tmp_path, max_steps=1)), on_step=lambda *at: steps.append(at))
    assert steps == [] and (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns == before


def test_the_monitor_is_on_and_is_no_part_of_what_a_run_is(tiny_model, tmp_path):
    train(*parse_config(flags(tiny_model, tmp_path, max_steps=1)))
    metrics = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert "sharpening/pass_at_4" in metrics[0]
    assert "monitor" not in json.loads((tmp_path / "config.json").read_text())  # older folders stay valid
    without = flags(tiny_model, tmp_path, max_steps=1, monitor="false")
    assert train(*parse_config(without)) == tmp_path / "model"


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_weights(tiny_model, tmp_path):
    options = dict(max_steps=12, save_steps=2, save_total_limit=2)
    train(*parse_config(flags(tiny_model, tmp_path / "whole", **options)))
    command = [sys.executable, "-m", "differential_smoothing", "train"]
    command += flags(tiny_model, tmp_path / "killed", **options)
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((tmp_path / "killed").glob("checkpoint-*/trainer_state.json")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "model").exists()  # it was killed before its end
    train(*parse_config(flags(tiny_model, tmp_path / "killed", **options)))
    assert torch.equal(weights(tmp_path / "killed" / "model"), weights(tmp_path / "whole" / "model"))


def test_the_newest_whole_checkpoint_is_chosen_and_nobody_s_folder_is_touched(tmp_path):
    for name, state in {
        "checkpoint-9": '{"global_step": 9}',
        "checkpoint-10": '{"global_step": 10}',
        "checkpoint-11": '{"global_st',
        "checkpoint-12": "[]",
        "checkpoint-13": None,
        "checkpoint-best": '{"global_step": 10}',
    }.items():
        (tmp_path / name).mkdir()
        if state is not None:
            (tmp_path / name / "trainer_state.json").write_text(state)
    before = sorted(tmp_path.rglob("*"))
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    assert sorted(tmp_path.rglob("*")) == before


def test_two_processes_cannot_share_a_folder(tmp_path):
    with claim_folder(tmp_path / "run", {"a": 1}):
        code = (
            "import sys, pathlib; from differential_smoothing.training.run import claim_folder\n"
            "with claim_folder(pathlib.Path(sys.argv[1]), {'a': 1}): pass"
        )
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True)
        assert "Another process is at work in" in done.stderr
    with claim_folder(tmp_path / "run", {"a": 1}):
        pass


def test_a_mistake_before_any_work_does_not_lock_the_folder(tmp_path):
    with claim_folder(tmp_path / "run", {"model": {"name": "wrong"}}):
        pass
    with claim_folder(tmp_path / "run", {"model": {"name": "right"}}):
        (tmp_path / "run" / "model").mkdir()
    with (
        pytest.raises(ValueError, match=r"model.name is 'right' there and 'wrong' here"),
        claim_folder(tmp_path / "run", {"model": {"name": "wrong"}}),
    ):
        pass


@pytest.mark.parametrize("content", ["[]", "null", '"x"', "{", "\udcff"])
def test_a_spoilt_config_is_named(content, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    message = "cannot be read as a run's config|belongs to another run"
    with pytest.raises(ValueError, match=message), claim_folder(tmp_path, {"a": 1}):
        pass


def test_half_a_checkpoint_is_not_resumed_from(tiny_model, tmp_path):
    options = dict(max_steps=4, save_steps=2)
    run, config = parse_config(flags(tiny_model, tmp_path, **options))
    whole = weights(train(run, config))
    shutil.rmtree(tmp_path / "model")
    broken = tmp_path / "checkpoint-3"
    broken.mkdir()
    (broken / "trainer_state.json").write_text('{"global_st')
    assert torch.equal(weights(train(*parse_config(flags(tiny_model, tmp_path, **options)))), whole)


def test_a_folder_of_another_run_is_refused_and_untouched(tiny_model, tmp_path):
    train(*parse_config(flags(tiny_model, tmp_path, max_steps=1)))
    files = sorted(p for p in tmp_path.rglob("*") if p.is_file())
    before = [(p, p.stat().st_mtime_ns) for p in files]
    with pytest.raises(ValueError) as caught:
        train(*parse_config(flags(tiny_model, tmp_path, max_steps=1, level="sum")))
    message = str(caught.value)
    assert "belongs to another run" in message and "level is 'token' there and 'sum' here" in message
    assert "Nothing was changed" in message
    assert [(p, p.stat().st_mtime_ns) for p in sorted(p for p in tmp_path.rglob("*") if p.is_file())] == before


def test_a_folder_with_other_things_in_it_is_refused(tiny_model, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="was not made by dsmooth"):
        train(*parse_config(flags(tiny_model, tmp_path, max_steps=1)))
    assert os.listdir(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gama_p", "0.1"], "Unknown option '--gama_p'. Did you mean 'gamma_p'?"),
        (["--gamma_p", "much"], "invalid float value: 'much'"),
        (["--gamma_p", "-1"], "gamma_p must be a finite number >= 0, got -1.0"),
        (["--config"], "--config needs the path"),
        (["--config", "nowhere.yaml"], "There is no config file 'nowhere.yaml'"),
        (["--rollout", "fast"], "rollout must be 'shared_prefix' or 'host'"),
        (["--config=nowhere.yaml"], "There is no config file 'nowhere.yaml'"),
        (["--reward_weights", "x"], "invalid float value"),
    ],
)
def test_wrong_arguments_say_what_to_do(arguments, message):
    with pytest.raises(ValueError) as caught:
        parse_config([*FLAGS, "--output_dir", "unused", *arguments])
    assert message in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_run_needs_a_place_and_options_need_dashes():
    with pytest.raises(ValueError, match="Say where the run should live: --output_dir"):
        parse_config(FLAGS)
    with pytest.raises(ValueError, match=r"Did you mean --config configs/x.yaml\?"):
        parse_config(["configs/x.yaml"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gamma_p:\n", "gamma_p has no value"),
        ("gamma_p: [1]\n", "gamma_p must be a number, got [1]"),
        ("data_file: 3\n", "data_file must be text, got 3"),
        ("gamma: 0.2\n", "unknown option 'gamma'. Did you mean 'gamma_p'?"),
        ("- a\n- b\n", "must hold lines of the form 'option: value'; got list"),
        ("a: [1,\n", "is not readable as YAML"),
    ],
)
def test_a_wrong_config_file_says_what_to_do(text, message, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        parse_config(["--config", str(path)])
    assert str(path) in str(caught.value) and message in str(caught.value)


def test_flags_override_the_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("gamma_p: 0.1\nlevel: sum\nuse_cpu: true\nbf16: false\nlearning_rate: 1.0e-5\n")
    _, config = parse_config(["--config", str(path), "--gamma_p", "0.4", "--output_dir", "x"])
    assert (config.gamma_p, config.level, config.learning_rate) == (0.4, "sum", 1e-5)


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_config_can_be_read(path):
    # those for a CPU must do so as they stand; the others cannot be validated on a machine without a GPU
    cpu = [] if "use_cpu: true" in path.read_text() else ["--use_cpu", "true", "--bf16", "false"]
    run, config = parse_config(["--config", str(path), *cpu])
    assert config.output_dir.startswith("runs/") and run.model


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no model. A run's trained model is in its 'model' folder"):
        resolve_model(str(tmp_path))
    with pytest.raises(ValueError, match="There is no model folder './nothing'"):
        resolve_model("./nothing")


# --- data files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"nums": [1, 2], "target": 3}', '{"nums": [1, 2]'], "line 2 is not JSON"),
        (['{"nums": [1, 2], "target": 3}', "", '{"nums": [1, 2]}'], "line 3: no target"),
        (['{"numbers": [1, 2], "target": 3}'], "line 1: no nums"),
        (['{"nums": [1, 2.5], "target": 3}'], "line 1: nums=[1, 2.5]"),
        (['{"nums": 7, "target": 3}'], "line 1: nums=7"),
        (['{"nums": "12", "target": 3}'], "line 1: nums='12'"),
        (['{"nums": [1, -2], "target": 3}'], "line 1: nums=[1, -2]"),
        (['{"nums": [1, 2], "target": NaN}'], "target=nan is not a problem"),
        (["[1, 2]"], "line 1: no nums and no target"),
        ([], "holds no problems"),
    ],
)
def test_a_broken_data_file_is_named_with_its_line(lines, message, tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError) as caught:
        countdown.read_problems(path)
    assert str(path) in str(caught.value) and message in str(caught.value)


def test_data_files_of_both_kinds_are_read(tmp_path):
    import pandas as pd

    rows = [{"nums": [7, 2, 3, 8], "target": 24, "more": "x"}, {"nums": [1, 2], "target": 3, "more": "y"}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pd.DataFrame(rows).to_parquet(tmp_path / "p.parquet")
    expected = [countdown.Problem((2, 3, 7, 8), 24), countdown.Problem((1, 2), 3)]
    assert countdown.read_problems(tmp_path / "p.jsonl") == expected
    assert countdown.read_problems(tmp_path / "p.parquet") == expected
    (tmp_path / "not.parquet").write_text("hello")
    with pytest.raises(ValueError, match="is not a parquet file"):
        countdown.read_problems(tmp_path / "not.parquet")
    with pytest.raises(ValueError, match="There is no data file"):
        countdown.read_problems(tmp_path / "none.jsonl")
