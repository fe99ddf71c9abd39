"""The page of completions: which answers are lost is counted from the table, and nothing a model wrote becomes markup."""

import pandas as pd
import pytest

from differential_smoothing.report.completions import completions_page, write_completions

WRITTEN = {  # model -> prompt -> completions; those in capitals are right and their own canonical form
    "base": {"p": ["A", "A", "B", "C", "x"], "q": ["D", "E", "y", "y", "y"]},
    "grpo": {"p": ["A"] * 5, "q": ["D"] * 4 + ["<b>z</b>"]},
    "ds": {"p": ["A", "B", "B", "C", "x"], "q": ["D", "D", "D", "D", "E"]},
}


@pytest.fixture
def frame():
    rows = [
        (
            model,
            prompt,
            f"<|im_start|>user\nAsk {prompt}<|im_end|>",
            text,
            text.isupper(),
            text if text.isupper() else None,
        )
        for model, prompts in WRITTEN.items()
        for prompt, texts in prompts.items()
        for text in texts
    ]
    return pd.DataFrame(rows, columns=["model", "prompt_id", "prompt", "completion", "correct", "canonical"])


def test_the_summary_counts_what_is_in_the_table(frame):
    page = completions_page(frame)
    assert "<tr><td>base</td><td>60.0%</td><td>2 of 2</td><td>2.50</td><td></td></tr>" in page
    assert "<tr><td>grpo</td><td>90.0%</td><td>2 of 2</td><td>1.00</td><td>3</td></tr>" in page  # B, C and E
    assert "<tr><td>ds</td><td>90.0%</td><td>2 of 2</td><td>2.50</td><td>0</td></tr>" in page


def test_lost_answers_are_struck_out_under_the_model_that_lost_them(frame):
    p = completions_page(frame, ["base", "grpo", "ds"], prompts=1).split("<h3>")
    assert [part.partition(":")[0] for part in p[1:]] == ["base", "grpo", "ds"] and "Ask p" in p[
        0
    ]  # p: two are lost, q: one
    lost = [part.count("<li class='lost'>") for part in p[1:]]
    assert lost == [0, 2, 0]
    assert "<li class='lost'>B</li><li class='lost'>C</li>" in p[2]


def test_what_a_model_wrote_is_text(frame):
    page = completions_page(frame)
    assert "<b>z" not in page and "&lt;b&gt;z&lt;/b&gt;" in page
    assert "<script" not in page and "<|im_start|>" not in page


@pytest.mark.parametrize(
    "models, message", [(["base", "other"], "no model 'other'. They have base, grpo, ds"), (["base"], "at least two")]
)
def test_models_that_are_not_there_are_named(frame, models, message):
    with pytest.raises(ValueError, match=message):
        completions_page(frame, models)


def test_models_without_a_common_prompt_and_a_wrong_path_are_named(frame, tmp_path):
    other = frame.assign(prompt_id=frame["model"] + frame["prompt_id"])
    with pytest.raises(ValueError, match="share no prompt"):
        completions_page(other)
    with pytest.raises(ValueError, match=r"must end in \.html"):
        write_completions(tmp_path / "x.txt", frame)
