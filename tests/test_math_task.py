"""The task math: its data sets in the form that the Hub has them, what is left out and said, prompts, verdicts, and the way to a trainer.

The Hub itself was never asked: ``data/math_sets.py`` writes small data sets of our own problems with the files, columns and types of
the public ones, and ``datasets`` loads them from a folder by the call that also loads from the Hub.
"""

import inspect
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from differential_smoothing.cli import app
from differential_smoothing.integrations.verl.reward import compute_score
from differential_smoothing.tasks import make_task
from differential_smoothing.tasks import math as maths
from differential_smoothing.tasks.export import write_problems
from differential_smoothing.tasks.math import SOURCES, STYLES, MathProblem, contaminated, solution_signature, sources
from differential_smoothing.tasks.math.contamination import normal, unique

pytest.importorskip("math_verify")
sys.path.insert(0, str(Path(__file__).parent / "data"))
import math_sets

ROWS = [{"question": f"What is ${i}+{i * i}$?", "answer": str(i + i * i)} for i in range(60)]


def load(*arguments, **named):
    return list(sources.load(*arguments, **named))


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    """The library, writing its cache where the test may."""
    library = pytest.importorskip("datasets")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return library


@pytest.fixture
def files(tmp_path):
    """60 training problems and 3 test problems that are none of them."""
    test = [{"question": f"What is ${i}-{i}$?", "answer": "0"} for i in range(3)]
    return {"train": jsonl(tmp_path / "sums.jsonl", ROWS), "test": jsonl(tmp_path / "differences.jsonl", test)}


# --- data sets ------------------------------------------------------------------------------------------------------


def test_there_is_a_stand_in_for_every_data_set_that_is_known():
    assert list(math_sets.SETS) == list(SOURCES)


@pytest.mark.parametrize("name", SOURCES)
def test_a_data_set_in_the_form_of_the_hub_is_read(name, datasets, tmp_path):
    math_sets.write(name, tmp_path / "data" / name)
    for use in ("train", "test"):
        problems = load(name, use, folder=tmp_path / "data")
        assert [(p.question, p.answer) for p in problems] == math_sets.SETS[name][1][getattr(SOURCES[name], use)]
        assert {p.source for p in problems} == {name}


@pytest.mark.parametrize("name", ["gsm8k", "dapo_17k"])
def test_the_same_rows_as_files_in_a_folder_are_the_same_problems(name, datasets, tmp_path):
    math_sets.write(name, tmp_path / name)
    for use in {SOURCES[name].train, SOURCES[name].test}:
        config = SOURCES[name].configs[0]
        rows = datasets.load_dataset(str(tmp_path / name), config, split=use)
        (tmp_path / "flat").mkdir(exist_ok=True)
        rows.to_parquet(tmp_path / "flat" / f"{name}-{use}.parquet")
        jsonl(tmp_path / "flat" / f"{name}.jsonl", [{"wrong": "the split's own file comes first"}])
        assert load(name, use, folder=tmp_path / "flat") == load(name, use, folder=tmp_path)


