"""Sampling in parts: killed, continued, shared between machines, refused; always the table of one uninterrupted pass."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from differential_smoothing.rollouts import join_rollouts, load_rollouts, read_note, read_rollouts, write_rollouts
from differential_smoothing.sampling import sample
from differential_smoothing.sampling.jobs import Job, sample_rollouts
from differential_smoothing.sampling.parts import parts_of, read_shard, sample_to_file
from differential_smoothing.tasks import countdown, make_task
from differential_smoothing.tasks.math.sources import MathProblem

SAMPLES, PER_PART = 256, 8  # 2,048 completions at once


def problems(count=27, seed=0):
    return countdown.generate(count, split="dev", seed=seed)


def job(model, **changes):
    options = {"num_samples": SAMPLES, "seed": 1, "name": "tiny", "max_new_tokens": 6}
    return Job(model, changes.pop("problems", None) or problems(), **{**options, **changes})


@pytest.fixture(scope="module")
def whole(tiny_model, tmp_path_factory):
    """The table of one pass, as it was drawn before there were parts: the loop of then, written out."""
    network, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tiny_model).eval(),
        AutoTokenizer.from_pretrained(tiny_model),
    )
    task, asked, rows = countdown.Countdown(), problems(), []
    texts = [task.prompt(problem) for problem in asked]
    ids, generator = tokenizer(texts)["input_ids"], torch.Generator()
    for start in range(0, len(asked), PER_PART):
        generator.manual_seed(1 * 1_000_003 + start)
        groups = sample(
            network,
            ids[start : start + PER_PART],
            num_samples=SAMPLES,
            max_new_tokens=6,
            eos_token_ids=[tokenizer.eos_token_id],
            pad_token_id=tokenizer.pad_token_id,
            generator=generator,
        )
        for problem, text, group in zip(asked[start:], texts[start:], groups):
            for number, drawn in enumerate(group):
                completion = tokenizer.decode(drawn.completion_ids, skip_special_tokens=True)
                verdict = task.verify(completion, problem)
                rows.append(
                    {
                        "prompt_id": problem.id,
                        "sample": number,
                        "task": "countdown",
                        "model": "tiny",
                        "prompt": text,
                        "completion": completion,
                        "correct": verdict.correct,
                        "canonical": verdict.canonical,
                        "reward": float(verdict.correct),
                        "logp": sum(drawn.logps),
                        "num_tokens": len(drawn.completion_ids),
                    }
                )
    path = tmp_path_factory.mktemp("whole") / "x.parquet"
    write_rollouts(pd.DataFrame(rows), path)
    return read_rollouts(path)


def same(path, whole):
    pd.testing.assert_frame_equal(read_rollouts(path), whole, check_exact=True)
    return True


def test_parts_joined_are_the_table_of_one_pass(tiny_model, whole, tmp_path):
    done = []
    assert sample_to_file(job(tiny_model), tmp_path / "x.parquet", on_problems=done.append)
    assert same(tmp_path / "x.parquet", whole) and done == [8, 16, 24, 27]
    assert [p.name for p in tmp_path.iterdir()] == ["x.parquet"]  # no part is left behind
    frame = sample_rollouts(tiny_model, problems(), num_samples=SAMPLES, seed=1, name="tiny", max_new_tokens=6)
    write_rollouts(frame, tmp_path / "memory.parquet")
    assert same(tmp_path / "memory.parquet", whole)
    with pq.ParquetFile(tmp_path / "x.parquet") as joined, pq.ParquetFile(tmp_path / "memory.parquet") as once:
        rows = [[file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] for file in (joined, once)]
        assert rows[0] == rows[1] == [6912]
    note = read_note(tmp_path / "x.parquet")["job"]
    assert (note["seed"], note["temperature"], note["engine"], note["problems_per_part"]) == (
        1,
        1.0,
        "shared_prefix",
        8,
    )
    assert note["weights"].startswith("sha256:") and read_note(tmp_path / "memory.parquet") is None
    assert len(load_rollouts(tmp_path / "x.parquet")) == len(whole)  # a note does not trouble the readers


def test_shards_share_a_job_and_the_last_one_joins(tiny_model, whole, tmp_path):
    path = tmp_path / "x.parquet"
    seen = []
    assert not sample_to_file(job(tiny_model), path, shard=(3, 3), on_problems=seen.append)
    assert not sample_to_file(job(tiny_model), path, shard=(1, 3))
    assert sorted(p.name for p in parts_of(path).glob("*.parquet")) == [
        "00000.parquet",
        "00002.parquet",
        "00003.parquet",
    ]
    assert seen == [8] and not path.exists()
    assert sample_to_file(job(tiny_model), path, shard=(2, 3)) and same(path, whole)
    assert len(list(parts_of(path).glob("*.parquet"))) == 4  # another machine may still read them
    before = path.read_bytes()
    assert sample_to_file(job(tiny_model), path, shard=(1, 3)) and path.read_bytes() == before
    assert sample_to_file(job(tiny_model), path) and not parts_of(path).exists()  # all of it is done: tidied up
    with pytest.raises(ValueError, match="exists and was not touched"):
        sample_to_file(job(tiny_model), path)
    with pytest.raises(ValueError, match="exists and was not touched"):
        sample_to_file(job(tiny_model, seed=2), path, shard=(1, 3))


def test_a_finished_part_is_not_drawn_again_and_a_lost_one_is(tiny_model, whole, tmp_path, monkeypatch):
    path, drawn, part = tmp_path / "x.parquet", [], Job.part

    def counted(self, index):
        drawn.append(index)
        if len(drawn) == 3:
            raise RuntimeError("out of memory")
        return part(self, index)

    monkeypatch.setattr(Job, "part", counted)
    with pytest.raises(RuntimeError, match="out of memory"):
        sample_to_file(job(tiny_model), path)
    assert sorted(p.name for p in parts_of(path).glob("*.parquet")) == ["00000.parquet", "00001.parquet"]
    (parts_of(path) / "00000.parquet").unlink()
    assert sample_to_file(job(tiny_model), path) and same(path, whole)
    assert drawn == [0, 1, 2, 0, 2, 3]


def test_a_failure_before_the_first_part_leaves_nothing(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="Take engine 'transformers'"):
        sample_to_file(job(tiny_model, top_p=0.5), tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def half(tiny_model, tmp_path_factory):
    """A job of which one shard is done."""
    path = tmp_path_factory.mktemp("half") / "x.parquet"
    assert not sample_to_file(job(tiny_model), path, shard=(1, 2))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 2}, "seed is 1 there and 2 here"),
        ({"temperature": 0.7}, "temperature is 1.0 there and 0.7 here"),
        ({"max_new_tokens": 7}, "max_new_tokens is 6 there and 7 here"),
        ({"name": "other"}, "name is 'tiny' there and 'other' here"),
        ({"problems": problems(27, seed=5)}, "problems_sha256 is"),
        ({"problems": problems(26)}, "problems is 27 there and 26 here"),
        ({"num_samples": 128}, "samples is 256 there and 128 here"),
        ({"engine": "transformers"}, "engine is 'shared_prefix' there and 'transformers' here"),
    ],
)
def test_a_part_of_another_job_is_refused_by_name(changes, message, half, tiny_model):
    before = sorted(parts_of(half).iterdir())
    with pytest.raises(ValueError) as caught:
        sample_to_file(job(tiny_model, **changes), half)
    assert "00000.parquet belongs to another job" in str(caught.value) and message in str(caught.value)
    assert sorted(parts_of(half).iterdir()) == before


def test_a_part_of_other_weights_is_refused(half, tiny_model, tmp_path):
    network = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        next(network.parameters())[0, 0] += 1
    network.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"belongs to another job: weights is 'sha256:"):
        sample_to_file(job(str(tmp_path)), half)


def test_a_part_with_another_answer_or_option_is_refused(tiny_model, tmp_path):
    """A mended answer, and another view of variety: the prompts are the same, and the verdicts are not."""
    before = [MathProblem(f"{n} + 1?", str(n + 1), "own") for n in range(3)]
    path, options = tmp_path / "x.parquet", {"num_samples": 2048, "max_new_tokens": 2, "problems": before}
    assert not sample_to_file(job(tiny_model, **options, task=make_task("math")), path, shard=(1, 3))
    mended = [before[0], replace(before[1], answer="7"), before[2]]
    with pytest.raises(ValueError, match="problems_sha256 is"):
        sample_to_file(job(tiny_model, **{**options, "problems": mended}, task=make_task("math")), path, shard=(2, 3))
    with pytest.raises(ValueError, match="task_variety is 'answer' there and 'calculations' here"):
        sample_to_file(job(tiny_model, **options, task=make_task("math", variety="calculations")), path, shard=(2, 3))
    assert not sample_to_file(job(tiny_model, **options, task=make_task("math")), path, shard=(2, 3))


def test_the_identity_has_every_option_of_a_generator(tiny_model):
    """Their entries are what an answer is scored against; a question is the same with other options."""
    found = []
    for options in ({}, {"threshold": 0.5}, {"edge_probability": 0.5}):
        task = make_task("reasoning_gym:graph_color", min_num_vertices=5, max_num_vertices=6, **options)
        found.append(task.identity())
        assert json.loads(json.dumps(found[-1])) == found[-1]
    assert len({json.dumps(identity) for identity in found}) == 3 and found[1]["threshold"] == 0.5
    one = job(tiny_model, task=task, problems=task.problems(2, split="dev", seed=0))
    assert one.identity()["task_options"] == {"min_num_vertices": 5, "max_num_vertices": 6, "edge_probability": 0.5}


def test_stray_and_broken_parts_are_refused(half, tiny_model, tmp_path):
    path = tmp_path / "x.parquet"
    for name, source in (("00001.parquet", "00002.parquet"), ("00009.parquet", "00000.parquet")):
        file = parts_of(path) / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes((parts_of(half) / source).read_bytes())
        with pytest.raises(ValueError, match=f"{name} (belongs to another job: it says|does not belong to this job)"):
            sample_to_file(job(tiny_model), path)
        file.unlink()
    (parts_of(path) / "00000.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ValueError, match=r"00000.parquet: found something that is not a readable Parquet file"):
        sample_to_file(job(tiny_model), path)


def test_a_shard_has_one_process(half, tiny_model):
    import fcntl

    with (parts_of(half) / "shard-2-of-2.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="Another process is at work on shard-2-of-2"):
            sample_to_file(job(tiny_model), half, shard=(2, 2))


def test_a_whole_run_does_not_delete_the_folder_under_a_working_shard(tiny_model, whole, tmp_path, monkeypatch):
    path, part, at_work = tmp_path / "x.parquet", Job.part, threading.Event()
    go_on = threading.Event()

    def slow(self, index):
        if threading.current_thread() is not threading.main_thread():
            at_work.set()
            go_on.wait(60)
        return part(self, index)

    monkeypatch.setattr(Job, "part", slow)
    with ThreadPoolExecutor(1) as pool:
        shard = pool.submit(sample_to_file, job(tiny_model), path, shard=(2, 3))
        try:
            assert at_work.wait(60)
            assert sample_to_file(job(tiny_model), path) and same(path, whole)
            assert parts_of(path).is_dir()
            assert sample_to_file(job(tiny_model), path) and parts_of(path).is_dir()
        finally:
            go_on.set()
        assert shard.result(60) and same(path, whole)
    assert sample_to_file(job(tiny_model), path) and not parts_of(path).exists()


def test_more_shards_than_parts_are_refused(tiny_model, tmp_path):
    with pytest.raises(ValueError, match=r"--shard 1/5: the job has 4 part\(s\), of 8 problems .* Take at most 4"):
        sample_to_file(job(tiny_model), tmp_path / "x.parquet", shard=(1, 5))
    assert list(tmp_path.iterdir()) == []


def test_join_refuses_a_problem_in_two_parts(whole, tmp_path):
    for name, rows in (("a", whole[:300]), ("b", whole[300:600])):
        write_rollouts(rows, tmp_path / f"{name}.parquet")
    with pytest.raises(ValueError, match="completions of 1 problems"):
        join_rollouts([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "x.parquet")
    assert not (tmp_path / "x.parquet").exists() and len(list(tmp_path.iterdir())) == 2


def test_join_keeps_row_groups_small(whole, tmp_path):
    files = []
    for number in range(5):
        files.append(tmp_path / f"{number}.parquet")
        write_rollouts(whole.assign(seed=number), files[-1])
    join_rollouts(files, tmp_path / "x.parquet", note={"a": 1})
    with pq.ParquetFile(tmp_path / "x.parquet") as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert sizes == [8192] * 4 + [5 * 6912 - 4 * 8192]
    everything = pd.concat([whole.assign(seed=n) for n in range(5)], ignore_index=True)
    assert same(tmp_path / "x.parquet", everything) and read_note(tmp_path / "x.parquet") == {"a": 1}


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/3/5", "", "²/3"])
def test_a_shard_is_i_of_n(text):
    with pytest.raises(ValueError, match="--shard is 'i/n'"):
        read_shard(text)
    assert read_shard("3/8") == (3, 8)


def test_wrong_jobs_are_named(tiny_model):
    for changes, message in [
        ({"problems": problems(3) * 2}, "is there several times"),
        ({"temperature": 0.0}, "temperature must be > 0"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1"),
        ({"num_samples": 0}, "num_samples must be at least 1"),
        ({"chat": True}, "has no chat template"),
    ]:
        with pytest.raises(ValueError, match=message):
            job(tiny_model, **changes).identity()
    with pytest.raises(ValueError, match="no problems to sample"):
        Job(tiny_model, [], num_samples=1, seed=0, name="x")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes come from a fork server")
def test_kills_at_random_cost_no_more_than_the_part_in_work(tiny_model, whole, tmp_path):
    """SIGKILL, which nothing can catch, at a random moment after each new part, until the job has come through."""
    path, rng, kills = tmp_path / "x.parquet", random.Random(0), 0
    context = multiprocessing.get_context(
        "forkserver"
    )  # a fork of this process could wait for a thread that it has not
    context.set_forkserver_preload(
        ["differential_smoothing.sampling.parts", "transformers.models.llama.modeling_llama"]
    )

    def parts():
        return {file: file.read_bytes() for file in parts_of(path).glob("*.parquet")}

    def done():
        return len(list(parts_of(path).glob("*.parquet")))

    while not path.exists():
        before = parts()
        process = context.Process(target=sample_to_file, args=(job(tiny_model), path))
        process.start()
        if kills < 3:
            while process.is_alive() and done() == len(before):
                time.sleep(0.002)
            until = time.monotonic() + 0.4 * rng.random()  # a fast machine would do all that is left in this time
            while process.is_alive() and done() < len(before) + 2 and time.monotonic() < until:
                time.sleep(0.002)
            process.kill()
            kills += 1
        process.join(300)
        assert process.exitcode in (0, -signal.SIGKILL)
        for file, content in before.items():  # what was done is as it was
            assert path.exists() or file.read_bytes() == content
        for file in parts():
            assert len(read_rollouts(file)) in (8 * SAMPLES, 3 * SAMPLES)  # whole or not at all
    if parts_of(path).is_dir():  # the last kill came between joining and tidying up
        assert sample_to_file(job(tiny_model), path)
    assert kills >= 2 and same(path, whole)
    assert [p.name for p in tmp_path.iterdir()] == ["x.parquet"]


@pytest.mark.slow
def test_the_command_goes_on_where_it_was_stopped(tiny_model, whole, tmp_path):
    data, path = tmp_path / "problems.jsonl", tmp_path / "x.parquet"
    data.write_text("".join(json.dumps({"nums": p.nums, "target": p.target}) + "\n" for p in problems()))
    command = [
        sys.executable,
        "-m",
        "differential_smoothing",
        "sample",
        "--model",
        tiny_model,
        "--name",
        "tiny",
        "--data-file",
        data,
        "--samples",
        SAMPLES,
        "--max-new-tokens",
        6,
        "--output",
        path,
    ]
    assert not sample_to_file(job(tiny_model, seed=1), path, shard=(2, 2))
    done = subprocess.run(
        list(map(str, command)), env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0 and "6912 completions" in done.stdout, done.stderr
    assert same(path, whole) and not parts_of(path).exists()
