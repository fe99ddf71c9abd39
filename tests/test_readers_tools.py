"""Files in the shapes of many tools, made after public bug reports: each is read where its meaning is plain, or refused with
advice that works for that very file. The advice is followed here. The files lie in tests/data/reports.
"""

import json
import re

import pandas as pd
import pytest
from rollout_files import REPORTS, document, lines, quietly, read, report_lines, totals

from differential_smoothing.evaluation import counts
from differential_smoothing.rollouts import load_rollouts
from differential_smoothing.tasks import math

# file, options, (rows, correct, unscored, problems), samples per problem, words of the warnings ("" for none at all)
READ = [
    ("evalscope_review.jsonl", {}, (8, 8, 0, 8), 1, "8 rows are of problems whose id has several prompts"),
    (
        "evalscope_review.jsonl",
        {"correct": "acc"},
        (8, 8, 0, 8),
        1,
        "8 rows are of problems whose id has several prompts",
    ),
    ("inspect_err.parquet", {}, (6, 3, 3, 3), 2, "3 of 6 rows are unscored, because their sample ended in an error"),
    ("inspect_two_tasks.parquet", {}, (12, 6, 0, 6), 2, "12 rows are of problems whose id has several prompts"),
    ("lighteval_details.parquet", {}, (8, 0, 8, 4), 2, "8 of 8 rows are unscored, because their metric is one value"),
    ("lighteval_details.parquet", {"correct": "verify"}, (8, 0, 0, 4), 2, ""),
    ("lm_cat.jsonl", {}, (6, 3, 0, 6), 1, "6 rows are of problems whose id has several prompts"),
    ("lm_old_gsm8k.jsonl", {"correct": "exact_match,1"}, (6, 3, 0, 6), 1, ""),
    ("lm_old_gsm8k.jsonl", {"correct": "exact_match,2"}, (6, 6, 0, 6), 1, ""),
    ("lm_old_minerva.jsonl", {}, (6, 3, 0, 6), 1, ""),
    ("lm_old_minerva.jsonl", {"correct": "exact_match"}, (6, 3, 0, 6), 1, ""),
    ("lm_predict_only.jsonl", {"correct": "verify"}, (4, 0, 0, 4), 1, ""),
    ("nemo_skills.jsonl", {}, (16, 8, 0, 4), 4, ""),
    ("opencompass_pred.json", {"correct": "verify"}, (4, 4, 0, 4), 1, ""),
    ("prime_verifiers.jsonl", {}, (8, 8, 0, 2), 4, ""),
    ("qwen_eval.jsonl", {}, (20, 10, 0, 5), 4, ""),
    (
        "verl_mixed_acc.jsonl",
        {},
        (32, 8, 16, 8),
        4,
        "16 of 32 rows are unscored, because acc is empty there (score has a value in every row",
    ),
    ("verl_mixed_acc.jsonl", {"correct": "score"}, (32, 24, 0, 8), 4, ""),
]


@pytest.mark.parametrize(("name", "options", "expected", "samples", "words"), READ, ids=lambda v: str(v)[:40])
def test_files_of_public_reports(name, options, expected, samples, words):
    frame, said = read(name, **options)
    assert totals(frame) == expected
    assert frame.groupby("prompt_id").size().eq(samples).all() and sorted(set(frame["sample"])) == list(range(samples))
    assert words in said and bool(said) == bool(words)
    assert counts(frame)["n"].sum() == expected[0] - expected[2]


REFUSED = [
    ("lm_old_gsm8k.jsonl", {}, "exact_match,1, exact_match,2; expected one. Name it .* before 0.4.7"),
    ("lm_old_gsm8k.jsonl", {"correct": "exact_match"}, "exact_match,1, exact_match,2; expected one of them"),
    ("lm_predict_only.jsonl", {}, "bypass of --predict_only does not judge correctness.*--correct verify"),
    ("lm_predict_only.jsonl", {"correct": "bypass"}, "bypass of --predict_only does not judge correctness"),
    ("lm_predict_only.jsonl", {"correct": "bypass,none"}, "bypass of --predict_only does not judge correctness"),
    ("opencompass_pred.json", {}, r"no column with the correctness of completions.*--correct verify .*\(gold\)"),
    ("openai_batch.jsonl", {}, "answers without prompts or verdicts"),
    ("openai_batch.jsonl", {"correct": "verify"}, "answers without prompts or verdicts"),
]