def test_right_answers_to_the_stand_ins_are_right(datasets, tmp_path):
    for name in SOURCES:
        math_sets.write(name, tmp_path / name)
    first = {
        "math": "6",
        "math500": "7/9",
        "dapo_17k": "97",
        "dapo_14k": "41",
        "deepscaler": "0.5",
        "gsm8k": "1200",
        "aime24": "24",
        "aime25": "28",
        "amc23": "36",
        "olympiadbench": "x=3, 2",
        "minerva": "9.8",
    }
    task = make_task("math")
    problems = [load(name, "train", folder=tmp_path)[0] for name in SOURCES]
    right = task.verify_all([f"So it is $\\boxed{{{first[p.source]}}}$." for p in problems], problems)
    assert all(v.correct for v in right), right
    wrong = task.verify_all([f"So it is $\\boxed{{{first[p.source]}1}}$." for p in problems], problems)
    assert not any(v.correct for v in wrong), wrong


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {"task": "2+2?", "answer": "4"},
            r"no column for the question. Expected question or problem; found task, answer. Say which it is",
        ),
        (
            {"question": "2+2?", "key": "4"},
            r'no column for the answer.*found question, key.*option columns: \{"f.jsonl": \{"answer": "NAME"\}\}',
        ),
        ({"question": "2+2?", "problem": "3+3?", "answer": "4"}, "more than one column for the question"),
        ({"question": " ", "answer": "4"}, "the question must be text"),
        ({"question": None, "answer": "4"}, "the question must be text"),
        ({"question": "2+2?", "answer": {"value": 4}}, "the answer must be text, a number or a list of them"),
        ({"question": "2+2?", "answer": True}, "the answer must be text, a number or a list of them"),
        (
            {"question": math_sets.DAPO.format("2+2?")[:-9], "answer": "4"},
            "the instruction around the question is not the one",
        ),
        (["2+2?", "4"], "a row must be a mapping of columns"),
    ],
)
def test_a_row_that_is_no_problem_is_named_with_what_was_found_and_expected(row, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jsonl(tmp_path / "f.jsonl", [ROWS[0], row])
    with pytest.raises(ValueError, match=rf"^f.jsonl, line 2: .*{words}"):
        load("f.jsonl", "train")


def test_columns_with_other_names_are_read_where_they_are_named(datasets, tmp_path):
    row = {"Problem": "2+2?", "key": {"final": [4.0, "5"]}, "solution": "\\boxed{4} and 5"}
    own = jsonl(tmp_path / "f.jsonl", [row])
    for columns in (
        {"question": "Problem", "answer": "key.final"},
        {own: {"question": "Problem", "answer": "key.final"}},
    ):
        [problem] = make_task("math", train=own, test=[], columns=columns).problems(1, split="train", seed=0)
        assert problem == MathProblem("2+2?", "4, 5", "f")
    [problem] = load(own, "train", columns={"question": "Problem", "answer": "solution"})
    assert problem.answer == "4"
    jsonl(tmp_path / "aime24.jsonl", [row])
    with pytest.raises(
        ValueError,
        match=r"aime24.jsonl, line 1: no column for the question. Expected problem; found Problem, key, solution",
    ):
        load("aime24", "test", folder=tmp_path)
    [problem] = load("aime24", "test", folder=tmp_path, columns={"aime24": {"question": "Problem"}})
    assert problem == MathProblem("2+2?", "4", "aime24")


def test_a_worked_solution_without_its_mark_has_no_answer(tmp_path):
    jsonl(
        tmp_path / "gsm8k.jsonl", [{"question": "2+2?", "answer": "It is 4."}, {"question": "2+3?", "answer": "#### 5"}]
    )
    assert [p.answer for p in load("gsm8k", "train", folder=tmp_path)] == ["", "5"]


# --- what cannot be loaded ------------------------------------------------------------------------------------------


def test_without_a_network_the_error_says_what_to_do(tmp_path):
    """A real call of the Hub's client with the network switched off by its own variable, in a process of its own."""
    code = (
        "from differential_smoothing.tasks import make_task\n"
        f"make_task('math', test='aime24', folder={str(tmp_path)!r}).problems(1, split='test', seed=0)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "ValueError: The data set 'aime24' (math-ai/aime24) could not be loaded: the Hub cannot be reached ("
    )
    for words in (
        f"not in the folder {tmp_path} either (aime24.jsonl, aime24.parquet or a folder aime24)",
        '{"folder": "DATA"}',
        "hf download --repo-type dataset math-ai/aime24 --local-dir DATA/aime24",
        "HF_HUB_OFFLINE=1",
    ):
        assert words in last
    assert len(last) < 1200


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Dataset 'x' is a gated dataset on the Hub.", "accepted its terms"),
        ("Dataset 'x' doesn't exist on the Hub or cannot be accessed.", "no such data set"),
        ("Couldn't reach 'x' on the Hub (ConnectionError)", "cannot be reached"),
    ],
)
def test_a_gated_and_an_unknown_data_set_are_told_apart(said, words, datasets, monkeypatch):
    def refuse(*arguments, **named):  # the Hub's own errors in its own words: it cannot be had here
        inspect.signature(original).bind(*arguments, **named)
        raise datasets.exceptions.DatasetNotFoundError(said)

    original = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(ValueError, match=words):
        load("minerva", "test")


