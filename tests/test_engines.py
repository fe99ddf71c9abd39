"""Engines: each draws from the model's distribution and reports that distribution's log-probs, in the common signature.

vLLM cannot be installed here. The server engine talks to a real HTTP server that speaks the documented protocol and draws with a real
(tiny) model; the library engine talks to ``FakeVLLM``, which has the documented calls and attributes and nothing else.
"""

import json
import math
import signal
import subprocess
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from differential_smoothing.sampling import ENGINES, make_engine, sample
from differential_smoothing.sampling.engine import spread
from differential_smoothing.sampling.jobs import sample_rollouts
from differential_smoothing.sampling.server import VLLMServer
from differential_smoothing.tasks import countdown

PROMPTS = [[5, 6, 7, 8], [9, 10], [11]]


@pytest.fixture(scope="module")
def network(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval()


@pytest.fixture(scope="module")
def ends(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model).eos_token_id


def distribution(network, ids, temperature, top_p):
    """Log-probs of the next token after ``ids``, written out: the slow way to say what an engine should draw from."""
    with torch.no_grad():
        logps = (network(torch.tensor([ids])).logits[0, -1] / temperature).log_softmax(-1)
    order = logps.argsort(descending=True)
    before = logps[order].exp().cumsum(0) - logps[order].exp()
    keep = order[before < top_p]
    kept = torch.full_like(logps, -math.inf)
    kept[keep] = logps[keep]
    return kept.log_softmax(-1)


def expected_logp(network, prompt, ids, temperature, top_p):
    return sum(
        float(distribution(network, prompt + ids[:at], temperature, top_p)[token]) for at, token in enumerate(ids)
    )


class Handler(BaseHTTPRequestHandler):
    """/v1/models and /v1/completions as vLLM documents them, and the troubles that servers have."""

    def log_message(self, *arguments):
        pass

    def answer(self, status, content):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        assert self.path == "/v1/models"
        self.answer(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.server.names]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append((body, dict(self.headers)))
            trouble = self.server.troubles.pop(0) if self.server.troubles else None
        if trouble in ("hang", "for ever"):
            threading.Event().wait(0.5 if trouble == "hang" else 600)  # time.sleep is patched away
        if isinstance(trouble, tuple):
            return self.answer(*trouble)
        if trouble == "cut":
            return self.connection.close()
        if body["model"] not in self.server.names:
            return self.answer(404, {"error": {"message": f"The model `{body['model']}` does not exist.", "code": 404}})
        self.answer(200, self.complete(body))

    def complete(self, body):
        server = self.server
        n, temperature, top = body.get("n", 1), body["temperature"], body["logprobs"]
        with server.lock:
            generator = torch.Generator().manual_seed(body["seed"] % 2**63)
            group = sample(
                server.network,
                [body["prompt"]],
                num_samples=n,
                max_new_tokens=body["max_tokens"],
                temperature=temperature,
                eos_token_ids=[server.end],
                pad_token_id=0,
                generator=generator,
            )[0]
            first = distribution(server.network, body["prompt"], temperature if server.processed else 1.0, 1.0)
        choices = []
        for index, (ids, logps) in enumerate(group):
            choice = {"index": index, "text": "not read", "finish_reason": "stop", "logprobs": None}
            if body.get("return_token_ids"):
                choice |= {"token_ids": ids, "prompt_token_ids": body["prompt"]}
            if top is not None:
                likely = first.topk(min(top, len(first))) if top else None
                tops = [{f"t{i}": float(v) for v, i in zip(*likely)}] + [None] * (len(ids) - 1) if top else None
                choice["logprobs"] = {
                    "tokens": [f"token_id:{i}" for i in ids],
                    "token_logprobs": logps,
                    "top_logprobs": tops,
                }
            choices.append(choice)
        return {"id": "cmpl-1", "object": "text_completion", "model": body["model"], "choices": choices[::-1]}


@pytest.fixture
def server(network, ends):
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads, http.handle_error = True, lambda *_: None  # one who hangs up is not an error here
    http.network, http.end, http.names, http.processed = network, ends, ["tiny"], True
    http.asked, http.troubles, http.lock = [], [], threading.Lock()
    http.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield http
    http.shutdown()
    http.server_close()


@pytest.fixture
def quick(monkeypatch):
    """No waiting between tries."""
    waits = []
    monkeypatch.setattr("differential_smoothing.sampling.server.time.sleep", waits.append)
    return waits


def FakeVLLM(network, end):
    """A module ``vllm`` by its documented call signature only: LLM(...).generate(prompts, params), SamplingParams(...)."""

    class SamplingParams:
        def __init__(self, *, n, seed, temperature, top_p, max_tokens, logprobs, detokenize):
            assert logprobs == 0 and 0 < top_p <= 1
            self.n, self.seed, self.temperature, self.max_tokens = n, seed, temperature, max_tokens

    class LLM:
        def __init__(self, model, *, logprobs_mode, seed, **options):
            assert logprobs_mode == "processed_logprobs"
            self.options = options

        def generate(self, prompts, sampling_params, *, use_tqdm):
            assert len(prompts) == len(sampling_params)
            return [self.one(prompt["prompt_token_ids"], p) for prompt, p in zip(prompts, sampling_params)]

        def one(self, ids, p):
            generator = torch.Generator().manual_seed(p.seed)
            group = sample(
                network,
                [ids],
                num_samples=p.n,
                max_new_tokens=p.max_tokens,
                temperature=p.temperature,
                eos_token_ids=[end],
                pad_token_id=0,
                generator=generator,
            )[0]
            return types.SimpleNamespace(
                outputs=[
                    types.SimpleNamespace(
                        token_ids=tuple(s.completion_ids),
                        logprobs=[{t: types.SimpleNamespace(logprob=v)} for t, v in zip(*s)],
                    )
                    for s in group
                ]
            )

    module = types.ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SamplingParams
    return module


@pytest.fixture(params=["shared_prefix", "transformers", "vllm", "vllm_server"])
def engine(request, tiny_model, network, ends, monkeypatch):
    options = {"transformers": {"batch_size": 5}}.get(request.param, {})
    if request.param == "vllm":
        monkeypatch.setitem(sys.modules, "vllm", FakeVLLM(network, ends))
    if request.param == "vllm_server":
        options = {"url": request.getfixturevalue("server").url}
    return make_engine(request.param, tiny_model, options)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_are_those_of_the_distribution_drawn_from(engine, network, ends, temperature):
    groups = engine.draw(PROMPTS, num_samples=4, seed=3, temperature=temperature, top_p=1.0, max_new_tokens=10)
    assert [len(group) for group in groups] == [4, 4, 4]
    lengths = set()
    for prompt, group in zip(PROMPTS, groups, strict=True):
        for ids, logp in group:
            assert logp == pytest.approx(expected_logp(network, prompt, ids, temperature, 1.0), abs=1e-4)
            assert ends not in ids[:-1] and (len(ids) == 10 or ids[-1] == ends)
            lengths.add(len(ids))
    assert len({tuple(ids) for group in groups for ids, _ in group}) == 12
    # the same again with the same seed, and not with another
    again = engine.draw(PROMPTS, num_samples=4, seed=3, temperature=temperature, top_p=1.0, max_new_tokens=10)
    other = engine.draw(PROMPTS, num_samples=4, seed=4, temperature=temperature, top_p=1.0, max_new_tokens=10)
    assert [[d.completion_ids for d in g] for g in groups] == [[d.completion_ids for d in g] for g in again]
    assert [[d.completion_ids for d in g] for g in groups] != [[d.completion_ids for d in g] for g in other]


def test_transformers_draws_from_the_nucleus_whatever_the_model_s_file_says(tiny_model, network, ends):
    engine = make_engine("transformers", tiny_model, {"batch_size": 4096})
    engine.network.generation_config.update(top_k=1, repetition_penalty=3.0)  # what Qwen's file does, stronger
    state = torch.random.get_rng_state()
    group = engine.draw(PROMPTS[:1], num_samples=4000, seed=0, temperature=0.25, top_p=0.6, max_new_tokens=1)[0]
    assert torch.equal(state, torch.random.get_rng_state())  # a trainer's draws are left alone
    assert engine.network.generation_config.top_k == 1
    expected = distribution(network, PROMPTS[0], 0.25, 0.6).exp()
    kept = (expected > 0).sum()
    assert 2 < kept < len(expected) - 2
    counts = torch.bincount(torch.tensor([d.completion_ids[0] for d in group]), minlength=len(expected))
    assert counts[expected == 0].sum() == 0
    chi_squared = ((counts - 4000 * expected) ** 2 / (4000 * expected))[expected > 0].sum()
    assert chi_squared < kept + 5 * (2 * kept) ** 0.5
    for ids, logp in group[:20]:
        assert logp == pytest.approx(float(expected[ids[0]].log()), abs=1e-4)
    longer = engine.draw(PROMPTS, num_samples=3, seed=0, temperature=0.25, top_p=0.6, max_new_tokens=8)
    for prompt, drawn in zip(PROMPTS, longer, strict=True):
        for ids, logp in drawn:
            assert logp == pytest.approx(expected_logp(network, prompt, ids, 0.25, 0.6), abs=1e-4)


def test_continuous_batching_reports_the_distribution_drawn_from(tiny_model, network, ends):
    small = {"num_blocks": 16, "max_batch_tokens": 64, "page_size": 16}
    engine = make_engine("transformers", tiny_model, {"continuous": True, "continuous_options": small})
    groups = engine.draw(PROMPTS, num_samples=3, seed=3, temperature=0.7, top_p=1.0, max_new_tokens=6)
    assert [len(group) for group in groups] == [3, 3, 3]
    for prompt, group in zip(PROMPTS, groups, strict=True):
        for ids, logp in group:
            assert logp == pytest.approx(expected_logp(network, prompt, ids, 0.7, 1.0), abs=1e-3)
            assert len(ids) == 6 or ids[-1] == ends
    assert engine.identity() == {"device": "cuda" if torch.cuda.is_available() else "cpu", "continuous": True}


def test_what_shapes_the_draws_is_in_the_identity_and_where_they_are_made_is_not(tiny_model):
    options = {"tensor_parallel_size": 4, "gpu_memory_utilization": 0.5, "quantization": "fp8", "dtype": torch.float16}
    assert make_engine("vllm", tiny_model, options).identity() == {"quantization": "fp8", "dtype": "torch.float16"}
    device = {"device": "cuda" if torch.cuda.is_available() else "cpu"}
    assert make_engine("shared_prefix", tiny_model).identity() == device
    plain = make_engine("transformers", tiny_model, {"continuous": False, "batch_size": 8})
    assert plain.identity() == {**device, "continuous": False, "batch_size": 8}


def test_every_engine_fills_the_same_table(engine, tiny_model, server):
    problems = countdown.generate(3, split="dev", seed=0)
    options = {"transformers": {"batch_size": 5}, "vllm_server": {"url": server.url}}
    name = next(name for name, where in ENGINES.items() if where.endswith(f":{type(engine).__name__}"))
    frame = sample_rollouts(
        tiny_model, problems, num_samples=4, seed=1, name="x", engine=name, engine_options=options.get(name)
    )
    assert list(frame["sample"]) == [0, 1, 2, 3] * 3 and frame["logp"].lt(0).all() and frame["correct"].notna().all()
    assert list(frame["prompt"].unique()) == [countdown.Countdown().prompt(p) for p in problems]


def test_seeds_of_neighbours_do_not_meet():
    # vLLM gives completion i of a prompt the prompt's seed + i
    used = {spread(seed, index) + i for seed in range(3) for index in range(100) for i in range(256)}
    assert len(used) == 3 * 100 * 256 and max(used) < 2**57


def test_the_server_is_asked_for_all_that_shapes_the_distribution(server, tiny_model, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "token-abc")
    engine = make_engine("vllm_server", tiny_model, {"url": server.url + "/v1/"})
    engine.draw(PROMPTS, num_samples=2, seed=0, temperature=1.0, top_p=1.0, max_new_tokens=5)
    assert len(server.asked) == 3
    for (body, headers), prompt in zip(sorted(server.asked, key=lambda a: -len(a[0]["prompt"])), PROMPTS):
        assert body["prompt"] == prompt and body["n"] == 2 and body["max_tokens"] == 5
        assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (0, 0.0, 1.0)
        assert headers["Authorization"] == "Bearer token-abc"
    assert len({body["seed"] for body, _ in server.asked}) == 3
    assert engine.identity() == {"served": "tiny", "logp": True}


def test_a_busy_server_is_asked_again(server, tiny_model, quick):
    server.troubles = [(503, b"busy"), "cut", (429, {"error": {"message": "slow down"}}), (200, b"half an ans")]
    engine = make_engine("vllm_server", tiny_model, {"url": server.url, "concurrency": 1})
    drawn = engine.draw(PROMPTS[:1], num_samples=2, seed=0, temperature=1.0, top_p=1.0, max_new_tokens=5)
    assert len(drawn[0]) == 2 and len(server.asked) == 5 and quick == [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("troubles", "options", "kind", "message"),
    [
        (
            [(400, {"error": {"message": "maximum context length is 128 tokens"}})],
            {},
            ValueError,
            "refused a request to /v1/completions with status 400: maximum context length is 128 tokens",
        ),
        ([(401, b"<h1>Unauthorized</h1>")], {}, ValueError, "status 401: <h1>Unauthorized</h1>"),
        ([(503, b"")] * 3, {"retries": 2}, RuntimeError, "in 3 tries; the last time: status 503: (no message)"),
        (["hang"] * 2, {"retries": 1, "timeout": 0.1}, RuntimeError, "no answer within 0.1 s"),
        ([(200, {"choices": [{"index": 0, "text": "a"}]})], {}, RuntimeError, "token_ids need vLLM 0.10.2"),
        ([(200, {"choices": []})], {}, RuntimeError, "gave 0 completions where 2 were asked for"),
        ([(200, [1])], {}, RuntimeError, "in a form that vLLM's documentation does not know"),
        ([], {"served": "other"}, ValueError, "serves 'tiny', not 'other'. Name one of them"),
    ],
)
def test_a_failing_server_says_what_to_do(troubles, options, kind, message, server, tiny_model, quick):
    server.troubles = troubles
    engine = make_engine("vllm_server", tiny_model, {"url": server.url, **options})
    with pytest.raises(kind) as caught:
        engine.draw(PROMPTS[:1], num_samples=2, seed=0, temperature=1.0, top_p=1.0, max_new_tokens=5)
    assert message in str(caught.value) and server.url in str(caught.value)


def test_a_server_that_is_not_there(tiny_model, quick):
    engine = make_engine("vllm_server", tiny_model, {"url": "http://127.0.0.1:9", "retries": 1})
    with pytest.raises(RuntimeError, match=r"(?s)did not answer /v1/models in 2 tries.*vllm serve"):
        engine.identity()


def test_a_program_that_is_told_to_end_does_not_wait_for_the_server(server, tiny_model):
    server.troubles = ["for ever"] * 100
    code = (
        "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from differential_smoothing.sampling import make_engine\n"
        f"engine = make_engine('vllm_server', {tiny_model!r}, {{'url': {server.url!r}}})\n"
        f"engine.draw({[list(p) for p in PROMPTS]!r}, num_samples=1, seed=0, temperature=1.0, top_p=1.0, max_new_tokens=2)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    while len(server.asked) < len(PROMPTS):
        assert process.poll() is None, process.stderr.read()
        threading.Event().wait(0.05)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]  # the server answers after ten minutes


def test_a_server_with_raw_log_probs_is_refused(server, tiny_model):
    server.processed = False
    engine = make_engine("vllm_server", tiny_model, {"url": server.url})
    arguments = {"num_samples": 2, "seed": 0, "top_p": 1.0, "max_new_tokens": 5}
    with pytest.raises(ValueError, match="--logprobs-mode processed_logprobs"):
        engine.draw(PROMPTS, temperature=0.7, **arguments)
    engine.draw(PROMPTS, temperature=1.0, **arguments)  # where both are the same
    without = make_engine("vllm_server", tiny_model, {"url": server.url, "logp": False})
    assert all(math.isnan(d.logp) for g in without.draw(PROMPTS, temperature=0.7, **arguments) for d in g)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vlm", {}, "There is no engine 'vlm'. Known: shared_prefix, transformers, vllm, vllm_server"),
        ("shared_prefix", {"batch_size": 3}, "The engine 'shared_prefix' has no option 'batch_size'. It knows rows."),
        ("transformers", {"batch_size": 0}, "batch_size must be a whole number >= 1, got 0"),
        ("vllm", {"seed": 1}, "sets seed itself"),
        ("vllm_server", {"url": "host:8000"}, "url must be that of a server"),
        ("vllm_server", {"timeout": "long"}, "timeout must be a number of at least"),
    ],
)
def test_wrong_options_are_named(name, options, message, tiny_model):
    with pytest.raises(ValueError) as caught:
        make_engine(name, tiny_model, options)
    assert message in str(caught.value)


def test_vllm_that_is_not_installed_and_adapters(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    arguments = {"num_samples": 1, "seed": 0, "temperature": 1.0, "max_new_tokens": 5}
    with pytest.raises(ValueError, match="needs vLLM, which is not installed"):
        make_engine("vllm", tiny_model).draw(PROMPTS, top_p=1.0, **arguments)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="is an adapter.*Merge it first"):
        make_engine("vllm", str(tmp_path))
    with pytest.raises(ValueError, match="got top_p=0.9. Take engine 'transformers'"):
        make_engine("shared_prefix", tiny_model).draw(PROMPTS, top_p=0.9, **arguments)
    assert isinstance(make_engine("vllm_server", tiny_model), VLLMServer)
