"""The commands that train and sample: quickstart, compare, train, sample, base."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from differential_smoothing.report import results

from .app import Jobs, app, bars

TASK = "'countdown', 'math', or 'reasoning_gym:NAME' for a generator of reasoning-gym."
TASK_OPTIONS = "Options of the task as JSON, such as '{\"max_solutions\": 1}'."

if TYPE_CHECKING:
    from differential_smoothing.tasks.task import Split


@app.command()
def quickstart(
    output: Annotated[Path, typer.Option(help="Run folder. Rerun the command to resume.")] = Path("runs/quickstart"),
    seed: Annotated[int, typer.Option(help="Training seed of all runs.")] = 0,
    jobs: Jobs = 0,
) -> None:
    """GRPO at two learning rates and DS-GRPO, trained until GRPO stops learning: their paths, in some four minutes on two cores."""
    from differential_smoothing.studies.read import QUICKSTART, read_study

    run_study(
        read_study(QUICKSTART, seeds=[seed]), output if seed == 0 else output.with_name(f"{output.name}-{seed}"), jobs
    )


@app.command()
def compare(
    study: Annotated[
        Path,
        typer.Argument(help="A study file, such as benchmarks/sharpening.yaml, or a sweep, benchmarks/arena.yaml."),
    ],
    output: Annotated[Path, typer.Option(help="Run folder. Rerun the command to resume.")],
    jobs: Jobs = 0,
) -> None:
    """Run a study or a sweep from one YAML file, resumable cell by cell, and report it."""
    from differential_smoothing.studies.read import read_study

    run_study(read_study(study), output, jobs)


def run_study(chosen, output: Path, jobs: int) -> None:
    """Run what is missing of a study or a sweep in its folder, and report all of it."""
    from differential_smoothing.studies.counts import read_costs, read_counts, read_logs
    from differential_smoothing.studies.run import run_study
    from differential_smoothing.studies.sweep import Sweep

    if not isinstance(chosen, Sweep):
        _compare(chosen, output, jobs)
        return
    with bars() as advance:
        run_study(chosen, output, jobs=jobs, on_progress=advance)
    logs = read_logs(chosen, output)
    results.arena(read_counts(chosen, output), chosen.baseline, output, seed=0, leads_over=chosen.leads_over, logs=logs)
    costs = read_costs(chosen, output)
    costs.to_csv(output / "costs.csv", index=False, float_format="%.3g")
    ratios = ", ".join(f"{row.task} {row.rule} {row.ratio:.2f}".strip() for row in costs.itertuples())
    print(f"Training cost relative to {chosen.baseline}, medians of processor seconds (costs.csv): {ratios}.")


def _compare(study, output: Path, jobs: int) -> None:
    import pandas as pd

    from differential_smoothing.report import write_page
    from differential_smoothing.rollouts import read_rollouts
    from differential_smoothing.studies.run import run_study

    with bars() as advance:
        files = run_study(study, output, jobs=jobs, on_progress=advance)
    frame = pd.concat([read_rollouts(path) for path in files], ignore_index=True)
    summary, differences = results.report(frame, study.baseline, output, seed=0)
    lines = results.regimes(_logs(study, output))
    print(*lines, sep="\n")
    with (output / "report.md").open("a") as file:
        file.write("".join(f"\n{sentence}\n" for sentence in lines))
    diagnosis = results.diagnosis(frame, study.baseline, "", "", seed=0)
    write_page(output / "report.html", frame, summary, differences, diagnosis=diagnosis, title=output.name, figures=())
    print(f"All of it on one page: {output / 'report.html'}")


def _logs(study, output: Path) -> dict[str, list]:
    """The training logs of the baseline's runs that have one."""
    from differential_smoothing.evaluation.diagnosis.regime import read_log

    files = [
        output / cell.name / "metrics.jsonl"
        for cell in study.cells()
        if cell.model == study.baseline and cell.options is not None
    ]
    runs = [read_log(file) for file in files if file.is_file()]
    return {study.baseline: runs} if runs else {}


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(
    context: typer.Context,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", "--dry_run", help="Print the plan, its cost and every error in it; train nothing."),
    ] = False,
    gpu: Annotated[str, typer.Option(help="GPU for the dry run's estimates: a100, h100 or h200.")] = "h100",
) -> None:
    """One training run: --config FILE, and every option of TRL's GRPOConfig, ours, and RunArguments as a flag.

    The same command continues an interrupted run. Example: dsmooth train --config configs/countdown_ds_grpo.yaml
    --gamma_p 0.3 --output_dir runs/mine
    """
    from differential_smoothing.training import parse_config
    from differential_smoothing.training import train as run
    from differential_smoothing.training.cost import gpu_named

    chosen_gpu = gpu_named(gpu)
    arguments, config = parse_config(context.args, elsewhere=dry_run)
    from differential_smoothing.training.plan import make_plan  # after the parser, which finds a wrong flag quicker

    plan = make_plan(arguments, config, here=not dry_run, gpu=chosen_gpu)
    if dry_run:
        print(plan)
        if plan.mistakes:
            raise ValueError(f"{len(plan.mistakes)} mistake(s) above. Nothing was started.")
        print(f"No mistake was found{', as far as could be checked' if plan.unchecked else ''}. Nothing was started.")
        return
    if mistakes := plan.mistakes + plan.unchecked:
        raise ValueError("\n".join(mistakes) + "\nNothing was started.")
    speaks = os.environ.get("RANK", "0") == "0"  # under torchrun the first process speaks for all
    for note in plan.notes if speaks else ():
        print(f"dsmooth: {note}", file=sys.stderr)
    folder = run(arguments, config)
    if speaks:
        print(f"The trained model is in {folder}")


