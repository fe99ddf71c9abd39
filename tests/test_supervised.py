"""A supervised start: its loss is the plain one, it stops in the range that was asked for, and it says so where it cannot."""

import json
import random
from itertools import pairwise

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from differential_smoothing.tasks.route import Route
from differential_smoothing.training.base_model import make_model, make_tokenizer
from differential_smoothing.training.supervised import answers_loss, prompt_ids, rows_of, teach

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}:{% endif %}"


class Short(Route):
    """Routes whose chat form is short, for a model with one token per letter."""

    def prompt(self, problem, *, chat=False):
        text = self.problem_id(problem)
        return [{"role": "user", "content": text}] if chat else f"{text} :"

    def in_chat(self, answer):
        return f"<answer>{answer.replace(' ', ',')}</answer>"


class Silent(Short):
    """It shows no answer."""

    def demonstration(self, problem, rng):
        return None


class Wrong(Short):
    """Its answers leave a town out."""

    def demonstration(self, problem, rng):
        return f"{problem.start} {problem.goal}"


@pytest.fixture(scope="module")
def task():
    return Short(towns=5, roads=6, stops=3, min_routes=1)


@pytest.fixture(scope="module")
def untaught(tmp_path_factory, task):
    """A model of 40,000 weights that knows nothing, with a chat template."""

    class Letters(Short):
        words = tuple(sorted(set("ABCDEFGHIJKL0123456789>:</,answer ")))
        pattern = r"[\s\S]"

    folder = tmp_path_factory.mktemp("untaught")
    tokenizer = make_tokenizer(Letters(), context=96)
    tokenizer.chat_template = TEMPLATE
    make_model(seed=0, hidden=48, layers=2, vocabulary=len(tokenizer), context=96).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("chat", [False, True])
def test_the_loss_with_shared_prompts_is_the_mean_cross_entropy_of_the_answers_tokens(untaught, task, chat):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(untaught), AutoTokenizer.from_pretrained(untaught)
    problems = task.problems(3, split="train", seed=0)
    prompts, answers = rows_of(task, problems, tokenizer, chat, 2, random.Random(0))
    prompts[1] = prompts[1][3:]  # prompts of different lengths
    answers[2] = answers[2][:1]
    sums, tokens = 0.0, 0
    for prompt, each in zip(prompts, answers):
        for answer in each:
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
            sums = sums + torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum")
            tokens += len(answer)
    expected = torch.autograd.grad(sums / tokens, list(model.parameters()))
    found = answers_loss(model, prompts, answers, pad=tokenizer.pad_token_id)
    torch.testing.assert_close(found, sums / tokens)
    for one, other in zip(torch.autograd.grad(found, list(model.parameters())), expected):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_prompts_are_rendered_by_the_chat_template(untaught, task):
    tokenizer = AutoTokenizer.from_pretrained(untaught)
    problem = task.problems(1, split="train", seed=0)[0]
    ids = prompt_ids(task, [problem], tokenizer, chat=True)[0]
    assert tokenizer.decode(ids) == task.problem_id(problem) + ":"


@pytest.mark.slow
def test_the_training_stops_in_the_range_and_what_it_saves_is_as_good_as_it_said(untaught, task, tmp_path):
    from differential_smoothing.sampling.jobs import sample_rollouts

    seen = []
    found = teach(
        untaught,
        tmp_path / "taught",
        task,
        pass_at_1=(0.3, 0.7),
        steps=600,
        learning_rate=4e-3,
        problems_per_step=16,
        answers=2,
        problems=200,
        check_every=25,
        check_problems=20,
        on_step=lambda step, loss: seen.append((step, loss)),
    )
    assert 0.3 <= found <= 0.7 and seen[0][1] > seen[-1][1]
    made = json.loads((tmp_path / "taught" / "supervised.json").read_text())
    assert made["pass_at_1"][0][1] < 0.3 and made["pass_at_1"][-1] == [seen[-1][0], round(found, 4)]
    problems = task.problems(20, split="dev", seed=0)
    frame = sample_rollouts(
        str(tmp_path / "taught"), problems, num_samples=48, seed=5, name="x", task=task, chat=True, max_new_tokens=24
    )
    assert abs(frame["correct"].mean() - found) < 0.12


def test_a_range_that_is_jumped_over_is_gone_back_from_and_named(untaught, task, tmp_path):
    steps = []
    with pytest.raises(ValueError, match=r"more than the 0% asked for, and 0% one step before"):
        teach(
            untaught,
            tmp_path / "x",
            task,
            pass_at_1=(1e-9, 2e-9),
            steps=400,
            learning_rate=4e-3,
            problems_per_step=16,
            answers=2,
            problems=200,
            check_every=16,
            check_problems=20,
            on_step=lambda step, loss: steps.append(step),
        )
    assert any(after <= before for before, after in pairwise(steps)), "it never went back"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"pass_at_1": (0.5, 0.2)}, "two shares, the lower one first"),
        ({"steps": 1, "check_every": 1}, r"After 1 steps .* less than the 10% asked for"),
        ({"task": Silent(towns=5, roads=6, stops=3, min_routes=1)}, "has no answer to show"),
        (
            {"task": Wrong(towns=5, roads=6, stops=3, min_routes=1)},
            r"does not take it for right: no road|towns instead",
        ),
    ],
)
def test_what_cannot_be_taught_is_named(untaught, task, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        teach(untaught, tmp_path / "x", **{"task": task, "check_problems": 4, "problems": 20} | options)
