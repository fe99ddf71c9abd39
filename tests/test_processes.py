"""The number of processes changes no number: one process against two, DDP and FSDP2, over gloo on a CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import CASES, RESUMED, SHARDED, trained
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent


def torchrun(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]


def weights_of(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture(scope="module")
def two(tiny_model, tmp_path_factory):
    """(folder, case -> what two processes found), trained once for all tests."""
    folder = tmp_path_factory.mktemp("two_processes")
    torchrun(HERE / "processes.py", tiny_model, folder, "train")
    return folder, torch.load(folder / "train.pt")


@pytest.fixture(scope="module")
def one(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_process")
    return {case: trained(tiny_model, folder, case, 1)[0] for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_advantages_of_one_bit_for_bit(case, one, two):
    alone, together = one[case], two[1][case]
    assert (alone["processes"], together["processes"]) == (1, 2)
    assert len(alone["seen"]) == len(together["seen"]) == 5
    for mine, theirs in zip(alone["seen"], together["seen"], strict=True):
        assert len({row[3] for row in theirs}) == 2  # the batches of the two processes differ in padding
        for a, b in zip(mine, theirs, strict=True):
            assert a[:2] == b[:2]  # the same prompt and completion at the same place
            assert a[2] == b[2]
    assert len({value for row in alone["seen"][0] for value in row[2]}) > 2


@pytest.mark.parametrize("case", CASES)
def test_two_processes_end_with_the_weights_of_one(case, one, two, tiny_model):
    start = weights_of(tiny_model)
    assert (one[case]["weights"] - start).abs().max() > 1e-4  # a hundred times what may differ
    torch.testing.assert_close(two[1][case]["weights"], one[case]["weights"], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_run_resumed_on_two_processes_ends_with_the_same_weights(one, two, tiny_model):
    folder, found = two
    torchrun(HERE / "processes.py", tiny_model, folder, "resume")
    resumed = torch.load(folder / "resume.pt")[RESUMED]
    assert resumed["seen"] == found[RESUMED]["seen"][2:]  # it went on and did not begin again
    assert torch.equal(resumed["weights"], found[RESUMED]["weights"])
    torch.testing.assert_close(resumed["weights"], one[RESUMED]["weights"], rtol=0, atol=1e-6)


def test_fsdp2_ends_with_the_weights_of_one_process_and_saves_them(one, two):
    folder, found = two
    assert found["fsdp"]["sharded"]
    assert found["fsdp"]["seen"] == found[SHARDED]["seen"]
    torch.testing.assert_close(found["fsdp"]["weights"], one[SHARDED]["weights"], rtol=0, atol=1e-6)
    assert torch.equal(weights_of(folder / "model"), found["fsdp"]["weights"])


def test_sharded_weights_are_sampled_in_step(two):
    # each forward pass needs all processes: without that this test waits for ever
    first, second = two[1]["lengths"][:2], two[1]["lengths"][2:]
    assert first == [1, 1] and max(second) > 1


@pytest.mark.slow
def test_dsmooth_train_on_two_processes_with_fsdp2(tiny_model, tmp_path):
    (tmp_path / "run.yaml").write_text(
        f"output_dir: {tmp_path / 'run'}\nmodel: {tiny_model}\nmodel_init_kwargs: {{distributed_config: {{fsdp_size: 2}}}}\n"
        "save_strategy: 'no'\nproblems: 20\nper_device_train_batch_size: 8\nnum_generations: 4\nmax_completion_length: 8\n"
        "max_steps: 1\nlearning_rate: 1.0e-2\ngamma_n: 0.2\nuse_cpu: true\nbf16: false\nreport_to: none\n"
    )
    torchrun("-m", "differential_smoothing", "train", "--config", tmp_path / "run.yaml")
    assert (weights_of(tmp_path / "run" / "model") - weights_of(tiny_model)).abs().max() > 1e-4