@pytest.mark.parametrize(("name", "options", "words"), REFUSED, ids=lambda v: str(v)[:40])
def test_files_that_hold_no_verdict_are_refused(name, options, words):
    with pytest.raises(ValueError, match=words) as caught:
        load_rollouts(REPORTS / name, **options)
    assert str(REPORTS / name) in str(caught.value) and "\n" not in str(caught.value)


def test_the_advice_on_answers_without_verdicts_works(tmp_path):
    """The message names the fields, and the rows that it asks for are read."""
    with pytest.raises(ValueError) as caught:
        load_rollouts(REPORTS / "openai_batch.jsonl")
    message = str(caught.value)
    field = re.search(r"the completion is ([\w.\[\]]+),", message).group(1)
    rows = []
    for row in report_lines("openai_batch.jsonl"):
        completion = row
        for step in re.findall(r"\w+", field):
            completion = completion[int(step) if step.isdecimal() else step]
        problem = row["custom_id"].partition("-")[0]
        rows.append({"prompt_id": problem, "completion": completion, "correct": math.verify(completion, "5").correct})
    assert set(rows[0]) == set(re.findall(r'"(\w+)": ', message))
    frame, said = read(lines(tmp_path / "x.jsonl", rows))
    assert totals(frame) == (8, 8, 0, 2) and not said


@pytest.mark.parametrize("name", ["inspect_err.parquet", "nemo_skills.jsonl", "qwen_eval.jsonl"])
def test_the_column_that_the_advice_names_is_read(name, tmp_path):
    frame = pd.read_parquet(REPORTS / name) if name.endswith("parquet") else pd.DataFrame(report_lines(name))
    frame = frame.drop(columns=[c for c in ("score_match", "is_correct", "score") if c in frame])
    path = tmp_path / "x.parquet"
    frame.to_parquet(path)
    with pytest.raises(ValueError, match="no column with the correctness of completions") as caught:
        load_rollouts(path)
    column = re.search(r"Add a column (\w+)\.", str(caught.value)).group(1)
    frame[column] = [[True] * 4] * len(frame) if name.startswith("qwen") else True
    frame.to_parquet(path)
    assert load_rollouts(path)["correct"].all()


def test_the_advice_to_add_a_column_works(tmp_path):
    value = json.loads((REPORTS / "opencompass_pred.json").read_text())
    for number, entry in enumerate(value.values()):
        entry["correct"] = number > 0
    (tmp_path / "x.json").write_text(json.dumps(value, indent=2))
    assert totals(read(tmp_path / "x.json")[0]) == (4, 3, 0, 4)


