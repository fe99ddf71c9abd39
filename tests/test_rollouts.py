"""The rollouts table comes back as it was written, and every bad input is refused with a message that
helps."""

import os
import resource
import stat

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from differential_smoothing.rollouts import COLUMNS, SCHEMA_VERSION, read_rollouts, write_rollouts


def full_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "prompt_id": ["a", "a", "b"],
            "sample": [0, 1, 0],
            "task": "countdown",
            "model": "grpo",
            "seed": 3,
            "step": -1,
            "prompt": ["Reach 6 — with 2 and 3.", "Reach 6 — with 2 and 3.", ""],
            "completion": ["2 * 3", "3 + 2", "no\nidea"],
            "solution": ["2*3", "3+2", None],
            "reward": [1.0, 0.0, np.nan],
            "correct": pd.array([True, False, None], dtype="boolean"),
            "canonical": ["2*3", None, None],
            "advantage": [0.5, -0.5, np.nan],
            "logp": [-3.25, -1e-300, np.nan],
            "num_tokens": pd.array([5, 2**60 + 1, None], dtype="Int64"),
        }
    )


def least_frame(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"prompt_id": ["a", "a"], "completion": ["x", "y"], "correct": [True, False]} | columns)


def refusal(frame: pd.DataFrame, path) -> str:
    with pytest.raises(ValueError) as caught:
        write_rollouts(frame, path)
    assert str(path) in str(caught.value) and "expected" in str(caught.value) and "\n" not in str(caught.value)
    assert not list(path.parent.iterdir())
    return str(caught.value)


def test_every_value_comes_back(tmp_path):
    frame = full_frame()
    before = frame.copy()
    write_rollouts(frame[list(reversed(COLUMNS))], tmp_path / "rollouts.parquet")
    pd.testing.assert_frame_equal(frame, before)
    back = read_rollouts(tmp_path / "rollouts.parquet")
    assert tuple(back.columns) == COLUMNS
    assert back["correct"].tolist() == [True, False, pd.NA]
    assert back["num_tokens"].tolist() == [5, 2**60 + 1, pd.NA]
    assert back[["sample", "seed", "step"]].dtypes.astype(str).tolist() == ["int64"] * 3
    for name in COLUMNS:
        pd.testing.assert_series_equal(back[name], frame[name], check_dtype=False)


def test_the_file_says_its_version_and_its_exact_types(tmp_path):
    write_rollouts(full_frame(), tmp_path / "rollouts.parquet")
    schema = pq.read_schema(tmp_path / "rollouts.parquet")
    assert schema.metadata[b"dsmooth.rollouts.version"] == str(SCHEMA_VERSION).encode()
    assert [f"{field.name}:{field.type}" for field in schema] == [
        "prompt_id:string",
        "sample:int64",
        "task:string",
        "model:string",
        "seed:int64",
        "step:int64",
        "prompt:string",
        "completion:string",
        "solution:string",
        "reward:double",
        "correct:bool",
        "canonical:string",
        "advantage:double",
        "logp:double",
        "num_tokens:int64",
    ]
    rewards = pq.read_table(tmp_path / "rollouts.parquet")["reward"]
    assert rewards.null_count == 0 and np.isnan(rewards.to_numpy()[2])


def test_missing_optional_columns_are_filled(tmp_path):
    frame = pd.DataFrame({"prompt_id": ["a", "b", "a"], "completion": "x", "correct": [True, False, None]})
    write_rollouts(frame, tmp_path / "new" / "folder" / "rollouts.parquet")
    back = read_rollouts(tmp_path / "new" / "folder" / "rollouts.parquet")
    assert back["sample"].tolist() == [0, 0, 1]
    assert back["task"].tolist() == back["model"].tolist() == ["unknown"] * 3
    assert (
        back["seed"].tolist() == [0] * 3 and back["step"].tolist() == [-1] * 3 and back["prompt"].tolist() == [""] * 3
    )
    assert back[["solution", "reward", "canonical", "advantage", "logp", "num_tokens"]].isna().all(axis=None)
    assert back["correct"].tolist() == [True, False, pd.NA]


@pytest.mark.parametrize("correct", [[1.0, np.nan], [1, 0], [True, None], np.array([True, False])])
def test_boolean_like_verdicts_are_read(tmp_path, correct):
    write_rollouts(least_frame(correct=correct), tmp_path / "r.parquet")
    expected = [pd.NA if pd.isna(value) else bool(value) for value in correct]
    assert read_rollouts(tmp_path / "r.parquet")["correct"].tolist() == expected


@pytest.mark.parametrize(
    "correct", [["yes", "no"], ["True", "False"], [0.5, 1.0], [2, 0], pd.Series(["True", None], dtype=object)]
)
def test_other_verdicts_are_refused(tmp_path, correct):
    message = refusal(least_frame(correct=correct), tmp_path / "r.parquet")
    assert "column correct" in message and "expected bool" in message and repr(list(correct)[0]) in message


