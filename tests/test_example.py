"""The reading copy must stay what it claims: the package's algorithm on one page."""

import importlib.util
from pathlib import Path

import torch

from differential_smoothing import ds_grpo_advantages

PATH = Path(__file__).parents[1] / "examples" / "ds_grpo_in_one_page.py"
spec = importlib.util.spec_from_file_location("one_page", PATH)
one_page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(one_page)


def test_one_page_is_one_page():
    assert len(PATH.read_text().splitlines()) <= 200


def test_its_advantages_are_the_package_s():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        batch, tokens = 12, 5
        logps = -torch.rand(batch, tokens, generator=generator, dtype=torch.float64) * 3
        mask = (torch.arange(tokens) < torch.randint(1, tokens + 1, (batch, 1), generator=generator)).double()
        correct = torch.rand(batch, generator=generator) < 0.4
        group = torch.randint(0, 4, (batch,), generator=generator)
        arguments = dict(correct=correct, group=group, gamma_p=0.3, gamma_n=0.1)
        ours = one_page.ds_grpo_advantages(correct.double(), logps, mask, **arguments)
        torch.testing.assert_close(ours, ds_grpo_advantages(correct.double(), logps, mask, **arguments))


def test_its_loss_has_the_policy_gradient():
    logps = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    advantages = torch.randn(3, 4, dtype=torch.float64)
    mask = torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]], dtype=torch.float64)
    one_page.clipped_loss(logps, logps.detach(), advantages, mask).backward()
    torch.testing.assert_close(logps.grad, -advantages * mask / mask.sum())


def test_it_trains():
    lines = []
    model, history = one_page.train(steps=3, prompts_per_step=4, report=lines.append)
    start = one_page.AutoModelForCausalLM.from_pretrained(one_page.SHIPPED_BASE)
    moved = [(a - b).abs().max() for a, b in zip(model.parameters(), start.parameters(), strict=True)]
    assert len(history) == len(lines) == 3 and max(moved) > 1e-5
