"""Other members of the classes of `test_readers_tools`: the same tools with other metrics, numbers of samples and errors; and the
verifier of mathematical answers in place of a column.
"""

import json

import pandas as pd
import pytest
from rollout_files import REPORTS, document, lines, quietly, read, report_lines, totals

from differential_smoothing.rollouts import load_rollouts, sources


class TestOtherMembersOfTheClass:
    def test_evalscope(self, tmp_path):
        """Repeats of one problem, other names, a judge that failed, messages in place of the input."""
        rows = report_lines("evalscope_review.jsonl")
        for row in rows:
            score = row["sample_score"]["score"]
            score |= {"value": {"length": 7, "judge": 0.0 if row["index"] % 2 else 1.0}, "main_score_name": "judge"}
            group = row["sample_score"]["group_id"]
            row["messages"] = [{"role": "user", "content": f"q{group}"}, {"role": "assistant", "content": "5"}]
            row["sample_score"]["generation_index"] = 3 - row["index"] % 4
            del row["input"]
        rows[2]["sample_score"]["score"]["value"] = {"length": 7}  # left out where the judge failed
        frame, said = read(lines(tmp_path / "x.jsonl", rows))
        assert totals(frame) == (8, 3, 1, 2) and frame["sample"].tolist() == [3, 2, 1, 0] * 2
        assert "1 of 8 rows are unscored" in said and frame["prompt"].tolist() == ["q0"] * 4 + ["q1"] * 4
        with pytest.raises(ValueError, match="length is 7, expected a score from 0 to 1"):
            load_rollouts(tmp_path / "x.jsonl", correct="length")

    def test_lighteval_with_one_response(self, tmp_path):
        frame = pd.read_parquet(REPORTS / "lighteval_details.parquet")
        frame["model_response"] = [r | {"text": [rf"\boxed{{{i}}}"]} for i, r in enumerate(frame["model_response"])]
        frame["metric"] = [{"em": float(i < 3), "f1": 0.5} for i in range(4)]
        frame.to_parquet(tmp_path / "x.parquet")
        with pytest.raises(ValueError, match="has 2 columns .* em, f1; expected one"):
            load_rollouts(tmp_path / "x.parquet")
        assert load_rollouts(tmp_path / "x.parquet", correct="em")["correct"].tolist() == [True, True, True, False]
        frame["doc"] = [d | {"choices": ["9", str(i)], "gold_index": [1]} for i, d in enumerate(frame["doc"])]
        frame.to_parquet(tmp_path / "x.parquet")
        assert load_rollouts(tmp_path / "x.parquet", correct="verify")["correct"].all()

    def test_nemo_skills_of_newer_releases(self, tmp_path):
        rows = [
            {
                "question": f"q{i}",
                "generation": "x",
                "expected_answer": "5",
                "predicted_answer": "5",
                "num_generated_tokens": 9,
                "symbolic_correct": i > 0,
            }
            for i in range(3)
        ]
        frame, said = read(lines(tmp_path / "x.jsonl", rows))
        assert totals(frame) == (3, 2, 0, 3) and not said and frame["solution"].tolist() == ["5"] * 3

    def test_qwen_with_other_numbers_of_samples(self, tmp_path):
        rows = report_lines("qwen_eval.jsonl")
        rows[1] |= {"code": ["a"] * 2, "pred": ["5"] * 2, "score": [True] * 2}
        frame = load_rollouts(lines(tmp_path / "x.jsonl", rows))
        assert totals(frame) == (18, 10, 0, 5) and frame["solution"].tolist()[:4] == ["5", "6", "5", "7"]
        rows[2]["score"] = [True]
        with pytest.raises(ValueError, match="line 3: score has 1 values for 4 responses"):
            load_rollouts(lines(tmp_path / "x.jsonl", rows))

    def test_opencompass_with_several_predictions_and_plain_prompts(self, tmp_path):
        value = {str(i): {"origin_prompt": f"q{i}", "prediction": [r"\boxed{5}", "7"], "gold": ["5"]} for i in range(3)}
        for indent in (4, None):  # over several lines, or on one
            (tmp_path / "x.json").write_text(json.dumps(value, indent=indent))
            frame = load_rollouts(tmp_path / "x.json", correct="verify")
            assert totals(frame) == (6, 3, 0, 3) and frame["correct"].tolist() == [True, False] * 3

    def test_a_reward_that_is_a_sum_is_told(self, tmp_path):
        rows = report_lines("prime_verifiers.jsonl")
        rows[0] |= {"reward": 1.2}
        frame, said = read(lines(tmp_path / "x.jsonl", rows))
        assert frame["correct"].all() and "1 rows are judged by a reward between or beyond 0 and 1" in said
        assert not read(tmp_path / "x.jsonl", correct="correct_answer_reward")[1]


class TestVerify:
    def test_right_answers_that_are_missing_or_unreadable_leave_rows_unscored(self, tmp_path):
        rows = [
            {"prompt": "p", "completion": r"\boxed{5}", "gold": gold} for gold in ("5", 5, None, "", "6", r"\boxed{5}")
        ]
        frame, said = read(lines(tmp_path / "x.jsonl", rows), correct="verify")
        assert frame["correct"].tolist() == [True, True, pd.NA, pd.NA, False, True]
        assert "because the file has no right answer for them" in said and "cannot be read as mathematics" in said

    def test_a_column_of_that_name_is_the_column(self, tmp_path):
        rows = [{"prompt": "p", "completion": r"\boxed{5}", "gold": "5", "verify": False}]
        assert not load_rollouts(lines(tmp_path / "x.jsonl", rows), correct="verify")["correct"].any()

    def test_a_file_that_keeps_no_completions(self):
        assert "the file does not keep the completions" in read("inspect_err.parquet", correct="verify")[1]

    def test_one_value_for_several_responses_is_judged_response_by_response(self, tmp_path):
        rows = [
            document(d, resps=[[r"\boxed{0}", r"\boxed{1}"]], filter="none", metrics=["em"], em=1.0) for d in (0, 1)
        ]
        assert quietly(lines(tmp_path / "x.jsonl", rows))["correct"].isna().all()
        assert load_rollouts(tmp_path / "x.jsonl", correct="verify")["correct"].tolist() == [True, False, False, True]


def test_a_json_document_is_held_in_memory_and_so_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "LARGEST_DOCUMENT", 100)
    with pytest.raises(ValueError, match=r"one JSON value of 818 bytes.*jq -c '\.\[\]'"):
        load_rollouts(REPORTS / "opencompass_pred.json", correct="verify")