@pytest.mark.parametrize("name", ["prompt_id", "completion", "correct"])
def test_a_missing_required_column_is_named(tmp_path, name):
    assert f"['{name}'] missing" in refusal(least_frame().drop(columns=name), tmp_path / "r.parquet")


@pytest.mark.parametrize(
    "columns, words",
    [
        ({"score": [0.0, 1.0]}, "['score'] unknown"),
        ({"sample": [0, -1]}, "found sample -1 (1 rows below 0)"),
        ({"step": [-2, -1]}, "found step -2 (1 rows below -1)"),
        ({"num_tokens": [None, -7]}, "found num_tokens -7"),
        ({"sample": [0.5, 1.0]}, "values such as 0.5, 1.0 in column sample"),
        ({"sample": ["0", "1"]}, "values such as '0', '1' in column sample"),
        ({"reward": ["0", "1"]}, "in column reward"),
        ({"prompt_id": [1, 1]}, "values such as 1 in column prompt_id"),
        ({"completion": ["x", None]}, "1 nulls in column completion"),
        ({"seed": [None, 1]}, "1 nulls in column seed"),
        ({"sample": [4, 4]}, "sample=4"),
        ({"canonical": ["x", "y"]}, "canonical form on 1 rows that are not correct"),
        ({"canonical": ["x", None], "correct": [None, True]}, "canonical form on 1 rows"),
    ],
)
def test_bad_values_are_refused_and_nothing_is_left_behind(tmp_path, columns, words):
    assert words in refusal(least_frame(**columns), tmp_path / "r.parquet")


@pytest.mark.parametrize("name", ["model", "seed", "step", "prompt_id", "sample"])
def test_rows_that_differ_in_one_part_of_their_identity_are_no_duplicates(tmp_path, name):
    same = least_frame(model="m", seed=0, step=0, sample=0)
    assert "1 rows that repeat" in refusal(same, tmp_path / "r.parquet")
    same[name] = ["m", "n"] if name in ("model", "prompt_id") else [0, 1]
    write_rollouts(same, tmp_path / "r.parquet")
    assert len(read_rollouts(tmp_path / "r.parquet")) == 2


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "r.parquet"
    write_rollouts(full_frame(), path)
    old = path.read_bytes()
    random_text = [os.urandom(5000).hex(), os.urandom(5000).hex()]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_rollouts(least_frame(completion=random_text), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_take_its_place_is_removed(tmp_path):
    (tmp_path / "r.parquet").mkdir()
    with pytest.raises(OSError):
        write_rollouts(full_frame(), tmp_path / "r.parquet")
    assert list(tmp_path.iterdir()) == [tmp_path / "r.parquet"]


def test_a_write_replaces_the_file_and_its_permissions_follow_the_umask(tmp_path):
    path = tmp_path / "r.parquet"
    write_rollouts(full_frame(), path)
    write_rollouts(least_frame(), path)
    assert len(read_rollouts(path)) == 2 and list(tmp_path.iterdir()) == [path]
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(os.stat(path).st_mode) == stat.S_IMODE(os.stat(plain).st_mode)


def reading_refusal(path) -> str:
    with pytest.raises(ValueError) as caught:
        read_rollouts(path)
    assert str(path) in str(caught.value) and "expected" in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    assert "no such file" in reading_refusal(tmp_path / "absent.parquet")
    assert "no such file" in reading_refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"prompt_id,completion\na,b\n", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_file_that_is_not_parquet_is_refused(tmp_path, content):
    (tmp_path / "r.parquet").write_bytes(content)
    assert "not a readable Parquet file" in reading_refusal(tmp_path / "r.parquet")


def test_foreign_parquet_files_are_refused(tmp_path):
    path = tmp_path / "r.parquet"
    write_rollouts(full_frame(), path)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata(None), path)
    assert "found no rollouts schema version" in reading_refusal(path)
    pq.write_table(table.replace_schema_metadata({"dsmooth.rollouts.version": "2"}), path)
    assert "found schema version 2, expected version 1" in reading_refusal(path)
    pq.write_table(table.drop_columns(["logp", "completion"]), path)
    assert "['completion', 'logp'] missing" in reading_refusal(path)
    pq.write_table(table.append_column("score", pa.array([1, 2, 3])), path)
    assert "['score'] unknown" in reading_refusal(path)
    place = table.column_names.index("correct")
    pq.write_table(table.set_column(place, "correct", pa.array([1.0, 0.0, None])), path)
    assert "correct is double instead of bool" in reading_refusal(path)
    place = table.column_names.index("sample")
    pq.write_table(table.set_column(place, "sample", pa.array([0, 1, -1])), path)
    assert "found sample -1" in reading_refusal(path)


def test_a_file_inside_a_folder_that_looks_like_a_partition_is_read_as_it_is(tmp_path):
    write_rollouts(full_frame(), tmp_path / "seed=9" / "r.parquet")
    assert read_rollouts(tmp_path / "seed=9" / "r.parquet")["seed"].tolist() == [3, 3, 3]
