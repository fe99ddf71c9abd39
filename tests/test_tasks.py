"""The task protocol: what every task must do, Countdown behind it, and runs and studies that name a task."""

import functools
import importlib.util
import json
import random

import pytest

from differential_smoothing.studies.read import read_study
from differential_smoothing.studies.spec import Evaluation
from differential_smoothing.tasks import Task, countdown, make_task, read_options
from differential_smoothing.tasks.route import Journey, routes
from differential_smoothing.tasks.task import answer_of, split_of_text, text_of
from differential_smoothing.training.options import RunArguments, parse_config
from differential_smoothing.training.run import train

needs_gym = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None,
    reason="the package reasoning-gym is not installed: pip install 'differential-smoothing[gym]'",
)
TASKS = [
    pytest.param("countdown", {}, id="countdown"),
    pytest.param("countdown", {"numbers": 3, "max_solutions": 1}, id="countdown, one solution"),
    pytest.param("route", {}, id="route"),
    pytest.param(
        "reasoning_gym:graph_color",
        {"min_num_vertices": 6, "max_num_vertices": 6, "edge_probability": 0.4},
        id="graph_color",
        marks=needs_gym,
    ),
    pytest.param("reasoning_gym:chain_sum", {"max_terms": 3, "max_digits": 2}, id="chain_sum", marks=needs_gym),
]


@functools.cache
def made(name, options):
    return make_task(name, **json.loads(options))


