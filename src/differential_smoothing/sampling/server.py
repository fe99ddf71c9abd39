"""A vLLM server: ``vllm serve MODEL --logprobs-mode processed_logprobs``.

The endpoint is /v1/completions, OpenAI's with vLLM's ``return_token_ids``: TRL 1.16 deprecated its own ``trl vllm-serve`` in favour of
vLLM's server, and its client draws from the same endpoint. It takes and gives token ids, so nothing is tokenized twice. vLLM itself was
never run here; the protocol is tested against a small HTTP server that speaks it.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import threading
import time
import urllib.error
import urllib.request
from functools import cached_property
from typing import Any

from .engine import Draw, Engine, spread

__all__ = ["VLLMServer"]

TOP = 20  # log-probs per token that a server gives unless it was told otherwise
AGAIN = (408, 425, 429, 500, 502, 503, 504)


class VLLMServer(Engine):
    """Draws from a server that somebody else runs. ``model`` is here for its tokenizer; the weights are the server's.

    Args:
        url: of the server, without /v1.
        served: the model's name there. Default: the only one it serves.
        timeout: seconds for one prompt's completions.
        retries: how often a request is sent again when the server is busy, fails, or cannot be reached; with growing waits.
        concurrency: prompts at once.
        logp: False leaves log-probs unknown, for servers that report those of another distribution than the one drawn from.

    The environment variable VLLM_API_KEY is sent as the key, if there is one. Every prompt is a request with a seed of its own.
    """

    rows_at_once = 16_384
    elsewhere = True

    def __init__(
        self,
        model: str,
        url: str = "http://127.0.0.1:8000",
        served: str = "",
        timeout: float = 3600,
        retries: int = 5,
        concurrency: int = 16,
        logp: bool = True,
    ):
        super().__init__(model)
        self.url = str(url).rstrip("/").removesuffix("/v1")
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url must be that of a server, such as http://127.0.0.1:8000; got {url!r}.")
        for name, value, least in (
            ("timeout", timeout, 0.001),
            ("retries", retries, 0),
            ("concurrency", concurrency, 1),
        ):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= least:
                raise ValueError(f"{name} must be a number of at least {least}, got {value!r}.")
        self.timeout, self.retries, self.concurrency, self.logp = timeout, int(retries), int(concurrency), logp
        self._served = served

    @cached_property
    def served(self) -> str:
        """The served model's name. ValueError if the server has several, or not the one that was named."""
        answer = self._ask("/v1/models", None)
        try:
            names = [model["id"] for model in answer["data"]]
        except (KeyError, TypeError):
            raise RuntimeError(
                f"{self.url}/v1/models did not answer with a list of models, so it is no OpenAI-compatible server."
            ) from None
        if self._served in names or (len(names) == 1 and not self._served):
            return self._served or names[0]
        raise ValueError(
            f"The server at {self.url} serves {', '.join(map(repr, names)) or 'no model'}"
            f"{f', not {self._served!r}' if self._served else ''}. Name one of them in the engine's option 'served'."
        )

    def identity(self):
        """The served model's name: the weights behind it are the server's business."""
        return {"served": self.served, "logp": self.logp}

    def draw(self, prompt_ids, *, num_samples, seed, temperature, top_p, max_new_tokens):
        """See ``Engine.draw``. RuntimeError once a request has failed ``retries`` times more."""
        settings = {"temperature": temperature, "top_p": top_p}
        if self.logp and (temperature != 1 or top_p < 1):
            self._check_mode(list(prompt_ids[0]), settings)

        def ask(index: int) -> list[Draw]:
            return self._complete(
                list(prompt_ids[index]), n=num_samples, seed=spread(seed, index), max_tokens=max_new_tokens, **settings
            )

        waiting, answers, errors = list(reversed(range(len(prompt_ids)))), {}, []

        def work() -> None:
            while waiting and not errors:
                try:
                    index = waiting.pop()
                except IndexError:  # another thread took the last one
                    return
                try:
                    answers[index] = ask(index)
                except Exception as error:
                    errors.append(error)

        # daemons: a program that is told to end does not wait for answers, which may take an hour
        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(self.concurrency, len(prompt_ids)))]
        try:
            for thread in threads:
                thread.start()
            while not errors and any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(0.05)
        finally:  # after an error, and Ctrl-C, the prompts that wait are not sent any more
            waiting.clear()
        if errors:
            raise errors[0]
        return [answers[index] for index in range(len(prompt_ids))]

    def _complete(self, prompt: list[int], *, n: int, **settings: Any) -> list[Draw]:
        # the server fills omitted settings from generation_config.json, so every setting that shapes the distribution is sent
        body = {
            "model": self.served,
            "prompt": prompt,
            "n": n,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "logprobs": 0 if self.logp else None,
            "return_token_ids": True,
            **settings,
        }
        answer = self._ask("/v1/completions", body)
        try:
            choices = sorted(answer["choices"], key=lambda choice: choice["index"])
            draws = [self._read(choice) for choice in choices]
        except (KeyError, TypeError, ValueError) as error:
            raise RuntimeError(
                f"{self.url}/v1/completions answered in a form that vLLM's documentation does not know ({error!r}): "
                f"{json.dumps(answer)[:200]}. token_ids need vLLM 0.10.2 or later."
            ) from None
        if len(draws) != n:
            raise RuntimeError(f"{self.url}/v1/completions gave {len(draws)} completions where {n} were asked for.")
        return draws

    def _read(self, choice: dict[str, Any]) -> Draw:
        ids = [int(token) for token in choice["token_ids"]]
        if not self.logp:
            return Draw(ids, math.nan)
        logps = choice["logprobs"]["token_logprobs"]
        if len(logps) != len(ids):
            raise ValueError(f"{len(ids)} tokens and {len(logps)} log-probs")
        return Draw(ids, math.nan if None in logps else float(sum(logps)))

    def _check_mode(self, prompt: list[int], settings: dict[str, float]) -> None:
        """ValueError unless the log-probs change with the temperature, as those of the distribution drawn from do."""
        if getattr(self, "_processed", False):
            return
        tops = []
        for temperature in (1.0, 2.0):
            answer = self._ask(
                "/v1/completions",
                {
                    "model": self.served,
                    "prompt": prompt,
                    "max_tokens": 1,
                    "temperature": temperature,
                    "top_p": 1.0,
                    "top_k": 0,
                    "min_p": 0.0,
                    "repetition_penalty": 1.0,
                    "logprobs": TOP,
                    "seed": 0,
                },
            )
            tops.append(answer["choices"][0]["logprobs"]["top_logprobs"][0])
        both = set(tops[0]) & set(tops[1])
        if both and all(abs(tops[0][token] - tops[1][token]) < 1e-4 for token in both):
            raise ValueError(
                f"The server at {self.url} reports log-probs of the model's own distribution, not of the one at temperature "
                f"{settings['temperature']} and top_p {settings['top_p']} that it draws from. Start it with "
                f"--logprobs-mode processed_logprobs, or set the engine's option logp to false to leave them unknown."
            )
        self._processed = True

    def _ask(self, path: str, body: dict[str, Any] | None) -> Any:
        """The server's JSON answer; ``body`` None is a GET. Waits 1, 2, 4, ... seconds, at most 30, before another try."""
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("VLLM_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        failure = ""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(min(2.0 ** (attempt - 1), 30))
            request = urllib.request.Request(self.url + path, data=data, headers=headers)
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                    return json.loads(answer.read())
            except urllib.error.HTTPError as error:
                failure = f"status {error.code}: {_message(error)}"
                if error.code not in AGAIN:
                    raise ValueError(
                        f"The server at {self.url} refused a request to {path} with {failure}. The model is {self.model!r} here; "
                        f"a key goes into VLLM_API_KEY, and a longer context is --max-model-len of vllm serve."
                    ) from None
            except TimeoutError:
                failure = f"no answer within {self.timeout:g} s"
            except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
                failure = f"{getattr(error, 'reason', None) or error!r}"
            except ValueError as error:
                failure = f"an answer that is not JSON ({error})"
        raise RuntimeError(
            f"The server at {self.url} did not answer {path} in {self.retries + 1} tries; the last time: {failure}. Is "
            f"`vllm serve {self.model} --logprobs-mode processed_logprobs` running there? Finished parts are kept."
        )


def _message(error: urllib.error.HTTPError) -> str:
    """The server's error message: OpenAI's form, vLLM's older one, or the beginning of the text."""
    try:
        text = error.read(10_000).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return "(no message)"
    try:
        found: Any = json.loads(text)
        inner: Any = found.get("error", found) if isinstance(found, dict) else found
        message = inner.get("message", inner) if isinstance(inner, dict) else inner
    except ValueError:
        message = text
    return " ".join(str(message).split())[:500] or "(no message)"
