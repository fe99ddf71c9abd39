"""Whatever a file holds, reading it ends in a table or in a ValueError that says where; and in bounded memory."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rollout_files import DATA, REPORTS, least, lines, plain_rows, quietly

from differential_smoothing.rollouts import COLUMNS, load_rollouts, sources, write_rollouts

BROKEN = {
    b"{": "not JSON",
    b'{"prompt_id": "a"': "not JSON",
    b"[1]": "list instead of a JSON object",
    b"3": "int instead of a JSON object",
    b'"a"': "str instead of a JSON object",
    b'{"a": \xff}': "not UTF-8 at byte 6",
    b"[" * 100_000: "nested too deep",
    b'{"correct": ' + b"1" * 5000 + b"}": "not JSON",
    json.dumps(least(completion=None)).encode(): "completion is None, expected text",
    json.dumps(least(completion=3)).encode(): "completion is 3, expected text",
    json.dumps(least(completion={"a": 1})).encode(): "completion is dict, expected text",
    json.dumps(least(completion=["x"])).encode(): "completion is a list with str 'x', expected messages",
    json.dumps(least(completion=[{"content": 3}])).encode(): "completion is a list with dict, expected messages",
    json.dumps(least(completion="\ud800")).encode(): "half a surrogate pair",
    json.dumps(least(correct="yes")).encode(): "correct is str 'yes', expected a finite number",
    json.dumps(least(correct=[True])).encode(): "correct is list",
    json.dumps(least(correct=float("inf"))).encode(): "correct is inf",
    json.dumps(least(correct=10**400)).encode(): "a number of 401 digits",
    json.dumps(least(sample=-1)).encode(): "sample is -1, expected a whole number, at least 0",
    json.dumps(least(sample=0.5)).encode(): "sample is 0.5",
    json.dumps(least(sample=2**63)).encode(): "sample is 9223372036854775808",
    json.dumps(least(sample=True)).encode(): "sample is bool True",
    json.dumps(least(prompt_id=[1])).encode(): "prompt_id is list, expected text",
    json.dumps(least(prompt_id=float("nan"))).encode(): "prompt_id is nan",
    json.dumps(least(seed="0")).encode(): "seed is str '0'",
    b'{"prompt_id": "a", "completion": "x"}': "no correct, expected it in every row",
    b'{"completion": "x", "correct": true}': "prompt is None, expected text",
}


class TestBrokenRows:
    @pytest.mark.parametrize("line", BROKEN, ids=BROKEN.values())
    def test_a_broken_line_is_named_and_stops_the_reading_or_is_counted(self, line, tmp_path):
        good = json.dumps(least()).encode()
        path = tmp_path / "x.jsonl"
        path.write_bytes(b"\n".join([good, b"", line, good, line, good]))
        with pytest.raises(ValueError) as caught:
            load_rollouts(path)
        message = str(caught.value)
        assert f"{path}, line 3: " in message and BROKEN[line] in message and "skip_bad_rows" in message
        assert len(message) < 600 and "\n" not in message
        with pytest.warns(UserWarning, match="2 rows are left out .*line 3: .*; .*line 5: "):
            frame = load_rollouts(path, skip_bad_rows=True)
        assert len(frame) == 3 and frame["sample"].tolist() == [0, 1, 2]

    def test_many_broken_rows_are_counted_and_the_first_named(self, tmp_path):
        path = lines(tmp_path / "x.jsonl", [least(), *[3] * 1000])
        with pytest.warns(UserWarning, match="1000 rows are left out .*line 6: ") as caught:
            load_rollouts(path, skip_bad_rows=True)
        assert len(caught) == 1 and "line 7" not in str(caught[0].message)

    def test_nothing_but_broken_rows(self, tmp_path):
        with pytest.raises(ValueError, match="line 1: .*no other line is better"):
            load_rollouts(lines(tmp_path / "x.jsonl", [3, 4]), skip_bad_rows=True)
        with pytest.raises(ValueError, match=r"found no rows and 2 that cannot be read \(.*line 1: seed is"):
            load_rollouts(lines(tmp_path / "x.jsonl", [least(seed="0")] * 2), skip_bad_rows=True)

    def test_a_line_without_end_is_not_held_in_memory(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sources, "LONGEST_LINE", 1000)
        good = json.dumps(least()).encode() + b"\n"
        (tmp_path / "x.jsonl").write_bytes(good + b'{"completion": "' + b"x" * 5000 + b'"}\n' + good)
        with pytest.raises(ValueError, match="line 2: longer than 1000 bytes"):
            load_rollouts(tmp_path / "x.jsonl")
        with pytest.warns(UserWarning, match="1 rows are left out"):
            assert len(load_rollouts(tmp_path / "x.jsonl", skip_bad_rows=True)) == 2

    def test_rows_of_a_table_are_named_too(self, tmp_path):
        frame = pd.read_parquet(DATA / "inspect_sums.parquet")
        frame["epoch"] = frame["epoch"].where(frame.index != 5, 0)
        frame.to_parquet(tmp_path / "x.parquet")
        with pytest.raises(ValueError, match="row 6: epoch is 0, expected a whole number, at least 1"):
            load_rollouts(tmp_path / "x.parquet", correct="score_exact")


class TestFilesThatAreRefused:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "is empty"),
            (b" \n\n", "is empty"),
            (b'[{"prompt_id": 1}]', "found the columns ['prompt_id'], expected those of"),
            (b"PAR1" + bytes(100) + b"PAR1", "not a readable Parquet file"),
            (b"PAR1", "not a readable Parquet file"),
            (b"\xef\xbb\xbf", "found the columns []"),
            (b'{"a": 1}', "found the columns ['a'], expected those of"),
            (b'{"completion": "x", "correct": 1}', "plain rows (completion, prompt_id)"),
            (b'{"prompt_id": "a", "completion": "x", "score": 1}', "has 1 columns that may say"),
            (b"prompt_id,completion\na,b\n", "line 1: not JSON"),
            (b"id,epoch,input\n1,1,3\n", "no column with the correctness of completions"),
            (b"id,epoch,input,score_a\n1,1,\xff,3\n", "not a readable CSV file"),
            (b'id,epoch,input,score_a\n1,1,"3\n', "not a readable CSV file"),
            (b"id,epoch,input,score_a\n1,1,2,1\n1,1,2,3,4\n", "line 3: 5 fields where the header has 4"),
            (b"id,epoch,input,score_a\n1,x,2,3\n", "line 2: epoch is str 'x'"),
            (b"id,epoch,input,score_a\n1,1,2,3,4\n", "line 2: 5 fields where the header has 4"),
            (b"id,epoch,input,score_a\n1,1,2\n", "line 2: 3 fields where the header has 4"),
            (b"id,epoch,input,score_a\n", "found no rows"),
        ],
    )
    def test_with_one_sentence(self, content, words, tmp_path):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(ValueError) as caught:
            quietly(tmp_path / "x")
        assert words in str(caught.value) and str(tmp_path / "x") in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_paths_and_arguments(self, tmp_path):
        with pytest.raises(ValueError, match="no such file"):
            load_rollouts(tmp_path / "none.jsonl")
        with pytest.raises(ValueError, match="a folder with no .parquet, .jsonl or .csv file"):
            load_rollouts(tmp_path)
        with pytest.raises(ValueError, match="canonical is 'text', expected 'file', 'solution' or 'completion'"):
            load_rollouts(tmp_path, canonical="text")

    def test_repeated_rows(self, tmp_path):
        path = lines(tmp_path / "x.jsonl", [least(sample=1), least(sample=1)])
        with pytest.raises(ValueError, match="1 rows that repeat the identity"):
            load_rollouts(path)
        with pytest.raises(ValueError, match="1 rows without a sample number beside rows that have one"):
            load_rollouts(lines(path, [least(sample=1), least()]))
        shutil.copy(DATA / "inspect_sums.csv", tmp_path / "a.csv")
        path.unlink()
        shutil.copy(DATA / "inspect_sums.csv", tmp_path / "b.csv")
        with pytest.raises(ValueError, match="20 rows that repeat the identity"):
            load_rollouts(tmp_path, correct="score_exact")

    def test_the_name_of_a_file_means_nothing(self, tmp_path):
        for name in ("inspect_sums.parquet", "inspect_sums.csv"):
            shutil.copy(DATA / name, tmp_path / "x.jsonl")
            assert len(load_rollouts(tmp_path / "x.jsonl", correct="score_exact")) == 20


SEEDS = [p.read_bytes() for p in sorted([*DATA.glob("*.jsonl"), *REPORTS.glob("*.json*")])] + [
    "".join(json.dumps(row) + "\n" for row in plain_rows("sums")).encode()
]
edits = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 40), st.binary(max_size=12)), min_size=1, max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


class TestWhateverAFileHolds:
    """Only a table or a ValueError may come out."""

    def survives(self, path: Path) -> None:
        for options in (
            {},
            {"skip_bad_rows": True, "correct": "exact_match,first", "canonical": "solution"},
            {"correct": "score"},
        ):
            try:
                frame = quietly(path, text=False, **options)
            except ValueError as error:
                assert str(path) in str(error)
            else:
                assert tuple(frame.columns) == COLUMNS and len(frame)

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(seed=st.sampled_from(SEEDS), edits=edits)
    def test_edited_bytes(self, seed, edits, tmp_path):
        content = bytearray(seed)
        for start, length, new in edits:
            content[start : start + length] = new
        (tmp_path / "x").write_bytes(content)
        self.survives(tmp_path / "x")

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(seed=st.sampled_from(SEEDS), data=st.data())
    def test_edited_values(self, seed, data, tmp_path):
        if seed.startswith(b"{\n"):  # one JSON value over several lines
            rows = list(json.loads(seed).values())
        else:
            rows = [json.loads(line) for line in seed.splitlines()]
        row = data.draw(st.sampled_from(rows))
        row[data.draw(st.sampled_from(sorted(row)))] = data.draw(values)
        self.survives(lines(tmp_path / "x", rows))

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(content=st.binary(max_size=200))
    def test_random_bytes(self, content, tmp_path):
        (tmp_path / "x").write_bytes(content)
        self.survives(tmp_path / "x")

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(name=st.sampled_from(["inspect_sums.parquet", "inspect_sums.csv"]), edits=edits)
    def test_edited_tables(self, name, edits, tmp_path):
        content = bytearray((DATA / name).read_bytes())
        for start, length, new in edits:
            content[start * 6 % len(content) :][:length] = new
            content[start * 6 % len(content) : start * 6 % len(content) + length] = new
        (tmp_path / "x").write_bytes(content)
        self.survives(tmp_path / "x")


PEAK = """
import sys, threading, time
from differential_smoothing.rollouts import load_rollouts
def rss():
    return int(next(l for l in open("/proc/self/status") if l.startswith(sys.argv[3])).split()[1]) * 1024
load_rollouts(sys.argv[1] + ".small", text=False)
before = rss()
frame = load_rollouts(sys.argv[1], text=sys.argv[2] == "text")
print(len(frame), rss() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of memory from /proc")
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_memory_does_not_grow_with_the_texts_that_are_not_kept(ending, tmp_path):
    count = 50_000
    rows = [
        {"prompt_id": str(i // 8), "completion": os.urandom(1500).hex(), "reward": float(i % 2)} for i in range(count)
    ]
    path = tmp_path / f"x.{ending}"
    for some, to in ((rows, path), (rows[:10_000], Path(f"{path}.small"))):
        if ending == "parquet":
            write_rollouts(pd.DataFrame(some).rename(columns={"reward": "correct"}), to)
        else:
            lines(to, some)
    size = sum(len(row["completion"]) for row in rows)
    assert size == 150e6
    used = {}
    for kept in ("text", "none"):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(path), kept, "VmHWM"], capture_output=True, text=True, check=True
        )
        found, used[kept] = map(int, done.stdout.split())
        assert found == count
    # what is left is some hundred bytes a row, and what the allocators hold back
    assert used["none"] < size / 3 and used["text"] - used["none"] > size / 2, (used, size)