@pytest.mark.parametrize(("name", "options"), TASKS)
class TestEveryTask:
    def test_its_problems_are_split_and_repeat(self, name, options):
        task = made(name, json.dumps(options))
        assert task.name == name and isinstance(task, Task)
        ids = {}
        for split in ("train", "dev", "test"):
            problems = [p for seed in (0, 1) for p in task.problems(30, split=split, seed=seed)]
            assert problems[:30] == make_task(name, **options).problems(30, split=split, seed=0)
            ids[split] = {task.problem_id(p) for p in problems}
            assert len({task.problem_id(p) for p in problems[:30]}) == 30
        assert not ids["train"] & ids["dev"] and not ids["train"] & ids["test"] and not ids["dev"] & ids["test"]

    def test_a_row_is_the_problem(self, name, options, tmp_path):
        import pandas as pd

        task = made(name, json.dumps(options))
        problems = task.problems(5, split="dev", seed=0)
        rows = [task.columns(p) for p in problems]
        assert all(set(row) == set(task.column_names) for row in rows)
        assert [task.problem(**json.loads(json.dumps(row))) for row in rows] == problems
        pd.DataFrame(rows).assign(more="x").to_parquet(tmp_path / "p.parquet")
        assert task.read_problems(tmp_path / "p.parquet") == problems
        (tmp_path / "p.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
        assert task.read_problems(tmp_path / "p.jsonl") == problems
        (tmp_path / "p.jsonl").write_text(json.dumps(rows[0]) + '\n{"a": 1}')
        with pytest.raises(ValueError, match=r"p.jsonl, line 2: no "):
            task.read_problems(tmp_path / "p.jsonl")
        (tmp_path / "p.jsonl").write_text("")
        with pytest.raises(ValueError, match=r"p.jsonl holds no problems"):
            task.read_problems(tmp_path / "p.jsonl")

    def test_reward_verdict_and_canonical_agree(self, name, options):
        task, rng = made(name, json.dumps(options)), random.Random(0)
        problems = task.problems(8, split="train", seed=0)
        answers = [task.demonstration(p, rng) for p in problems]
        texts = [a if i % 2 else a + "0" for i, a in enumerate(answers)] + ["", "<answer>", "\udcff\0", "9" * 10**6]
        asked = [*problems, *problems[:4]]
        columns = {key: [task.columns(p)[key] for p in asked] for key in task.column_names}
        rewards = task.reward(texts, prompts=texts, trainer_state=None, **columns)
        verdicts = task.verify_all(texts, asked)
        assert rewards == [0, 1] * 4 + [0] * 4 == [float(v.correct) for v in verdicts]
        assert verdicts == [task.verify(text, p) for text, p in zip(texts, asked)]
        for text, problem, verdict in zip(texts, asked, verdicts):
            assert task.canonical(text, prompt="x", **task.columns(problem)) == verdict.canonical
            assert (verdict.canonical is None) != verdict.correct and verdict.reason
        assert task.reward.__name__ == f"{name.split(':')[-1]}_correct"
        messages = [[{"role": "assistant", "content": f"<answer>{a}"}] for a in answers] + [[]] * 4
        assert task.reward(messages, **columns) == [0.0] * 12
        whole = [[{"role": "assistant", "content": f"<answer>{text}</answer>"}] for text in texts]
        blocks = [  # as the chat formats of models that see images have it
            [
                {
                    "role": "assistant",
                    "content": [{"type": "text", "text": f"<answer>{text}"}, {"type": "image"}, {"text": "</answer>"}],
                }
            ]
            for text in texts
        ]
        assert task.reward(blocks, **columns) == task.reward(whole, **columns)
        assert task.reward([], **{key: [] for key in columns}) == []

    def test_prompts_ask_for_tags_in_chat_only(self, name, options):
        task = made(name, json.dumps(options))
        [problem] = task.problems(1, split="dev", seed=0)
        assert isinstance(task.prompt(problem), str) and "<answer>" not in task.prompt(problem)
        [message] = task.prompt(problem, chat=True)
        assert message["role"] == "user" and "<answer>" in message["content"]

    def test_its_tokenizer_loses_nothing(self, name, options):
        from differential_smoothing.training.base_model import make_tokenizer

        task, rng = made(name, json.dumps(options)), random.Random(1)
        tokenizer = make_tokenizer(task)
        for problem in task.problems(20, split="train", seed=3):
            answer = task.demonstration(problem, rng)
            ids = tokenizer(answer)["input_ids"]
            assert tokenizer.decode(ids) == answer
            assert tokenizer.unk_token_id not in tokenizer(task.prompt(problem))["input_ids"] + ids


# --- Route ----------------------------------------------------------------------------------------------------------------
def test_the_right_routes_are_those_among_all_orders_of_the_towns():
    import itertools

    task = make_task("route", towns=6, roads=9, stops=4, min_routes=2)
    for problem in task.problems(40, split="dev", seed=1):
        right = {"".join(p) for p in itertools.permutations("ABCDEF", 4) if task.verify("".join(p), problem).correct}
        roads = {frozenset(road) for road in problem.roads}
        by_hand = {
            "".join(p)
            for p in itertools.permutations("ABCDEF", 4)
            if (p[0], p[-1]) == (problem.start, problem.goal)
            and all(frozenset(road) in roads for road in itertools.pairwise(p))
        }
        assert set(routes(problem)) == right == by_hand and len(right) >= 2


JOURNEY = Journey(("AB", "AD", "BC", "CE", "DE"), "A", "E", 4)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("ABCE", None),
        ("A B C E", None),
        ("Athens -> Bern → Cairo, Essen\n", None),
        ("AD E", "3 towns instead of 4"),
        ("ABCD", "from A to D instead of A to E"),
        ("ABAE", "a town twice"),
        ("ACBE", "no road AC"),
        ("ABCE ABCE", "a town twice"),
        ("ABC?E", "is not a town"),
        ("Athens, bern, Cairo, Essen", "'bern' is not a town"),
        ("ABCZ", "'Z' is not a town"),
        ("", "no towns"),
        ("A," * 300, "at most 400 characters"),
    ],
)
def test_a_route_is_checked_town_by_town(answer, reason):
    task = make_task("route")
    for text, chat in ((answer, False), (f"<answer>{answer}</answer>", True)):
        verdict = task.verify(text, JOURNEY, chat=chat)
        assert verdict.canonical == (None if reason else "ABCE") and (reason or "a route") in verdict.reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"towns": 13}, "3 <= towns <= 12"),
        ({"towns": 5, "roads": 11, "stops": 3}, "roads <= towns"),
        ({"stops": 9}, "stops <= towns"),
        ({"min_routes": 5, "max_routes": 4}, "min_routes <= max_routes"),
        ({"roads": 2.0}, "whole number, got 2.0"),
    ],
)
def test_options_of_a_route_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        make_task("route", **options)


def test_a_route_task_without_enough_problems():
    with pytest.raises(ValueError, match="route problems of the dev split were found where 5 were asked for"):
        make_task("route", towns=4, roads=3, stops=4, min_routes=3).problems(5, split="dev", seed=0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"roads": "AB"}, "roads must be a list"),
        ({"roads": ["AB", "BA"]}, "roads must be a list"),
        ({"roads": ["AZ"]}, "roads must be a list"),
        ({"start": "E"}, "start and goal"),
        ({"stops": True}, "stops must be"),
    ],
)
def test_a_row_without_a_route_problem(row, message):
    with pytest.raises(ValueError, match=message):
        make_task("route").problem(**({"roads": ["AB", "BE"], "start": "A", "goal": "E", "stops": 3} | row))


