"""The model card: what training writes, what an evaluation adds, and which files an upload takes along."""

import sys
from pathlib import Path

import pandas as pd
import pytest
import transformers.trainer
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from test_trl import trained

from differential_smoothing import cli
from differential_smoothing.evaluation import summarise
from differential_smoothing.integrations.card import add_evaluation, in_words, keep_evaluation
from differential_smoothing.integrations.trl import DSGRPOConfig, DSGRPOTrainer
from differential_smoothing.report import to_markdown
from differential_smoothing.report.results import model_name
from differential_smoothing.rollouts import write_rollouts


def config(**options):
    return DSGRPOConfig(output_dir="x", use_cpu=True, bf16=False, **options)


def test_the_rule_in_words():
    assert in_words(config()) == "GRPO's advantages; both gammas are 0, so nothing is added to them."
    assert in_words(config(gamma_p=0.2)) == (
        "GRPO's advantages; -0.2 x each token's own log pi_old added for correct completions (flattens them, keeps variety); incorrect "
        "completions as they are."
    )
    words = in_words(config(gamma_p=0.1, gamma_n=0.3, level="sum", stage="reward", rule="grpo"))
    assert (
        "-0.1 x the completion's summed log pi_old added to the reward, before the group's mean is taken off for correct"
        in words
    )
    assert "+0.3 x the completion's summed log pi_old" in words and "incorrect completions (sharpens them)" in words
    words = in_words(config(gamma_p=1, center=True, rule="maxrl", schedule="entropy_discrepancy"))
    assert "rule maxrl" in words and "relative to its average" in words and "entropy_discrepancy" in words
    assert "preset clip_higher" in in_words(config(rule="clip_higher"))


