"""Problems as data sets, and the score that verl computes from their rows. Neither needs verl."""

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from differential_smoothing.cli import app
from differential_smoothing.integrations.verl.reward import compute_score
from differential_smoothing.tasks import countdown, make_task
from differential_smoothing.tasks.export import write_problems

SIZES = {"train": 12, "val": 5, "test": 3}


def test_verls_rows_hold_what_its_score_needs(tmp_path):
    task = make_task("countdown", numbers=3)
    for chat in (True, False):
        folder = tmp_path / str(chat)
        files = write_problems(task, folder, format="verl", sizes=SIZES, seed=3, chat=chat, options={"numbers": 3})
        assert [file.name for file in files] == ["train.parquet", "val.parquet", "test.parquet"]
        ids = set()
        for file, size in zip(files, SIZES.values(), strict=True):
            frame = pd.read_parquet(file)
            assert (
                list(frame) == ["data_source", "prompt", "ability", "reward_model", "extra_info"] and len(frame) == size
            )
            for row in frame.to_dict("records"):
                problem, tagged = countdown.read_prompt(row["prompt"][0]["content"])
                assert tagged == chat and row["extra_info"]["problem_id"] == problem.id
                ids.add(problem.id)
                solution, given = (
                    countdown.solve(*problem)[0],
                    dict(
                        data_source=row["data_source"],
                        ground_truth=row["reward_model"]["ground_truth"],
                        extra_info=row["extra_info"],
                    ),
                )
                right = f"<think>hm</think><answer>{solution}</answer>" if chat else solution
                assert compute_score(solution_str=right, **given) == {"score": 1.0, "acc": 1.0}
                for text in (f"{solution}+1", "", "<answer>" * 9, "((((" * 9999, f"{solution} {solution}"):
                    assert compute_score(solution_str=text, **given) == {"score": 0.0, "acc": 0.0}
        assert len(ids) == sum(SIZES.values())  # the splits share none


def test_rows_for_trl_train_and_are_read_again_as_problems(tmp_path):
    task = make_task("countdown")
    for format in ("trl", "jsonl"):
        [file] = write_problems(task, tmp_path / format, format=format, sizes={"train": 6}, seed=0, chat=False)
        assert task.read_problems(file) == task.problems(6, split="train", seed=0)
    row = json.loads((tmp_path / "jsonl" / "train.jsonl").read_text().splitlines()[0])
    assert list(row) == ["prompt", "nums", "target"] and countdown.read_prompt(row["prompt"])


def test_another_task_by_its_data_source(tmp_path):
    pytest.importorskip("reasoning_gym")
    options = {"min_terms": 2, "max_terms": 2}
    task = make_task("reasoning_gym:chain_sum", **options)
    [file] = write_problems(task, tmp_path, format="verl", sizes={"val": 2}, seed=0, options=options)
    for row in pd.read_parquet(file).to_dict("records"):
        entry = task.problem(**json.loads(row["reward_model"]["ground_truth"])).entry
        for answer, score in ((entry["answer"], 1.0), (entry["answer"] + "1", 0.0)):
            given = compute_score(
                row["data_source"], f"<answer>{answer}</answer>", row["reward_model"]["ground_truth"], row["extra_info"]
            )
            assert given == {"score": score, "acc": score}


@pytest.mark.parametrize(
    "given, words",
    [
        (dict(data_source="countdow", ground_truth="{}"), "There is no task 'countdow'"),
        (dict(data_source="countdown", ground_truth="48"), "ground_truth='48'"),
        (dict(data_source="countdown", ground_truth='{"nums": [1, 2]}'), "dsmooth data --format verl"),
        (dict(data_source="countdown", ground_truth=None), "ground_truth=None"),
        (dict(data_source="countdown", ground_truth="{}", extra_info={"task_options": "[]"}), "cannot read this row"),
    ],
)
def test_a_row_of_another_origin_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        compute_score(solution_str="1+2", **given)


def test_the_command(tmp_path):
    def run(*arguments):
        return CliRunner().invoke(
            app, ["data", "--output", str(tmp_path / "d"), "--train", "4", "--val", "2", *arguments]
        )

    done = run("--task-options", '{"max_number": 30}')
    assert done.exit_code == 0 and sorted(p.name for p in (tmp_path / "d").iterdir()) == [
        "train.parquet",
        "val.parquet",
    ]
    assert "exists and was not touched" in str(run().exception)
    assert "must be one of verl, trl, jsonl" in str(run("--format", "csv").exception)
    assert "--train must be 0 or more" in str(run("--train", "-1").exception)
