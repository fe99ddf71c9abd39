"""What several tests share: small real objects, made once. No mocks."""

import os

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> str:
    """A folder with a real, random, very small Llama and its real tokenizer."""
    from differential_smoothing.training.base_model import make_model, make_tokenizer

    folder = tmp_path_factory.mktemp("tiny_model")
    make_model(seed=0, hidden=32, layers=2, heads=2).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return str(folder)
