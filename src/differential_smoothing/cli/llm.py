"""The commands around a pretrained language model: quickstart-llm, completions."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from .app import Jobs, app, bars
from .training import run_study

QUICKSTART = Path(__file__).parents[1] / "data" / "quickstart_llm.yaml"

#: Minutes of one core that each part took at 200 billion operations a second in its matrix products: supervised start, a training, a model's samples.
_MINUTES, _RATE = (4.0, 13.0, 1.5), 200e9


@app.command(name="quickstart-llm")
def quickstart_llm(
    output: Annotated[Path, typer.Option(help="Run folder. Rerun the command to resume.")] = Path(
        "runs/quickstart-llm"
    ),
    model: Annotated[
        str, typer.Option(help="A small instruct model: smollm2, a folder, a GGUF file, or a Hub name.")
    ] = "smollm2",
    steps: Annotated[int, typer.Option(help="Training steps of GRPO and of DS-GRPO.")] = 100,
    problems: Annotated[int, typer.Option(help="Test problems that every model is sampled on.")] = 20,
    samples: Annotated[int, typer.Option(help="Completions per problem.")] = 64,
    jobs: Jobs = 0,
) -> None:
    """A real language model on a laptop: a supervised start, GRPO and DS-GRPO from it, their Pass@k, and what they write, next to each other."""
    from differential_smoothing.studies.spec import make_study, read_yaml
    from differential_smoothing.training import resolve_model

    if steps < 1:
        raise ValueError(f"--steps must be at least 1, got {steps}.")
    content = read_yaml(QUICKSTART)
    start = output / "start"
    content["common"] |= {"model": str(start), "max_steps": steps}
    content["evaluation"] |= {"problems": problems, "samples": samples}
    study = make_study(QUICKSTART, content)
    folder = resolve_model(model)
    parallel = jobs or min(2, os.cpu_count() or 1)
    print(
        f"About {_estimate(steps, parallel, started=start.is_dir()):.0f} minutes on this machine, {parallel} at once, if nothing else runs on it."
    )
    if not start.is_dir():
        from differential_smoothing.training.supervised import teach

        unfinished = output / "start.unfinished"
        with bars() as advance:
            found = teach(
                folder,
                unfinished,
                study.evaluation.make_task(),
                pass_at_1=(0.15, 0.3),
                learning_rate=5e-4,
                lora_r=16,
                check_every=8,
                check_problems=40,
                on_step=lambda step, loss: advance(f"supervised start, loss {loss:.3f}", "train", step, 200),
            )
        unfinished.rename(start)
        print(f"The supervised start answers {found:.1%} of the dev problems in one try.")
    run_study(study, output / "study", jobs)
    _page(
        [output / "study" / "rollouts" / f"{name}-seed0.parquet" for name in study.models],
        output / "completions.html",
        12,
    )


@app.command()
def completions(
    rollouts: Annotated[
        list[Path],
        typer.Argument(help="Rollouts tables of dsmooth sample on the same problems; the first is the model before."),
    ],
    output: Annotated[Path, typer.Option(help="The page to write, .html.")],
    prompts: Annotated[int, typer.Option(help="How many prompts are shown in full.")] = 12,
) -> None:
    """A page with the same prompts under several models: their completions next to each other, and the right answers that were lost."""
    _page(rollouts, output, prompts)


def _page(tables: list[Path], output: Path, prompts: int) -> None:
    import pandas as pd

    from differential_smoothing.report.completions import write_completions
    from differential_smoothing.rollouts import read_rollouts

    frame = pd.concat([read_rollouts(table) for table in tables], ignore_index=True)
    write_completions(output, frame, prompts=prompts)
    print(f"The completions of every model, next to each other: {output}")


def _estimate(steps: int, jobs: int, *, started: bool) -> float:
    """Minutes, from the rate of a matrix product on this machine now."""
    import torch
    from torch.nn.functional import linear

    from differential_smoothing.sampling.number_format import has_bfloat16

    dtype = torch.bfloat16 if has_bfloat16() else torch.float32
    rows, weight = torch.randn(256, 576, dtype=dtype), torch.randn(1536, 576, dtype=dtype)
    linear(rows, weight)
    begun, done = time.process_time(), 0
    while time.process_time() - begun < 0.3:
        linear(rows, weight)
        done += 1
    rate = 2 * 256 * 576 * 1536 * done / (time.process_time() - begun)
    start, training, samples = _MINUTES
    trained = 2 * (training * steps / 100 + samples) / min(jobs, 2)
    return (start * (not started) + trained + samples) * _RATE / rate
