"""Real runs of verl on this processor: Ray, two FSDP2 workers over gloo, the shipped base on Countdown. `make test-verl` runs this.

What is compared is what the actor's workers fetch, as ``verl_cpu.recording`` writes it down just before they do.
"""

import json
import os
import signal
import time

import numpy as np
import pytest
import torch

pytest.importorskip("verl")
from verl.trainer.ppo import core_algos
from verl_cpu.launch import prepare, start

from differential_smoothing import ds_grpo_advantages
from differential_smoothing.tasks import countdown

pytestmark = pytest.mark.slow
LIMIT = 900  # seconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verl")
    prepare(folder)
    return folder


def finished(process, output):
    try:
        status = process.wait(LIMIT)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    log = (output / "log.txt").read_text()
    assert status == 0, log[-6000:]
    return log


def steps(output):
    files = sorted((output / "record").glob("*.pt"), key=lambda file: int(file.stem))
    return {int(file.stem): torch.load(file, weights_only=False) for file in files}


def padded(rows):
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


class Step:
    def __init__(self, rows):
        self.uid = np.array(rows["uid"], dtype=object)
        self.group = torch.as_tensor(np.unique(self.uid.astype(str), return_inverse=True)[1])
        self.correct = torch.tensor(rows["acc"])
        self.metrics, self.rows = rows["metrics"], rows
        for name in (
            "response_mask",
            "rm_scores",
            "old_log_probs",
            "rollout_log_probs",
            "entropy",
            "advantages",
        ):
            setattr(self, name, padded(rows[name]))
        self.rewards = self.rm_scores.sum(1)


@pytest.fixture(scope="module")
def smoothed(folder):
    """Six steps with DS on; a checkpoint after the third."""
    output = folder / "smoothed"
    output.mkdir()
    process = start(
        folder, output, "+algorithm.ds.gamma_p=0.3", "+algorithm.ds.gamma_n=0.1", "+algorithm.ds.correct_key=acc",
        mode="recording_dsmooth", estimator="dsmooth", steps=6, save_every=3,
    )  # fmt: skip
    log = finished(process, output)
    return {step: Step(rows) for step, rows in steps(output).items()}, log, output


def test_the_actor_gets_the_advantages_of_the_pure_function(smoothed):
    recorded, _, _ = smoothed
    assert list(recorded) == [1, 2, 3, 4, 5, 6]
    differing = 0
    for step in recorded.values():
        expected = ds_grpo_advantages(
            step.rewards, step.old_log_probs, step.response_mask, correct=step.correct, group=step.group, gamma_p=0.3,
            gamma_n=0.1, eps=1e-6,
        )  # fmt: skip
        torch.testing.assert_close(step.advantages, expected, atol=1e-6, rtol=1e-6)
        by_position = torch.arange(len(step.group)) // 8
        differing += len(torch.unique(torch.stack([step.group, by_position]), dim=1)[0]) > 8
    assert differing  # verl did reorder rows, so groups by position would have been wrong
    assert sum(step.correct.sum() for step in recorded.values()) > 0


def test_its_log_probs_are_those_of_the_sampler(smoothed):
    for step in smoothed[0].values():
        assert (step.old_log_probs - step.rollout_log_probs)[step.response_mask != 0].abs().max() < 1e-3


def test_what_is_logged_is_right_and_the_loss_moves(smoothed):
    recorded, log, _ = smoothed
    for step in recorded.values():
        metrics, right = step.metrics, step.correct == 1
        assert metrics["ds/correct"] == pytest.approx(float(right.float().mean()), abs=1e-6)
        for name, rows, sign in (("correct", right, -0.3), ("incorrect", ~right, 0.1)):
            mean = step.old_log_probs[rows][step.response_mask[rows] != 0].mean()
            assert metrics[f"ds/logp_{name}"] == pytest.approx(float(mean), abs=1e-4)
            assert metrics[f"ds/term_{name}"] == pytest.approx(sign * float(mean), abs=1e-4)
    assert "ds/term_correct" in log  # and reached the host's logger
    losses = [step.metrics["actor/pg_loss"] for step in recorded.values()]
    assert all(np.isfinite(losses)) and len(set(losses)) == len(losses)
    assert all(step.metrics["actor/grad_norm"] > 0 for step in recorded.values())


def test_the_scores_are_the_tasks_and_our_reader_reads_the_dump(smoothed):
    from differential_smoothing.rollouts import load_rollouts

    output = smoothed[2]
    files = sorted((output / "rollouts").glob("*.jsonl"), key=lambda file: int(file.stem))
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert len(rows) == 6 * 64
    for row in rows:
        problem = json.loads(row["gts"])
        assert countdown.verify(row["output"], problem["nums"], problem["target"]).correct == bool(
            row["score"]
        )
    frame = load_rollouts(output / "rollouts")
    assert frame["reward"].tolist() == [row["score"] for row in rows]
    assert frame["correct"].astype(float).tolist() == frame["reward"].tolist()


def test_without_gammas_the_actor_gets_verls_own_grpo(folder):
    output = folder / "plain"
    output.mkdir()
    finished(start(folder, output, mode="recording_dsmooth", estimator="dsmooth", steps=2), output)
    for rows in steps(output).values():
        step = Step(rows)
        own, _ = core_algos.compute_grpo_outcome_advantage(step.rm_scores, step.response_mask, step.uid)
        torch.testing.assert_close(step.advantages, own, atol=1e-6, rtol=1e-5)
        assert step.metrics["ds/term_incorrect"] == 0


def test_a_killed_worker_ends_the_run_and_the_same_command_goes_on_from_the_checkpoint(folder):
    import psutil

    output = folder / "killed"
    output.mkdir()
    options = dict(mode="recording_dsmooth", estimator="dsmooth", steps=6, save_every=2)
    process = start(folder, output, "+algorithm.ds.gamma_p=0.3", **options)
    latest, deadline = output / "checkpoints" / "latest_checkpointed_iteration.txt", time.time() + LIMIT
    while not (latest.exists() and (output / "record" / "3.pt").exists()):
        assert process.poll() is None and time.time() < deadline, (output / "log.txt").read_text()[-6000:]
        time.sleep(0.5)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "WorkerDict" in " ".join(child.cmdline())
    ]
    assert len(workers) == 2
    workers[0].kill()
    assert process.wait(LIMIT) != 0  # it ends, with an error, and does not hang
    before = int(latest.read_text())
    assert before in (2, 4)
    for file in (output / "record").glob("*.pt"):
        file.unlink()
    log = finished(start(folder, output, "+algorithm.ds.gamma_p=0.3", **options), output)
    recorded = steps(output)
    assert list(recorded) == list(range(before + 1, 7)) and f"global_step_{before}" in log
    for rows in recorded.values():
        step = Step(rows)
        expected = ds_grpo_advantages(
            step.rewards, step.old_log_probs, step.response_mask, correct=step.correct, group=step.group, gamma_p=0.3,
            gamma_n=0.0, eps=1e-6,
        )  # fmt: skip
        torch.testing.assert_close(step.advantages, expected, atol=1e-6, rtol=1e-6)
