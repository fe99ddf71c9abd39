"""One batch of a recorded run of verl, and the advantages of verl's estimator for it under several options, as JSON.

    PYTHONPATH=tests python -m verl_cpu.shared RECORD/1.pt

verl and TRL cannot train in one environment, so the batch travels as a file: ``tests/test_verl_in_trl.py`` gives the same completions
to the TRL trainer. ``tests/test_verl_estimator.py`` checks that verl's estimator still gives what the file says.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

FILE = Path(__file__).parents[1] / "data" / "verl_batch.json"

#: Rules that divide by nothing, or by their own epsilon: verl's and TRL's GRPO have different ones.
OPTIONS = {
    "dr_grpo, both gammas": {"rule": "dr_grpo", "gamma_p": 0.3, "gamma_n": 0.1},
    "ds_a": {"rule": "ds_a", "rule_options": {"gamma_p": 0.3, "gamma_n": 0.1}},
    "unlikeliness": {"rule": "unlikeliness"},
    "maxrl, sum": {"rule": "maxrl", "gamma_p": 0.02, "level": "sum"},
    "pkpo, centred mean": {"rule": "pkpo", "rule_options": {"k": 2}, "gamma_p": 0.2, "level": "mean", "center": True},
}


def padded(rows: list) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.as_tensor(row) for row in rows], batch_first=True)


def in_verl(batch: dict, options: dict) -> torch.Tensor:
    """(rows, tokens) of verl's estimator, for the rows in their order."""
    from differential_smoothing.integrations.verl.estimator import Handed, shaped_advantages
    from differential_smoothing.integrations.verl.options import DSOptions

    correct, rows = torch.tensor(batch["correct"]), len(batch["uid"])
    mask = padded([[1] * len(row) for row in batch["completion_ids"]])
    extra = Handed(
        logps=padded(batch["logps"]),
        correct=correct,
        counts=torch.ones(rows, dtype=torch.bool),
        final=torch.arange(rows),
    )
    return shaped_advantages(DSOptions(**options), correct, mask, uid=np.array(batch["uid"]), extra=extra)[0]


def write(recorded: Path) -> None:
    rows = torch.load(recorded, weights_only=False)
    assert not any(rows["padding"])
    order = np.argsort(np.array(rows["uid"], dtype=str), kind="stable").tolist()  # TRL's groups are neighbours
    batch = {
        "uid": [str(rows["uid"][i]) for i in order],
        "prompt_ids": [rows["prompts"][i].tolist() for i in order],
        "completion_ids": [rows["responses"][i].tolist() for i in order],
        "logps": [[round(x, 6) for x in rows["rollout_log_probs"][i].tolist()] for i in order],
        "correct": [rows["acc"][i] for i in order],
    }
    advantages = {name: in_verl(batch, options) for name, options in OPTIONS.items()}
    batch["advantages"] = {
        name: [
            [round(x, 7) for x in row[: len(ids)].tolist()]
            for row, ids in zip(values, batch["completion_ids"], strict=True)
        ]
        for name, values in advantages.items()
    }
    FILE.write_text(json.dumps(batch) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
