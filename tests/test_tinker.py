"""The Tinker loop against SkyRL's open server of that API, a real engine on a CPU with the shipped base. `make test-tinker`."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

INSTALL = "SkyRL's engine has an environment of its own: make test-tinker"
tinker = pytest.importorskip("tinker", reason=INSTALL)
pytest.importorskip("skyrl", reason=INSTALL)
pytest.importorskip("jax", reason=INSTALL)

from transformers import AutoTokenizer

from differential_smoothing.training.base_model import SHIPPED_BASE

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("tinker_loop", ROOT / "examples" / "tinker_loop.py")
loop = importlib.util.module_from_spec(spec)
spec.loader.exec_module(loop)

# pydantic refuses typing's own TypedDict before Python 3.12, and SkyRL uses it
SHIM = "import typing, typing_extensions\ntyping.TypedDict = typing_extensions.TypedDict\n"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A training client of a real server in processes of its own."""
    folder = tmp_path_factory.mktemp("skyrl")
    (folder / "sitecustomize.py").write_text(SHIM)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    programs = Path(sys.executable).parent
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "VIRTUAL_ENV": str(programs.parent),
        "UV_OFFLINE": "1",
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(
            [*([str(folder)] if sys.version_info < (3, 12) else []), os.environ.get("PYTHONPATH", "")]
        ),
    }
    # sampling requests arrive one by one: a fixed batch is compiled once
    words = [
        "--base-model",
        str(SHIPPED_BASE),
        "--backend",
        "jax",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--backend-config",
        '{"max_lora_adapters": 5, "max_lora_rank": 8, "sample_max_num_sequences": 8}',
        "--database-url",
        f"sqlite:///{folder}/engine.db",
        "--checkpoints-base",
        str(folder / "checkpoints"),
    ]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            ["uv", "run", "--no-project", "--active", "--", "python", "-m", "skyrl.tinker.api", *words],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(server, url, folder / "log")
        os.environ.update(TINKER_API_KEY="tml-none", TINKER_BASE_URL=url)
        yield lambda: loop.ready(
            tinker.ServiceClient().create_lora_training_client(base_model=str(SHIPPED_BASE), rank=8, seed=0)
        )
    finally:
        os.killpg(server.pid, signal.SIGKILL)


def _wait(server, url, log):
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{url}/api/v1/healthz", timeout=5)
            return
        except OSError:
            assert server.poll() is None, log.read_text()[-2000:]
            time.sleep(1)
    raise AssertionError(f"no server after four minutes: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(SHIPPED_BASE)


def drawn(training, tokenizer, count=8):
    """A prompt and `count` samples of it."""
    prompt = tokenizer("2 3 7 8 = 24 :")["input_ids"]
    parameters = tinker.SamplingParams(max_tokens=16, temperature=1.0, seed=0, stop=[tokenizer.eos_token_id])
    sampler = loop.ready(training.save_weights_and_get_sampling_client())
    future = sampler.sample(prompt=tinker.ModelInput.from_ints(prompt), num_samples=count, sampling_params=parameters)
    return prompt, future.result().sequences


def logps_of(training, data, prompt):
    """The server's log-probs of the completions, and its loss per token, of one forward pass."""
    outputs = training.forward(data, "importance_sampling").result().loss_fn_outputs
    cut = len(prompt) - 1
    return [
        [torch.as_tensor(output[key].tolist())[cut:] for output in outputs] for key in ("logprobs", "elementwise_loss")
    ]


def test_the_engine_reads_tokens_logps_and_advantages_where_we_put_them(client, tokenizer):
    training = client()
    prompt, samples = drawn(training, tokenizer)
    correct = [i % 3 == 0 for i in range(8)]
    advantages = loop.advantages_of(samples, correct, [0] * 8, 0.3, 0.1)
    data = [loop.datum(prompt, s, a) for s, a in zip(samples, advantages, strict=True)]
    logps, losses = logps_of(training, data, prompt)
    for sample, given, logp, loss in zip(samples, advantages, logps, losses, strict=True):
        old, given = torch.tensor(sample.logprobs), torch.tensor(given)
        torch.testing.assert_close(logp, old, rtol=0, atol=1e-3)  # what the sampler said is what the learner says
        torch.testing.assert_close(loss, -given * (logp - old).exp(), rtol=1e-4, atol=1e-5)
    assert len({round(a, 4) for row in advantages for a in row}) > 8  # so each token has its own


def test_a_group_that_is_all_right_moves_only_with_the_term_and_as_it_says(client, tokenizer):
    training = client()
    prompt, samples = drawn(training, tokenizer)
    for gamma_p in (0.0, 0.3):
        advantages = loop.advantages_of(samples, [True] * 8, [0] * 8, gamma_p, 0.0)
        data = [loop.datum(prompt, s, a) for s, a in zip(samples, advantages, strict=True)]
        before, _ = logps_of(training, data, prompt)
        training.forward_backward(data, "importance_sampling").result()
        training.optim_step(tinker.AdamParams(learning_rate=1e-4, beta1=0.9, beta2=0.95, eps=1e-8)).result()
        after, _ = logps_of(training, data, prompt)
        moved = torch.cat([b - a for a, b in zip(before, after, strict=True)])
        if gamma_p == 0:
            assert moved.abs().max() == 0  # GRPO has no gradient here
        else:
            # the loss is a mean over each whole sequence, whose first prompt token is nothing's target
            gain = sum(
                (torch.tensor(a) * (y - x)).sum() / (len(prompt) - 1 + len(a))
                for a, x, y in zip(advantages, before, after, strict=True)
            )
            assert gain > 0 and moved.abs().max() > 1e-4


def test_the_loop_trains(client, tokenizer):
    lines = []
    history = loop.train(client(), tokenizer, 2, prompts_per_step=2, group_size=4, report=lines.append)
    assert len(history) == len(lines) == 2 and all(0 <= value <= 1 for value in history)


def test_it_is_one_page():
    assert len((ROOT / "examples" / "tinker_loop.py").read_text().splitlines()) <= 120


def test_its_advantages_are_the_formula():
    samples = [SimpleNamespace(tokens=[5, 6], logprobs=[-1.0, -2.0]), SimpleNamespace(tokens=[7], logprobs=[-3.0])]
    (right, wrong) = loop.advantages_of(samples, [True, False], [0, 0], 0.5, 0.1)
    base = 0.5 / (0.5**0.5 + 1e-4)
    assert right == pytest.approx([base + 0.5, base + 1.0])
    assert wrong == pytest.approx([-base - 0.3])
    given = loop.datum([1, 2, 3], samples[0], right)
    assert given.model_input.to_ints() == [1, 2, 3, 5]
    values = {name: data.tolist() for name, data in given.loss_fn_inputs.items()}
    assert values["target_tokens"] == [2, 3, 5, 6] and values["logprobs"] == [0, 0, -1, -2]
    assert values["advantages"] == pytest.approx([0, 0, *right])
