"""DS-GRPO through the Tinker API in one page: where the client makes the advantages, the method needs no hook at all.

Each step the client samples a group of completions for each of a few prompts, with the log-probs that the API returns; scores them;
calls `ds_grpo_advantages` for one advantage per token; and sends tokens, log-probs and advantages back as the inputs of the
`importance_sampling` loss, followed by an optimiser step. The model is elsewhere: at Tinker, or at SkyRL, whose server
speaks the same API and runs on a CPU (`pip install torch 'skyrl[tinker,jax]==0.3.0' tinker==0.16.1 uv`, and on Python 3.11 the lines of
SHIM in `tests/test_tinker.py` as a sitecustomize.py on the path):

    uv run --no-project --active -- python -m skyrl.tinker.api --base-model MODEL_FOLDER --backend jax --host 127.0.0.1
    TINKER_API_KEY=tml-none TINKER_BASE_URL=http://127.0.0.1:8000 python examples/tinker_loop.py --model MODEL_FOLDER

Run against SkyRL 0.3.0 on a CPU with the base model of this package (`tests/test_tinker.py`); never against Tinker itself. SkyRL 0.3.0
answers samples as JSON, which version 0.38.0 of the SDK refuses and 0.16.1 reads. The two
weigh a batch differently: Tinker's loss is a sum over tokens, SkyRL's a mean over each sequence and then over sequences.
"""

import argparse

import tinker
import torch
from transformers import AutoTokenizer

from differential_smoothing import ds_grpo_advantages
from differential_smoothing.tasks import countdown
from differential_smoothing.training.base_model import SHIPPED_BASE


def ready(client):
    """Newer versions of the SDK give a future of a client, older ones the client."""
    return client.result() if hasattr(client, "result") else client


def padded(rows):
    """Lists of numbers -> (batch, tokens) tensor, 0 on the right."""
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


def advantages_of(samples, correct, group, gamma_p, gamma_n):
    """One advantage per token of each sample, from the log-probs that the sampler returned with it: lists of floats."""
    logps = padded([s.logprobs for s in samples])
    mask = padded([[1.0] * len(s.tokens) for s in samples])
    correct = torch.tensor(correct)
    advantages = ds_grpo_advantages(
        correct.float(), logps, mask, correct=correct, group=torch.tensor(group), gamma_p=gamma_p, gamma_n=gamma_n
    )
    return [row[: len(s.tokens)].tolist() for row, s in zip(advantages, samples, strict=True)]


def datum(prompt, sample, advantages):
    """Inputs of the importance_sampling loss. Position t of every list is about the prediction of token t + 1."""
    tokens, unscored = [*prompt, *sample.tokens], [0.0] * (len(prompt) - 1)
    return tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={
            "target_tokens": tokens[1:],
            "logprobs": [*unscored, *sample.logprobs],
            "advantages": [*unscored, *advantages],
        },
    )


def train(
    training,
    tokenizer,
    steps,
    prompts_per_step=8,
    group_size=8,
    gamma_p=0.2,
    gamma_n=0.0,
    learning_rate=1e-3,
    seed=0,
    report=print,
):
    """Train through `training`, a tinker.TrainingClient; the mean reward of every step."""
    problems = countdown.generate(steps * prompts_per_step, split="train", seed=seed)
    history = []
    for step in range(steps):
        sampler = ready(training.save_weights_and_get_sampling_client())
        chosen = problems[step * prompts_per_step : (step + 1) * prompts_per_step]
        prompts = [tokenizer(countdown.prompt(p))["input_ids"] for p in chosen]
        drawing = [
            sampler.sample(
                prompt=tinker.ModelInput.from_ints(prompt),
                num_samples=group_size,
                # temperature 1: the log-probs are then those of the model itself, which the loss compares with
                sampling_params=tinker.SamplingParams(
                    max_tokens=16, temperature=1.0, seed=seed + 1000 * step + i, stop=[tokenizer.eos_token_id]
                ),
            )
            for i, prompt in enumerate(prompts)
        ]
        samples = [s for future in drawing for s in future.result().sequences]
        group = [g for g in range(len(chosen)) for _ in range(group_size)]
        texts = [tokenizer.decode(s.tokens, skip_special_tokens=True) for s in samples]
        correct = [
            countdown.verify(text, chosen[g].nums, chosen[g].target).correct
            for text, g in zip(texts, group, strict=True)
        ]
        advantages = advantages_of(samples, correct, group, gamma_p, gamma_n)
        data = [datum(prompts[g], s, a) for g, s, a in zip(group, samples, advantages, strict=True)]
        backward = training.forward_backward(data, "importance_sampling")
        update = training.optim_step(tinker.AdamParams(learning_rate=learning_rate))
        backward.result(), update.result()

        history.append(sum(correct) / len(correct))
        report(f"step {step + 1:4d}  reward {history[-1]:.3f}")
    return history


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(SHIPPED_BASE), help="as the server knows it")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--gamma_p", type=float, default=0.2)
    parser.add_argument("--gamma_n", type=float, default=0.0)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    options = vars(parser.parse_args())
    model = options.pop("model")
    client = ready(tinker.ServiceClient().create_lora_training_client(base_model=model, rank=8, seed=0))
    train(client, AutoTokenizer.from_pretrained(model), **options)