def test_a_folder_without_the_split_and_a_folder_that_is_not_there_are_named(datasets, tmp_path):
    math_sets.write("gsm8k", tmp_path / "gsm8k")
    for file in (tmp_path / "gsm8k" / "main").iterdir():
        file.unlink()
    with pytest.raises(
        ValueError,
        match=r"gsm8k does not hold the data set 'gsm8k' as the Hub has it, with the split 'train' of the config 'main'",
    ):
        load("gsm8k", "train", folder=tmp_path)
    with pytest.raises(ValueError, match="There is no folder 'nowhere'. The task's option folder"):
        load("gsm8k", "train", folder=Path("nowhere"))
    with pytest.raises(ValueError, match="There is no data file 'nowhere.jsonl'"):
        load("nowhere.jsonl", "train")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train": "maths"}, "There is no mathematical data set 'maths'. Known are math, math500"),
        ({"test": ["math500", 3]}, "no mathematical data set 3"),
        ({"style": "loud"}, "style of math must be one of boxed, qwen_math, question; got 'loud'"),
        ({"variety": None}, "variety of math"),
        ({"overlap": True}, "overlap of math"),
        ({"style": ["boxed"]}, "style of math"),
        ({"folder": 3}, "folder of math"),
        ({"columns": ["question"]}, "columns must say"),
        ({"columns": {"question": 3}}, "columns must say"),
        ({"columns": {"aime24": {"solution": "x"}}}, "columns must say"),
        ({"sets": "math"}, "no option 'sets'"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_loaded(options, words):
    with pytest.raises(ValueError, match=words):
        make_task("math", **options)


# --- splits, copies, unreadable answers -----------------------------------------------------------------------------


def test_the_splits_share_no_problem_whatever_the_seed(files):
    task = make_task("math", **files)
    with pytest.warns(UserWarning, match="math: 100 (train|dev|test) problems were asked for and there are"):
        train, dev, test = (
            {task.problem_id(p) for p in task.problems(100, split=s, seed=1)} for s in ("train", "dev", "test")
        )
    assert len(train) + len(dev) == 60 and 0 < len(dev) < 20 and len(test) == 3
    assert not (train & dev or train & test or dev & test)
    with warnings.catch_warnings(record=True):
        other = task.problems(100, split="dev", seed=2)
    assert {task.problem_id(p) for p in other} == dev


def test_a_seed_draws_an_order_and_fewer_are_its_beginning(files):
    task = make_task("math", **files)
    ten, five = (task.problems(n, split="train", seed=7) for n in (10, 5))
    assert ten[:5] == five and ten == task.problems(10, split="train", seed=7) != task.problems(
        10, split="train", seed=8
    )
    assert task.problems(3, split="test", seed=0) == task.problems(
        3, split="test", seed=5
    )  # whole, in the file's order
    for count, split in ((0, "train"), (1, "tests")):
        with pytest.raises(ValueError, match="count >= 1 and split train, dev or test"):
            task.problems(count, split=split, seed=0)


def test_what_is_left_out_is_counted_and_said(files, tmp_path):
    extra = [
        {"question": "what is  1 + 1?", "answer": "2"},  # a copy in another spelling
        *[ROWS[3]] * 4,
        {"question": "What is $2+4$?", "answer": "7"},  # a copy with another answer
        {"question": "What is nothing?", "answer": ""},
        {"question": "What is a broken answer?", "answer": "\\frac{1}{"},
        {"question": "what is 1-1", "answer": "0"},  # a test problem
    ]
    train = jsonl(tmp_path / "more.jsonl", [*ROWS, *extra])
    task = make_task("math", train=train, test=files["test"])
    with pytest.warns(UserWarning) as said:
        problems = task.problems(1000, split="train", seed=0)
    assert [str(w.message) for w in said][0] == (
        f"math, {train} (train): 59 of 69 problems are used. Left out: 5 copies of another question; 2 questions whose copies have different "
        "answers; 2 without an answer that can be read; 1 that are test problems. The first such answer is '' to 'What is nothing?'."
    )
    left = {p.question for p in problems}
    assert not left & {"What is $2+4$?", *(row["question"] for row in extra)} and "What is $1+1$?" in left
    assert all(w.filename == __file__ for w in said)


def test_a_test_set_stays_whole_though_another_holds_the_same_problem(files, tmp_path):
    other = jsonl(tmp_path / "other.jsonl", [{"question": "What is $1-1$?", "answer": "0"}])
    task = make_task("math", train=files["train"], test=[files["test"], other])
    problems = task.problems(4, split="test", seed=0)
    assert [p.source for p in problems] == ["differences"] * 3 + ["other"]
    assert len({task.problem_id(p) for p in problems}) == 4
    ids = [task.problem_id(p).split(":") for p in problems]
    assert ids[1][1] == ids[3][1] and (ids[1][0], ids[3][0]) == ("differences", "other")


def test_nothing_left_is_an_error(files):
    with (
        pytest.raises(ValueError, match="math has no train problems"),
        pytest.warns(UserWarning, match="60 that are test problems"),
    ):
        make_task("math", train=files["train"], test=files["train"]).problems(1, split="train", seed=0)
    with pytest.raises(ValueError, match="math has no test sets"):
        make_task("math", train=files["train"], test=[]).problems(1, split="test", seed=0)


def test_two_files_of_one_name_and_a_colon_in_a_source_make_no_wrong_test_set(tmp_path):
    with pytest.raises(
        ValueError, match="'a/test.jsonl' and 'b/test.jsonl' would both be the data set 'test'. Rename one"
    ):
        make_task("math", test=["a/test.jsonl", "b/test.jsonl"])
    assert make_task("math").problem_id(MathProblem("1?", "1", "a:b")).startswith("a_b:")


def test_a_file_to_train_on_is_checked_against_the_test_sets_and_one_to_sample_is_not(files):
    from differential_smoothing.training import RunArguments

    train = Path(
        jsonl(Path(files["train"]).parent / "own.jsonl", [*ROWS[:3], {"question": "what is 1-1", "answer": "0"}])
    )
    task = make_task("math", **files)
    with pytest.warns(UserWarning, match="1 of 4 problems are left out: they are test problems"):
        assert len(RunArguments(model="m", task="math", data_file=str(train)).read_problems(task)) == 3
    assert len(task.read_problems(train)) == 4
    with pytest.raises(ValueError, match="has no problem left"):
        task.training_problems(Path(files["test"]))


def test_sampling_asks_for_a_length_where_completions_have_none(files, tmp_path):
    done = CliRunner().invoke(
        app,
        [
            "sample",
            "--model",
            "m",
            "--task",
            "math",
            "--task-options",
            json.dumps(files),
            "--output",
            str(tmp_path / "o.parquet"),
        ],
    )
    assert "--max-new-tokens" in str(done.exception)


# --- contamination --------------------------------------------------------------------------------------------------

LONG = "A farmer has 17 sheep and 5 cows, and every cow eats as much as 3 sheep do in a day. {} are there?"


def asked(*questions):
    return [MathProblem(question, "1") for question in questions]


@pytest.mark.parametrize(
    "question",
    [
        "What is $\\frac{1}{2}+x$?",
        "what is \\(\\dfrac{1}{2} + x\\) ?",
        "What is\n$$\\tfrac{1}{2}\\, + \\left. x $$",
        "WHAT IS \\frac{1}{2}+x.",
    ],
)
def test_a_question_is_the_same_in_another_spelling(question):
    assert normal(question.replace("\\left.", "")) == "whatis\\frac12+x"


def test_questions_that_differ_in_a_sign_a_digit_or_a_point_are_different():
    questions = [
        "What is 1+2?",
        "What is 1-2?",
        "What is 12?",
        "What is 1.2?",
        "What is 1,2?",
        "What is 1/2?",
        "What is 1+3?",
    ]
    assert len({normal(q) for q in questions}) == len(questions)
    assert contaminated(asked(*questions[1:]), asked(questions[0])) == ([], [])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Compute 5!", "Compute 5."),
        ("Find 1 23", "Find 12 3"),
        ("What is 2 1/2 + 1?", "What is 21/2+1?"),
        ("Find $1$ $2$", "Find $12$"),
        ("x^{23}", "x^23"),
        ("2^{3}4", "2^{34}"),
        ("\\frac{12}{3}", "\\frac{1}{23}"),
        ("\\{2\\}", "2"),
        ("Find 5{3}", "Find 53!"),
    ],
)
def test_questions_that_only_look_alike_are_different(one, other):
    assert normal(one) != normal(other) and contaminated(asked(one), asked(other)) == ([], [])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Solve x^{2} = 4", "Solve x^2=4."),
        ("\\frac{1}{2}", "\\frac12"),
        ("90^{\\circ}", "90^\\circ"),
        ("2  1/2 + 1", "2 1/2+1"),
        ("10,\\!000", "10,000"),
        ("\\sqrt{x}", "\\sqrt x"),
    ],
)
def test_braces_around_one_token_and_blanks_hide_no_copy(one, other):
    assert normal(one) == normal(other)


