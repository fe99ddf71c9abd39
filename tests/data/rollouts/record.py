"""Makes the files beside it again, each with the tool whose format it is. They are recorded because lm-eval and
inspect_ai bring 240 and 580 MB of packages that the tests do not need otherwise.

    pip install lm_eval==0.4.13 'datasets'  and  python record.py lm_eval
    pip install inspect_ai==0.3.285         and  python record.py inspect_ai
    pip download --no-deps verl==0.9.1      and  python record.py verl verl-0.9.1-py3-none-any.whl

The completions are given, in completions.json: what is recorded is what the tools' own code writes about them. Each
prompt has four. "countdown" prompts are those of the Countdown task; "sums" is a task this project does not know.
verl cannot be installed without a GPU stack: its two writing functions are taken out of the wheel and run.
"""

import ast
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
GIVEN = json.loads((HERE / "completions.json").read_text())  # task -> [{prompt, target, completions, correct}]


def lm_eval() -> None:
    from lm_eval import evaluator
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    answers = {}

    @register_model("recorded")
    class Recorded(LM):
        def generate_until(self, requests, **_):
            left = {prompt: list(texts) for prompt, texts in answers.items()}
            return [left[request.args[0]].pop(0) for request in requests]

        def loglikelihood(self, requests, **_):
            raise NotImplementedError

        loglikelihood_rolling = loglikelihood

    work = Path("lm_eval_work")
    work.mkdir()
    (work / "each.py").write_text(
        "def each(doc, results):\n"
        "    return {'right': [float(text == doc['target']) for text in results[0]]}\n\n"
        "def mean(values):\n"
        "    return sum(map(sum, values)) / sum(map(len, values))\n"
    )
    common = (
        "dataset_path: json\ndataset_kwargs: {data_files: {test: lm_eval_work/TASK.jsonl}}\ntest_split: test\n"
        "output_type: generate_until\ndoc_to_text: '{{prompt}}'\ndoc_to_target: '{{target}}'\n"
        "generation_kwargs: {until: [';'], do_sample: true}\n"
    )
    exact = "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    first = "  - {name: first, filter: [{function: take_first}]}\n"
    digits = "  - {name: digits, filter: [{function: regex, regex_pattern: '([0-9]+)$'}, {function: take_first}]}\n"
    kinds = {
        "countdown": ("countdown", 4, exact + "filter_list:\n" + first + digits),
        "sums_repeated": ("sums", 4, exact + "filter_list:\n" + first + digits),
        "sums_each": (
            "sums",
            4,
            "process_results: !function each.each\nfilter_list:\n"
            "  - {name: all, filter: [{function: take_first_k, k: 4}]}\n"
            "metric_list: [{metric: right, aggregation: !function each.mean, higher_is_better: true}]\n",
        ),
        "sums_single": ("sums", 1, exact + "filter_list:\n" + first + digits),
    }
    for name, (task, repeats, rest) in kinds.items():
        rows = [{k: row[k] for k in ("prompt", "target")} for row in GIVEN[task]]
        (work / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (work / f"{name}.yaml").write_text(f"task: {name}\nrepeats: {repeats}\n" + common.replace("TASK", name) + rest)
    for name, (task, _, _) in kinds.items():
        answers.clear()
        answers.update({row["prompt"]: row["completions"] for row in GIVEN[task]})
        tracker = EvaluationTracker(output_path=str(work / "out"))
        results = evaluator.simple_evaluate(
            model="recorded",
            tasks=[name],
            log_samples=True,
            evaluation_tracker=tracker,
            bootstrap_iters=0,
            task_manager=TaskManager(include_path=str(work), include_defaults=False),
        )
        samples = results.pop("samples")
        tracker.save_results_aggregated(results=results, samples=samples)
        tracker.save_results_samples(task_name=name, samples=samples[name])
        (written,) = (work / "out").rglob(f"samples_{name}_*.jsonl")
        shutil.copy(written, HERE / f"lm_eval_{name}.jsonl")
    shutil.rmtree(work)


def inspect_ai() -> None:
    from inspect_ai import Task, eval
    from inspect_ai.analysis import EvalModel, SampleColumn, SampleSummary, samples_df
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import Score, accuracy, exact, mean, scorer
    from inspect_ai.solver import solver

    @solver
    def recorded(task):
        async def solve(state, generate):
            text = GIVEN[task][int(str(state.sample_id)[1:])]["completions"][state.epoch - 1]
            state.output = ModelOutput.from_content("recorded", text)
            return state

        return solve

    @scorer(metrics=[mean()])
    def sometimes():
        async def score(state, target):
            return Score.unscored() if state.epoch == 2 else Score(value=float(state.output.completion == target.text))

        return score

    @scorer(metrics=[accuracy()])
    def letter():
        async def score(state, target):
            return Score(value="CPNI"[state.epoch - 1])

        return score

    for task, scorers in {"countdown": [exact()], "sums": [exact(), sometimes(), letter()]}.items():
        rows = [Sample(id=f"p{i}", input=r["prompt"], target=r["target"]) for i, r in enumerate(GIVEN[task])]
        logs = f"inspect_work_{task}"
        eval(
            Task(dataset=MemoryDataset(rows), solver=recorded(task), scorer=scorers, epochs=4, name=task),
            model="mockllm/model",
            log_dir=logs,
            display="none",
        )
        text = SampleColumn("completion", path="output.completion", full=True)
        frame = samples_df(logs, columns=[*EvalModel, *SampleSummary, text]).drop(columns="log")
        frame.to_parquet(HERE / f"inspect_{task}.parquet")
        frame.to_csv(HERE / f"inspect_{task}.csv", index=False)
        samples_df(logs).drop(columns="log").to_parquet(HERE / f"inspect_{task}_default.parquet")
        shutil.rmtree(logs)


def verl(wheel: str) -> None:
    import numpy as np

    for file, folder in (("ray_trainer.py", "verl"), ("v1/trainer_base.py", "verl_v1")):
        source = zipfile.ZipFile(wheel).read(f"verl/trainer/ppo/{file}").decode()
        (function,) = (
            n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef) and n.name == "_write_generations"
        )
        function.decorator_list = []
        room = {"os": os, "json": json, "np": np}
        exec(compile(ast.Module([function], []), file, "exec"), room)
        for task, rows in GIVEN.items():
            flat = [(i, s, row) for i, row in enumerate(rows) for s in range(4)]
            extra = {"acc": np.array([row["correct"][s] for _, s, row in flat]).tolist()} if task == "sums" else {}
            if folder == "verl_v1":
                extra["uid"] = [f"{1000 + i}-abcd_{s}_0" for i, s, _ in flat]
            room["_write_generations"](
                [row["prompt"] for _, _, row in flat],
                [row["completions"][s] for _, s, row in flat],
                [row["target"] for _, _, row in flat],
                [2.0 * row["correct"][s] - 1.0 for _, s, row in flat],
                extra,
                f"{folder}_work",
                7,
            )
            shutil.move(f"{folder}_work/7.jsonl", HERE / f"{folder}_{task}.jsonl")
        os.rmdir(f"{folder}_work")


if __name__ == "__main__":
    {"lm_eval": lm_eval, "inspect_ai": inspect_ai, "verl": verl}[sys.argv[1]](*sys.argv[2:])
