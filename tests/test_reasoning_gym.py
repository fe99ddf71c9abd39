"""reasoning-gym's generators as tasks: what is right is right, and no answer can stall, crash or fool the scoring."""

import ast
import importlib.util
import json
import math
import random
from itertools import product
from pathlib import Path

import pytest

from differential_smoothing.tasks import make_task
from differential_smoothing.tasks.gym import FORMS, Scorer
from differential_smoothing.tasks.gym.scorer import MAX_CHARACTERS

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None,
    reason="the package reasoning-gym is not installed: pip install 'differential-smoothing[gym]'",
)
COLOURS = {"min_num_vertices": 6, "max_num_vertices": 6, "edge_probability": 0.4}


@pytest.fixture(scope="module")
def hostile():
    return Scorer("hostile", {"size": 100}, imports=["hostile_gym"], time_limit=0.5, memory_mb=200)


@pytest.fixture(scope="module")
def colours():
    return make_task("reasoning_gym:graph_color", **COLOURS)


def scored(scorer, *answers):
    return scorer.score([(3, 1, answer) for answer in answers])


WRONG = {
    "hang": "no score within 0.5 s of processor time",
    "sleep": "no score within 10 s",
    "backtrack": "no score within 0.5 s of processor time",
    "memory": "MemoryError",
    "segfault": "process died",
    "leave": "process died",
    "stop": "SystemExit",
    "interrupt": "KeyboardInterrupt",
    "unprintable": "cannot be written",
    "recursion": "RecursionError",
    "nan": "the scorer gave nan",
    "infinite": "the scorer gave inf",
    "text": "ValueError",
    "none": "TypeError",
    "": "TypeError",
    "patricide": "process died",
    "write": "File too large",
    "x" * (MAX_CHARACTERS + 1): "too long",
    "eval __import__('os').abort()": "ValueError",
    "eval ().__class__": "ValueError",
    "eval " + "(" * 3000: "Error",
}


@pytest.mark.parametrize("answer", WRONG, ids=lambda a: a[:20] or "empty")
def test_a_hostile_answer_is_wrong_with_a_reason_and_harms_nobody_else(hostile, answer):
    before, score, after, half = scored(hostile, "right one", answer, "right two", "half")
    assert math.isnan(score.value) and WRONG[answer] in score.reason
    assert (before.value, after.value, half.value) == (1.0, 1.0, 0.5)


def test_what_a_scorer_prints_is_not_a_score(hostile):
    assert [s.value for s in scored(hostile, "shout", "half", "right")] == [1.0, 0.5, 1.0]


def test_the_answer_is_read_as_a_literal_and_the_entry_s_expression_is_evaluated(hostile):
    assert [s.value for s in scored(hostile, "eval ['a', 'b']", "trusted")] == [2.0, 1.0]


def test_the_scorer_sees_none_of_our_environment(hostile, monkeypatch):
    monkeypatch.setenv("DSMOOTH_SECRET", "x")
    hostile.worker.close()
    assert scored(hostile, "environment")[0].value == 0


def test_many_hanging_answers_do_not_stall_and_cost_no_honest_one(hostile):
    scorer = Scorer("hostile", {"size": 100}, imports=["hostile_gym"], time_limit=0.2)
    answers = [f"{what} {i}" for i in range(30) for what in ("hang", "right")]
    scores = scored(scorer, *answers)
    assert [s.value for s in scores[1::2]] == [1.0] * 30
    patience = [s.reason for s in scores[::2]]
    assert (
        patience == ["no score within 0.2 s of processor time"] * 10 + ["no score within 0.02 s of processor time"] * 20
    )
    scorer.worker.close()
    assert scored(scorer, *answers) == scored(scorer, *answers * 10)[: len(answers)]
    assert scorer.worker._process is None  # all remembered


def test_a_dead_worker_is_replaced(hostile):
    assert scored(hostile, "right 1")[0].value == 1
    hostile.worker._process.kill()
    hostile.worker._process.wait()
    assert scored(hostile, "right 2")[0].value == 1


# --- the task ---------------------------------------------------------------------------------------------------------


def test_splits_share_no_question_whatever_the_seed_and_seeds_repeat(colours):
    drawn = {
        (split, seed): [p.question for p in colours.problems(60, split=split, seed=seed)]
        for split in ("train", "dev", "test")
        for seed in (0, 1)
    }
    splits = [set(drawn[split, 0] + drawn[split, 1]) for split in ("train", "dev", "test")]
    assert not splits[0] & splits[1] and not splits[0] & splits[2] and not splits[1] & splits[2]
    assert all(len(set(questions)) == 60 for questions in drawn.values())
    assert drawn["dev", 0] != drawn["dev", 1]
    again = make_task("reasoning_gym:graph_color", **COLOURS).problems(60, split="dev", seed=0)
    assert [p.question for p in again] == drawn["dev", 0]