def test_a_whole_test_question_in_a_training_question_is_found():
    test = asked(
        "Let $a$ and $b$ be two positive integers with sum 30 and product 200. What is the larger of $a$ and $b$, plus $x^{2}$?",
        "What is 1+2?",
    )
    question = test[0].question
    held = [
        question + " Give your answer as an integer.",
        "Problem 5. " + question,
        question.replace("{2}?", "2") + " Answer as an integer: ",
        question + "\n5",
    ]
    assert contaminated(asked(*held), test) == (asked(*held), [])
    other = [
        question.replace("plus", "minus"),
        question.replace("?", "+1?"),
        question.replace("$?", "y$?"),
        question.replace("$?", "!$?"),
        question.replace("?", ".5?"),
    ]
    assert contaminated(asked(*other), test) == ([], asked(*other))
    assert contaminated(asked("What is 1+2? Give your answer as an integer."), test) == ([], [])  # too short to tell


def test_training_problems_that_are_test_problems_are_found_both_ways():
    train = asked(
        "What is 1+2?",
        LONG.format("How many heads"),
        LONG.format("How many legs in all"),
        "What is 3+4?",
        "[asy]" + LONG + "[/asy] What is it?",
    )
    test = asked("what is $1 + 2$", LONG.format("How many heads").upper(), "[asy]" + LONG + "[/asy] What is this?")
    assert contaminated(train, test) == (train[:2], [train[2]])
    assert contaminated(train, test, words=40) == (train[:2], [])
    assert contaminated(train, []) == ([], []) and contaminated([], test) == ([], [])


