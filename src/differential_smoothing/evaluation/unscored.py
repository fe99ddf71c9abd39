"""Completions without a verdict: they enter no average, so each report gives their number."""

import pandas as pd

__all__ = ["unscored"]


def unscored(frame: pd.DataFrame) -> list[str]:
    """One sentence for each model of a rollouts table with unscored rows (null `correct`); none where all are scored.

    "grpo: 16 of 32 completions are unscored and enter no average; 4 of 8 problems have no scored completion and are left out."
    """
    sentences = []
    for model, part in frame.groupby("model", sort=False):
        missing = part["correct"].isna()
        if not missing.any():
            continue
        empty = missing.groupby([part["seed"], part["prompt_id"]]).all()
        sentence = f"{model}: {missing.sum()} of {len(part)} completions are unscored and enter no average"
        if empty.any():
            problems = "problems" if part["seed"].nunique() == 1 else "problems of its training seeds"
            sentence += f"; {empty.sum()} of {len(empty)} {problems} have no scored completion and are left out"
        sentences.append(f"{sentence}.")
    return sentences
