"""A supervised start for a pretrained language model: it learns the form of a task's answers from solved problems, and not much more.

A model that never gives a right answer gives reinforcement learning nothing to reinforce, and one that always does has nothing to gain. So the
training stops as soon as the share of right answers, measured by sampling on other problems, lies in a range that the user chooses.

The prompt is rendered as the trainer renders it, chat template included, and the loss counts the answer's tokens only. Every problem is taught by
several answers at once, drawn by the task, so its prompt is read once for all of them, and no answer is a favourite.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from differential_smoothing.sampling import sample
from differential_smoothing.sampling.memory import keep_freed_memory
from differential_smoothing.sampling.number_format import LEAST_WIDTH, has_bfloat16
from differential_smoothing.tasks import Task

__all__ = ["prompt_ids", "teach"]


def teach(
    model: str,
    output: Path,
    task: Task,
    *,
    chat: bool = True,
    pass_at_1: tuple[float, float] = (0.1, 0.25),
    steps: int = 200,
    learning_rate: float = 2e-4,
    problems_per_step: int = 4,
    answers: int = 8,
    problems: int = 4000,
    lora_r: int = 0,
    seed: int = 0,
    check_every: int = 10,
    check_problems: int = 50,
    check_samples: int = 8,
    max_new_tokens: int = 24,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> float:
    """Teach ``model`` until its Pass@1 lies in ``pass_at_1``; save model, tokenizer and ``supervised.json`` in ``output``. Returns the Pass@1.

    Args:
        model: a folder or Hub name of a causal language model.
        chat: render prompts by the chat template, answers in tags.
        pass_at_1: the range, both ends included. Where a check finds more than its upper end, the training goes back to the check before and
            checks more often.
        steps: most optimiser steps (AdamW, constant rate after a short warm-up).
        problems_per_step, answers: problems of a step, and answers of each, drawn with repetition.
        problems: how many train problems there are to draw from.
        lora_r: rank of an adapter that is merged into the weights at the end; 0 trains all weights in float32.
        check_every, check_problems, check_samples: every so many steps, so many completions of each of so many dev problems.
        on_step: called after every step with the mean cross-entropy of the answers' tokens, in nats.

    ValueError if the task has no answers to show, the tokenizer no chat template or end, or the range was not reached.
    """
    low, high = pass_at_1
    if not 0 <= low < high <= 1:
        raise ValueError(
            f"pass_at_1 must be two shares, the lower one first, such as 0.1 and 0.25; got {low} and {high}."
        )
    keep_freed_memory()
    network, tokenizer = _load(model, lora_r, seed)
    rng = random.Random(f"supervised {seed}")
    chosen = task.problems(problems, split="train", seed=seed)
    unseen = task.problems(check_problems, split="dev", seed=seed)
    asked = prompt_ids(task, unseen, tokenizer, chat=chat)
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.0)

    def measured() -> float:
        return _pass_at_1(network, tokenizer, task, unseen, asked, chat, check_samples, max_new_tokens, seed)

    history, step, every = [(0, measured())], 0, check_every
    kept = _copy(trained, optimizer)
    while not low <= history[-1][1] <= high:
        if history[-1][1] > high:
            if step == 0 or every == 1:
                raise ValueError(
                    f"{model} answers {history[-1][1]:.0%} of the dev problems in one try after {step} steps, more than the {high:.0%} asked for, and "
                    f"{f'{history[-2][1]:.0%} one step before' if step else 'it was taught nothing yet'}. Widen the range, lower the "
                    f"learning rate, or make the task harder."
                )
            every, step = max(1, every // 2), history[-2][0]
            history.pop()
            _restore(kept, trained, optimizer)
        elif step >= steps:
            raise ValueError(
                f"After {step} steps {model} answers {history[-1][1]:.1%} of the dev problems in one try, less than the {low:.0%} asked for. Take "
                f"more steps, a higher learning rate, or an easier task."
            )
        kept = _copy(trained, optimizer)
        network.train()
        for _ in range(every):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * min(1.0, (step + 1) / 10)
            rows = rows_of(task, rng.sample(chosen, problems_per_step), tokenizer, chat, answers, rng)
            loss = answers_loss(network, *rows, pad=tokenizer.pad_token_id)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            on_step(step, loss.item())
        history.append((step, measured()))
    _save(network, tokenizer, output)
    made = {
        "model": Path(model).name,
        "task": task.name,
        "chat": chat,
        "seed": seed,
        "lora_r": lora_r,
        "learning_rate": learning_rate,
    }
    made |= {
        "problems_per_step": problems_per_step,
        "answers": answers,
        "pass_at_1": [[at, round(value, 4)] for at, value in history],
    }
    (output / "supervised.json").write_text(json.dumps(made, indent=1) + "\n")
    return history[-1][1]


def prompt_ids(task: Task, problems: Sequence[Any], tokenizer: Any, *, chat: bool) -> list[list[int]]:
    """The token ids of every prompt, as the trainer reads it. ValueError without a chat template, if ``chat``."""
    prompts = [task.prompt(problem, chat=chat) for problem in problems]
    if not chat:
        return tokenizer(prompts)["input_ids"]
    if tokenizer.chat_template is None:
        raise ValueError("The tokenizer has no chat template. Leave chat out, or take an instruct model.")
    return [tokenizer.apply_chat_template(p, add_generation_prompt=True)["input_ids"] for p in prompts]


def _load(model: str, lora_r: int, seed: int) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(model)
    if tokenizer.eos_token_id is None:
        raise ValueError(f"The tokenizer of {model} has no end-of-sequence token, so no answer would end.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    network = AutoModelForCausalLM.from_pretrained(model, dtype="auto" if lora_r else torch.float32)
    if lora_r:
        from peft import LoraConfig, get_peft_model

        adapter = LoraConfig(r=lora_r, lora_alpha=2 * lora_r, target_modules="all-linear", task_type="CAUSAL_LM")
        network = get_peft_model(network, adapter)
    return network, tokenizer


def rows_of(
    task: Task, problems: Sequence[Any], tokenizer: Any, chat: bool, answers: int, rng: random.Random
) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Of each problem the prompt's token ids, and those of its drawn answers, each with the end of sequence."""
    shown = [[task.demonstration(problem, rng) for _ in range(answers)] for problem in problems]
    missing = [problem for problem, texts in zip(problems, shown) if None in texts]
    if missing:
        raise ValueError(
            f"The task {task.name!r} has no answer to show for {task.problem_id(missing[0])!r:.200}, so no model can be taught it."
        )
    texts = [[task.in_chat(text) if chat else text for text in each if text is not None] for each in shown]
    wrong = [
        (t, v) for p, each in zip(problems, texts) for t in each if not (v := task.verify(t, p, chat=chat)).correct
    ]
    if wrong:
        raise ValueError(
            f"The task {task.name!r} shows {wrong[0][0]!r:.100} and does not take it for right: {wrong[0][1].reason}."
        )
    end = [tokenizer.eos_token_id]
    written = [[ids + end for ids in tokenizer(each, add_special_tokens=False)["input_ids"]] for each in texts]
    return prompt_ids(task, problems, tokenizer, chat=chat), written