# --- Countdown ------------------------------------------------------------------------------------------------------------


def test_countdown_behind_the_protocol_is_countdown():
    task = make_task("countdown", numbers=3, max_number=12, max_target=50)
    problems = task.problems(40, split="test", seed=3)
    assert problems == countdown.generate(40, split="test", seed=3, numbers=3, max_number=12, targets=(1, 50))
    for p in problems:
        assert task.problem_id(p) == p.id and task.columns(p) == {"nums": list(p.nums), "target": p.target}
        assert [task.prompt(p, chat=c) for c in (False, True)] == [countdown.prompt(p, chat=c) for c in (False, True)]
    columns = {"nums": [[2, 3, 7, 8], [3, 8]], "target": [24, 24]}
    for completions in (["3*8", "3*8"], [[{"role": "assistant", "content": "<answer>3*8</answer>"}]] * 2):
        assert task.reward(completions, **columns) == countdown.countdown_correct(completions, **columns) == [0.0, 1.0]
    assert task.reward.__name__ == "countdown_correct"
    assert task.canonical("3*8", nums=[3, 8], target=24) == countdown.countdown_canonical("3*8", [3, 8], 24)


@pytest.mark.parametrize(("fewest", "most"), [(1, 1), (2, 4), (10, None)])
def test_countdown_problems_have_as_many_solutions_as_asked(fewest, most):
    task = make_task("countdown", min_solutions=fewest, max_solutions=most)
    for split in ("train", "dev", "test"):
        problems = task.problems(60, split=split, seed=0)
        assert {countdown.split_of(p) for p in problems} == {split}
        counts = countdown.count_solutions(p.id for p in problems).values()
        assert min(counts) >= fewest and max(counts) <= (most or 10**9)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("contdown", {}, "There is no task 'contdown'. Known: countdown"),
        ("countdown:x", {}, "it has no 'x'"),
        ("countdown", {"max_solution": 1}, "no option 'max_solution'. It knows numbers"),
        ("countdown", {"max_solutions": "1"}, "max_solutions of countdown must be a whole number, got '1'"),
        ("countdown", {"max_solutions": True}, "must be a whole number, got True"),
        ("countdown", {"min_solutions": 3, "max_solutions": 2}, "solutions=(3, 2)"),
        ("countdown", {"numbers": 7}, "1 <= numbers <= 6"),
    ],
)
def test_a_wrong_task_says_what_is_wrong(name, options, message):
    with pytest.raises(ValueError) as caught:
        make_task(name, **options)
    assert message in str(caught.value)


def test_options_are_a_mapping_or_its_json():
    assert read_options('{"max_solutions": 1}') == read_options({"max_solutions": 1}) == {"max_solutions": 1}
    assert read_options(None) is read_options({}) is read_options("{}") is None
    for wrong, message in [("{", "cannot be read as JSON"), ("[1]", "must be a mapping"), (3, "must be a mapping")]:
        with pytest.raises(ValueError, match=message):
            read_options(wrong)


def test_an_answer_is_what_the_one_pair_of_tags_holds():
    assert answer_of("<think>1</think> <answer>2</answer>\n", True) == "2" and answer_of(" 2", False) == " 2"
    shares = [split_of_text(str(i)) for i in range(4000)]
    assert abs(shares.count("train") / 4000 - 0.8) < 0.03 and abs(shares.count("dev") / 4000 - 0.1) < 0.02


# --- runs and studies -----------------------------------------------------------------------------------------------------

RUN = [
    "--use_cpu",
    "true",
    "--bf16",
    "false",
    "--report_to",
    "none",
    "--disable_tqdm",
    "true",
    "--max_steps",
    "1",
    "--per_device_train_batch_size",
    "8",
    "--num_generations",
    "4",
    "--max_completion_length",
    "8",
    "--problems",
    "20",
    "--gradient_checkpointing",
    "false",
    "--logging_steps",
    "1",
]