def test_overlapping_problems_are_said_and_dropped_only_if_asked_for(tmp_path):
    train = jsonl(
        tmp_path / "a.jsonl",
        [{"question": LONG.format(f"How many of number {i}"), "answer": "1"} for i in range(9)] + ROWS[:20],
    )
    test = jsonl(tmp_path / "b.jsonl", [{"question": LONG.format("How many heads"), "answer": "22"}])
    for overlap, used, words in (
        ("keep", 29, "29 of 29 problems are used. Of those used, 9 share 13 words in a row with a test problem."),
        ("drop", 20, "20 of 29 problems are used. Left out: 9 that share 13 words in a row with a test problem."),
    ):
        task = make_task("math", train=train, test=test, overlap=overlap)
        with pytest.warns(UserWarning) as said:
            count = sum(len(task.problems(99, split=split, seed=0)) for split in ("train", "dev"))
        assert count == used and words in str(said[0].message)


def test_copies_are_compared_within_a_source_only_where_that_is_asked_for():
    one, two = MathProblem("1+1?", "2", "a"), MathProblem("1 + 1?", "2", "b")
    assert unique([one, two]) == ([one], [two], [])
    assert unique([one, two], within=True) == ([one, two], [], [])
    other = MathProblem("1+1?", "3", "b")
    assert unique([one, other]) == ([], [], [one, other])


