"""The sampler: its draws come from the model's distribution, and the log-probs it reports are the model's."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from differential_smoothing.sampling import sample

EOS = 1
PROMPTS = [[5, 6, 7, 8], [9, 10], [11]]


@pytest.fixture(scope="module")
def model(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval()


def draw(model, prompts=PROMPTS, *, num_samples=4, seed=0, temperature=1.0, max_new_tokens=10, eos=(EOS,)):
    generator = torch.Generator().manual_seed(seed)
    return sample(
        model,
        prompts,
        num_samples=num_samples,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        eos_token_ids=eos,
        pad_token_id=0,
        generator=generator,
    )


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_are_those_of_one_plain_forward_pass(model, temperature):
    for prompt, group in zip(PROMPTS, draw(model, temperature=temperature), strict=True):
        for ids, logps in group:
            with torch.no_grad():  # no padding, no cache: the simplest way to say what the model thinks
                logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1] / temperature
            expected = logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]
            torch.testing.assert_close(torch.tensor(logps), expected, atol=1e-5, rtol=1e-5)


def test_the_first_token_has_the_model_s_distribution(model):
    with torch.no_grad():
        expected = (model(torch.tensor([PROMPTS[0]])).logits[0, -1] * 4).softmax(-1)  # temperature 1/4: not flat
    group = draw(model, PROMPTS[:1], num_samples=20_000, max_new_tokens=1, temperature=0.25)[0]
    counts = torch.bincount(torch.tensor([s.completion_ids[0] for s in group]), minlength=len(expected))
    chi_squared = ((counts - 20_000 * expected) ** 2 / (20_000 * expected)).sum()
    assert chi_squared < 111 + 5 * (2 * 111) ** 0.5  # 111 degrees of freedom, five standard deviations


def test_a_completion_ends_with_its_first_end_of_sequence(model):
    ends = list(range(1, 40))  # many tokens end a sequence here, so that most samples are cut
    samples = [s for group in draw(model, num_samples=50, eos=ends) for s in group]
    lengths = {len(s.completion_ids) for s in samples}
    assert len(lengths) > 3
    for ids, logps in samples:
        assert len(ids) == len(logps) and not set(ids[:-1]) & set(ends)
        assert len(ids) == 10 or ids[-1] in ends


def test_completions_that_end_leave_the_batch_and_the_others_as_they_were(model):
    ends = list(range(1, 40))
    whole = [s for group in draw(model, num_samples=50, eos=()) for s in group]
    batches = []
    hook = model.register_forward_pre_hook(
        lambda _, __, inputs: batches.append(len(inputs["input_ids"])), with_kwargs=True
    )
    try:
        ended = [s for group in draw(model, num_samples=50, eos=ends) for s in group]
    finally:
        hook.remove()
    assert batches[0] == 3 and batches[1] >= 75 and batches[-1] <= 40, batches  # 150 rows, halved at least twice
    for (ids, logps), (all_ids, all_logps) in zip(ended, whole, strict=True):
        assert ids == all_ids[: len(ids)]
        assert logps == pytest.approx(all_logps[: len(ids)], abs=1e-5)


def test_seeds_repeat_and_differ(model):
    assert draw(model, seed=1) == draw(model, seed=1) != draw(model, seed=2)


def test_shape(model):
    assert [len(group) for group in draw(model, num_samples=3)] == [3, 3, 3]


def test_wrong_arguments_are_named(model):
    with pytest.raises(ValueError, match="temperature must be > 0"):
        draw(model, temperature=0.0)
    with pytest.raises(ValueError, match="at least one token; got an empty prompt"):
        draw(model, [[4], []])


def test_a_draw_among_many_words_has_their_probabilities_and_never_one_of_probability_0():
    from differential_smoothing.sampling.shared_prefix import MANY_WORDS, draw_words

    words, rows = MANY_WORDS + 1, 20_000
    probabilities = torch.zeros(words)
    probabilities[[0, 7, words // 2, words - 2]] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    drawn = draw_words(probabilities.expand(2000, -1).contiguous(), torch.Generator().manual_seed(0))
    drawn = torch.cat(
        [
            drawn,
            *(
                draw_words(probabilities.expand(2000, -1).contiguous(), torch.Generator().manual_seed(s))
                for s in range(1, 10)
            ),
        ]
    )
    share = torch.bincount(drawn[:, 0], minlength=words) / rows
    assert set(share.nonzero()[:, 0].tolist()) == {0, 7, words // 2, words - 2}
    torch.testing.assert_close(share, probabilities, atol=0.02, rtol=0)


def test_the_largest_point_draws_the_last_word_that_has_a_probability(monkeypatch):
    from differential_smoothing.sampling.shared_prefix import MANY_WORDS, draw_words

    probabilities = torch.zeros(1, MANY_WORDS + 1)
    probabilities[0, [3, 9]] = 0.5
    monkeypatch.setattr(
        torch, "rand", lambda *shape, **_: torch.ones(shape)
    )  # beyond what rand draws: what rounding can make of it
    assert draw_words(probabilities, None).tolist() == [[9]]


def test_keys_in_a_buffer_draw_what_keys_that_are_concatenated_do(model, monkeypatch):
    from differential_smoothing.sampling import shared_prefix

    ends = list(range(1, 20))  # some rows end early, so that rows leave the batch
    found = draw(model, num_samples=20, max_new_tokens=30, eos=ends)
    monkeypatch.setattr(shared_prefix, "reserve", lambda cache, tokens: None)
    assert found == draw(model, num_samples=20, max_new_tokens=30, eos=ends)