def test_a_generator_with_few_questions_says_so():
    task = make_task("reasoning_gym:hostile", imports=["hostile_gym"], size=100)
    with pytest.raises(ValueError, match=r"Only \d+ different problems of the dev split were found among 100 entries"):
        task.problems(51, split="dev", seed=0)


def test_graph_colourings_against_an_independent_check(colours):
    problem = colours.problems(3, split="dev", seed=0)[1]
    edges = ast.literal_eval(problem.question.split("Edges: ")[1].split("\n")[0])
    answers = ["".join(answer) for answer in product("0123", repeat=6)]
    verdicts = colours.verify_all(answers, [problem] * len(answers))
    valid = [a for a in answers if "0" not in a and all(a[i] != a[j] for i, j in edges)]
    assert [a for a, verdict in zip(answers, verdicts) if verdict.correct] == valid
    # the same answer: the same partition of the vertices
    partition = {a: frozenset(frozenset(i for i in range(6) if a[i] == c) for c in a) for a in valid}
    forms = {a: verdict.canonical for a, verdict in zip(answers, verdicts) if verdict.correct}
    assert len(set(forms.values())) == len(set(partition.values())) == len({(forms[a], partition[a]) for a in valid})
    # demonstrations are correct and reach every one of them
    rng = random.Random(0)
    assert {colours.demonstration(problem, rng) for _ in range(40 * len(valid))} == set(valid)


@pytest.mark.parametrize("answer", ["", "12", "1" * 7, "12312x", "१२३१२३", "{}", "1 2 3", '"' * 6])
def test_a_colouring_that_is_none_is_wrong(colours, answer):
    verdict = colours.verify(answer, colours.problems(1, split="dev", seed=0)[0])
    assert not verdict.correct and verdict.canonical is None and verdict.reason


def test_chat_answers_are_the_data_set_s_own(colours):
    problem = colours.problems(1, split="train", seed=0)[0]
    compact = colours.demonstration(problem, random.Random(0))
    own = json.dumps({str(i): int(c) for i, c in enumerate(compact)}, indent=2)
    assert problem.question.strip() in colours.prompt(problem, chat=True)[0]["content"]
    verdict = colours.verify(f"<think>hm</think><answer>{own}</answer>", problem, chat=True)
    assert verdict == colours.verify(compact, problem) and verdict.correct
    assert not colours.verify(f"<answer>{compact}</answer>", problem, chat=True).correct
    assert not colours.verify(own, problem, chat=True).correct
    [reward] = colours.reward(
        [[{"role": "assistant", "content": f"<answer>{own}</answer>"}]],
        **{k: [v] for k, v in colours.columns(problem).items()},
    )
    assert reward == 1.0 and colours.reward.__name__ == "graph_color_correct"
    assert colours.canonical(f"<answer>{own}</answer>", **colours.columns(problem)) == verdict.canonical


def test_sums_have_one_answer_however_it_is_spelt():
    task = make_task("reasoning_gym:chain_sum", min_terms=3, max_terms=3, min_digits=2, max_digits=2)
    for problem in task.problems(30, split="dev", seed=0):
        prompt, answer = task.prompt(problem), task.demonstration(problem, random.Random(0))
        first, *rest = prompt.removesuffix(" =").replace("- ", "-").replace("+ ", "").split()
        assert int(answer) == int(first) + sum(map(int, rest))  # computed here
        spelt = [answer, f" {answer}.0 ", str(int(answer) + 1), f"x{answer}", "1e999999999", "nan"]
        verdicts = task.verify_all(spelt, [problem] * 6)
        assert [v.correct for v in verdicts] == [True, True] + 4 * [False]
        assert {v.canonical for v in verdicts} == {answer, None}


@pytest.mark.parametrize(
    "name",
    [
        "gcd",
        "letter_counting",
        "n_queens",
        "mini_sudoku",
        "simple_equations",
        "spell_backward",
        "simple_integration",
        "bitwise_arithmetic",
    ],
)
def test_any_generator_is_a_task_and_its_own_answers_are_correct(name):
    task = make_task(f"reasoning_gym:{name}", time_limit=10)
    problems = task.problems(3, split="train", seed=0)
    answers = [task.demonstration(problem, random.Random(0)) for problem in problems]
    assert all(verdict.correct for verdict in task.verify_all(answers, problems))
    assert not any(v.correct for v in task.verify_all(["", "\udcff", "("] * 3, [p for p in problems for _ in "abc"]))
    for problem in problems:
        assert task.problem(**json.loads(json.dumps(task.columns(problem)))) == problem
        assert set(task.prompt(problem)) <= set(task.words) or not task.prompt(problem).isascii()