def test_a_config_names_a_task(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(
        f"output_dir: {tmp_path / 'run'}\nbf16: false\ntask: countdown\ntask_options: {{max_solutions: 1}}\n"
    )
    run, _ = parse_config(["--config", str(path)])
    assert (run.task, run.task_options) == ("countdown", {"max_solutions": 1})
    run, _ = parse_config(["--config", str(path), "--task_options", '{"min_solutions": 2}'])
    assert run.task_options == {"min_solutions": 2}
    path.write_text(f"output_dir: {tmp_path / 'run'}\ntask_options: 3\n")
    with pytest.raises(ValueError, match="task_options must be a mapping, got 3"):
        parse_config(["--config", str(path)])


def test_another_task_is_another_run(tiny_model, tmp_path):
    options = [*RUN, "--model", tiny_model, "--output_dir", str(tmp_path)]
    model = train(*parse_config(options))
    assert train(*parse_config([*options, "--task", "countdown", "--task_options", "{}"])) == model
    with pytest.raises(ValueError, match="belongs to another run: it differs in task_options.max_solutions"):
        train(*parse_config([*options, "--task_options", '{"max_solutions": 1}']))


def test_a_study_s_task_is_that_of_its_training(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("common: {task_options: {max_solutions: 1}}\nmodels: {grpo: {}}\n")
    task = read_study(path).evaluation.make_task()
    assert set(countdown.count_solutions(p.id for p in task.problems(20, split="dev", seed=0)).values()) == {1}
    path.write_text("models: {grpo: {}}\nevaluation: {task_options: 3}\n")
    with pytest.raises(ValueError, match=r"study.yaml: task_options must be a mapping"):
        read_study(path)
    with pytest.raises(ValueError, match="task must be of type str"):
        Evaluation(task=3)


@needs_gym
def test_another_task_from_base_to_samples(tmp_path):
    from differential_smoothing.sampling.jobs import sample_rollouts
    from differential_smoothing.training.base_model import train_base

    options = {"min_num_vertices": 4, "max_num_vertices": 4, "edge_probability": 0.3}
    task, losses = make_task("reasoning_gym:graph_color", **options), []
    size = {"batch_size": 16, "problems": 30, "hidden": 32, "layers": 2}
    train_base(tmp_path / "base", task=task, steps=30, on_step=lambda _, loss: losses.append(loss), **size)
    assert losses[-1] < 0.7 * losses[0]
    arguments = ["--task", task.name, "--task_options", json.dumps(options), "--model", str(tmp_path / "base")]
    model = train(*parse_config([*RUN, *arguments, "--output_dir", str(tmp_path / "run")]))
    log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert "rewards/graph_color_correct/mean" in log[0] and log[0]["sharpening/pass_at_4"] >= 0
    problems = task.problems(6, split="dev", seed=0)
    frame = sample_rollouts(str(model), problems, num_samples=16, seed=0, name="x", task=task)
    assert set(frame["task"]) == {task.name} and frame["prompt_id"].nunique() == 6
    for row in frame.itertuples():
        problem = problems[list(dict.fromkeys(frame["prompt_id"])).index(row.prompt_id)]
        verdict = task.verify(row.completion, problem)
        assert (row.prompt, row.correct, row.canonical) == (task.prompt(problem), verdict.correct, verdict.canonical)
    with pytest.raises(ValueError, match="more than the context of 5"):
        train_base(tmp_path / "short", task=task, steps=1, context=5, **size)


@needs_gym
def test_a_task_without_demonstrations_teaches_no_base(tmp_path):
    from differential_smoothing.training.base_model import train_base

    task = make_task("reasoning_gym:game_of_life_halting")
    task.demonstration = lambda problem, rng: None
    with pytest.raises(ValueError, match="has no demonstrated answer to"):
        train_base(tmp_path / "none", task=task, steps=1, problems=3)
    assert not (tmp_path / "none").exists()


def test_run_arguments_make_their_task():
    run = RunArguments(task_options='{"numbers": 3, "max_solutions": 1}')
    assert run.make_task().problems(5, split="train", seed=1) == make_task(
        "countdown", numbers=3, max_solutions=1
    ).problems(5, split="train", seed=1)


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("a", "a"),
        ([], ""),
        ([{"role": "assistant", "content": "a"}], "a"),
        ([{"role": "tool"}], ""),
        ([{"content": [{"type": "text", "text": "a"}, {"type": "image"}]}], "a"),
        (None, ""),
        ([7], ""),
        ([{"content": [{"text": 3}, 4]}], ""),
    ],
)
def test_completions_of_every_shape_are_text(completion, text):
    assert text_of(completion) == text
