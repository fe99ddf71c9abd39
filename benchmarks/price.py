"""What a rule pays in variety for what it gains in success, exactly: the laboratory's view of the arena.

    python benchmarks/price.py                 # half a minute, no model; writes benchmarks/results/price.csv

For one prompt with three correct and two wrong one-token answers and groups of 8 (the arena's), the expected step of each rule is enumerated:
its gain in success rate C, and its loss in the entropy H of the correct answers (nats). ``price`` is the loss per gain, summed over 40 random
prompts and relative to GRPO's: below 1 is cheaper, below 0 the rule raises both. ``gain`` is the gain relative to GRPO's at the same
learning rate. Where one of eight completions is right there is little to compare within a group, and every price is above 0.9. Rules that give all correct
answers of a group one advantage (PKPO, F-GRPO, ...) have price 1 by algebra.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from differential_smoothing.rules import make_rule
from differential_smoothing.tabular.oracle import expected_gradient
from differential_smoothing.tabular.trajectories import sequences

ROOT = Path(__file__).parents[1]
PER_ANSWER = f"{ROOT / 'benchmarks' / 'candidates.py'}:per_answer"
RULES = {
    "grpo": ("grpo", {}, 0.0),
    "ds 0.1": ("grpo", {}, 0.1),
    "ds 0.4": ("grpo", {}, 0.4),
    "maxrl": ("maxrl", {}, 0.0),
    "ds_maxrl 0.1": ("maxrl", {}, 0.1),
    "ucpo 0.5": ("ucpo", {"share": 0.5}, 0.0),
    "unlikeliness 0.25": ("unlikeliness", {"weight": 0.25}, 0.0),
    "per_answer 0.5": (PER_ANSWER, {"share": 0.5}, 0.0),
    "ds_per_answer 0.5, 0.1": (PER_ANSWER, {"share": 0.5}, 0.1),
    "ds_per_answer_maxrl 0.5, 0.1": (PER_ANSWER, {"share": 0.5, "on": "maxrl"}, 0.1),
}
CORRECT = np.array([True, True, True, False, False])
ANSWERS = sequences([[i] for i in range(len(CORRECT))])
GROUP = 8


def advantages(name: str, options: dict, gamma_p: float):
    """The rule with the term on top as the oracle calls it. Answers are known by their log-probabilities, which all differ."""
    bound = make_rule(name, options)

    def rule(rewards, logps, mask, *, correct, group):
        correct = correct.to(rewards.dtype)
        answer = torch.where(correct == 1, torch.unique(logps[:, 0], return_inverse=True)[1], -1)
        asked = {"answer": answer} if "answer" in bound.context else {}
        values = bound(rewards, logps if bound.needs_logps else None, mask, correct=correct, group=group, **asked)
        return (values if values.dim() == 2 else values[:, None]) - gamma_p * correct[:, None] * logps

    return rule


def rates(pi: np.ndarray, rule) -> tuple[float, float]:
    """How fast success and the entropy of the correct answers change along the rule's expected step."""
    step = expected_gradient(np.log(pi)[None], ANSWERS, CORRECT, rule, GROUP)[0]
    success = pi[CORRECT].sum()
    q = np.where(CORRECT, pi / success, 1.0)
    entropy = -(q * np.log(q)).sum()
    return step @ (pi * (CORRECT - success)), step @ np.where(CORRECT, -q * (np.log(q) + entropy), 0.0)


def main() -> pd.DataFrame:
    rows = []
    for success in (0.05, 0.2, 0.5, 0.8, 0.9):
        rng = np.random.default_rng(0)
        prompts = []
        for _ in range(40):
            pi = np.concatenate([success * rng.dirichlet([1, 1, 1]), (1 - success) * rng.dirichlet([1, 1])])
            prompts.append(np.maximum(pi, 1e-5) / np.maximum(pi, 1e-5).sum())
        sums = {name: np.sum([rates(pi, advantages(*how)) for pi in prompts], 0) for name, how in RULES.items()}
        base = sums["grpo"]
        rows += [
            (name, success, (lost / gained) / (base[1] / base[0]), gained / base[0])
            for name, (gained, lost) in sums.items()
        ]
    return pd.DataFrame(rows, columns=["rule", "success", "price", "gain"])


if __name__ == "__main__":
    table = main()
    table.to_csv(ROOT / "benchmarks" / "results" / "price.csv", index=False, float_format="%.3f")
    print(table.pivot(index="rule", columns="success", values="price").loc[list(RULES)].round(2).to_string())
    print(table.pivot(index="rule", columns="success", values="gain").loc[list(RULES)].round(2).to_string())