def test_an_evaluating_scorer_executes_no_answer(tmp_path):
    task = make_task("reasoning_gym:n_queens")
    [problem] = task.problems(1, split="train", seed=0)
    evil = f"__import__('os').mkdir({str(tmp_path / 'made')!r})"
    assert not task.verify(evil, problem).correct and not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "evil",
    [
        "__import__('os').mkdir({0!r}) or x",
        "eval('__imp' + 'ort_' + '_(\"os\").mkdir({0!r})')",
        "exec('import os; os.mkdir({0!r})')",
        "getattr(x, 'func')",
        "(i for i in [1]).gi_frame.f_back.f_builtins['open']({0!r}, 'w')",
    ],
)
def test_what_sympy_makes_of_an_answer_reaches_no_builtin(evil, tmp_path):
    task = make_task("reasoning_gym:simple_integration")
    [problem] = task.problems(1, split="train", seed=0)
    right = task.demonstration(problem, random.Random(0))
    verdicts = task.verify_all(
        [right, evil.format(str(tmp_path / "made")), f"{right} + 1", f"{right} + x"], [problem] * 4
    )
    assert [v.correct for v in verdicts] == [True, False, True, False]  # a constant is no mistake
    assert not (tmp_path / "made").exists()


def test_problems_from_a_file_must_still_be_the_generator_s(colours, tmp_path):
    problems = colours.problems(3, split="test", seed=5)
    path = tmp_path / "p.jsonl"
    rows = [colours.columns(p) for p in problems]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert colours.read_problems(path) == problems
    for change, message in [
        ({"question": "2 + 2 ="}, "makes another question at"),
        ({"entry_index": -1}, "whole numbers entry_seed and entry_index"),
        ({"entry_seed": None}, "no entry_seed"),
    ]:
        path.write_text("\n".join(map(json.dumps, [rows[0], {**rows[1], **change}])))
        with pytest.raises(ValueError, match="line 2: ") as caught:
            colours.read_problems(path)
        assert message in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("", {}, "needs the name of a data set"),
        ("no_such", {}, "'no_such' not registered"),
        ("gcd", {"max_valeu": 3}, "max_valeu"),
        ("gcd", {"min_value": -1}, "min_value must be positive"),
        ("gcd", {"seed": 1}, "no seed among its options"),
        ("gcd", {"threshold": 0}, "0 < threshold <= 1"),
        ("gcd", {"threshold": "1"}, "0 < threshold <= 1"),
        ("gcd", {"time_limit": 0}, "time_limit > 0"),
        ("gcd", {"memory_mb": 1.5}, "memory_mb >= 1"),
        ("gcd", {"max_value": {1, 2}}, "options that JSON can hold"),
        ("gcd", {"imports": "os"}, "imports as a list"),
        ("gcd", {"imports": ["no_such_module"]}, "No module named 'no_such_module'"),
        ("gcd", {"dataset": "lcm"}, "no option 'dataset'"),
    ],
)
def test_a_wrong_task_says_what_is_wrong(name, options, message):
    with pytest.raises(ValueError) as caught:
        make_task(f"reasoning_gym:{name}", **options)
    assert message in str(caught.value)


def test_a_threshold_below_one_accepts_part_of_a_score():
    strict, lenient = (make_task("reasoning_gym:hostile", imports=["hostile_gym"], threshold=t) for t in (1.0, 0.5))
    [problem] = strict.problems(1, split="train", seed=0)
    assert strict.verify("half", problem) == (False, "scores 0.5, not 1", None)
    assert lenient.verify("half", problem) == (True, "correct", "half")
    assert set(FORMS) == {"chain_sum", "graph_color"}  # the others look as their data set makes them


def test_a_score_above_one_is_no_full_score():
    """The data set adds 1/9 nine times, which is more than 1, and so overlooks what stands behind the word. A training of ours found it."""
    task = make_task("reasoning_gym:spell_backward", min_word_len=9, max_word_len=9)
    [problem] = task.problems(1, split="train", seed=0)
    right = problem.entry["answer"]
    assert task.verify(right, problem).correct and task.verify(right.upper(), problem).correct
    assert task.verify(right + "xyz", problem) == (False, "scores above 1", None)
    assert not task.verify(right[:-1], problem).correct


def test_without_the_package_it_says_what_to_install(monkeypatch):
    import sys

    from differential_smoothing.tasks.gym import scorer

    monkeypatch.setattr(scorer, "worker_of", scorer.Worker)

    missing = [p for p in sys.path if not (Path(p) / "reasoning_gym").is_dir()]
    monkeypatch.setattr(sys, "path", missing)
    monkeypatch.setattr(sys, "executable", sys._base_executable)  # a bare interpreter, without this environment
    with pytest.raises(ValueError, match=r"pip install 'differential-smoothing\[gym\]'"):
        make_task("reasoning_gym:gcd")