@app.command()
def sample(
    model: Annotated[str, typer.Option(help="'base', a checkpoint folder, or a Hub name.")],
    output: Annotated[Path, typer.Option(help="The rollouts table to write, .parquet.")],
    name: Annotated[str, typer.Option(help="Name of the model in the table. Default: its folder's name.")] = "",
    task: Annotated[str, typer.Option(help=TASK)] = "countdown",
    task_options: Annotated[str, typer.Option(help=TASK_OPTIONS)] = "",
    data_file: Annotated[
        Path | None, typer.Option(help="Problems, .jsonl or .parquet with the task's columns (nums, target).")
    ] = None,
    split: Annotated[str, typer.Option(help="Generated problems: train, dev or test.")] = "test",
    problems: Annotated[
        int | None,
        typer.Option(help="How many problems. Default: 500 where they are generated, else all of the data sets."),
    ] = None,
    samples: Annotated[int, typer.Option(help="Completions per problem.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the problems and the draws.")] = 0,
    training_seed: Annotated[int, typer.Option(help="Training seed of the model, for the table.")] = 0,
    temperature: Annotated[float, typer.Option(help="Sampling temperature, above 0.")] = 1.0,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(help="Longest completion, in tokens. Default: 24 for tasks that generate their problems."),
    ] = None,
    chat: Annotated[bool, typer.Option(help="Chat prompts with tagged answers.")] = False,
    chat_template_kwargs: Annotated[
        str,
        typer.Option(help="Further arguments of the chat template as JSON, such as '{\"enable_thinking\": false}'."),
    ] = "",
    top_p: Annotated[
        float, typer.Option(help="Nucleus sampling: draw from the most likely tokens with this probability in total.")
    ] = 1.0,
    engine: Annotated[
        str, typer.Option(help="Engine: shared_prefix (small models), transformers, vllm, or vllm_server.")
    ] = "shared_prefix",
    engine_options: Annotated[
        str, typer.Option(help='Options of the engine as JSON, such as \'{"url": "http://host:8000"}\'.')
    ] = "",
    shard: Annotated[
        str, typer.Option(help="i/n: sample every n-th part only, for n machines that share the output's folder.")
    ] = "1/1",
) -> None:
    """Sample a model on the problems of a task and verify every answer.

    Finished parts stand beside the output until all are there, so the same command resumes.
    """
    from differential_smoothing.rollouts import read_rollouts
    from differential_smoothing.sampling.jobs import Job
    from differential_smoothing.sampling.parts import parts_of, read_shard, sample_to_file
    from differential_smoothing.tasks import make_task, read_options
    from differential_smoothing.training import resolve_model

    if samples < 1:
        raise ValueError(f"--samples must be at least 1, got {samples}.")
    if output.suffix != ".parquet":
        raise ValueError(f"--output must end in .parquet, got {str(output)!r}.")
    part_of_many = read_shard(shard)
    if output.exists() and part_of_many == (1, 1) and not parts_of(output).is_dir():
        raise ValueError(f"{output} exists and was not touched. Choose another --output, or delete it.")
    if not 0 <= seed < 2**31:
        raise ValueError(f"--seed must be from 0 to 2147483647, got {seed}.")
    asked = make_task(task, **(read_options(task_options) or {}))
    if max_new_tokens is None:
        if not asked.generated:
            raise ValueError(
                f"Completions of {task} have no usual length. Say how many tokens they may have: --max-new-tokens 3072."
            )
        max_new_tokens = 24
    if data_file is not None:
        chosen = asked.read_problems(data_file)
    else:
        with warnings.catch_warnings():
            if problems is None and not asked.generated:  # more than there are, on purpose
                problems = sys.maxsize
                warnings.filterwarnings("ignore", ".* were asked for and there are .*; all are used")
            named = cast("Split", split)  # checked by the task
            chosen = asked.problems(500 if problems is None else problems, split=named, seed=seed)
    folder = resolve_model(model)
    if not Path(folder).is_dir():  # report a wrong name, or no network, at once and in one paragraph
        from differential_smoothing.training import hub

        try:
            hub.load_config(folder)
        except hub.Unreachable as error:
            raise ValueError(str(error)) from None
    name = name or results.model_name(model)
    job = Job(
        folder,
        chosen,
        num_samples=samples,
        seed=seed + 1 + training_seed,
        name=name,
        task=asked,
        training_seed=training_seed,
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=max_new_tokens,
        chat=chat,
        engine=engine,
        engine_options=read_options(engine_options or None, "engine_options"),
        chat_template_kwargs=read_options(chat_template_kwargs or None, "chat_template_kwargs"),
    )
    with bars() as advance:
        whole = sample_to_file(
            job, output, shard=part_of_many, on_problems=lambda done: advance(name, "sample", done, len(chosen))
        )
    if not whole:
        print(f"Shard {shard} is done; {output} is made by the shard that finishes last.")
        return
    frame = read_rollouts(output)
    missing = int(frame["correct"].isna().sum())
    unscored = f", {missing} unscored and left out of it" * bool(missing)
    print(f"{len(frame)} completions, {frame['correct'].mean():.1%} correct{unscored}, in {output}")