def rollouts(right=2, model="run"):
    rows = [
        {
            "prompt_id": f"p{p}",
            "sample": s,
            "completion": str(s % 3),
            "correct": s < right + p % 2,
            "model": model,
            "task": "toy",
            "seed": 0,
            "step": -1,
            "canonical": str(s % 3) if s < right + p % 2 else None,
        }
        for p in range(8)
        for s in range(4)
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def trainer(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cards") / "run"
    return trained(
        DSGRPOTrainer,
        DSGRPOConfig,
        tiny_model,
        folder,
        max_steps=1,
        gamma_p=0.3,
        level="mean",
        save_strategy="steps",
        save_steps=1,
    )


def test_a_checkpoint_s_card_carries_paper_rule_gammas_and_level(trainer):
    path = f"{trainer.args.output_dir}/README.md"
    card = ModelCard.load(path)
    assert {"ds-grpo", "grpo", "trl"} <= set(card.data.tags)
    assert "huggingface.co/papers/2511.19942" in card.text and "gai2025differential" in card.text
    assert in_words(trainer.args) in card.text
    assert "| gamma_p | 0.3 |" in card.text and "| level | mean |" in card.text and "| rule | grpo |" in card.text
    assert card.text.index("| gamma_p |") < card.text.index("### Framework versions")


def test_an_evaluation_can_be_put_in_again_and_nothing_else_changes(trainer, tmp_path):
    path = tmp_path / "README.md"
    trainer.create_model_card(model_name="run")
    original = Path(trainer.args.output_dir, "README.md").read_text() + "\nWritten by hand: \\1 {{ x }}.\n"
    path.write_text(original)
    for right in (1, 2):
        frame = rollouts(right)
        summary = summarise(frame, seed=0)
        add_evaluation(path, to_markdown(summary, None), summary, model="run", task="toy")
    text = path.read_text()
    assert text.count("## Evaluation") == 1 and "Written by hand: \\1 {{ x }}." in text
    assert to_markdown(summary, None).strip() in text
    rows = {(row.metric, row.k): row for row in summary.itertuples()}
    results = {r.metric_name: r for r in ModelCard(text).data.eval_results}
    assert set(results) == {"pass@1", "pass@4", "distinct"}
    first = rows["pass@k", 1]
    assert results["pass@1"].metric_value == pytest.approx(first.estimate, abs=1e-6) == 0.625
    assert results["pass@1"].metric_args["interval_95"] == pytest.approx([first.low, first.high], abs=1e-6)
    assert results["pass@1"].dataset_name == "toy"
    # without the section and its metadata it is what it was
    start, end = text.index("<!-- dsmooth evaluation"), text.index("<!-- end of dsmooth evaluation -->")
    rest = ModelCard(text[:start] + text[end + len("<!-- end of dsmooth evaluation -->") :]).text
    assert rest.split() == ModelCard(original).text.split()


def test_the_results_of_a_person_stay_and_an_unknown_interval_is_left_out(tmp_path):
    path, gsm = (
        tmp_path / "README.md",
        EvalResult("text-generation", "gsm8k", "GSM8K", "accuracy", 0.71, metric_args={"shots": 8}),
    )
    data = ModelCardData(model_name="mine", eval_results=[gsm], license="mit")
    path.write_text(f"---\n{data}\n---\n\n# Mine\n")
    summary = summarise(rollouts(), seed=0)
    summary.loc[summary["metric"] == "distinct", ["low", "high"]] = float("nan")
    for _ in range(2):
        add_evaluation(path, "a table", summary, model="run", task="toy")
    card = ModelCard.load(path)
    found = {result.metric_name or result.metric_type: result for result in card.data.eval_results}
    assert len(card.data.eval_results) == 4 and set(found) == {"accuracy", "pass@1", "pass@4", "distinct"}
    assert found["accuracy"].metric_value == 0.71 and found["accuracy"].metric_args == {"shots": 8}
    assert "interval_95" in found["pass@1"].metric_args and "interval_95" not in found["distinct"].metric_args
    assert ".nan" not in path.read_text().lower() and card.data.model_name == "mine" and "# Mine" in card.text


@pytest.mark.parametrize("head", ["a: [1, 2", "model-index:\n- name: x\n  results: 7", "- a list"])
def test_metadata_that_cannot_be_read_are_said_and_nothing_is_changed(head, tmp_path):
    path, text = tmp_path / "README.md", f"---\n{head}\n---\n# Mine\n"
    path.write_text(text)
    summary = summarise(rollouts(), seed=0)
    with pytest.raises(ValueError, match="The metadata at the head of .* cannot be read .* Nothing was changed"):
        add_evaluation(path, "a table", summary, model="run", task="toy")
    assert path.read_text() == text


@pytest.mark.parametrize("head", ["a: [1, 2", "- a list", "model-index:\n- name: x\n  results: 7"])
def test_the_tables_of_a_card_with_broken_metadata_are_kept(head, tmp_path, caplog):
    path, summary = tmp_path / "README.md", summarise(rollouts(), seed=0)
    add_evaluation(path, "a table", summary, model="run", task="toy")
    old = f"---\n{head}\n---\n" + path.read_text().split("---\n", 2)[2]
    path.write_text("---\nlicense: mit\n---\n# The new card\n")
    keep_evaluation(old, path)
    assert "a table" in path.read_text() and "# The new card" in path.read_text()
    assert ModelCard.load(path).data.license == "mit"
    assert "the metadata at the head of the old card cannot be read" in caplog.text or "results: 7" in head


def test_the_wrong_model_is_named(tmp_path):
    summary = summarise(rollouts(), seed=0)
    with pytest.raises(ValueError, match="The card is of the model 'other', and the evaluation has 'run'"):
        add_evaluation(tmp_path / "README.md", "x", summary, model="other", task="toy")
    assert not (tmp_path / "README.md").exists()


class NoHub:
    """In the place of the Hub, which cannot be had here: keeps what upload_folder is asked to take along."""

    def upload_folder(self, *, folder_path, ignore_patterns, **kwargs):
        from huggingface_hub.utils import filter_repo_objects

        files = [str(p.relative_to(folder_path)) for p in Path(folder_path).rglob("*") if p.is_file()]
        self.files = set(filter_repo_objects(files, ignore_patterns=ignore_patterns))
        self.card = (Path(folder_path) / "README.md").read_text()


def test_push_to_hub_takes_the_card_and_its_evaluation_along(trainer, monkeypatch):
    path, hub = Path(trainer.args.output_dir) / "README.md", NoHub()
    summary = summarise(rollouts(), seed=0)
    add_evaluation(path, to_markdown(summary, None), summary, model="run", task="toy")
    monkeypatch.setattr(transformers.trainer, "hf_api", lambda: hub)
    trainer.hub_model_id = "owner/run"
    trainer.push_to_hub()
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= hub.files
    assert not [name for name in hub.files if name.startswith("checkpoint-")]
    assert to_markdown(summary, None).strip() in hub.card and in_words(trainer.args) in hub.card
    card = ModelCard(hub.card)
    assert {r.metric_name for r in card.data.eval_results} == {"pass@1", "pass@4", "distinct"}
    assert "ds-grpo" in card.data.tags


def test_a_checkpoint_of_further_training_does_not_keep_an_old_evaluation(trainer):
    path = Path(trainer.args.output_dir) / "README.md"
    summary = summarise(rollouts(), seed=0)
    add_evaluation(path, "an old table", summary, model="run", task="toy")
    trainer.args.max_steps = 2
    trainer.train(resume_from_checkpoint=f"{trainer.args.output_dir}/checkpoint-1")
    assert "an old table" not in path.read_text() and in_words(trainer.args) in path.read_text()


def test_a_model_is_called_after_its_run_from_inside_its_folder_too(tmp_path, monkeypatch):
    (tmp_path / "mine" / "model").mkdir(parents=True)
    for folder, name in ((tmp_path / "mine" / "model", "."), (tmp_path / "mine", "model"), (tmp_path, "mine")):
        monkeypatch.chdir(folder)
        assert model_name(name) == "mine"
    assert model_name("Qwen/Qwen3-1.7B") == "Qwen3-1.7B"


def test_the_command(tmp_path, monkeypatch, capsys):
    def dsmooth(*arguments):
        monkeypatch.setattr(sys, "argv", ["dsmooth", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code, capsys.readouterr()

    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    write_rollouts(rollouts(), files[0])
    write_rollouts(rollouts(1, "base"), files[1])
    model = tmp_path / "run" / "model"
    status, said = dsmooth("card", model, *files)
    assert status == 2 and "is not a model's folder" in said.err and not model.exists()
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    status, said = dsmooth("card", model, *files, "--baseline", "base")
    assert status == 0 and f"hf upload OWNER/NAME {model}" in said.out
    text = (model / "README.md").read_text()
    assert "| run | 62.5 [" in text and "run - base" in text
    status, said = dsmooth("card", model, *files, "--name", "nobody")
    assert status == 2 and "The card is of the model 'nobody'" in said.err and (model / "README.md").read_text() == text