# --- prompts, verdicts, variety -------------------------------------------------------------------------------------

PROBLEM = MathProblem("What is {question} $\\frac{1}{2}+\\frac{1}{2}$?", "1", "own")


@pytest.mark.parametrize("style", STYLES)
def test_a_prompt_holds_the_question_once_and_what_its_style_asks(style):
    task = make_task("math", style=style)
    text, messages = task.prompt(PROBLEM), task.prompt(PROBLEM, chat=True)
    assert text.count(PROBLEM.question) == 1 and text.endswith("\n")
    assert [m["role"] for m in messages] == (["system", "user"] if style == "qwen_math" else ["user"])
    assert messages[-1]["content"].count(PROBLEM.question) == 1
    request = "Please reason step by step, and put your final answer within \\boxed{}."
    for written in (text, "".join(m["content"] for m in messages)):
        assert written.count(request) == (style != "question")


def test_columns_make_the_problem_again():
    task = make_task("math")
    assert task.problem(**json.loads(json.dumps(task.columns(PROBLEM)))) == PROBLEM
    for wrong in (
        {"question": "", "answer": "1"},
        {"question": "1?", "answer": " "},
        {"question": "1?", "answer": 1},
        {"question": ["1?"], "answer": "1"},
    ):
        with pytest.raises(ValueError, match="A math problem needs the text of its"):
            task.problem(**wrong)


def test_the_reward_is_the_verdict_for_text_and_for_messages():
    task = make_task("math")
    completions = [
        "It is $\\boxed{\\frac{2}{2}}$.",
        "It is $\\boxed{2}$.",
        "",
        [{"role": "assistant", "content": "The answer is 1."}],
        [],
    ]
    columns = {name: [value] * 5 for name, value in task.columns(PROBLEM).items()}
    assert task.reward(completions, **columns) == [1.0, 0.0, 0.0, 1.0, 0.0]
    assert task.reward.__name__ == "math_correct"
    assert task.verify("<think>\\boxed{2}</think> \\boxed{1}", PROBLEM, chat=True) == (True, "correct", "1")
    assert (
        task.canonical("1.0", **task.columns(PROBLEM)) == "1" and task.canonical("2", **task.columns(PROBLEM)) is None
    )


def test_variety_by_calculations_tells_right_ways_apart_and_answers_do_not():
    ways = [
        "$1/2 + 1/2 = 1$. So \\boxed{1}.",
        "$2*1/2 = 1$. So \\boxed{1}.",
        "$1/2+1/2 = 1$, of course: \\boxed{1.0}",
        "Plainly \\boxed{1}.",
        "$1/2+1/2=2$ \\boxed{2}",
    ]
    answers, calculations = (
        make_task("math", variety=v).verify_all(ways, [PROBLEM] * 5) for v in ("answer", "calculations")
    )
    assert [v.canonical for v in answers] == ["1", "1", "1", "1", None]
    forms = [v.canonical for v in calculations]
    assert forms[0] == forms[2] == solution_signature(ways[0]) and len(set(forms)) == 4
    assert forms[3] == "no calculation" and forms[4] is None
    assert [v[:2] for v in answers] == [v[:2] for v in calculations]


