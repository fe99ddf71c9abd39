"""Real runs of verl on this processor: Ray, two FSDP2 workers over gloo, the shipped base on Countdown. `make test-verl` runs this.

What is compared is what the actor's workers fetch, as ``verl_cpu.recording`` writes it down just before they do. Weights are read from
verl's checkpoints and run in a plain Hugging Face model.
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
LIMIT = 3000  # seconds; only a run that hangs should meet it, on however busy a machine


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


def checkpoint(output, step, kind="model"):
    """What each of the two workers wrote."""
    folder = output / "checkpoints" / f"global_step_{step}" / "actor"
    return [torch.load(folder / f"{kind}_world_size_2_rank_{rank}.pt", weights_only=False) for rank in range(2)]


@torch.no_grad()
def log_probs(folder, step, parts=None):
    """(B, T) of a step's completions under the model that the run began with, or under a checkpoint."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    if parts is not None:
        model.load_state_dict({name: torch.cat([p[name].to_local() for p in parts]) for name in parts[0]})
    rows = []
    for prompt, response in zip(step.rows["prompts"], step.rows["responses"], strict=True):
        logits = model(torch.cat([prompt, response])[None]).logits[0, len(prompt) - 1 : -1]
        rows.append(logits.log_softmax(-1).gather(1, response[:, None])[:, 0])
    return padded(rows) * (step.response_mask != 0)


def prompts(step):
    return {tuple(prompt.tolist()) for prompt in step.rows["prompts"]}


def check_advantages(step, gamma_p, gamma_n):
    """Those that the actor fetched are those of the pure function, to 1e-6, and the loss that it reports is made of them."""
    expected = ds_grpo_advantages(
        step.rewards,
        step.old_log_probs,
        step.response_mask,
        correct=step.correct,
        group=step.group,
        gamma_p=gamma_p,
        gamma_n=gamma_n,
        eps=1e-6,
    )
    torch.testing.assert_close(step.advantages, expected, atol=1e-6, rtol=1e-6)
    # one update per batch: the ratio is 1 and the token-mean loss is minus the mean advantage
    loss = -(expected * step.response_mask).sum() / step.response_mask.sum()
    assert step.metrics["actor/pg_loss"] == pytest.approx(float(loss), abs=1e-6)


def check_metrics(step, gamma_p, gamma_n):
    metrics, right = step.metrics, step.correct == 1
    assert metrics["ds/correct"] == pytest.approx(float(right.float().mean()), abs=1e-6)
    for name, rows, gamma in (("correct", right, -gamma_p), ("incorrect", ~right, gamma_n)):
        mean = step.old_log_probs[rows][step.response_mask[rows] != 0].mean()
        assert metrics[f"ds/logp_{name}"] == pytest.approx(float(mean), abs=1e-4)
        assert metrics[f"ds/term_{name}"] == pytest.approx(gamma * float(mean), abs=1e-4)


class Step:
    def __init__(self, rows):
        self.uid = np.array(rows["uid"], dtype=object)
        self.group = torch.as_tensor(np.unique(self.uid.astype(str), return_inverse=True)[1])
        self.correct = torch.tensor(rows["acc"])
        self.metrics, self.rows = rows["metrics"], rows
        for name in ("response_mask", "rm_scores", "old_log_probs", "rollout_log_probs", "entropy", "advantages"):
            setattr(self, name, padded(rows[name]))
        self.rewards = self.rm_scores.sum(1)


@pytest.fixture(scope="module")
def smoothed(folder):
    """Six steps with DS on; a checkpoint after the third."""
    output = folder / "smoothed"
    output.mkdir()
    process = start(
        folder,
        output,
        "+algorithm.ds.gamma_p=0.3",
        "+algorithm.ds.gamma_n=0.1",
        "+algorithm.ds.correct_key=acc",
        mode="recording_dsmooth",
        estimator="dsmooth",
        steps=6,
        save_every=3,
    )
    log = finished(process, output)
    return {step: Step(rows) for step, rows in steps(output).items()}, log, output


def test_the_actor_gets_the_advantages_of_the_pure_function(smoothed):
    recorded, _, _ = smoothed
    assert list(recorded) == [1, 2, 3, 4, 5, 6]
    differing = 0
    for step in recorded.values():
        check_advantages(step, 0.3, 0.1)
        by_position = torch.arange(len(step.group)) // 8
        differing += len(torch.unique(torch.stack([step.group, by_position]), dim=1)[0]) > 8
    assert differing  # verl did reorder rows, so groups by position would have been wrong
    assert sum(step.correct.sum() for step in recorded.values()) > 0


def test_its_log_probs_are_those_of_the_sampler(smoothed):
    for step in smoothed[0].values():
        assert (step.old_log_probs - step.rollout_log_probs)[step.response_mask != 0].abs().max() < 1e-3


def test_what_is_logged_is_right(smoothed):
    recorded, log, _ = smoothed
    for step in recorded.values():
        check_metrics(step, 0.3, 0.1)
    assert "ds/term_correct" in log  # and reached the host's logger