class TestLmEvalBefore047:
    def test_filters_are_told_apart_by_their_order_however_the_rows_are_gathered(self, tmp_path):
        """Several processes write their documents one after the other, each all filters: 0 1 | 0 1, then 2 | 2."""
        scores = {1: [1.0, 0.0, 0.0], 2: [1.0, 1.0, 0.0], 3: [0.0, 0.0, 1.0]}
        rows = [document(d, right=scores[f][d]) for part in ([0, 1], [2]) for f in scores for d in part]
        path = lines(tmp_path / "x.jsonl", rows)
        for number, values in scores.items():
            assert load_rollouts(path, correct=f"right,{number}")["correct"].tolist() == [v > 0.5 for v in values]
        with pytest.raises(ValueError, match="right,1, right,2, right,3; expected one"):
            load_rollouts(path)

    def test_two_runs_in_one_file_are_no_filters(self, tmp_path):
        rows = [document(d, resps=[[text]], right=1.0) for text in "ab" for d in (0, 1)]
        with pytest.raises(ValueError, match="line 3: document 0 was there before with other responses.* own file"):
            load_rollouts(lines(tmp_path / "x.jsonl", rows))
        for name, part in (("a", rows[:2]), ("b", rows[2:])):  # the advice
            assert totals(load_rollouts(lines(tmp_path / f"{name}.jsonl", part), model="m"))[:2] == (2, 2)

    def test_any_metric_and_any_number_of_responses(self, tmp_path):
        rows = [document(d, resps=[["a", "b", "c"]], math_verify=[1, 0, d]) for d in (0, 1)]
        frame, said = read(lines(tmp_path / "x.jsonl", rows))
        assert frame["correct"].tolist() == [True, False, False, True, False, True] and not said
        rows = [document(d, bypass=999) for d in (0, 1)]
        with pytest.raises(ValueError, match="bypass of --predict_only does not judge correctness"):
            load_rollouts(lines(tmp_path / "x.jsonl", rows))
        frame, _ = read(lines(tmp_path / "x.jsonl", [row | {"exact_match": 1} for row in rows]))
        assert totals(frame) == (2, 2, 0, 2)

    def test_one_json_array_as_0_4_2_wrote_it(self, tmp_path):
        (tmp_path / "x.jsonl").write_text(json.dumps(report_lines("lm_old_minerva.jsonl"), indent=2))
        assert totals(load_rollouts(tmp_path / "x.jsonl")) == (6, 3, 0, 6)


def test_lm_eval_as_parquet(tmp_path):
    pd.DataFrame(report_lines("lm_old_minerva.jsonl")).to_parquet(tmp_path / "x.parquet")
    assert totals(load_rollouts(tmp_path / "x.parquet")) == (6, 3, 0, 6)


class TestAMetricThatIsNoVerdict:
    @pytest.mark.parametrize("value", [999, 37.2, -0.1, 100.0])
    def test_harness_scores_are_from_0_to_1(self, value, tmp_path):
        rows = [document(d, filter="none", metrics=["bleu"], bleu=value if d else 0.5) for d in (0, 1)]
        path = lines(tmp_path / "x.jsonl", rows)
        with pytest.raises(ValueError, match=r"line 2: bleu,none is .* expected a score from 0 to 1.*--threshold"):
            load_rollouts(path, skip_bad_rows=True)
        assert load_rollouts(path, threshold=20)["correct"].tolist() == [False, value > 20]  # the advice

    def test_rewards_may_have_any_size(self, tmp_path):
        path = lines(tmp_path / "x.jsonl", [{"prompt_id": "a", "completion": "", "reward": r} for r in (-3.0, 15.0)])
        assert load_rollouts(path)["correct"].tolist() == [False, True]


