"""Names that stand for no model, from real libraries: offline, a closed port, and a server that answers with the Hub's headers."""

import http.server
import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from differential_smoothing.training.hub import Unreachable, explain, load_config, load_tokenizer

# what a path answers: status, headers of the Hub
ANSWERS = {
    "gated": (401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model is restricted."}),
    "absent": (404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}),
    "private": (401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}),
    "expired": (401, {"X-Error-Message": "Invalid credentials in Authorization header"}),
    "gguf": (404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}),
    "down": (503, {}),
    "often": (429, {}),
}


class FakeHub(http.server.BaseHTTPRequestHandler):
    """The Hub's answers to GET /api/models/NAME and to HEAD and GET of a file, as far as its errors go."""

    def do_GET(self):
        name = self.path.removeprefix("/api/models").split("/")[2].split("?")[0]
        status, headers, body = *ANSWERS.get(name, (404, {})), b""
        if self.path.startswith("/api/models/") and name in ("gated", "gguf"):  # whose description is public
            files = "/tree/" in self.path
            status, headers, body = 200, {}, json.dumps([] if files else {"id": f"owner/{name}"}).encode()
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


LOAD = """
import json, sys
from differential_smoothing.training.hub import load_config, load_tokenizer
for name in sys.argv[1:]:
    for load in (load_config, load_tokenizer):
        try:
            load(name, known=["owner/absentee"])
            said = ["nothing", ""]
        except Exception as error:
            said = [type(error).__name__, str(error)]
        print(json.dumps([name, load.__name__, *said]))
"""


def said_of(names, tmp_path, **environment):
    """What loading says, in a process of its own: huggingface_hub reads its environment once, when it is imported."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
    environment = {**clean, "HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1", **environment}
    done = subprocess.run([sys.executable, "-c", LOAD, *names], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Retrying" not in done.stderr  # huggingface_hub would, for half a minute a file
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 2 * len(names)
    return rows


EXPECTED = {
    "owner/gated": ("ValueError", "is gated", "hf auth login"),
    "owner/absent": ("ValueError", "There is no 'owner/absent' on the Hub", "Did you mean 'owner/absentee'?"),
    "owner/private": ("ValueError", "or it is private", "hf auth login"),
    "owner/expired": ("ValueError", "refuses this machine's token", "status 401"),
    "owner/gguf": ("ValueError", "transformers' format", "'owner/gguf' has no "),
    "owner/down": ("Unreachable", "a fault of its own (503)", "Try again"),
    "owner/often": ("Unreachable", "too many requests (429)", "Try again"),
    "no/such/name": ("ValueError", "neither a folder nor a name on the Hub", "owner/name"),
}


def test_each_answer_of_the_hub_is_one_paragraph(hub, tmp_path):
    for name, load, kind, message in said_of(EXPECTED, tmp_path, HF_ENDPOINT=hub):
        expected, *parts = EXPECTED[name]
        assert kind == expected and all(part in message for part in parts), (name, load, kind, message)
        assert len(message) < 600 and "\n" not in message and "Traceback" not in message


def test_no_network_is_said_without_retries_and_is_no_mistake(tmp_path):
    with socket.socket() as closed:  # bound and not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        for _, _, kind, message in said_of(["owner/model"], tmp_path, HF_ENDPOINT=endpoint):
            assert kind == "Unreachable" and "cannot be reached from here" in message
    for _, _, kind, message in said_of(["owner/model"], tmp_path, HF_HUB_OFFLINE="1"):
        assert kind == "Unreachable" and "HF_HUB_OFFLINE" in message


def test_a_folder_needs_no_network_and_says_what_it_lacks(tiny_model, tmp_path):
    assert load_config(tiny_model).model_type == "llama"
    assert load_tokenizer(tiny_model).eos_token == "<eos>"
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds a LoRA adapter and no model"):
        load_config(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "of_next_year"}')
    with pytest.raises(ValueError, match="of a kind newer than that"):
        load_config(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_config(str(tmp_path))


def test_the_cause_is_found_behind_other_exceptions():
    try:
        try:
            raise ConnectionRefusedError("no")
        except ConnectionError as error:
            raise OSError("something general") from error
    except OSError as error:
        assert isinstance(explain(error, "owner/model"), Unreachable)
    assert isinstance(explain(OSError("something general"), "owner/model"), ValueError)