# --- the way out: files, verl, commands -----------------------------------------------------------------------------


def test_verls_rows_are_scored_where_there_are_no_data(files, tmp_path, monkeypatch):
    options = {**files, "folder": str(tmp_path), "style": "qwen_math"}
    task = make_task("math", **options)
    [train, test] = write_problems(
        task, tmp_path / "out", format="verl", sizes={"train": 5, "test": 3}, seed=0, options=options
    )
    for name in files.values():
        Path(name).unlink()  # the worker that scores may lie on another machine
    monkeypatch.chdir(tmp_path)
    for row in pd.read_parquet(train).to_dict("records") + pd.read_parquet(test).to_dict("records"):
        gold = json.loads(row["reward_model"]["ground_truth"])["answer"]
        given = dict(
            data_source=row["data_source"],
            ground_truth=row["reward_model"]["ground_truth"],
            extra_info=row["extra_info"],
        )
        assert row["data_source"] == "math" and row["prompt"][0]["role"] == "system"
        for text, score in ((f"\\boxed{{{gold}.0}}", 1.0), (f"\\boxed{{{gold}1}}", 0.0), ("\\boxed{" * 999, 0.0)):
            assert compute_score(solution_str=text, **given) == {"score": score, "acc": score}


def test_rows_for_trl_are_read_again_as_problems_and_as_a_training_set(files, tmp_path):
    task = make_task("math", **files)
    [file] = write_problems(task, tmp_path / "rows", format="jsonl", sizes={"train": 6}, seed=0)
    problems = task.problems(6, split="train", seed=0)
    assert task.read_problems(file) == problems == load(str(file), "train")
    with pytest.raises(ValueError, match=r"broken.jsonl: The gold answer '1\+' cannot be read"):
        task.read_problems(Path(jsonl(tmp_path / "broken.jsonl", [{"question": "1?", "answer": "1+"}])))


def test_the_command_writes_what_there_is_and_says_so(files, tmp_path):
    command = [
        sys.executable,
        "-m",
        "differential_smoothing",
        "data",
        "--task",
        "math",
        "--format",
        "jsonl",
        "--val",
        "0",
    ]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "d"), "--task-options", json.dumps(files)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    count = len((tmp_path / "d" / "train.jsonl").read_text().splitlines())
    assert (
        done.stderr == f"dsmooth: math: 20,000 train problems were asked for and there are {count}; all are used.\n"
        and 40 < count < 60
    )
    done = CliRunner().invoke(
        app, [*command[3:], "--output", str(tmp_path / "e"), "--task-options", '{"train": "none.jsonl"}']
    )
    assert "There is no data file 'none.jsonl'" in str(done.exception) and not (tmp_path / "e").exists()


# --- end to end: one architecture; the others are the recipes' -----------------------------------------------------

