"""Studies: read, refused, interrupted, continued, reported; through the command line, as a user would."""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from multiprocessing import forkserver
from pathlib import Path

import pandas as pd
import pytest
import yaml

from differential_smoothing.files import claim_folder
from differential_smoothing.rollouts import read_rollouts
from differential_smoothing.sampling.jobs import sample_rollouts
from differential_smoothing.studies.cell import launch, run_arguments
from differential_smoothing.studies.gpus import gpus_of, gpus_of_jobs
from differential_smoothing.studies.read import read_study
from differential_smoothing.studies.run import exit_status, run_study
from differential_smoothing.studies.spec import Cell, Evaluation, Study
from differential_smoothing.tasks import countdown
from differential_smoothing.training.options import parse_config

SHARPENING = Path(__file__).parents[1] / "benchmarks" / "sharpening.yaml"
TINY = {
    "common": {
        "problems": 40,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 8,
        "max_steps": 40,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1,
        "save_steps": 2,
        "gradient_checkpointing": False,
    },
    "models": {"base": None, "grpo": {}, "ds_grpo": {"gamma_p": 0.2}},
    "baseline": "grpo",
    "evaluation": {"split": "dev", "problems": 12, "samples": 8, "max_completion_length": 24},
}


def dsmooth(*arguments, env=None, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    command = [sys.executable, "-m", "differential_smoothing", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        # what a shell starts in the background ignores Ctrl-C, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


@pytest.mark.slow
def test_a_study_is_interrupted_continued_and_reported(tmp_path):
    study, folder = tmp_path / "study.yaml", tmp_path / "run"
    study.write_text(yaml.safe_dump(TINY))
    process = dsmooth("compare", study, "--output", folder)
    while process.poll() is None and not list(folder.glob("*/checkpoint-*/trainer_state.json")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "The same command resumes from here" in output
    assert not (folder / "report.md").exists()

    process = dsmooth("compare", study, "--output", folder)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert "ds_grpo - grpo" in output and "Pass@8" in output
    for cell in ("base-seed0", "grpo-seed0", "ds_grpo-seed0"):
        frame = read_rollouts(folder / "rollouts" / f"{cell}.parquet")
        assert len(frame) == 12 * 8 and frame["logp"].lt(0).all() and frame["correct"].notna().all()
    assert set(pd.read_csv(folder / "summary.csv")["model"]) == {"base", "grpo", "ds_grpo"}
    for name in ("report.md", "differences.csv", "pass_at_k.svg", "pass_at_k.png", "config.json"):
        assert (folder / name).stat().st_size > 100

    # the same sampling again, by the command for one model: the same completions to the letter
    again = tmp_path / "again.parquet"
    arguments = ("--split", "dev", "--problems", 12, "--samples", 8, "--output", again)
    process = dsmooth("sample", "--model", folder / "grpo-seed0" / "model", "--name", "grpo", *arguments)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    first, second = read_rollouts(folder / "rollouts" / "grpo-seed0.parquet"), read_rollouts(again)
    assert list(first["completion"]) == list(second["completion"])

    # and a changed study does not overwrite this one
    study.write_text(yaml.safe_dump({**TINY, "evaluation": {"split": "dev", "problems": 13, "samples": 8}}))
    process = dsmooth("compare", study, "--output", folder)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and "belongs to another run" in output and "Traceback" not in output


@pytest.mark.slow
def test_a_failing_cell_shows_the_end_of_its_log(tmp_path):
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump({**TINY, "common": {**TINY["common"], "num_generations": 3}}))
    process = dsmooth("compare", study, "--output", tmp_path / "run")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and "Traceback (most recent call last)" not in output.split("The end of")[0]
    assert "num_generations" in output


@pytest.mark.slow
def test_a_cell_of_several_processes_has_them_on_the_cpu_too(tiny_model, tmp_path, monkeypatch):
    """The training itself refuses to start in fewer processes than its options say."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process keeps its own handler
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options = {**TINY["common"], "model": tiny_model, "processes": 2, "max_steps": 1, "seed": 0}
    heard, says = multiprocessing.Pipe(duplex=False)
    assert launch(Cell("grpo", 0, options), tmp_path, (), says) == tmp_path / "grpo-seed0" / "model"
    assert heard.recv() == ("train", 0, 1)  # at once, while the processes start


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="CUDA_VISIBLE_DEVICES")
def test_cells_side_by_side_see_a_gpu_each(tmp_path):
    """There is no GPU here, and so none is used; what a training sees is what its rule reads."""
    (tmp_path / "seen.py").write_text(
        "import os\nimport pathlib\n\ndef seen(rewards, logps, mask, *, correct, group, name=''):\n"
        f"    pathlib.Path({str(tmp_path)!r}, name + '.seen').write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n    return rewards\n"
    )
    rule = {"rule": f"{tmp_path / 'seen.py'}:seen"}
    models = {name: {**rule, "rule_options": {"name": name}} for name in ("one", "two")}
    common = {**TINY["common"], "use_cpu": False, "max_steps": 1}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**TINY, "common": common, "models": models, "baseline": "one"}))
    process = dsmooth("compare", path, "--output", tmp_path / "run", env={"CUDA_VISIBLE_DEVICES": "5,MIG-6"})
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert {(tmp_path / f"{name}.seen").read_text() for name in models} == {"5", "MIG-6"}


@pytest.mark.parametrize(
    ("gpus", "processes", "jobs", "expected"),
    [
        ("", 0, 0, [[]] * min(2, os.cpu_count())),
        ("-1", 4, 3, [[], [], []]),
        ("0,1,2", 0, 0, [["0"], ["1"], ["2"]]),
        ("0,1,2,3,4", 2, 0, [["0", "1"], ["2", "3"]]),
        ("0,1", 0, 3, [["0"], ["1"], ["0"]]),
        ("7", 0, 0, [["7"]]),
        ("0", 2, 0, "two-seed0 needs 2 GPUs"),
        ("0,1,2", 2, 2, "2 jobs of 2 GPUs each do not fit on 3"),
    ],
)
def test_every_job_has_gpus_of_its_own(gpus, processes, jobs, expected, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    study = Study({"one": {}, "two": {"processes": processes}}, baseline="one")
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            gpus_of_jobs(study, jobs)
    else:
        assert gpus_of_jobs(study, jobs) == expected
    on_the_cpu = Study({"base": None, "one": {}}, {"use_cpu": True}, baseline="one")
    assert gpus_of_jobs(on_the_cpu, jobs) == [[]] * (jobs or min(2, os.cpu_count()))
    sampled_on_two = Study(
        {"one": {}}, baseline="one", evaluation=Evaluation(engine="vllm", engine_options={"tensor_parallel_size": 2})
    )
    assert gpus_of(sampled_on_two.cells()[0], sampled_on_two) == 2


@pytest.mark.parametrize(
    ("evaluation", "options", "message"),
    [
        ({"top_p": 0.9}, {}, "got top_p=0.9. Take engine 'transformers'"),
        ({"engine_options": {"batch": 1}}, {}, "has no option 'batch'"),
        ({"engine": "vllm"}, {}, "needs vLLM, which is not installed"),
        ({"engine": "vllm_server"}, {}, "from the model that a server has"),
    ],
)
def test_what_cannot_be_sampled_is_found_before_it_is_trained(evaluation, options, message, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    path = tmp_path / "study.yaml"
    path.write_text(
        yaml.safe_dump({**TINY, "models": {"grpo": options}, "evaluation": TINY["evaluation"] | evaluation})
    )
    with pytest.raises(ValueError, match=message):
        run_study(read_study(path), tmp_path / "run", on_progress=print)
    assert not (tmp_path / "run").exists()


def test_an_adapter_is_not_trained_for_an_engine_that_takes_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", sys)  # as if it were installed
    with pytest.raises(ValueError, match="trains an adapter .lora_r., and the engine 'vllm' takes whole models"):
        Evaluation(engine="vllm").check("base", Cell("grpo", 0, {"lora_r": 4}))
    Evaluation(engine="vllm").check("base", Cell("grpo", 0, {}))
    Evaluation(engine="vllm_server").check("base", Cell("base", 0, None))  # sampled only: the server's model is the one


def test_the_evaluation_can_be_changed_until_something_is_sampled(tmp_path, monkeypatch):
    from differential_smoothing.studies import run as module

    monkeypatch.setattr(module, "run_cells", lambda *_: None)
    folder, path = tmp_path / "run", tmp_path / "study.yaml"

    def run(**evaluation):
        path.write_text(yaml.safe_dump({**TINY, "evaluation": TINY["evaluation"] | evaluation}))
        run_study(read_study(path), folder, on_progress=print)

    run()
    (folder / "grpo-seed0").mkdir()
    run(samples=9)
    assert json.loads((folder / "config.json").read_text())["evaluation.samples"] == 9
    (folder / "rollouts" / "grpo-seed0.parquet.parts").mkdir(parents=True)
    with pytest.raises(ValueError, match="differs in evaluation.samples .evaluation.samples is 9 there and 10 here"):
        run(samples=10)


def test_a_default_that_overrides_the_common_options_is_a_change(tmp_path):
    path = tmp_path / "study.yaml"
    for model in ({"level": "sum"}, {"level": "sum", "rule": "grpo"}):
        path.write_text(
            yaml.safe_dump({**TINY, "common": {**TINY["common"], "rule": "pkpo"}, "models": {"grpo": {}, "x": model}})
        )
        refused = (
            pytest.raises(ValueError, match="differs in models.x.rule") if "rule" in model else contextlib.nullcontext()
        )
        with refused, claim_folder(tmp_path / "run", asdict(read_study(path))):
            (tmp_path / "run" / "x-seed0").mkdir()


def test_small_negative_numbers_reach_the_training():
    cell = Cell(
        "x",
        0,
        {"entropy_coef": -5.0e-5, "report_to": "none", "bf16": False, "use_cpu": True, "log_on_each_node": False},
    )
    run, config = parse_config(run_arguments(cell, Path("out")))
    assert config.entropy_coef == -5.0e-5 and config.log_on_each_node is False


def test_the_base_is_the_model_of_the_study(tiny_model, tmp_path):
    study = tmp_path / "study.yaml"
    content = {"common": {"model": tiny_model, "data_file": None}, "models": {"start": None}, "baseline": "start"}
    study.write_text(yaml.safe_dump({**content, "evaluation": {"split": "dev", "problems": 4, "samples": 2}}))
    process = dsmooth("compare", study, "--output", tmp_path / "run")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    given = read_rollouts(tmp_path / "run" / "rollouts" / "start-seed0.parquet")
    problems = countdown.generate(4, split="dev", seed=0)
    expected = sample_rollouts(tiny_model, problems, num_samples=2, seed=1, name="start")
    assert list(given["completion"]) == list(expected["completion"])


@pytest.mark.skipif(sys.platform != "linux", reason="cells are forks of a server on Linux only")
def test_a_cell_that_ends_while_another_starts_keeps_its_exit_status(monkeypatch):
    context = multiprocessing.get_context("forkserver")
    read = forkserver.read_signed
    reading = threading.Event()

    def slowly(fd):  # another thread gets every chance to read the same pipe first
        reading.set()
        time.sleep(0.2)
        return read(fd)

    ending, other = context.Process(target=os.getpid), context.Process(target=os.getpid)
    lock, statuses = threading.Lock(), []
    ending.start()
    monkeypatch.setattr(forkserver, "read_signed", slowly)
    thread = threading.Thread(target=lambda: statuses.append(exit_status(ending, lock)))
    thread.start()
    reading.wait()  # the thread is about to read how the first one ended ...
    with lock:
        other.start()  # ... and starting another asks the first one too
    thread.join()
    assert statuses == [0] and ending.exitcode == 0
    other.join()


def test_evaluation_follows_the_training_unless_it_says_otherwise(tmp_path):
    path = tmp_path / "study.yaml"
    common = {"task_options": {"numbers": 3, "max_number": 20}, "chat": True, "max_completion_length": 99}
    path.write_text(
        yaml.safe_dump({"common": common, "models": {"grpo": {}}, "evaluation": {"task_options": {"max_number": 5}}})
    )
    evaluation = read_study(path).evaluation
    assert (evaluation.task_options, evaluation.chat) == ({"max_number": 5}, True)
    assert evaluation.max_completion_length == 99


def test_a_mistake_in_one_model_is_found_before_anything_is_written(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**TINY, "models": {"grpo": {}, "ds": {"gama_p": 1}}}))
    with pytest.raises(ValueError, match="Did you mean 'gamma_p'"):
        run_study(read_study(path), tmp_path / "run", jobs=1, on_progress=print)
    with pytest.raises(ValueError, match="jobs must be at least 1"):
        run_study(read_study(path), tmp_path / "run", jobs=-1, on_progress=print)
    assert not (tmp_path / "run").exists()


def test_trained_cells_come_first_in_pairs():
    study = read_study(SHARPENING, seeds=[3, 5])
    assert [cell.name for cell in study.cells()] == [
        *(f"{name}-seed{seed}" for seed in (3, 5) for name in ("grpo", "ds_grpo", "grpo_5e-5", "grpo_3e-5")),
        "base-seed0",
    ]
    first = study.cells()[0]
    assert isinstance(first, Cell) and first.options["seed"] == 3
    assert {c.options["max_steps"] for c in study.cells()[:-1]} == {study.common["max_steps"]}  # equal budget


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {}}, "is not a study"),
        ({"models": {"grpo": {}}, "extra": 1}, "is not a study"),
        ({"models": {"grpo": 3}}, "grpo needs a mapping of options"),
        ({"models": {1: {}}}, "a model's name is letters, digits"),
        ({"models": {"../grpo": {}}}, "a model's name is letters, digits"),
        ({"models": {"grpo": {}}, "seeds": []}, "seeds must be different whole numbers"),
        ({"models": {"grpo": {}}, "seeds": [1, 1]}, "seeds must be different whole numbers"),
        ({"models": {"grpo": {}}, "seeds": [[1]]}, "seeds must be different whole numbers"),
        ({"models": {"grpo": {}}, "evaluation": {"samples": 2, 3: 4, "x": 5}}, "evaluation has an unknown entry 3"),
        ({"models": {"grpo": {}}, "evaluation": {"split": "tset"}}, "split must be train, dev or test"),
        ({"models": {"grpo": {}}, "evaluation": {"samples": 0}}, "samples must be at least 1"),
        ({"models": {"grpo": {}}, "evaluation": {"engine": "vlm"}}, "there is no engine 'vlm'. Known: shared_prefix"),
        ({"models": {"grpo": {}}, "evaluation": {"top_p": 0}}, "top_p must be above 0 and at most 1"),
        ({"models": {"grpo": {}}, "evaluation": {"engine_options": 3}}, "engine_options must be a mapping"),
        ({"models": {"grpo": {}}, "evaluation": {"samples": "many"}}, "samples must be of type int"),
        ({"models": {"grpo": {}}, "evaluation": {"temprature": 2}}, "unknown entry 'temprature'"),
        ({"models": {"a": {}}, "baseline": "b"}, "baseline 'b' is not one of the models a"),
        ({"models": {"grpo": {}}, "seeds": 3}, "seeds must be a list"),
        ("models: [", "is not readable as YAML"),
    ],
)
def test_a_wrong_study_says_what_to_do(content, message, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(ValueError) as caught:
        read_study(path)
    assert message in str(caught.value) and str(path) in str(caught.value)
    with pytest.raises(ValueError, match="There is no study file"):
        read_study(tmp_path / "none.yaml")
