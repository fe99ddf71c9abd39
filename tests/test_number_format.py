"""Which number format a CPU computes in: a rule on the stored weights, their width and the processor."""

import json

import pytest
import torch

from differential_smoothing.sampling import make_engine, number_format
from differential_smoothing.sampling.number_format import quick_dtype
from differential_smoothing.training.models import frozen_dtype
from differential_smoothing.training.options import parse_config


def folder(path, **config):
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    return str(path)


@pytest.mark.parametrize(
    "stored, width, processor, expected",
    [
        ("bfloat16", 576, True, torch.bfloat16),
        ("bfloat16", 576, False, torch.float32),
        ("float32", 576, True, torch.float32),
        ("bfloat16", 128, True, torch.float32),
        (None, 576, True, torch.float32),
    ],
)
def test_the_rule(tmp_path, monkeypatch, stored, width, processor, expected):
    monkeypatch.setattr(number_format, "has_bfloat16", lambda: processor)
    model = folder(tmp_path / "model", dtype=stored, hidden_size=width)
    assert quick_dtype(model) == expected
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": model}))
    assert quick_dtype(str(tmp_path / "adapter")) == expected
    named = {} if expected == torch.float32 else {"dtype": "bfloat16"}
    assert make_engine("shared_prefix", model).identity() == {"device": "cpu"} | named


def test_a_name_on_the_hub_and_a_broken_file_stay_in_float32(tmp_path):
    assert quick_dtype("owner/name") == torch.float32
    (tmp_path / "config.json").write_text("[")
    assert quick_dtype(str(tmp_path)) == torch.float32


@pytest.mark.parametrize(
    "options, expected",
    [
        ([], None),  # the weights themselves are trained
        (["--lora_r", "4"], "bfloat16"),
        (["--lora_r", "4", "--model_init_kwargs", '{"dtype": "float32"}'], None),
    ],
)
def test_only_frozen_weights_are_rounded_and_only_where_nothing_else_was_asked_for(
    tmp_path, monkeypatch, options, expected
):
    monkeypatch.setattr(number_format, "has_bfloat16", lambda: True)
    model = folder(tmp_path / "model", dtype="bfloat16", hidden_size=576)
    given = ["--output_dir", str(tmp_path / "run"), "--use_cpu", "true", "--bf16", "false", "--model", model]
    run, config = parse_config([*given, *options])
    assert frozen_dtype(run, config, model) == expected
