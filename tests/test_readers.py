"""Rollouts of every tool come out as the same table, and the same completions give the same numbers to the last digit.

The files in tests/data/rollouts were written by lm-evaluation-harness 0.4.13, inspect_ai 0.3.285 and the writing
functions of verl 0.9.1; record.py there says how. TRL's are written here, by its trainer.
"""

import json
from pathlib import Path

import pandas as pd
import pytest
from rollout_files import DATA, GIVEN, least, lines, plain_rows, quietly
from typer.testing import CliRunner

from differential_smoothing.cli import app
from differential_smoothing.evaluation import counts, summarise
from differential_smoothing.rollouts import COLUMNS, load_rollouts, read_rollouts, write_rollouts
from differential_smoothing.tasks import countdown


@pytest.fixture(scope="session")
def trl_folder(tiny_model, tmp_path_factory):
    """What one step of TRL's own trainer logs about the given completions, for each of the two tasks."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    folder = tmp_path_factory.mktemp("trl")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for task, given_rows in GIVEN.items():

        def replay(prompts, trainer, given_rows=given_rows):
            left = {row["prompt"]: list(row["completions"]) for row in given_rows}
            ids = [tokenizer(left[p].pop(0))["input_ids"] + [tokenizer.eos_token_id] for p in prompts]
            prompt_ids = [tokenizer(p)["input_ids"] for p in prompts]
            return {"prompt_ids": prompt_ids, "completion_ids": ids, "logprobs": [[-1.0] * len(i) for i in ids]}

        def right(completions, target, **_):
            return [float(c == t) for c, t in zip(completions, target)]

        def length(completions, log_extra=None, **_):
            log_extra("letters", [len(c) for c in completions])
            return [None if len(c) == 2 else 0.1 * len(c) for c in completions]

        trainer = GRPOTrainer(
            model=tiny_model,
            args=GRPOConfig(
                output_dir=str(folder / task),
                per_device_train_batch_size=4 * len(given_rows),
                num_generations=4,
                max_completion_length=16,
                max_steps=2,
                logging_steps=1,
                log_completions=True,
                use_cpu=True,
                bf16=False,
                report_to=[],
                save_strategy="no",
                disable_tqdm=True,
                num_completions_to_print=0,
                gradient_checkpointing=False,
            ),
            reward_funcs=[right, length] if task == "sums" else [right],
            train_dataset=Dataset.from_list([{k: r[k] for k in ("prompt", "target")} for r in given_rows]),
            processing_class=tokenizer,
            rollout_func=replay,
        )
        trainer.train()
    return folder


def files_of(task: str, trl_folder: Path, tmp_path: Path) -> dict[str, tuple[Path, dict]]:
    """Every file with the given completions of a task, and what else must be said to read it."""
    ours = pd.DataFrame(plain_rows(task))
    ours["prompt_id"] = ours["prompt"]
    if task == "countdown":
        problems = [countdown.read_prompt(p)[0] for p in ours["prompt"]]
        ours = ours.assign(
            prompt_id=[p.id for p in problems],
            task="countdown",
            canonical=[countdown.verify(c, *p).canonical for c, p in zip(ours["completion"], problems)],
        )
    else:
        ours["canonical"] = ours["completion"].where(ours["correct"])
    write_rollouts(ours, tmp_path / "ours.parquet")
    several = {"correct": "exact_match,first"} if task == "countdown" else {}
    score = {"correct": "score_exact"}
    return {
        "ours": (tmp_path / "ours.parquet", {}),
        "plain": (lines(tmp_path / "plain.jsonl", plain_rows(task)), {}),
        "TRL": (trl_folder / task / "completions", {"step": 2} | ({"correct": "right"} if task == "sums" else {})),
        "verl": (DATA / f"verl_{task}.jsonl", {}),
        "verl v1": (DATA / f"verl_v1_{task}.jsonl", {}),
        "lm_eval": (DATA / f"lm_eval_{'countdown' if several else 'sums_each'}.jsonl", several),
        "inspect_ai": (DATA / f"inspect_{task}.parquet", score),
        "inspect_ai, csv": (DATA / f"inspect_{task}.csv", score),
    }


class TestTheSameCompletionsGiveTheSameNumbers:
    def test_countdown_verified_again(self, trl_folder, tmp_path):
        expected = None
        for name, (path, options) in files_of("countdown", trl_folder, tmp_path).items():
            for text in (True, False):
                frame = quietly(path, model="m", text=text, **options)
                assert tuple(frame.columns) == COLUMNS
                assert (frame["completion"] == "").all() != text, name
                found = counts(frame), summarise(frame, seed=0)
                expected = expected or found
                for one, other in zip(found, expected):
                    pd.testing.assert_frame_equal(one, other, check_exact=True, obj=name)
        n = sum(sum(row["correct"]) for row in GIVEN["countdown"])
        assert expected[0]["c"].sum() == n and 0 < n < 24
        # a commuted answer is no new solution: the whole completion as canonical form would count more
        texts = sum(len({c for c, r in zip(g["completions"], g["correct"]) if r}) for g in GIVEN["countdown"])
        assert 0 < expected[0]["distinct"].sum() < texts

    def test_a_task_that_only_its_own_tool_can_score(self, trl_folder, tmp_path):
        expected = None
        for name, (path, options) in files_of("sums", trl_folder, tmp_path).items():
            frame = quietly(path, model="m", canonical="file" if name == "ours" else "completion", **options)
            # the ids differ from tool to tool, and with them the order in which problems are resampled
            table = counts(frame)[["n", "c", "distinct"]].sort_values(["n", "c"], ignore_index=True)
            estimates = summarise(frame, seed=0).drop(columns=["low", "high"])
            expected = expected or (table, estimates)
            pd.testing.assert_frame_equal(table, expected[0], check_exact=True, obj=name)
            pd.testing.assert_frame_equal(estimates, expected[1], check_exact=True, obj=name)
        assert expected[0]["n"].tolist() == [4] * 5
        assert expected[0]["c"].tolist() == sorted(sum(row["correct"]) for row in GIVEN["sums"])

    def test_without_canonical_forms_distinct_is_unknown_and_not_guessed(self):
        frame = load_rollouts(DATA / "verl_sums.jsonl")
        assert frame["canonical"].isna().all() and counts(frame)["distinct"].isna().all()


class TestTRL:
    def test_the_table_of_a_real_run(self, trl_folder):
        path = trl_folder / "sums" / "completions"
        assert [f.name for f in sorted(path.iterdir())] == ["completions_00001.parquet", "completions_00002.parquet"]
        frame = load_rollouts(path, correct="right")
        assert len(frame) == 40 and frame["step"].value_counts().to_dict() == {1: 20, 2: 20}
        assert sorted(frame["sample"].unique()) == [0, 1, 2, 3] and frame["advantage"].notna().all()
        logged = pd.read_parquet(path)
        assert frame["advantage"].tolist() == logged["advantage"].tolist()
        assert frame["correct"].tolist() == (logged["right"] > 0.5).tolist()
        assert frame.groupby("prompt")["prompt_id"].nunique().eq(1).all() and frame["prompt_id"].nunique() == 5
        with pytest.raises(ValueError, match="mix 2 steps"):
            counts(frame)
        assert counts(load_rollouts(path, correct="right", step=1))["n"].eq(4).all()

    def test_a_reward_that_was_not_given_is_unscored(self, trl_folder):
        frame = load_rollouts(trl_folder / "sums" / "completions", correct="length", threshold=0.0, step=2)
        assert frame["correct"].isna().tolist() == (frame["completion"].str.len() == 2).tolist()
        assert frame["correct"].isna().any() and frame["reward"].isna().equals(frame["correct"].isna())

    def test_several_rewards_are_not_guessed(self, trl_folder):
        with pytest.raises(ValueError, match="has 3 columns .* right, length, letters; expected one. Name it with"):
            load_rollouts(trl_folder / "sums" / "completions")
        with pytest.raises(ValueError, match="expected one of them, got 'wrong'"):
            load_rollouts(trl_folder / "sums" / "completions", correct="wrong")

    def test_a_step_that_is_not_there(self, trl_folder):
        with pytest.raises(ValueError, match="no rows of step 7, only of 1, 2"):
            load_rollouts(trl_folder / "sums" / "completions", correct="right", step=7)

    def test_the_groups_of_several_steps_are_one_evaluation(self, trl_folder, tmp_path):
        path = trl_folder / "sums" / "completions"
        both = load_rollouts(path, correct="right", step=(1, 2))
        each = [counts(load_rollouts(path, correct="right", step=s)).set_index("prompt_id") for s in (1, 2)]
        whole = counts(both).set_index("prompt_id")
        assert whole["n"].sum() == 40 and set(both["step"]) == {-1}
        added = each[0][["n", "c"]].add(each[1][["n", "c"]], fill_value=0)
        assert whole[["n", "c"]].sort_index().equals(added.sort_index().astype(whole[["n", "c"]].dtypes))
        assert len(load_rollouts(path, correct="right", step=(2, 9))) == 20
        write_rollouts(load_rollouts(path, correct="right"), tmp_path / "ours.parquet")
        ours = load_rollouts(tmp_path / "ours.parquet", step=(1, 2))
        assert counts(ours)["n"].tolist() == counts(both)["n"].tolist()
        with pytest.raises(ValueError, match="no rows of step 3 to 5, only of 1, 2"):
            load_rollouts(path, correct="right", step=(3, 5))
        with pytest.raises(ValueError, match="first <= last"):
            load_rollouts(path, correct="right", step=(2, 1))

    def test_pass_at_k_of_two_runs_from_their_logged_groups(self, trl_folder):
        path = trl_folder / "sums" / "completions"
        options = ["--correct", "right", "--step", "1:2", "--baseline", "a"]
        result = CliRunner().invoke(app, ["evaluate", f"a={path}", f"b={path}", *options])
        assert result.exit_code == 0 and "Pass@4" in result.output
        refused = CliRunner().invoke(app, ["evaluate", f"a={path}", "--step", "1:x"])
        assert refused.exit_code == 2 and "got '1:x', expected a step such as 900" in " ".join(refused.output.split())

    def test_conversations(self, tmp_path):
        """As the trainer writes them: the same frame and call (GRPOTrainer.log, TRL 1.16.0), messages as dicts."""
        problem = countdown.Problem((2, 3, 7), 12)
        answers = ["<think>x</think><answer>2+3+7</answer>", "2+3+7"]
        table = {
            "step": [4, 4],
            "prompt": [countdown.prompt(problem, chat=True)] * 2,
            "completion": [[{"role": "assistant", "content": text}] for text in answers],
            "reward_a": [0.0, 1.0],
            "advantage": [1.0, -1.0],
        }
        pd.DataFrame(table).to_parquet(tmp_path / "c.parquet")
        with pytest.warns(UserWarning, match="2 rows are Countdown answers to which the file gives another verdict"):
            frame = load_rollouts(tmp_path / "c.parquet")
        assert frame["correct"].tolist() == [True, False] and frame["canonical"].tolist()[0] == "2+3+7"
        assert frame["prompt_id"].unique().tolist() == [problem.id] and frame["completion"].tolist() == answers
        tools = [
            {"role": "assistant", "content": None},
            {"role": "tool", "content": "5"},
            {"role": "assistant", "content": [{"type": "text", "text": "<answer>2+3+7</answer>"}]},
        ]
        rows = [{"prompt": table["prompt"][0], "completion": tools, "correct": True}]
        frame = load_rollouts(lines(tmp_path / "tools.jsonl", rows))
        assert frame["correct"].tolist() == [True]
        assert frame["completion"][0] == "assistant:\n\n\ntool:\n5\n\nassistant:\n<answer>2+3+7</answer>"


class TestLmEval:
    def test_one_verdict_for_several_responses_is_no_response_s(self):
        path = DATA / "lm_eval_sums_repeated.jsonl"
        with pytest.warns(UserWarning, match="20 of 20 rows are unscored, because their metric is one value"):
            frame = load_rollouts(path, correct="exact_match,first")
        assert len(frame) == 20 and frame["correct"].isna().all() and counts(frame)["n"].eq(0).all()

    def test_a_filter_is_chosen_and_its_solution_kept(self):
        path = DATA / "lm_eval_sums_single.jsonl"
        with pytest.raises(ValueError, match="exact_match,first, exact_match,digits; expected one"):
            load_rollouts(path)
        for name in ("first", "digits"):
            frame = load_rollouts(path, correct=f"exact_match,{name}", canonical="solution")
            assert frame["correct"].tolist() == [row["correct"][0] for row in GIVEN["sums"]]
            assert frame["solution"].tolist() == [row["completions"][0] for row in GIVEN["sums"]]
            assert frame["canonical"].equals(frame["solution"].where(frame["correct"]))
            assert frame["prompt"].tolist() == [row["prompt"] for row in GIVEN["sums"]]

    def test_likelihood_tasks_have_no_completions(self, tmp_path):
        row = {
            "doc_id": 0,
            "resps": [[[-1.5, True]], [[-2.0, False]]],
            "filter": "none",
            "metrics": ["acc"],
            "acc": 1.0,
        }
        with pytest.raises(ValueError, match=r"line 1: resps is not \[\[text, ...\]\]"):
            load_rollouts(lines(tmp_path / "l.jsonl", [row]))
        row["resps"] = row["resps"][:1]
        with pytest.raises(ValueError, match="line 1: resps is list, expected text"):
            load_rollouts(lines(tmp_path / "l.jsonl", [row]))


class TestInspect:
    @pytest.mark.parametrize("ending", ["parquet", "csv"])
    def test_letters_and_unscored(self, ending):
        path = DATA / f"inspect_sums.{ending}"
        letters = load_rollouts(path, correct="score_letter")
        assert letters["correct"].tolist() == (letters["sample"] == 0).tolist()  # C, P, N, I
        assert load_rollouts(path, correct="score_letter", threshold=0.4)["correct"].sum() == 10
        unscored = load_rollouts(path, correct="score_sometimes")
        assert unscored["correct"].isna().tolist() == (unscored["sample"] == 1).tolist()
        assert set(unscored["model"]) == {"mockllm/model"} and set(unscored["prompt_id"]) == {f"p{i}" for i in range(5)}

    def test_the_default_columns_have_no_completions_so_the_score_stands(self):
        frame = load_rollouts(DATA / "inspect_countdown_default.parquet")
        assert (frame["completion"] == "").all() and not frame["correct"].any() and frame["correct"].notna().all()


class TestVerl:
    def test_acc_is_what_verl_itself_reports_and_score_can_be_asked_for(self):
        path = DATA / "verl_sums.jsonl"
        frame = load_rollouts(path)
        assert frame["correct"].equals(load_rollouts(path, correct="score")["correct"])
        assert set(frame["reward"]) == {-1.0, 1.0} and set(frame["step"]) == {7}
        assert load_rollouts(path, correct="score", threshold=-2)["correct"].all()
        assert not load_rollouts(path, threshold=1)["correct"].any()

    def test_several_outputs_of_one_session_are_refused(self, tmp_path):
        rows = [json.loads(line) for line in (DATA / "verl_v1_sums.jsonl").read_text().splitlines()]
        rows[3]["uid"] = rows[3]["uid"][:-1] + "1"
        with pytest.raises(ValueError, match="line 4: output 1 of a session"):
            load_rollouts(lines(tmp_path / "v.jsonl", rows))


class TestPlain:
    def test_columns_of_ours_are_kept(self, tmp_path):
        row = least(
            sample=3,
            task="toy",
            model="m",
            seed=2,
            step=5,
            prompt="p",
            solution="s",
            canonical="c",
            reward=0.25,
            advantage=-1.5,
            logp=-2.5,
            num_tokens=7,
            anything=[1],
        )
        frame = load_rollouts(lines(tmp_path / "x.jsonl", [row, row | {"correct": False, "sample": 4}]))
        assert frame.loc[0, list(COLUMNS)].tolist() == [row[name] for name in COLUMNS]
        assert frame["canonical"].isna().tolist() == [False, True]  # nothing is the form of a wrong answer
        write_rollouts(frame, tmp_path / "x.parquet")
        pd.testing.assert_frame_equal(read_rollouts(tmp_path / "x.parquet"), frame)

    def test_reward_above_the_threshold_is_correct(self, tmp_path):
        rows = [{"prompt_id": 7, "completion": "x", "reward": r} for r in (0.1, 1, None, float("nan"), True)]
        frame = load_rollouts(lines(tmp_path / "x.jsonl", rows))
        assert frame["correct"].tolist() == [False, True, pd.NA, pd.NA, True]
        assert frame["sample"].tolist() == [0, 1, 2, 3, 4] and set(frame["prompt_id"]) == {"7"}
        assert load_rollouts(tmp_path / "x.jsonl", threshold=0)["correct"][0]

    def test_the_first_row_alone_does_not_say_what_is_correct(self, tmp_path):
        """Three rows say false; with the reward of a format in front of them they were once all right."""
        rows = [
            {"prompt_id": "p", "completion": str(i), "reward": 1.0} | ({"correct": False} if i else {})
            for i in range(4)
        ]
        path = lines(tmp_path / "x.jsonl", rows)
        with pytest.raises(ValueError, match="line 1: no correct, expected it in every row"):
            load_rollouts(path)
        known = load_rollouts(lines(tmp_path / "z.jsonl", [rows[0] | {"correct": None}, *rows[1:]]))["correct"]
        assert known.isna().tolist() == [True, False, False, False] and known.sum() == 0
        assert load_rollouts(path, correct="reward")["correct"].all()
        path = lines(
            tmp_path / "y.jsonl",
            [{"prompt_id": str(i), "completion": "", "reward": 1.0} for i in range(300)] + rows[1:],
        )
        with pytest.raises(
            ValueError, match="line 301: the row has 'correct', .* the first 256 lines have only 'reward'"
        ):
            load_rollouts(path)
        assert load_rollouts(path, correct="reward")["correct"].all()

    def test_names_and_seeds(self, tmp_path):
        path = lines(tmp_path / "grpo.jsonl", [least()])
        assert load_rollouts(path)[["model", "seed"]].values.tolist() == [["grpo", 0]]
        assert load_rollouts(path, model="m", seed=3)[["model", "seed"]].values.tolist() == [["m", 3]]
        lines(path, [least(model="a", seed=1), least(model="b", seed=2)])
        assert load_rollouts(path)["model"].tolist() == ["a", "b"]
        with pytest.raises(ValueError, match="found the models a, b, expected one, to be called 'm'"):
            load_rollouts(path, model="m")
        with pytest.raises(ValueError, match="found the seeds 1, 2"):
            load_rollouts(path, seed=0)

    def test_blank_lines_a_byte_order_mark_and_a_missing_last_newline(self, tmp_path):
        (tmp_path / "x.jsonl").write_bytes(
            b"\xef\xbb\xbf\n \r\n" + json.dumps(least()).encode() + b"\r\n\n" + json.dumps(least()).encode()
        )
        assert len(load_rollouts(tmp_path / "x.jsonl")) == 2


class TestTheVerifierDecides:
    @pytest.mark.parametrize(
        ("row", "correct", "task"),
        [
            ({"prompt": "2 3 7 = 12 :", "completion": "7+2+3"}, True, "countdown"),
            ({"prompt": "2 3 7 = 12 :", "completion": "7+2"}, False, "countdown"),
            ({"prompt": "2 3 7 = 12 :", "completion": "<answer>7+2+3</answer>"}, False, "countdown"),
            ({"prompt_id": "2,3,7=12", "completion": "7+2+3"}, True, "countdown"),
            ({"prompt_id": "2,3,7=12", "completion": "<answer>7+2+3</answer>"}, True, "countdown"),
            ({"prompt_id": "2,3,7=12", "completion": "", "task": "countdown"}, False, "countdown"),
            ({"prompt_id": "a", "completion": "7+2", "task": "countdown"}, None, "countdown"),
            ({"prompt_id": "2,3,7=12", "completion": "7+2", "task": "toy"}, None, "toy"),
            ({"prompt_id": "2,3,7=12", "completion": "7+2", "prompt": "Reach 12."}, None, "unknown"),
            ({"prompt": "2 3 7 = 12", "completion": "7+2"}, None, "unknown"),
        ],
    )
    def test_where_the_task_is_known(self, row, correct, task, tmp_path):
        for given_verdict in (True, False):
            path = lines(tmp_path / "x.jsonl", [row | {"correct": given_verdict}])
            frame = quietly(path)
            assert frame["correct"].tolist() == [given_verdict if correct is None else correct]
            assert frame["task"].tolist() == [task]
            assert frame["canonical"].dropna().tolist() == ["2+3+7"] * bool(correct)

    def test_a_table_of_ours_that_says_otherwise(self, tmp_path):
        frame = pd.DataFrame(
            {
                "prompt_id": "2,3,7=12",
                "completion": ["2+3+7", "2+3", "7+3+2"],
                "correct": [True, True, False],
                "canonical": ["2+3+7", "cheat", None],
                "task": "countdown",
            }
        )
        write_rollouts(frame, tmp_path / "x.parquet")
        with pytest.warns(UserWarning, match="2 rows are Countdown answers to which the file gives another verdict"):
            back = load_rollouts(tmp_path / "x.parquet", text=False)
        assert back["correct"].tolist() == [True, False, True]
        assert back["canonical"].fillna("").tolist() == ["2+3+7", "", "2+3+7"] and (back["completion"] == "").all()
        # a table kept without its texts is taken at its word
        write_rollouts(back, tmp_path / "y.parquet")
        pd.testing.assert_frame_equal(load_rollouts(tmp_path / "y.parquet"), back)
