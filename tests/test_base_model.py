"""The shipped base is useful, its tokenizer loses nothing, and its recipe learns."""

import random

import pytest

from differential_smoothing.evaluation import pass_at_k
from differential_smoothing.sampling.jobs import sample_rollouts
from differential_smoothing.tasks import countdown
from differential_smoothing.training.base_model import SHIPPED_BASE, make_tokenizer, train_base


@pytest.fixture(scope="module")
def rollouts():
    problems = countdown.generate(60, split="dev", seed=7)
    return sample_rollouts(str(SHIPPED_BASE), problems, num_samples=64, seed=0, name="base")


def test_the_shipped_base_is_a_useful_start(rollouts):
    counts = rollouts.groupby("prompt_id")["correct"].sum().to_numpy()
    assert 0.1 < pass_at_k(64, counts, 1).mean() < 0.4
    assert pass_at_k(64, counts, 64).mean() > 0.9
    solved_twice = rollouts[rollouts["correct"]].groupby("prompt_id")["canonical"].nunique()
    assert solved_twice.mean() > 1.7


def test_every_row_says_the_truth_about_itself(rollouts):
    for row in rollouts.sample(200, random_state=0).itertuples():
        problem = countdown.Problem.from_id(row.prompt_id)
        verdict = countdown.verify(row.completion, *problem)
        assert verdict.correct == row.correct
        assert verdict.canonical == (row.canonical if row.correct else None)
        assert row.prompt == countdown.prompt(problem) and row.logp < 0 and row.num_tokens > 1


def test_sampling_is_repeated_by_its_seed():
    problems = countdown.generate(5, split="dev", seed=1)
    draws = [
        list(sample_rollouts(str(SHIPPED_BASE), problems, num_samples=3, seed=s, name="x")["completion"])
        for s in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_the_shipped_tokenizer_is_the_recipe_s():
    from transformers import AutoTokenizer

    shipped, made = AutoTokenizer.from_pretrained(SHIPPED_BASE), make_tokenizer()
    text = countdown.prompt(countdown.Problem((1, 10, 25, 100), 999))
    assert shipped.get_vocab() == made.get_vocab()
    assert shipped(text)["input_ids"] == made(text)["input_ids"]


def test_the_tokenizer_loses_nothing():
    tokenizer = make_tokenizer()
    rng = random.Random(0)
    for problem in countdown.generate(200, split="train", seed=0, max_number=30):
        answer = countdown.shuffled(rng.choice(countdown.solve(*problem)), rng)
        ids = tokenizer(answer)["input_ids"]
        assert tokenizer.decode(ids) == answer
        assert tokenizer.unk_token_id not in tokenizer(countdown.prompt(problem))["input_ids"] + ids
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("1234 100 999")["input_ids"])
    assert tokens == ["12", "34", "100", "99", "9"]


def test_the_recipe_learns_and_repeats(tmp_path):
    losses = {}
    for name in ("a", "b"):
        losses[name] = []
        train_base(
            tmp_path / name,
            steps=25,
            batch_size=16,
            problems=100,
            on_step=lambda _, loss, n=name: losses[n].append(loss),
        )
    assert losses["a"] == losses["b"]
    assert losses["a"][-1] < 0.75 * losses["a"][0]
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