@app.command()
def base(
    output: Annotated[Path, typer.Option(help="Where to save the model and its tokenizer.")],
    task: Annotated[str, typer.Option(help=TASK)] = "countdown",
    task_options: Annotated[str, typer.Option(help=TASK_OPTIONS)] = "",
    model: Annotated[
        str,
        typer.Option(
            help="A pretrained model to teach, such as smollm2, instead of a fresh one, until its Pass@1 is in the range of --pass-at-1."
        ),
    ] = "",
    chat: Annotated[bool, typer.Option(help="With --model: chat prompts with tagged answers.")] = False,
    pass_at_1: Annotated[
        str,
        typer.Option(help="With --model: the range of Pass@1, measured on dev problems, in which the training stops."),
    ] = "0.1-0.25",
    lora_r: Annotated[
        int, typer.Option(help="With --model: rank of an adapter that is merged at the end; 0 trains all weights.")
    ] = 0,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps. Default: 2400, with --model at most 200.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the weights, the problems and their order.")] = 0,
    problems: Annotated[int | None, typer.Option(help="Training problems. Default: 24000, with --model 4000.")] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Solved problems per step. Default: 256, with --model 32: 4 problems with 8 answers each."),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate of AdamW. Default: 2e-3, with --model 2e-4.")
    ] = None,
    hidden: Annotated[int | None, typer.Option(help="Width of the fresh model, a multiple of 4. Default: 128.")] = None,
    layers: Annotated[int | None, typer.Option(help="Layers of the fresh model. Default: 4.")] = None,
    context: Annotated[
        int | None, typer.Option(help="Longest prompt and completion together, in tokens. Default: 128.")
    ] = None,
) -> None:
    """Make the shipped base model again, or another, from solved problems; or teach a pretrained model the form of a task's answers.

    Examples: dsmooth base --task reasoning_gym:graph_color --task-options '{"edge_probability": 0.4}' --output runs/colour;
    dsmooth base --model smollm2 --task route --chat --lora-r 16 --output runs/llm-base
    """
    from differential_smoothing.tasks import make_task, read_options

    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise ValueError(f"{output} is not empty. Nothing was changed; choose a new folder.")
    if steps is not None and steps < 1:
        raise ValueError(f"--steps must be at least 1, got {steps}.")
    chosen = make_task(task, **(read_options(task_options) or {}))
    fresh = {"hidden": hidden, "layers": layers, "context": context}
    given: dict[str, Any] = {"steps": steps, "problems": problems, "learning_rate": learning_rate}
    given = {name: value for name, value in given.items() if value is not None}
    if not model:
        from differential_smoothing.training.base_model import train_base

        if chat or lora_r or pass_at_1 != "0.1-0.25":
            raise ValueError("--chat, --lora-r and --pass-at-1 are for a pretrained model. Name it: --model smollm2.")
        given |= {name: value for name, value in {**fresh, "batch_size": batch_size}.items() if value is not None}
        most = given.setdefault("steps", 2400)
        with bars() as advance:
            train_base(
                output,
                task=chosen,
                seed=seed,
                **given,
                on_step=lambda step, loss: advance(f"base, loss {loss:.3f}", "train", step, most),
            )
        print(f"The base model is in {output}")
        return
    from differential_smoothing.training import resolve_model
    from differential_smoothing.training.supervised import teach

    if wrong := [name for name, value in fresh.items() if value is not None]:
        raise ValueError(f"--{wrong[0]} is the size of a fresh model; {model} has its own. Leave it out.")
    if batch_size is not None and (batch_size < 8 or batch_size % 8):
        raise ValueError(
            f"--batch-size with --model must be a multiple of 8, the answers of one problem; got {batch_size}."
        )
    most = given.setdefault("steps", 200)
    with bars() as advance:
        found = teach(
            resolve_model(model),
            output,
            chosen,
            chat=chat,
            pass_at_1=_range(pass_at_1),
            problems_per_step=(batch_size or 32) // 8,
            lora_r=lora_r,
            seed=seed,
            **given,
            on_step=lambda step, loss: advance(f"loss {loss:.3f}", "train", step, most),
        )
    print(f"The model is in {output}; it answers {found:.1%} of the dev problems in one try")


def _range(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    try:
        return float(low), float(high)
    except ValueError:
        raise ValueError(f"--pass-at-1 must be two shares such as 0.1-0.25, got {text!r}.") from None