class TestSeveralTasksInOneFile:
    def test_ids_are_those_of_the_file_where_they_are_unique(self):
        alone, both = quietly(REPORTS / "lm_old_minerva.jsonl"), quietly(REPORTS / "lm_cat.jsonl")
        assert sorted(alone["prompt_id"]) == list("012345")
        assert both.groupby("prompt_id")["prompt"].nunique().eq(1).all() and both["prompt"].nunique() == 6
        assert all(re.fullmatch(r"[012] \([0-9a-f]{16}\)", i) for i in both["prompt_id"])

    def test_the_order_of_the_tasks_changes_no_id(self, tmp_path):
        rows = report_lines("lm_cat.jsonl")
        one, other = (quietly(lines(tmp_path / "x.jsonl", r)) for r in (rows, rows[3:] + rows[:3]))
        assert one.set_index("prompt_id")["correct"].to_dict() == other.set_index("prompt_id")["correct"].to_dict()

    def test_files_of_several_tasks_in_one_folder(self, tmp_path):
        rows = report_lines("lm_cat.jsonl")
        lines(tmp_path / "a.jsonl", rows[:3]), lines(tmp_path / "b.jsonl", rows[3:])
        assert totals(quietly(tmp_path)) == (6, 3, 0, 6)

    def test_documents_without_the_chosen_filter_or_metric_are_counted(self, tmp_path):
        rows = [document(d, prompt=f"A{d}", filter="strict", metrics=["em"], em=1.0) for d in range(3)]
        rows += [
            document(d, prompt=f"B{d}", filter=f, metrics=["other"], other=0.0)
            for d in range(2)
            for f in ("none", "strict")
        ]
        frame, said = read(lines(tmp_path / "x.jsonl", rows), correct="em")
        assert totals(frame) == (3, 3, 0, 3) and "2 of 5 documents have no em,strict and are left out" in said
        frame, said = read(tmp_path / "x.jsonl", correct="verify")
        assert totals(frame)[0] == 5

    def test_the_same_prompts_twice_are_refused_with_advice_that_works(self, tmp_path):
        frame = pd.read_parquet(REPORTS / "inspect_two_tasks.parquet")
        frame["input"] = "user:\nq" + frame["id"].astype(str) + "\n"
        frame.to_parquet(tmp_path / "x.parquet")
        with pytest.raises(ValueError, match=r"6 rows that repeat.*frame\[frame.eval_id == ...\].to_parquet"):
            load_rollouts(tmp_path / "x.parquet")
        for name in ("a", "b"):
            frame[frame.eval_id == name].to_parquet(tmp_path / f"{name}.parquet")
            assert totals(load_rollouts(tmp_path / f"{name}.parquet", model=name)) == (6, 3, 0, 3)
        rows = report_lines("lm_cat.jsonl")[:3]
        with pytest.raises(ValueError, match="3 rows that repeat.*give each its own file"):
            load_rollouts(lines(tmp_path / "x.jsonl", rows + rows))


class TestUnscoredRows:
    def test_any_format_says_how_many_and_why(self, tmp_path):
        rows = [
            {"prompt": "p", "completion": str(i), "correct": None if i % 3 else True, "other": 1.0} for i in range(9)
        ]
        said = read(lines(tmp_path / "x.jsonl", rows))[1]
        assert (
            "6 of 9 rows are unscored, because correct is empty there (other has a value in every row: --correct other)"
            in said
        )
        rows[2]["other"] = None
        assert "has a value" not in read(lines(tmp_path / "x.jsonl", rows))[1]
        assert not read(lines(tmp_path / "x.jsonl", rows[:1]))[1]

    def test_a_table_of_ours_as_well(self, tmp_path):
        from differential_smoothing.rollouts import write_rollouts

        write_rollouts(quietly(REPORTS / "inspect_err.parquet"), tmp_path / "x.parquet")
        assert "3 of 6 rows are unscored, because correct is null" in read(tmp_path / "x.parquet")[1]

    def test_errors_in_other_rows_and_scores_beside_an_error(self, tmp_path):
        frame = pd.read_parquet(REPORTS / "inspect_err.parquet")
        frame.loc[0, ["score_match", "error"]] = None, "boom"
        frame.loc[2, ["score_match", "error"]] = None, None  # no score, no error
        frame.loc[3, ["score_match", "error"]] = "I", "late"  # scored although it ended in an error
        frame.to_parquet(tmp_path / "x.parquet")
        table, said = read(tmp_path / "x.parquet")
        assert totals(table) == (6, 1, 4, 3)
        assert "3 of 6 rows are unscored, because their sample ended in an error" in said
        assert "1 of 6 rows are unscored, because score_match is empty there" in said

    def test_a_rollout_of_verifiers_that_failed_was_not_wrong(self, tmp_path):
        rows = report_lines("prime_verifiers.jsonl")
        rows[1] |= {"reward": 0.0, "completion": None, "error": {"error": "ModelError"}}
        rows[2] |= {"reward": 0.0, "error": None}
        frame, said = read(lines(tmp_path / "x.jsonl", rows))
        assert (
            totals(frame) == (8, 6, 1, 2)
            and "1 of 8 rows are unscored, because their rollout ended in an error" in said
        )
