"""Sweeps: expanded, refused, killed at random, continued; a rule of the user's own from a file outside the package."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from differential_smoothing.files import claim_folder
from differential_smoothing.studies.counts import COUNTS, read_counts, read_logs
from differential_smoothing.studies.read import read_study
from differential_smoothing.studies.sweep import Sweep

TINY = {
    "common": {
        "problems": 40,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 8,
        "max_steps": 6,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1,
        "save_steps": 2,
        "gradient_checkpointing": False,
        "monitor": False,
    },
    "rules": {"grpo": {}, "ds": {"gamma_p": [0.1, 0.2]}},
    "learning_rates": [1.0e-4],
    "baseline": "grpo",
    "selection": {"split": "dev", "problems": 6, "samples": 8},
    "evaluation": {"split": "test", "problems": 6, "samples": 8},
}

#: The whole of it, 20 times: DSMOOTH_KILLS=20 python -m pytest tests/test_sweep.py -k killed
KILLS = int(os.environ.get("DSMOOTH_KILLS", 3))

MY_RULE = '''
import torch

def mine(rewards, logps, mask, *, correct, group, push=1.0, progress=0.0):
    """Right answers up, wrong ones down, less and less."""
    return push * (1 - progress) * torch.where(correct == 1, 1.0, -1.0)
'''


def written(path, content):
    path.write_text(yaml.safe_dump(content))
    return path


def test_every_rule_strength_rate_and_seed_is_a_cell(tmp_path):
    content = {
        **TINY,
        "rules": {
            "grpo": {},
            "ds": {"gamma_p": [0.1, 0.2]},
            "pkpo": {"rule": "pkpo", "rule_options": {"k": [2, 4], "anneal": True}},
        },
        "learning_rates": [1.0e-4, 3.0e-4],
        "tasks": {"few": {"problems": 20}, "many": {"task_options": {"numbers": 3}}},
        "seeds": [0, 5],
    }
    sweep = read_study(written(tmp_path / "s.yaml", content))
    assert isinstance(sweep, Sweep)
    cells = sweep.cells()
    assert len(cells) == len({cell.name for cell in cells}) == 2 * 5 * 2 * 2  # tasks, points of rules, rates, seeds
    by_name = {cell.name: cell for cell in cells}
    cell = by_name["many-pkpo-4-lr0.0003-seed5"]
    assert cell.options["rule_options"] == {"k": 4, "anneal": True} and cell.options["learning_rate"] == 3e-4
    assert cell.options["task_options"]["numbers"] == 3 and cell.options["seed"] == 5 and cell.options["max_steps"] == 6
    assert by_name["few-ds-0.2-lr0.0001-seed0"].options["gamma_p"] == 0.2
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)  # whole seeds first
    assert sweep.evaluations(cell)["evaluation"].task_options["numbers"] == 3
    assert sweep.evaluations(by_name["few-grpo-lr0.0001-seed0"])["selection"].split == "dev"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rules": {"grpo": {}, "ds": {"gamma_p": [1], "gamma_n": [1]}}}, "ds has several lists"),
        ({"rules": {"grpo": {}, "ds": 3}}, "ds needs a mapping of options"),
        ({"rules": {"grpo": {}, "a-b": {}}}, "a rule's name is letters"),
        ({"rules": {"ds": {}}}, "baseline 'grpo' is not one of the rules"),
        ({"learning_rates": ["1e-4"]}, "write 1.0e-4"),
        ({"learning_rates": [1e-4, 1e-4]}, "different numbers > 0"),
        ({"learning_rates": []}, "needs the entry learning_rates"),
        ({"selection": None}, "selection must be a dict"),
        ({"models": {}}, "unknown entry 'models'"),
        ({"leads_over": ["grpo", "ppo"]}, "leads_over must name different rules"),
        ({"leads_over": ["grpo", "grpo"]}, "leads_over must name different rules"),
        ({"leads_over": [["grpo"]]}, "leads_over must name different rules"),
        ({"leads_over": "grpo"}, "leads_over must be a list"),
        ({"evaluation": {"split": "tset"}}, "split must be train, dev or test"),
        ({"seeds": [0, 0]}, "seeds must be different whole numbers"),
        ({"rules": {"grpo": {"gamma_p": [0, "../x"]}}}, "must be numbers or short words"),
        ({"rules": {"grpo": {}, "ds": {"gamma_p": []}}}, "gamma_p of ds is an empty list"),
        ({"rules": {"grpo": {"rule_options": "{k"}}}, "rule_options cannot be read as JSON"),
        ({"tasks": {"a": 3}}, "the task a needs a mapping of options"),
        (
            {"selection": {"split": "test", "problems": 6}},
            "both on the split 'test' with seed 0.*Take split: dev for selection",
        ),
        ({"evaluation": {"split": "dev", "problems": 6}}, "both on the split 'dev' with seed 0"),
        ({"checkpoints": [4, 2]}, r"checkpoints must be increasing steps of at least 1, got \[4, 2\]"),
        ({"checkpoints": [0]}, "increasing steps of at least 1"),
        ({"checkpoints": [2], "common": {}}, "common needs max_steps"),
        ({"rules": {"grpo": {"learning_rates": ["1e-4"]}}}, "write 1.0e-4"),
        ({"checkpoints": [6, 7]}, "no checkpoint lies before the last step, 6"),
        ({"rules": {"grpo": {"learning_rate": 1e-3}}}, "grpo has learning_rate, which the sweep sets"),
        ({"rules": {"grpo": {"seeds": [-1]}}}, "seeds must be different whole numbers"),
    ],
)
def test_a_wrong_sweep_says_what_is_wrong(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_study(written(tmp_path / "s.yaml", {**TINY, **change}))


def test_the_baselines_of_leads_may_change_in_a_folder_that_is_there_and_logs_are_read(tmp_path):
    plain = read_study(written(tmp_path / "a.yaml", TINY))
    named = read_study(written(tmp_path / "b.yaml", {**TINY, "leads_over": ["grpo"]}))
    assert plain.leads_over == () and named.leads_over == ("grpo",) and plain.definition() == named.definition()
    assert read_logs(plain, tmp_path) == {}
    cell = next(cell for cell in plain.cells() if plain.points[cell.model].rule == "grpo")
    file = plain.result(tmp_path, cell).with_suffix(".log.json")
    file.parent.mkdir()
    file.write_text('[{"step": 1, "reward": 0.5}]')
    ((name, runs),) = read_logs(plain, tmp_path).items()
    assert "grpo" in name and runs == [[{"step": 1, "reward": 0.5}]]


def test_points_are_chosen_on_other_problems_and_options_may_be_json(tmp_path):
    content = {
        **TINY,
        "selection": {"problems": 6},
        "rules": {"grpo": {}, "pkpo": {"rule": "pkpo", "rule_options": '{"k": [2, 4]}'}},
    }
    sweep = read_study(written(tmp_path / "s.yaml", content))
    chosen = sweep.evaluations(sweep.cells()[0])
    assert (chosen["selection"].split, chosen["evaluation"].split) == ("dev", "test")
    assert [cell.options["rule_options"]["k"] for cell in sweep.cells() if "pkpo" in cell.model] == [2, 4]


def test_no_problem_is_both_chosen_on_and_judged_on(tmp_path):
    content = {**TINY, "evaluation": {"split": "dev", "problems": 6, "samples": 8, "seed": 1}, "rules": {"grpo": {}}}
    sweep, rows = read_study(written(tmp_path / "s.yaml", content)), []
    for name, problems in (("selection", "abc"), ("evaluation", "bcde")):
        rows += [
            {"model": "m", "seed": 0, "evaluation": name, "prompt_id": p, **dict.fromkeys(COUNTS, 1)} for p in problems
        ]
    (file,) = [sweep.result(tmp_path, cell) for cell in sweep.cells()]
    file.parent.mkdir()
    pd.DataFrame(rows).to_parquet(file)
    found = read_counts(sweep, tmp_path).groupby("evaluation")["prompt_id"].apply("".join)
    assert found.to_dict() == {"selection": "abc", "evaluation": "de"}


def test_a_rule_may_have_rates_and_seeds_of_its_own_and_paths_begin_at_the_base(tmp_path):
    content = {
        **TINY,
        "rules": {"grpo": {"learning_rates": [1.0e-4, 2.0e-4], "seeds": [0, 1]}, "ds": {"gamma_p": [0.1]}},
        "tasks": {"few": {"problems": 20}, "three": {"task_options": {"numbers": 3}, "model": "elsewhere"}},
        "checkpoints": [2, 4, 6, 8],
    }
    sweep = read_study(written(tmp_path / "s.yaml", content))
    names = [cell.name for cell in sweep.cells()]
    assert names[:2] == ["few-base-seed0", "three-base-seed0"]
    assert len(names) == 2 + 2 * (2 * 2 + 1) and names[-1] == "three-grpo-lr0.0002-seed1"
    base, trained = sweep.cells()[1], sweep.cells()[-1]
    assert sweep.base_of(base) == sweep.base_of(trained) == "elsewhere" and sweep.base_of(sweep.cells()[0]) == "base"
    assert sweep.steps(trained) == (2, 4) and sweep.steps(base) == ()  # the last of 6 steps is sampled anyway


def test_a_sweep_may_grow_and_nothing_that_was_sampled_may_change(tmp_path):
    def sweep(**changes):
        return read_study(written(tmp_path / "s.yaml", {**TINY, **changes}))

    def claimed(chosen):
        with claim_folder(tmp_path / "run", chosen.definition(), may_grow=("by_task.",)):
            pass

    two = {"a": {}, "b": {}}
    claimed(sweep(tasks=two))
    (tmp_path / "run" / "counts").mkdir()
    claimed(sweep(tasks={**two, "c": {"task_options": {"numbers": 3}}}))
    claimed(sweep(tasks={"a": {}}, rules={"grpo": {}, "more": {"gamma_p": 0.3}}, seeds=[4]))
    for changes in (
        {"tasks": {"a": {}, "b": {"task_options": {"numbers": 3}}}},  # not even after it was taken out
        {"tasks": two, "evaluation": {**TINY["evaluation"], "top_p": 0.5}},
        {"tasks": two, "evaluation": {**TINY["evaluation"], "chat_template_kwargs": {"enable_thinking": False}}},
        {"tasks": two, "checkpoints": [2]},
    ):
        with pytest.raises(ValueError, match="belongs to another run"):
            claimed(sweep(**changes))


def test_counts_that_were_made_with_other_options_are_refused(tmp_path):
    content = {**TINY, "checkpoints": [2], "rules": {"grpo": {}}}
    sweep = read_study(written(tmp_path / "s.yaml", content))
    base, grpo = sweep.cells()
    for cell in (base, grpo):
        sweep.note_cell(tmp_path, cell)
        sweep.result(tmp_path, cell).touch()
        sweep.check_finished(tmp_path, cell)
    common = TINY["common"]
    for changes, name in (({"num_generations": 2}, grpo), ({"model": "elsewhere"}, base)):
        other = read_study(written(tmp_path / "o.yaml", {**content, "common": {**common, **changes}}))
        with pytest.raises(
            ValueError, match=f"finished {name.name} with other options: it differs in {next(iter(changes))}"
        ):
            other.check_finished(tmp_path, next(cell for cell in other.cells() if cell.name == name.name))
    quiet = read_study(written(tmp_path / "q.yaml", {**content, "common": {**common, "logging_steps": 5}}))
    quiet.check_finished(tmp_path, quiet.cells()[1])


def start(study, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "differential_smoothing",
        "compare",
        str(study),
        "--output",
        str(folder),
        "--jobs",
        "2",
    ]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    )


def run(study, folder):
    process = start(study, folder)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    return output


@pytest.mark.slow
def test_a_sweep_killed_at_random_gives_the_same_tables(tiny_model, tmp_path):
    rule = tmp_path / "my_rules.py"
    rule.write_text(MY_RULE)
    rules = {**TINY["rules"], "mine": {"rule": f"{rule}:mine", "rule_options": {"push": [0.5, 1.0]}}}
    content = {**TINY, "common": {**TINY["common"], "model": tiny_model}, "rules": rules}
    content |= {"seeds": list(range(1 + KILLS // 4)), "checkpoints": [1, 3]}
    study = written(tmp_path / "s.yaml", content)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    output = run(study, whole)
    assert "mine" in output and "Dominated by" in output

    generator = random.Random(0)
    for _ in range(KILLS):
        process = start(study, cut)
        # from the moment that cells run, at a random time: in the middle of a step, a checkpoint, a result
        while (
            process.poll() is None and not list(cut.glob("*/checkpoint-*")) and not list(cut.glob("counts/*.parquet"))
        ):
            time.sleep(0.02)
        time.sleep(generator.uniform(0, 2))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    run(study, cut)

    sweep = read_study(study)
    first, second = (read_counts(sweep, folder) for folder in (whole, cut))
    pd.testing.assert_frame_equal(first, second)
    assert len(first) == 5 * 12 * 3 * len(content["seeds"]) + 12 and set(COUNTS) <= set(first)
    paths = first[first["rule"] != "base"].groupby(["model", "seed"])["step"].unique()
    assert all(list(steps) == [1, 3, 6] for steps in paths)
    assert not list(cut.glob("*/snapshot-*")) and not list(cut.glob("counts/*step*"))
    for name in (
        "points.csv",
        "best.csv",
        "differences.csv",
        "dominance.csv",
        "report.md",
        "frontier.svg",
        "variety.svg",
    ):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name
    assert not list(Path(whole).glob("counts/*.partial"))

    # a rule more trains its own cells only; a rule that is there may not become another
    before = {file: file.read_bytes() for file in whole.glob("counts/*.parquet")}
    written(study, {**content, "rules": {**rules, "more": {"gamma_p": [0.3]}}})
    run(study, whole)
    assert all(file.read_bytes() == content for file, content in before.items())
    assert len(list(whole.glob("counts/*.parquet"))) > len(before)
    written(study, {**content, "common": {**content["common"], "max_steps": 7}})
    process = start(study, whole)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 2 and "with other options: it differs in max_steps" in " ".join(output.split())


@pytest.mark.slow
def test_a_checkpoint_is_the_run_as_it_was_then(tiny_model, tmp_path):
    """Its counts are those of sampling the weights that a run of so many steps of the same schedule has."""
    content = {
        **TINY,
        "common": {**TINY["common"], "model": tiny_model, "lr_scheduler_type": "constant"},
        "rules": {"grpo": {}},
    }
    run(written(tmp_path / "long.yaml", {**content, "checkpoints": [3]}), tmp_path / "long")
    content["common"] = {**content["common"], "max_steps": 3}
    run(written(tmp_path / "short.yaml", content), tmp_path / "short")
    (long,), (short,) = ([*(tmp_path / name).glob("counts/grpo*.parquet")] for name in ("long", "short"))
    long, short = pd.read_parquet(long), pd.read_parquet(short)
    pd.testing.assert_frame_equal(long[long["step"] == 3].reset_index(drop=True), short)
    assert not long[long["step"] == 6].reset_index(drop=True)["c"].equals(short["c"]) or short["c"].sum() == 0


@pytest.mark.slow
def test_a_rule_that_misbehaves_stops_the_sweep_with_its_name(tiny_model, tmp_path):
    rule = tmp_path / "bad.py"
    rule.write_text("def bad(rewards, logps, mask, *, correct, group):\n    return rewards / 0\n")
    content = {
        **TINY,
        "common": {**TINY["common"], "model": tiny_model},
        "rules": {"grpo": {}, "bad": {"rule": f"{rule}:bad"}},
    }
    process = start(written(tmp_path / "s.yaml", content), tmp_path / "run")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2, output
    assert "bad.py:bad" in output and "step 0" in output and "not finite" in output


def test_counts_of_nothing_say_so(tmp_path):
    sweep = read_study(written(tmp_path / "s.yaml", TINY))
    with pytest.raises(ValueError, match="no finished cell"):
        read_counts(sweep, tmp_path)