def test_the_loss_moves_and_the_weights_with_it(folder, smoothed):
    recorded, _, output = smoothed
    losses = [step.metrics["actor/pg_loss"] for step in recorded.values()]
    assert len(set(losses)) == len(losses)
    assert all(step.metrics["actor/grad_norm"] > 0 for step in recorded.values())
    # the fourth step samples from the weights that the third has made, not from the first ones
    step = recorded[4]
    torch.testing.assert_close(log_probs(folder, step, checkpoint(output, 3)), step.old_log_probs, atol=1e-4, rtol=0)
    assert (log_probs(folder, step) - step.old_log_probs).abs().max() > 0.05


def test_the_scores_are_the_tasks_and_our_reader_reads_the_dump(smoothed):
    from differential_smoothing.rollouts import load_rollouts

    output = smoothed[2]
    files = sorted((output / "rollouts").glob("*.jsonl"), key=lambda file: int(file.stem))
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert len(rows) == 6 * 64
    for row in rows:
        problem = json.loads(row["gts"])
        assert countdown.verify(row["output"], problem["nums"], problem["target"]).correct == bool(row["score"])
    frame = load_rollouts(output / "rollouts")
    assert frame["reward"].tolist() == [row["score"] for row in rows]
    assert frame["correct"].astype(float).tolist() == frame["reward"].tolist()


def test_without_gammas_the_actor_gets_verls_own_grpo(folder):
    """Here each worker has all weights (``fsdp_size=1`` of two), as ``+nodes=several`` has it from node to node."""
    output = folder / "plain"
    output.mkdir()
    process = start(
        folder,
        output,
        "actor_rollout_ref.actor.fsdp_config.fsdp_size=1",
        mode="recording_dsmooth",
        estimator="dsmooth",
        steps=2,
    )
    finished(process, output)
    recorded = steps(output)
    assert len(recorded) == 2
    for rows in recorded.values():
        step = Step(rows)
        arguments = (step.rm_scores, step.response_mask, step.uid)
        assert torch.equal(step.advantages, core_algos.compute_grpo_vectorized_outcome_advantage(*arguments)[0])
        looped, _ = core_algos.compute_grpo_outcome_advantage(*arguments)
        torch.testing.assert_close(step.advantages, looped, atol=1e-6, rtol=1e-5)
        assert step.metrics["ds/term_incorrect"] == 0


def test_colocated_and_asynchronous(folder):
    """Rollouts go on while the actor is trained, so completions are stale, and some begin under one policy and end under another.

    The servers have far more to do than a step takes, 48 completions at a time, so that an update always interrupts some.
    """
    output = folder / "colocate_async"
    output.mkdir()
    process = start(
        folder,
        output,
        "+algorithm.ds.gamma_p=0.3",
        "+algorithm.ds.gamma_n=0.1",
        "actor_rollout_ref.rollout.max_num_seqs=24",
        "trainer.v1.colocate_async.num_warmup_batches=4",
        mode="recording_dsmooth_colocate_async",
        estimator="dsmooth",
        steps=4,
        seconds_per_token=0.1,
    )
    finished(process, output)
    recorded = {number: Step(rows) for number, rows in steps(output).items()}
    assert list(recorded) == [1, 2, 3, 4]
    stale, begun_before = 0, 0
    for number, step in recorded.items():
        check_advantages(step, 0.3, 0.1)
        check_metrics(step, 0.3, 0.1)
        # log pi_old is that of the weights that the step starts from; the sampler's where those were the ones that sampled
        apart = ((step.old_log_probs - step.rollout_log_probs).abs() * step.response_mask).amax(1)
        for distance, (first, last) in zip(apart, step.rows["versions"], strict=True):
            assert first <= last < number
            if first == number - 1:
                assert distance < 1e-3
            stale += bool(distance > 1e-2)
            begun_before += first < last
    assert stale and begun_before


def test_a_killed_worker_ends_the_run_and_the_same_command_goes_on_from_the_checkpoint(folder, smoothed):
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
    saved = checkpoint(output, before)

    log = finished(start(folder, output, "+algorithm.ds.gamma_p=0.3", **options), output)
    recorded = {number: Step(rows) for number, rows in steps(output).items()}
    assert list(recorded) == list(range(before + 1, 7)) and f"global_step_{before}" in log
    for step in recorded.values():
        check_advantages(step, 0.3, 0.0)
    # the weights are those of the checkpoint, not those that the run began with
    first = recorded[before + 1]
    torch.testing.assert_close(log_probs(folder, first, saved), first.old_log_probs, atol=1e-4, rtol=0)
    assert (log_probs(folder, first) - first.old_log_probs).abs().max() > 0.02
    # so is the optimizer: at the end it has made six steps
    states = [state for part in checkpoint(output, 6, "optim") for state in part["state"].values()]
    assert states and {float(state["step"]) for state in states} == {6.0}
    # and the data: each step has the problems that it has in a run that nothing has stopped
    for number, step in recorded.items():
        assert prompts(step) == prompts(smoothed[0][number]) and len(prompts(step)) == 8
    # what had been written before is still there, and every step is there once
    for number in range(1, 7):
        assert len((output / "rollouts" / f"{number}.jsonl").read_text().splitlines()) == 64
