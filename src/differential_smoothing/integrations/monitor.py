"""A live monitor of sharpening for any GRPOTrainer: the training groups already hold what one needs to see it.

    trainer = GRPOTrainer(...)  # or DSGRPOTrainer
    SharpeningMonitor(trainer)
    trainer.train()

No completion is generated for it, no forward pass is made, nothing is drawn at random, and the weights are those of a
training without it, bit for bit. The values join the host's own metrics, so every tracker of ``report_to`` gets them;
those of an evaluation are ``eval_sharpening/...``.

Callbacks of the host see no completions, so the monitor extends four methods *of this one trainer object*:
``_calculate_rewards`` (completions and rewards), ``_generate_and_score_completions`` and ``_compute_loss`` with
``_get_per_token_logps_and_entropies`` (log-probs, wherever they are computed anyway). They are private to TRL:
``tests/test_trl.py`` and ``tests/test_monitor.py`` hold the contract.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

# isort: off
from differential_smoothing.integrations.trl import (
    DSGRPOTrainer,
)  # before its host: its error names the package to install

# isort: on
import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback
from trl import GRPOTrainer

from differential_smoothing.evaluation.monitoring.groups import group_statistics, likelihood_statistics
from differential_smoothing.evaluation.monitoring.sequential import DropTest
from differential_smoothing.integrations.answers import Answers
from differential_smoothing.integrations.correctness import (
    CorrectnessWatch,
    correct_columns,
    correctness,
    threshold_number,
)
from differential_smoothing.integrations.trl.batch import loss_mask, old_logps

__all__ = ["SharpeningMonitor"]

_KEY = "sharpening_monitor"  # of the trainer's state; not our class's name, by which the host would re-create us
_HOW = (
    "Make the trainer first, without the monitor in callbacks=[...], then SharpeningMonitor(trainer): it adds itself."
)
_log = logging.getLogger(__name__)


class SharpeningMonitor(TrainerCallback):
    """Logs ``sharpening/...`` from the training groups and warns, once, when a collapse is statistically clear.

    It attaches itself to ``trainer``; there is nothing else to call. Per generated batch, over all processes:

    * ``pass_at_1, pass_at_2, pass_at_4, ...`` up to the group size, ``all_wrong``, ``all_correct``, ``variety_correct``,
      ``distinct_correct``: see ``evaluation.monitoring.groups.group_statistics``.
    * ``entropy_correct``, ``entropy_incorrect``, ``entropy_discrepancy``, ``surprisal_correct``,
      ``surprisal_incorrect``, ``likelier_correct``, ``covariance``, ``covariance_correct``: see
      ``likelihood_statistics``. Log-probs are the host's, of its sampling distribution; where the host does not compute them
      these are missing.
    * ``change_...`` of ``variety_correct``, ``entropy_correct`` and the largest Pass@k: the batch's value less the mean
      of the first ``warmup`` batches.
    * ``evidence_...`` of the variety and of the largest Pass@k: log10 of the wealth of a gambler who bets on a fall. The
      alarm is at log10(4 / alpha), 1.9 by default: see ``evaluation.monitoring.sequential.DropTest``.

    Args:
        trainer: a GRPOTrainer, stock or ours. The monitor adds itself to its callbacks, so it is made after the trainer and is none of
            the trainer's own ``callbacks=[...]``.
        canonical: ``canonical(completion_text, **columns) -> str | None`` tells which correct completions are the same
            answer; ``columns`` are those of the dataset's row. None: this completion has no answer to compare. Default:
            the text itself without surrounding white space, by which long chains of thought all differ, so give one.
        correct_reward: name of the reward function that decides correctness, or its position, or a list of which the first that is
            not None counts. Required with several; DSGRPOTrainer's own by default.
        correct_threshold: correct means that reward is above this; by default 0.5, or DSGRPOTrainer's. A reward of None or NaN:
            unscored.
        warmup: batches that count as the start of training, at least 20.
        alpha: chance of a false alarm in a whole run, for shuffled data: the alarm takes the mix of problems to be the same
            throughout. Easy problems first, or newly solved problems that have fewer answers, also lower these means.
        tolerance: falls of variety or Pass@k up to this share of the start's value raise no alarm.
        stop: whether an alarm also ends the training.

    The monitor's memory lies in the trainer's state, so checkpoints have it and a resumed training knows its start.
    """

    def __init__(
        self,
        trainer: GRPOTrainer | None = None,
        *,
        canonical: Callable[..., str | None] | None = None,
        correct_reward: str | int | Sequence[str | int] | None = None,
        correct_threshold: float | None = None,
        warmup: int = 50,
        alpha: float = 0.05,
        tolerance: float = 0.1,
        stop: bool = False,
    ):
        if not isinstance(trainer, GRPOTrainer):
            raise ValueError(
                f"SharpeningMonitor watches the groups of TRL's GRPOTrainer; got "
                f"{'none' if trainer is None else type(trainer).__name__}. {_HOW}"
            )
        if any(isinstance(callback, SharpeningMonitor) for callback in trainer.callback_handler.callbacks):
            raise ValueError("This trainer has a SharpeningMonitor already. Make one only.")
        if correct_reward is None:
            correct_reward = getattr(trainer.args, "correct_reward", None)
        if correct_threshold is None:
            correct_threshold = getattr(trainer.args, "correct_threshold", 0.5)
        self._columns = correct_columns(trainer.reward_func_names, correct_reward)
        self._threshold = threshold_number("correct_threshold", correct_threshold)
        self._answers, self._stop = Answers(canonical or _stripped), stop
        self._watch = (  # DSGRPOTrainer has one of its own
            None
            if isinstance(trainer, DSGRPOTrainer)
            else CorrectnessWatch(trainer.reward_func_names, self._columns, self._threshold)
        )
        self._settings = {"warmup": warmup, "alpha": alpha, "tolerance": tolerance}
        self._trainer = trainer
        # what is tested for a fall, each with half of alpha
        self._tested = {
            f"pass_at_{_powers_of_two(trainer.num_generations)[-1]}": "the share of problems solved within a group",
            "variety_correct": "the chance that two correct answers to a problem differ",
        }
        self._reset()
        self._pending: dict[str, _Batch] = {}
        self._in_loss: dict[str, Any] | None = None
        self._blind = False
        extensions: dict[str, Callable[..., Any]] = {
            "_calculate_rewards": self._rewards,
            "_generate_and_score_completions": self._generation,
            "_compute_loss": self._loss,
            "_get_per_token_logps_and_entropies": self._logps,
        }
        for name, extension in extensions.items():
            method = getattr(trainer, name)
            extended: Callable[..., Any] = functools.partial(extension, method)
            setattr(trainer, name, functools.wraps(method)(extended))
        trainer.add_callback(self)

    def _reset(self) -> None:
        options: dict[str, Any] = {**self._settings, "alpha": self._settings["alpha"] / len(self._tested)}
        self._tests = {name: DropTest(**options) for name in self._tested}
        self._starts = {name: [0, 0.0] for name in (*self._tested, "entropy_correct")}  # batches, sum
        self._alarms: dict[str, int] = {}  # the step of each alarm

    # --- the host's four methods ------------------------------------------------------------------------------------

    def _rewards(self, method, inputs, prompts, completions, *args: Any, **kwargs: Any) -> Tensor:
        rewards = method(inputs, prompts, completions, *args, **kwargs)  # of all processes
        accelerator, mode = self._trainer.accelerator, self._mode
        correct = correctness(rewards, self._columns, self._threshold)[1]
        mine = correct[accelerator.process_index * len(prompts) :][: len(prompts)].tolist()
        answers = [
            self._answer(completion, row) if right == 1 else -1
            for right, completion, row in zip(mine, completions, inputs, strict=True)
        ]
        answers = accelerator.gather(torch.tensor(answers, device=rewards.device))
        size = self._trainer.num_generations if mode == "train" else self._trainer.num_generations_eval
        if mode == "train" and self._watch is not None:
            self._say(self._watch.update(rewards, size))
        correct = correct.cpu().double().numpy().reshape(-1, size)
        values, by_group = group_statistics(correct, answers.cpu().numpy().reshape(-1, size), _powers_of_two(size))
        self._pending[mode] = _Batch(correct, len(prompts), rewards.device)
        if mode == "train":
            for name, test in self._tests.items():
                test.update(by_group[name], at=self._trainer.state.global_step)
                values[f"evidence_{name}"] = float(test.evidence[0])
                self._check(name, test)
        self._add(mode, values)
        return rewards

    def _generation(self, method, inputs) -> dict[str, Any]:
        output = method(inputs)
        batch, logps = self._pending.get(self._mode), old_logps(output)
        if batch is None:
            if not self._blind:
                self._say(
                    [
                        "SharpeningMonitor has seen no rewards of this trainer and logs nothing: a method of it was replaced by one that "
                        "does not call self._calculate_rewards. Make the monitor after the last change to the trainer."
                    ]
                )
            self._blind = True
            return output
        # the host shuffles and splits what it buffers, so a completion's place travels with it
        output["sharpening_row"] = torch.arange(len(inputs), device=batch.logps.device)
        if logps is not None:
            self._record(batch, output, logps)
        return output

    def _loss(self, method, model, inputs) -> Tensor:
        self._in_loss = inputs if "sharpening_row" in inputs else None
        try:
            return method(model, inputs)
        finally:
            self._in_loss = None

    def _logps(self, method, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        result = method(*args, **kwargs)
        # In a loss without old log-probs the policy has not moved since it sampled, or the host would have made them.
        if self._in_loss is not None and (batch := self._pending.get(self._mode)) is not None:
            self._record(batch, self._in_loss, result[0].detach())
        return result

    # --- what they saw ----------------------------------------------------------------------------------------------

    @property
    def _mode(self) -> str:
        return "train" if self._trainer.model.training else "eval"

    def _answer(self, completion: Any, row: dict[str, Any]) -> int:
        """A number for the answer of a correct completion, the same on all processes; -1 if it has none."""
        answer = self._answers(completion, row)
        if answer is None:
            return -1
        digest = hashlib.blake2b(answer.encode(errors="surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1

    def _say(self, notices: list[str]) -> None:
        for notice in notices if self._trainer.accelerator.is_main_process else []:
            _log.warning(notice)

    def _record(self, batch: _Batch, inputs: dict[str, Any], logps: Tensor) -> None:
        mask = loss_mask(inputs).bool() & ~logps.isnan()  # vLLM gives NaN where it has no value
        batch.logps[inputs["sharpening_row"]] = torch.stack(
            [torch.where(mask, logps.float(), 0.0).sum(1), mask.sum(1).float()], 1
        )
        batch.missing -= len(logps)
        if batch.missing > 0:  # of a batch in parts, all processes have the same number, so they meet here
            return
        mode = self._mode
        del self._pending[mode]
        logps, tokens = self._trainer.accelerator.gather(batch.logps).cpu().double().numpy().T
        advantages = list(self._trainer._logs["advantages"])[-len(logps) :]  # those in effect, of all processes
        shape = batch.correct.shape
        if len(advantages) < len(logps):  # an evaluation batch that is larger than the host's log
            advantages = np.full(len(logps), np.nan)
        values = likelihood_statistics(
            batch.correct, logps.reshape(shape), tokens.reshape(shape), np.reshape(advantages, shape)
        )
        self._add(mode, values)

    def _add(self, mode: str, values: dict[str, float]) -> None:
        """Into the host's metrics. What is undefined is left out: trackers choke on it, and the host averages."""
        values = {name: value for name, value in values.items() if np.isfinite(value)}
        if mode == "train":
            for name, start in self._starts.items():
                if name in values and start[0] < self._settings["warmup"]:
                    start[0], start[1] = start[0] + 1, start[1] + values[name]
                elif name in values:
                    values[f"change_{name}"] = values[name] - start[1] / start[0]
        for name, value in values.items():
            self._trainer._metrics[mode][f"sharpening/{name}"].append(float(value))

    def _check(self, name: str, test: DropTest) -> None:
        if name in self._alarms or not test.alarm[0]:
            return
        step = self._alarms[name] = self._trainer.state.global_step
        drop = test.drop()
        if self._trainer.accelerator.is_main_process:
            _log.warning(
                "Sharpening at step %d: %s has fallen, since about step %d. It is %s lately and was %s at the start of "
                "training (95%% intervals; the chance of a false alarm in a whole run is %g, if the mix of problems is the "
                "same throughout). If the model did not merely begin to solve problems with fewer answers, lower the "
                "learning rate first; what then remains, raise gamma_p of DSGRPOTrainer. Checkpoints from before step %d still have "
                "what was lost.%s",
                step,
                self._tested[name],
                drop.since,
                _written(drop.recent),
                _written(drop.reference),
                self._settings["alpha"],
                drop.since,
                " Training stops here, as stop=True asks." if self._stop else "",
            )

    # --- the callback -----------------------------------------------------------------------------------------------

    def on_init_end(self, args, state, control, **kwargs):
        """ValueError: a trainer that was made with this monitor in its ``callbacks`` is not the one that it watches."""
        raise ValueError(f"This SharpeningMonitor watches another trainer. {_HOW}")

    def on_train_end(self, args, state, control, **kwargs):
        """What a short training could not be sure of earlier."""
        if self._watch is not None:
            self._say(self._watch.close())

    def on_train_begin(self, args, state, control, **kwargs):
        """A resumed training keeps its recorded start; a new one records its own."""
        if state is not self._trainer.state:
            raise ValueError(f"This SharpeningMonitor watches another trainer. {_HOW}")
        self._reset()
        self._pending.clear()
        saved = state.stateful_callbacks.get(_KEY)
        if saved is None:
            return
        if saved["settings"] != self._settings or list(saved["tests"]) != list(self._tests):
            _log.warning(
                "The checkpoint's SharpeningMonitor was set to %s for %s, this one to %s for %s: it takes the first "
                "batches from here on for the start of training. Set it as it was to go on.",
                saved["settings"],
                ", ".join(saved["tests"]),
                self._settings,
                ", ".join(self._tests),
            )
            return
        self._starts, self._alarms = saved["starts"], saved["alarms"]
        for name, test in self._tests.items():
            test.restore(saved["tests"][name])

    def on_step_end(self, args, state, control, **kwargs):
        """The state is the host's to save; it is put there before every step's chance to do so."""
        state.stateful_callbacks[_KEY] = self._state
        if self._stop and self._alarms:
            control.should_training_stop = True
        return control

    @property
    def _state(self) -> dict[str, Any]:
        tests = {name: test.state() for name, test in self._tests.items()}
        return {"settings": self._settings, "starts": self._starts, "alarms": self._alarms, "tests": tests}


class _Batch:
    """One generated batch on its way to the log-probs: of all processes what is correct, of this one the log-probs."""

    def __init__(self, correct: np.ndarray, size: int, device: torch.device):
        self.correct = correct  # (groups, n)
        self.logps = torch.zeros(size, 2, device=device)  # sum over tokens, number of tokens
        self.missing = size  # completions whose log-probs are still to come


def _powers_of_two(size: int) -> list[int]:
    return [2**i for i in range(size.bit_length())]


def _stripped(text: str, /, **_: Any) -> str:
    return text.strip()


def _written(interval: tuple[float, float, float]) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(*interval)
