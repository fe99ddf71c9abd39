"""DS-GRPO in one page of plain PyTorch: read this first, then the package, which does the same with a real trainer.

The task is Countdown ("2 3 7 8 = 24 :" -> "8/(7/3-2)"), the model the small base that the package ships. Each step:

1. sample a group of completions for each of a few prompts, keeping log pi_old of every token;
2. reward 1 for a correct completion, 0 for a wrong one;
3. GRPO's advantage, (reward - mean of the group) / (std of the group + eps);
4. Differential Smoothing adds -gamma_p * log pi_old to every token of a correct completion (an unlikely token of a
   right answer earns more: the distribution over right answers stays flat) and +gamma_n * log pi_old to every token
   of a wrong one;
5. a clipped policy-gradient step.

    python examples/ds_grpo_in_one_page.py --steps 50 --gamma_p 0.2

Arrays are (batch, tokens) throughout; `mask` is 1 on the completion's tokens up to and including the end of sequence.
"""

import argparse

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from differential_smoothing.tasks import countdown
from differential_smoothing.training.base_model import SHIPPED_BASE


@torch.no_grad()
def sample(model, prompt, max_new_tokens, eos):
    """Draw one completion for every row of `prompt`. Returns token ids and their mask, both (batch, tokens)."""
    ids, finished, mask = prompt, torch.zeros(len(prompt), dtype=torch.bool), []
    for _ in range(max_new_tokens):
        probabilities = model(ids).logits[:, -1].softmax(-1)
        token = torch.multinomial(probabilities, 1)
        mask.append(~finished)
        finished = finished | (token[:, 0] == eos)
        ids = torch.cat([ids, token], 1)
    return ids[:, prompt.shape[1] :], torch.stack(mask, 1).float()


def log_probabilities(model, prompt, completion):
    """log pi(token | what came before) of every completion token, (batch, tokens)."""
    logits = model(torch.cat([prompt, completion], 1)).logits[:, prompt.shape[1] - 1 : -1]
    return logits.log_softmax(-1).gather(2, completion[:, :, None])[:, :, 0]


def ds_grpo_advantages(rewards, logps, mask, correct, group, gamma_p, gamma_n, eps=1e-4):
    """Loops instead of tensor operations, so that each line is a line of the paper."""
    advantages = torch.zeros_like(logps)
    for i in range(len(rewards)):
        peers = [rewards[j].item() for j in range(len(rewards)) if group[j] == group[i]]
        mean = sum(peers) / len(peers)
        std = (sum((r - mean) ** 2 for r in peers) / max(len(peers) - 1, 1)) ** 0.5
        grpo = (rewards[i].item() - mean) / (std + eps)
        for t in range(logps.shape[1]):
            if mask[i, t]:
                term = -gamma_p * logps[i, t] if correct[i] else gamma_n * logps[i, t]
                advantages[i, t] = grpo + term
    return advantages


def clipped_loss(logps, old_logps, advantages, mask, low=0.2, high=0.2):
    """The mean over tokens of -min(ratio * A, clip(ratio) * A): pessimistic about any move away from pi_old."""
    ratio = (logps - old_logps).exp()
    clipped = ratio.clamp(1 - low, 1 + high)
    return -(torch.min(ratio * advantages, clipped * advantages) * mask).sum() / mask.sum()


def train(steps, prompts_per_step=8, group_size=8, gamma_p=0.2, gamma_n=0.0, learning_rate=3e-5, seed=0, report=print):
    """Train the shipped base and return the model and the mean reward of every step."""
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED_BASE)
    model = AutoModelForCausalLM.from_pretrained(SHIPPED_BASE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    problems = countdown.generate(steps * prompts_per_step, split="train", seed=seed)
    history = []
    for step in range(steps):
        chosen = problems[step * prompts_per_step : (step + 1) * prompts_per_step]
        repeated = [problem for problem in chosen for _ in range(group_size)]
        group = torch.arange(len(chosen)).repeat_interleave(group_size)
        prompt = tokenizer([countdown.prompt(p) for p in repeated], return_tensors="pt")["input_ids"]

        completion, mask = sample(model, prompt, max_new_tokens=16, eos=tokenizer.eos_token_id)
        texts = [tokenizer.decode(ids[m.bool()], skip_special_tokens=True) for ids, m in zip(completion, mask)]
        correct = torch.tensor([countdown.verify(t, p.nums, p.target).correct for t, p in zip(texts, repeated)])
        rewards = correct.float()

        logps = log_probabilities(model, prompt, completion)
        old_logps = logps.detach()  # the policy that sampled is the policy that learns: one step per batch
        advantages = ds_grpo_advantages(rewards, old_logps, mask, correct, group, gamma_p, gamma_n)
        loss = clipped_loss(logps, old_logps, advantages, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        history.append(rewards.mean().item())
        best = next((t for t, c in zip(texts, correct) if c), "none")
        report(f"step {step + 1:4d}  reward {history[-1]:.3f}  a correct answer: {best}")
    return model, history


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--gamma_p", type=float, default=0.2)
    parser.add_argument("--gamma_n", type=float, default=0.0)
    parser.add_argument("--learning_rate", type=float, default=3e-5)
    parser.add_argument("--seed", type=int, default=0)
    train(**vars(parser.parse_args()))