def answers_loss(network: Any, prompts: list[list[int]], answers: list[list[list[int]]], *, pad: int) -> Tensor:
    """Mean cross-entropy of the answers' tokens, nats. Each prompt but its last token is read once, without the head."""
    whole = network.get_base_model() if hasattr(network, "get_base_model") else network
    copies = [len(each) for each in answers]
    row = torch.repeat_interleave(torch.arange(len(prompts)), torch.tensor(copies))
    width = max(map(len, prompts)) - 1
    ids = torch.tensor([[pad] * (width - len(p) + 1) + p[:-1] for p in prompts])
    mask = torch.tensor([[0] * (width - len(p) + 1) + [1] * (len(p) - 1) for p in prompts])
    written = [(prompt[-1], answer) for prompt, each in zip(prompts, answers) for answer in each]
    longest = max(len(answer) for _, answer in written)
    inputs = torch.tensor([[last, *answer[:-1]] + [pad] * (longest - len(answer)) for last, answer in written])
    labels = torch.tensor([answer + [-100] * (longest - len(answer)) for _, answer in written])
    with _autocast(network):
        cache = None
        if width:
            cache = whole.base_model(input_ids=ids, attention_mask=mask, use_cache=True).past_key_values
            for layer in cache.layers:
                layer.keys, layer.values = layer.keys.index_select(0, row), layer.values.index_select(0, row)
        attention = torch.cat([mask[row], torch.ones_like(inputs)], 1)
        logits = network(input_ids=inputs, attention_mask=attention, past_key_values=cache).logits
        counts = labels != -100
        return torch.nn.functional.cross_entropy(logits[counts].float(), labels[counts])


def _autocast(network: Any) -> Any:
    """Matrix products in bfloat16 for weights in float32, where the processor has them; adapters are cast by themselves."""
    weight = next(network.parameters())
    wide = network.config.get_text_config().hidden_size >= LEAST_WIDTH
    quick = weight.dtype == torch.float32 and (weight.device.type == "cuda" or (wide and has_bfloat16()))
    return torch.autocast(weight.device.type, torch.bfloat16) if quick else nullcontext()


def _pass_at_1(
    network: Any,
    tokenizer: Any,
    task: Task,
    problems: Sequence[Any],
    asked: list[list[int]],
    chat: bool,
    n: int,
    longest: int,
    seed: int,
) -> float:
    network.eval()
    with _autocast(network):
        groups = sample(
            network,
            asked,
            num_samples=n,
            max_new_tokens=longest,
            eos_token_ids=[tokenizer.eos_token_id],
            pad_token_id=tokenizer.pad_token_id,
            generator=torch.Generator(next(network.parameters()).device).manual_seed(seed),
        )
    texts = tokenizer.batch_decode([s.completion_ids for group in groups for s in group], skip_special_tokens=True)
    verdicts = task.verify_all(texts, [problem for problem in problems for _ in range(n)], chat=chat)
    return sum(verdict.correct for verdict in verdicts) / len(verdicts)


def _copy(trained: list[Tensor], optimizer: torch.optim.Optimizer) -> Any:
    """The trained weights and the optimiser's state, to go back to."""
    state = {
        weight: {k: v.clone() if isinstance(v, Tensor) else v for k, v in optimizer.state[weight].items()}
        for weight in trained
    }
    return [weight.detach().clone() for weight in trained], state


def _restore(kept: Any, trained: list[Tensor], optimizer: torch.optim.Optimizer) -> None:
    weights, state = kept
    for weight, old in zip(trained, weights):
        weight.data.copy_(old)
        optimizer.state[weight] = {k: v.clone() if isinstance(v, Tensor) else v for k, v in state[weight].items()}


def _save(network: Any, tokenizer: Any, output: Path) -> None:
    if hasattr(network, "merge_and_unload"):
        network = network.float().merge_and_unload()  # in float32, and rounded once
    network.to(torch.bfloat16).save_pretrained(output)
    tokenizer.save_pretrained(output)
