"""`dsmooth reproduce paper`: the protocol as studies, its cost before it starts, and a whole tiny run that is killed and goes on."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from families import make_family
from typer.testing import CliRunner

from differential_smoothing.cli import app
from differential_smoothing.evaluation import compare, summarise
from differential_smoothing.evaluation.sets import by_set, resampled_average, set_of
from differential_smoothing.report import sets_markdown
from differential_smoothing.rollouts import read_rollouts
from differential_smoothing.studies.cell import run_arguments
from differential_smoothing.studies.paper import TABLES, costs, read_paper
from differential_smoothing.training import cost, parse_config

TINY = {"--table": "countdown", "--model": "base", "--scale": "tiny"}


@pytest.mark.parametrize("table", TABLES)
def test_every_base_trains_the_rules_and_the_control_with_equal_budgets(table):
    paper = read_paper(table)
    assert paper.claims
    for study in paper.studies.values():
        rate = study.common["learning_rate"]
        trained = {name: options for name, options in study.models.items() if options is not None}
        assert list(study.models)[:4] == ["base", "grpo", "grpo_lr_x0.5", "grpo_lr_x0.25"]
        assert all(setting.value is not None for setting in paper.protocol[study_name(paper, study)])
        assert trained["grpo_lr_x0.25"] == {"learning_rate": rate / 4} and trained["grpo"] == {}
        assert any(options.get("gamma_p", 0) > 0 for options in trained.values())
        assert len({options.get("max_steps") for options in trained.values()}) == 1  # equal budget
        assert study.baseline == "grpo" and len(study.seeds) == 3 and study.evaluation.samples >= 16


def test_the_countdown_table_has_the_published_batch():
    (study,) = read_paper("countdown").studies.values()
    cell = study.cells()[0]
    run, config = parse_config(run_arguments(cell, Path("x")), elsewhere=True)
    assert (run.model, config.learning_rate, config.beta) == ("Qwen/Qwen2.5-3B", 1e-6, 0.001)
    assert config.generation_batch_size == 128 * 5 and config.num_generations == 5
    assert (
        config.steps_per_generation == 2 * config.gradient_accumulation_steps
    )  # two updates: 402 steps are 804 of ours
    assert config.max_steps == 2 * 402 and study.evaluation.problems == 1024
    assert study.evaluation.make_task().problems(1, split="test", seed=0)


def test_the_mathematics_table_has_the_published_settings():
    studies = read_paper("math").studies
    rates = {study.base: study.common["learning_rate"] for study in studies.values()}
    assert rates == {
        "Qwen/Qwen2.5-Math-1.5B": 1e-6,
        "Qwen/Qwen3-1.7B": 5e-7,
        "Qwen/Qwen2.5-Math-7B": 1e-6,
        "mistralai/Ministral-8B-Instruct-2410": 3e-7,
    }
    for name, study in studies.items():
        run, config = parse_config(run_arguments(study.cells()[0], Path("x")), elsewhere=True)
        high = 0.2 if "qwen3" in name else 0.25
        assert (config.temperature, config.epsilon, config.epsilon_high, config.beta) == (0.7, 0.2, high, 0.0)
        assert config.steps_per_generation == 4 * config.gradient_accumulation_steps  # four updates per generation
        assert config.generation_batch_size == 128 * 8 and config.max_completion_length == (
            4096 if "qwen3" in name else 2048
        )
        assert run.task_options["test"] == ["math500", "olympiadbench", "amc23", "aime24", "aime25"]
        assert study.evaluation.task_options == run.task_options and study.evaluation.temperature == 0.7
        assert study.evaluation.chat_template_kwargs == config.chat_template_kwargs
        assert bool(config.fsdp) == (study.base in ("Qwen/Qwen2.5-Math-7B", "mistralai/Ministral-8B-Instruct-2410"))


def study_name(paper, study):
    return next(name for name, other in paper.studies.items() if other is study)


def test_the_table_of_the_decisions_is_the_protocol():
    """Every setting of the mathematics table with its value per model, as DECISIONS.md states it."""
    text = (Path(__file__).parents[1] / "DECISIONS.md").read_text()
    lines = text[text.index("| option | qwen2.5-math-1.5b |") :].split("\n\n")[0].splitlines()
    header, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line)
    paper = read_paper("math")
    assert header[1:] == list(paper.studies) and len(rows) > 8
    for option, *values in rows:
        for base, stated in zip(header[1:], values, strict=True):
            setting = {s.option: s for s in paper.protocol[base]}[option]
            value = "+".join(setting.value) if isinstance(setting.value, list) else f"{setting.value:g}"
            assert stated == value + " ?" * setting.source.startswith("unknown"), (option, base)


def test_the_independent_comparison_has_its_own_protocol():
    (study,) = read_paper("f_grpo").studies.values()
    run, config = parse_config(run_arguments(study.cells()[0], Path("x")), elsewhere=True)
    assert (
        config.generation_batch_size == 256 * 8
        and config.steps_per_generation == 4 * config.gradient_accumulation_steps
    )
    assert study.evaluation.samples == 1024 and {"ds_grpo", "f_grpo", "entropy_bonus", "kl", "pairs"} <= set(
        study.models
    )
    done = CliRunner().invoke(app, ["reproduce", "f-grpo", "--dry-run"])
    assert done.exit_code == 0
    assert "Protocol of qwen2.5-7b" in done.output and "generation_prompts" in done.output and "unknown" in done.output
    refused = CliRunner().invoke(app, ["reproduce", "f-grpo", "--table", "math", "--dry-run"])
    assert refused.exit_code and "--table has no effect" in str(refused.exception or refused.output)


def test_a_model_and_changes_reach_every_cell(tmp_path):
    assert list(read_paper("math", model="Qwen/Qwen3-1.7B").studies) == ["qwen3-1.7b"]
    changes = [
        "max_steps=7",
        "evaluation.samples=3",
        "models.ds_grpo.gamma_p=0.5",
        "task_options.folder=data",
        "seeds=[4]",
        "control=[0.1]",
        "learning_rate=2e-6",
    ]
    ((name, study),) = read_paper("math", model=str(tmp_path / "my model"), changes=changes).studies.items()
    assert name == "my-model" and study.base == str(tmp_path / "my model") and study.seeds == (4,)
    assert study.common["max_steps"] == 7 and study.evaluation.samples == 3
    assert study.models["ds_grpo"] == {"gamma_p": 0.5, "gamma_n": 0.01, "level": "token"}
    assert study.models["grpo_lr_x0.1"] == {"learning_rate": pytest.approx(2e-7)}
    assert study.common["task_options"]["folder"] == study.evaluation.task_options["folder"] == "data"
    assert study.common["task_options"]["train"] == ["math", "dapo_17k"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"table": "maths"}, "--table must be one of math, countdown, f_grpo; got 'maths'"),
        ({"table": "math", "scale": "small"}, "--scale must be one of tiny; got 'small'"),
        ({"table": "math", "changes": ["max_steps"]}, "--set is 'key=value'"),
        ({"table": "math", "changes": ["x=["]}, "cannot be read as YAML"),
        ({"table": "math", "changes": ["common=3"]}, "--set common: name one option of it, as in max_steps=4"),
        ({"table": "math", "changes": ["evaluation=3"]}, "--set evaluation: name one option of it"),
        ({"table": "math", "changes": ["seeds=[[1]]"]}, "seeds must be different whole numbers"),
        ({"table": "math", "changes": ["models.dsgrpo.gamma_p=1"]}, "models.NAME.OPTION, with one of base, grpo"),
        ({"table": "math", "changes": ["control=[]"]}, "control must be different numbers > 0, at least one"),
        ({"table": "math", "changes": ["learning_rate=fast"]}, "learning_rate must be a number, got 'fast'"),
        ({"table": "math", "changes": ["evaluation.sample=1"]}, "evaluation has an unknown entry 'sample'"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError) as caught:
        read_paper(**arguments)
    assert message in str(caught.value)


def test_costs_are_those_of_the_cost_module_and_fall_as_cells_finish(tmp_path):
    paper = read_paper("countdown")
    (study,) = paper.studies.values()
    training, evaluation = costs(paper, tmp_path, cost.H100)
    assert training[1:3] == ("15 trainings", 15) and evaluation[2] == 16
    shape = cost.PUBLISHED["Qwen/Qwen2.5-3B"]
    batch = cost.Batch(prompts=128, group=5, prompt=256, completion=1024, micro=8)
    run, config = parse_config(run_arguments(study.cells()[0], tmp_path), elsewhere=True)
    from differential_smoothing.training.plan import placement_of

    step = cost.seconds(shape, batch, placement_of(run, config))["step"]
    assert training[3].low == pytest.approx(15 * 402 * 8 * step.low / 3600)
    assert 0 < evaluation[3].low < evaluation[3].high < training[3].high
    (tmp_path / "qwen2.5-3b" / "grpo-seed1" / "model").mkdir(parents=True)
    done = study.result(tmp_path / "qwen2.5-3b", study.cells()[0])
    done.parent.mkdir(parents=True)
    done.touch()
    assert [row[2] for row in costs(paper, tmp_path, cost.H100)] == [13, 15]
    unknown = read_paper("countdown", model="someone/unknown")
    assert [row[3] for row in costs(unknown, tmp_path, cost.H100)] == [None, None]


@pytest.mark.parametrize("table", TABLES)
def test_the_published_settings_fit_the_gpus_that_they_are_for(table, tmp_path):
    """And what would not fit is said where its cost is said: 3B parameters, a reference model, all of it on every GPU."""
    for base, study in read_paper(table).studies.items():
        assert study.common["processes"] == 8
        for row in costs(read_paper(table, model=base), tmp_path, cost.H100):
            assert "do not fit" not in row[1]
    row = next(costs(read_paper("countdown", changes=["fsdp="]), tmp_path, cost.H100))
    assert row[1] == "15 trainings, which need 90 GB on each GPU and do not fit"


def test_what_has_no_known_cost_is_said_so(tmp_path):
    """A type of model that is not counted, and a number of steps that the epochs decide: the rest is estimated."""
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2" / "config.json").write_text('{"model_type": "gpt2"}')
    paper = read_paper("countdown", model=str(tmp_path / "gpt2"))
    assert [row[3] for row in costs(paper, tmp_path, cost.H100)] == [None, None]
    training, evaluation = costs(read_paper("countdown", changes=["max_steps=-1"]), tmp_path, cost.H100)
    assert training[3] is None and evaluation[3].low > 0


# --- test sets ---


def rollouts(seed=0, seeds=(0, 1), sizes=(("aime24", 5), ("math500", 40))):
    """Rollouts of two models on sets of unlike size and difficulty."""
    rng, rows = np.random.default_rng(seed), []
    for (model, lift), (name, size) in itertools.product((("grpo", 0.0), ("ds", 0.15)), sizes):
        for of in seeds:
            for problem in range(size):
                chance = (0.1 if name == "aime24" else 0.6) + lift
                right = rng.random(4) < chance
                rows += [
                    {
                        "model": model,
                        "seed": of,
                        "step": -1,
                        "prompt_id": f"{name}:{problem}",
                        "sample": i,
                        "correct": bool(c),
                        "canonical": "1" if c else None,
                        "task": "math",
                    }
                    for i, c in enumerate(right)
                ]
    return pd.DataFrame(rows)


def test_sets_are_read_off_the_problems_names():
    frame = pd.DataFrame(
        {"prompt_id": ["aime24:0a", "my file:1", "1,2=3", "a:b"], "task": ["math", "math", "countdown", "gym"]}
    )
    assert list(set_of(frame)) == ["aime24", "my file", "countdown", "gym"]
    from differential_smoothing.tasks import make_task
    from differential_smoothing.tasks.math.sources import MathProblem

    problem = MathProblem("What is 1 + 1?", "2", source="amc23")
    named = pd.DataFrame({"prompt_id": [make_task("math").problem_id(problem)], "task": ["math"]})
    assert list(set_of(named)) == ["amc23"]


def test_each_set_has_the_numbers_of_its_own_report():
    frame = rollouts()
    levels, differences = by_set(frame, "grpo", ks=[1, 4], seed=3)
    part = frame[frame["prompt_id"].str.startswith("aime24")]
    alone = summarise(part, seed=3, ks=[1, 4], metrics=["pass@k"])
    alone = alone.iloc[[2, 3, 0, 1]].reset_index(drop=True)  # ours stand as they come in the rollouts: grpo, ds
    pd.testing.assert_frame_equal(levels[levels["set"] == "aime24"].drop(columns="set").reset_index(drop=True), alone)
    paired = compare(part, "ds", "grpo", seed=3, ks=[1, 4], metrics=["pass@k"])
    pd.testing.assert_frame_equal(
        differences[differences["set"] == "aime24"].drop(columns="set").reset_index(drop=True), paired
    )


def test_the_average_counts_every_set_the_same():
    levels, differences = by_set(rollouts(), "grpo", ks=[1, 4], seed=3)
    for table in (levels, differences):
        mean = table[table["set"] != "average"].groupby(["model", "k"])["estimate"].mean()
        average = table[table["set"] == "average"].set_index(["model", "k"])["estimate"]
        pd.testing.assert_series_equal(average.sort_index(), mean.sort_index())
        assert (table["low"] <= table["estimate"]).all() and (table["estimate"] <= table["high"]).all()
    # a model against the baseline of one training seed: every seed of the model meets it
    one = rollouts()
    one = one[(one["model"] != "grpo") | (one["seed"] == 0)]
    _, paired = by_set(one, "grpo", ks=[1], seed=3)
    estimates = paired.set_index("set")["estimate"]
    assert estimates["average"] == pytest.approx((estimates["aime24"] + estimates["math500"]) / 2)


def test_resamples_of_the_average_are_those_of_a_slow_twin_in_mean_and_spread():
    rng = np.random.default_rng(0)
    sets = [rng.random((3, size, 1)) + of_seed for size in (4, 30) for of_seed in [rng.normal(0, 0.3, (3, 1, 1))]]
    fast = resampled_average(sets, seed=1, replications=20_000)[:, 0]
    slow = []
    for _ in range(4000):
        seeds = rng.integers(3, size=3)  # the same training seeds for every set
        slow.append(np.mean([v[seeds][:, rng.integers(v.shape[1], size=v.shape[1])].mean() for v in sets]))
    assert fast.mean() == pytest.approx(np.mean([v.mean() for v in sets]), abs=0.01)
    assert fast.std() == pytest.approx(np.std(slow), rel=0.06)


def test_one_set_has_no_average_and_the_table_says_what_it_rests_on():
    frame = rollouts(sizes=(("amc23", 6),))
    levels, differences = by_set(frame, "grpo", ks=[1], seed=0)
    assert set(levels["set"]) == {"amc23"}
    text = sets_markdown(levels, differences)
    assert "| Model | amc23 |" in text and "Problems: amc23 6; training seeds: 2 (grpo), 2 (ds)." in text
    text = sets_markdown(*by_set(rollouts(), "grpo", ks=[1, 4], seed=0))
    assert text.count("| aime24 | math500 | average |") == 4 and "**Pass@4, %**" in text
    row = next(line for line in text.splitlines() if line.startswith("| ds - grpo"))
    assert row.count("[") == 3 and "**+" in row


# --- the command ---


def reproduce(*arguments, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "differential_smoothing", "reproduce", "paper", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


@pytest.mark.slow
def test_nothing_starts_without_yes(tmp_path):
    for arguments, status in ((["--dry-run"], 0), ([], 2)):
        process = reproduce("--table", "countdown", *arguments, "--output", tmp_path / "run")
        output, _ = process.communicate(timeout=300)
        assert process.returncode == status, output
        assert "15 trainings:" in output and "GPU hours on H100" in output and "Nothing was started" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_tiny_table_is_killed_goes_on_and_is_printed(tmp_path):
    folder = tmp_path / "run"
    arguments = [part for pair in TINY.items() for part in pair] + ["--yes", "--jobs", 2, "--output", folder]
    arguments += ["--set", "evaluation.problems=12", "--set", "control=[0.5]", "--set", "max_steps=4"]
    process = reproduce(*arguments)
    while process.poll() is None and not list(folder.glob("base/*/checkpoint-*/trainer_state.json")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "The same command resumes from here" in output, output
    assert not (folder / "report-base.md").exists()

    process = reproduce(*arguments)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    text = (folder / "report-base.md").read_text()
    assert text.strip() in output
    for expected in (
        "**Pass@1, %**",
        "**Pass@8, %**",
        "| grpo_lr_x0.5 - grpo |",
        "| ds_grpo - grpo |",
        "arXiv 2511.19942",
    ):
        assert expected in text
    levels = pd.read_csv(folder / "base" / "sets.csv").set_index(["model", "k"])
    for name in ("base", "grpo", "ds_grpo", "ds_grpo_positive", "grpo_lr_x0.5"):
        frame = read_rollouts(folder / "base" / "rollouts" / f"{name}-seed0.parquet")
        assert len(frame) == 12 * 8 and frame["correct"].mean() == pytest.approx(levels.loc[(name, 1), "estimate"])
    assert "ds_grpo_positive" in (folder / "base" / "report.html").read_text()
    rates = [json.loads((folder / "base" / f"{n}-seed0" / "config.json").read_text()) for n in ("grpo", "grpo_lr_x0.5")]
    assert rates[0]["learning_rate"] == 2 * rates[1]["learning_rate"]

    # done is done: the same command prints the same table, and trains nothing
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.safetensors")}
    process = reproduce(*arguments)
    again, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and text.strip() in again
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*.safetensors")}


#: A row of each data set in the shape that the Hub has it, of a question and its answer.
ROWS = {
    "math-train": lambda q, a: {
        "problem": q,
        "solution": f"We add: $\\boxed{{{a}}}$.",
        "level": "Level 1",
        "type": "Algebra",
    },
    "dapo_17k": lambda q, a: {
        "prompt": [
            {
                "role": "user",
                "content": f"Solve the following math problem step by step. The last line ...\n\n{q}\n\n"
                'Remember to put your answer on its own line after "Answer:".',
            }
        ],
        "reward_model": {"ground_truth": a, "style": "rule"},
    },
    "math500": lambda q, a: {"problem": q, "answer": a, "unique_id": q},
    "olympiadbench": lambda q, a: {"question": q, "final_answer": [a], "context": None},
    "amc23": lambda q, a: {"question": q, "answer": float(a)},
    "aime24": lambda q, a: {"problem": q, "solution": f"\\boxed{{{a}}}"},
    "aime25": lambda q, a: {"problem": q, "answer": a},
}


def guesser(folder):
    """A chat model that answers any question with a digit in a box: right now and then."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make_family("qwen3", folder)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    texts = []
    for n in range(1, 9):
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": f"What is {n} + 1?"}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        texts += [f"{prompt}\\boxed{{{digit}}}<|im_end|>" for digit in range(2, 10)]
    ids = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)[
        "input_ids"
    ]
    mask = ids != tokenizer.pad_token_id
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(60):
        logp = model(input_ids=ids, attention_mask=mask).logits[:, -11:-1].log_softmax(-1)
        loss = -logp.gather(2, ids[:, -10:, None]).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_the_mathematics_table_runs_from_the_files_to_its_sets(tmp_path):
    """All of the paper's data sets, as small files in the Hub's columns; a chat model of a family that thinks; one row a model, one column a set."""
    data, folder, sizes = tmp_path / "data", tmp_path / "run", {}
    data.mkdir()
    for at, (name, row) in enumerate(
        ROWS.items()
    ):  # no question of a test set is trained on: each set adds another number
        rows = [row(f"What is {n} + {at}?", str(n + at)) for n in range(1 if at else 2, 3 + at % 2)]
        (data / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        sizes[name] = len(rows)
    arguments = [
        "--table",
        "math",
        "--model",
        guesser(tmp_path / "guesser"),
        "--scale",
        "tiny",
        "--yes",
        "--output",
        folder,
    ]
    for change in (
        f"task_options.folder={data}",
        "chat_template_kwargs={enable_thinking: false}",
        "evaluation.samples=16",
    ):
        arguments += ["--set", change]
    process = reproduce(*arguments, "--set", "control=[0.5]")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    text = (folder / "report-guesser.md").read_text()
    assert text.strip() in output and "| math500 | olympiadbench | amc23 | aime24 | aime25 | average |" in text
    levels = pd.read_csv(folder / "guesser" / "sets.csv").set_index(["model", "set", "k"])["estimate"]
    for name in ("base", "grpo", "grpo_lr_x0.5", "ds_grpo", "ds_grpo_last", "ds_grpo_positive"):
        frame = read_rollouts(folder / "guesser" / "rollouts" / f"{name}-seed0.parquet")
        right = frame.groupby(set_of(frame))["correct"]
        assert right.size().to_dict() == {
            of: 16 * size for of, size in sizes.items() if of not in ("math-train", "dapo_17k")
        }
        for of, share in right.mean().items():
            assert share == pytest.approx(levels[name, of, 1])
        assert 0 < frame["correct"].mean() < 0.5
    assert set(frame.loc[frame["correct"], "canonical"]) <= {str(n) for n in range(2, 10)}
    trained = {
        name: (folder / "guesser" / f"{name}-seed0" / "model" / "model.safetensors").read_bytes()
        for name in ("grpo", "ds_grpo", "ds_grpo_last", "ds_grpo_positive")
    }
    assert len(set(trained.values())) == len(trained)  # every rule took another way
