"""Each family from its config to its report: train, save, reload, sample, evaluate, diagnose, report, as a user types it."""

import json
import sys

import pandas as pd
import pytest
import torch
from families import FAMILIES, make_family, ten_problems
from huggingface_hub import ModelCard

from differential_smoothing import cli

pytestmark = pytest.mark.slow


@pytest.fixture
def dsmooth(monkeypatch, capsys):
    def run(*arguments, status=0):
        monkeypatch.setattr(sys, "argv", ["dsmooth", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr()
        assert stop.value.code == status, said.err[-2000:]
        return said.out

    return run


def weights(folder, lora):
    """The trained weights, loaded as a user would; those of an adapter merged into its base."""
    if lora:
        from peft import AutoPeftModelForCausalLM

        model = AutoPeftModelForCausalLM.from_pretrained(folder).merge_and_unload()
    else:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(folder)
    return type(model).__name__, torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(("kind", "lora"), [*((kind, 0) for kind in FAMILIES), ("qwen2", 4)])
def test_a_family_from_config_to_report(kind, lora, dsmooth, tmp_path):
    base, problems, run = make_family(kind, tmp_path / "base"), tmp_path / "ten.jsonl", tmp_path / "run"
    ten_problems(problems)
    test = tmp_path / "test.jsonl"
    test.write_text(
        "\n".join(json.dumps({"question": f"What is {n} - 1?", "answer": str(n - 1)}) for n in range(30, 33))
    )
    options = json.dumps({"train": str(problems), "test": str(test)})
    train = [
        "train",
        "--model",
        base,
        "--output_dir",
        run,
        "--task",
        "math",
        "--task_options",
        options,
        "--problems",
        "5",
        "--chat",
        "true",
        "--rollout",
        "host" if kind == "qwen2" else "shared_prefix",
        "--gamma_p",
        "0.2",
        "--gamma_n",
        "0.2",
        "--lora_r",
        lora,
        "--max_steps",
        "5",
        "--per_device_train_batch_size",
        "8",
        "--num_generations",
        "4",
        "--max_completion_length",
        "8",
        "--learning_rate",
        "1e-2",
        "--use_cpu",
        "true",
        "--bf16",
        "false",
        "--gradient_checkpointing",
        "false",
        "--report_to",
        "none",
        "--disable_tqdm",
        "true",
        "--logging_steps",
        "1",
        "--save_strategy",
        "no",
    ]
    planned = dsmooth(*train, "--dry-run")
    assert "No mistake was found" in planned and "5 steps" in planned and not run.exists()
    assert f"The trained model is in {run / 'model'}" in dsmooth(*train)

    # a random model gets everything wrong, so it is gamma_n that moves the weights
    name, after = weights(run / "model", lora)
    assert name.lower().startswith(kind)
    _, before = weights(base, 0)
    assert after.shape == before.shape and not torch.equal(after, before) and bool(after.isfinite().all())
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [m["step"] for m in metrics[:5]] == [1, 2, 3, 4, 5] and all("ds/logp_incorrect" in m for m in metrics[:5])
    assert "| gamma_n | 0.2 |" in ModelCard.load(run / "model" / "README.md").text

    sampled = {"base": base, "run": run / "model"}
    for name, model in sampled.items():
        dsmooth(
            "sample",
            "--model",
            model,
            "--name",
            name,
            "--task",
            "math",
            "--task-options",
            options,
            "--problems",
            "3",
            "--samples",
            "4",
            "--max-new-tokens",
            "6",
            "--chat",
            "--output",
            tmp_path / f"{name}.parquet",
        )
    files = [tmp_path / "base.parquet", tmp_path / "run.parquet"]
    frame = pd.concat(map(pd.read_parquet, files))
    assert len(frame) == 2 * 3 * 4 and frame["logp"].lt(0).all() and frame["correct"].notna().all()
    assert frame["prompt"].str.contains("What is 30 - 1?", regex=False).any()
    assert "Pass@1" in dsmooth("evaluate", *files, "--baseline", "base")
    assert dsmooth("diagnose", "--before", files[0], "--after", files[1]).strip()
    dsmooth("report", *files, "--baseline", "base", "--output", tmp_path / "page.html")
    assert "<html" in (tmp_path / "page.html").read_text()
    dsmooth("card", run / "model", *files, "--baseline", "base")
    card = ModelCard.load(run / "model" / "README.md")
    assert "pass@4" in {r.metric_name for r in card.data.eval_results} and "| run |" in card.text