# the messages between the marks of Qwen2.5's template, with its default for a missing system prompt
CHATML = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture
def tiny_qwen(tmp_path):
    """A random Qwen2 of two small layers, with a tokenizer of the characters that its prompts need and a chat template."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, set_seed

    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    used = set(
        "Please reason step by step, and put your final answer within \\boxed{}. Which digit is $0123456789$-?\nsystemuserassistant"
    )
    words = [*marks, "<unk>", *sorted(used)]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=marks[0],
        eos_token=marks[2],
        unk_token="<unk>",
        additional_special_tokens=marks[1:2],
        padding_side="left",
        chat_template=CHATML,
    )
    set_seed(0)
    network = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(words),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=64,
            max_position_embeddings=512,
            pad_token_id=0,
            bos_token_id=0,
            eos_token_id=2,
        )
    )
    network.save_pretrained(tmp_path / "qwen")
    tokenizer.save_pretrained(tmp_path / "qwen")
    return str(tmp_path / "qwen")


@pytest.mark.slow
def test_a_chat_model_trains_samples_and_is_evaluated_on_a_file_of_problems(tiny_qwen, tmp_path):
    """A random model writes a digit here and there, so single digits as answers make some of its completions right."""
    pytest.importorskip("trl")
    from differential_smoothing.rollouts import read_rollouts
    from differential_smoothing.training import parse_config, train

    rows = [{"question": f"Which digit is ${i}-{i - i % 10}$?", "answer": str(i % 10)} for i in range(60)]
    options = {
        "train": jsonl(tmp_path / "digits.jsonl", rows[:50]),
        "test": jsonl(tmp_path / "test.jsonl", rows[50:]),
        "style": "qwen_math",
        "variety": "calculations",
    }
    run = [
        "--model",
        tiny_qwen,
        "--task",
        "math",
        "--task_options",
        json.dumps(options),
        "--chat",
        "true",
        "--rollout",
        "host",
        "--max_steps",
        "2",
        "--per_device_train_batch_size",
        "64",
        "--num_generations",
        "16",
        "--max_completion_length",
        "24",
        "--gamma_p",
        "0.2",
        "--learning_rate",
        "1e-3",
        "--use_cpu",
        "true",
        "--bf16",
        "false",
        "--report_to",
        "none",
        "--disable_tqdm",
        "true",
        "--logging_steps",
        "1",
        "--problems",
        "40",
        "--gradient_checkpointing",
        "false",
        "--output_dir",
        str(tmp_path / "run"),
    ]
    model = train(*parse_config(run))
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [m["step"] for m in metrics[:2]] == [1, 2] and 0 < sum(
        m["rewards/math_correct/mean"] for m in metrics[:2]
    ) < 1
    for m in metrics[:2]:
        assert m["ds/correct"] == m["rewards/math_correct/mean"] and (not m["ds/correct"] or m["ds/term_correct"] > 0)

    def command(*arguments):
        done = CliRunner().invoke(app, list(map(str, arguments)))
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    for name, folder in (("before", tiny_qwen), ("after", model)):
        command(
            "sample",
            "--model",
            folder,
            "--name",
            name,
            "--task",
            "math",
            "--task-options",
            json.dumps(options),
            "--problems",
            10,
            "--samples",
            32,
            "--max-new-tokens",
            24,
            "--chat",
            "--output",
            tmp_path / f"{name}.parquet",
        )
    frame = read_rollouts(tmp_path / "after.parquet")
    assert (
        set(frame["task"]) == {"math"}
        and frame["prompt_id"].str.match("test:[0-9a-f]{12}$").all()
        and frame["prompt_id"].nunique() == 10
    )
    assert (
        frame["prompt"].str.startswith("<|im_start|>system\nPlease reason step by step").all()
        and 0 < frame["correct"].mean() < 0.5
    )
    assert (frame["canonical"].notna() == frame["correct"]).all()
    golds = {
        make_task("math").problem_id(MathProblem(r["question"], r["answer"], "test")): r["answer"] for r in rows[50:]
    }
    again = maths.verify_many(list(frame["completion"]), [golds[i] for i in frame["prompt_id"]])
    assert [v.correct for v in again] == list(frame["correct"])
    said = command("evaluate", tmp_path / "before.parquet", tmp_path / "after.parquet", "--baseline", "before")
    assert "Pass@32" in said and "after - before" in said


def test_importing_the_task_loads_no_library():
    code = "import sys; from differential_smoothing.tasks import make_task; make_task('math'); print(*{'datasets', 'sympy', 'pyarrow', 'trl'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_the_public_names():
    assert {"Math", "SOURCES", "contaminated", "verify_many"} <= set(maths.__all__)
