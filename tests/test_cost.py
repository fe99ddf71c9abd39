"""What is said of a step's cost, against real models on the meta device and what a real backward pass keeps."""

import runpy
from pathlib import Path

import pytest
import torch

from differential_smoothing.training import cost
from differential_smoothing.training.cost import PUBLISHED, Batch, Placement, Range, Shape

ROOT = Path(__file__).parents[1]

# What the models' cards say, or is known of their weights: not computed here
PARAMETERS = {
    "Qwen/Qwen2.5-Math-1.5B": 1_543_714_304,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen2.5-Math-7B": 7_615_616_512,
    "mistralai/Ministral-8B-Instruct-2410": 8_019_808_256,
}
SMALL = dict(
    vocab_size=160,
    hidden_size=48,
    intermediate_size=112,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=96,
)
KINDS = ["llama", "qwen2", "qwen3", "mistral", "ministral"]


def config_of(kind, **options):
    from transformers import AutoConfig

    options = {**SMALL, **options}
    if kind == "qwen2":
        del options["head_dim"]  # which it takes to be hidden / heads
    return AutoConfig.for_model(kind, **options)


def on_meta(config):
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_those_of_a_real_model(kind, tied):
    config = config_of(kind, tie_word_embeddings=tied)
    assert cost.shape_of(config).parameters == on_meta(config).num_parameters()


@pytest.mark.parametrize("option", ["attention_bias", "mlp_bias"])
def test_biases_of_llama_are_counted(option):
    config = config_of("llama", **{option: True})
    assert cost.shape_of(config).parameters == on_meta(config).num_parameters()


def test_the_papers_models_have_the_published_number_of_parameters():
    kinds = {"Qwen2.5": "qwen2", "Qwen3": "qwen3", "Ministral": "mistral"}
    for name, published in PARAMETERS.items():
        shape = PUBLISHED[name]
        assert shape.parameters == published, name
        kind = next(kind for part, kind in kinds.items() if part in name)
        real = on_meta(
            config_of(
                kind,
                vocab_size=shape.vocabulary,
                hidden_size=shape.hidden,
                intermediate_size=shape.intermediate,
                num_hidden_layers=shape.layers,
                num_attention_heads=shape.heads,
                num_key_value_heads=shape.kv_heads,
                head_dim=shape.head_dim,
                max_position_embeddings=shape.context,
                tie_word_embeddings=shape.tied,
            )
        )
        assert real.num_parameters() == published, name
        assert cost.shape_of(real.config) == shape


def test_an_unknown_architecture_is_not_guessed():
    with pytest.raises(ValueError, match="'gpt2' is not known here"):
        cost.shape_of({"model_type": "gpt2"})


def test_lora_is_what_peft_adds():
    peft = pytest.importorskip("peft")
    for kind in ("qwen2", "llama"):
        config = config_of(kind)
        adapter = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
        model = peft.get_peft_model(on_meta(config), adapter)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert cost.lora_parameters(cost.shape_of(config), 4) == trained


def kept_for_backward(config, tokens, checkpointing=False):
    """Bytes that a real forward pass under bf16 autocast keeps, parameters left out: every storage once."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(config).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage  # held, so that its address is not given to another
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), torch.autocast("cpu", torch.bfloat16):
        out = model.model(torch.zeros(1, tokens, dtype=torch.long), use_cache=False)
    del out
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral"])
def test_the_high_end_of_the_activations_is_what_transformers_keeps(kind):
    tokens = 64
    few, many = (kept_for_backward(config_of(kind, num_hidden_layers=n), tokens) for n in (1, 4))
    shape = cost.shape_of(config_of(kind, num_hidden_layers=3))
    said = cost.activations(shape, tokens, checkpointing=False)
    assert said.high == many - few  # three layers' worth, what does not depend on the layers taken off
    assert 0.4 * said.high < said.low < said.high


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_checkpointing_keeps_the_input_of_each_layer():
    tokens = 64
    few, many = (kept_for_backward(config_of("llama", num_hidden_layers=n), tokens, checkpointing=True) for n in (1, 4))
    assert many - few == 3 * 4 * SMALL["hidden_size"] * tokens
    shape = cost.shape_of(config_of("llama", num_hidden_layers=3))
    one = cost.activations(cost.shape_of(config_of("llama", num_hidden_layers=1)), tokens, checkpointing=False)
    assert cost.activations(shape, tokens, checkpointing=True).high == many - few + one.high


def test_the_cache_is_as_large_as_a_real_one():
    from transformers import AutoModelForCausalLM

    config = config_of("qwen3")
    model = AutoModelForCausalLM.from_config(config).bfloat16()
    cache = model(torch.zeros(1, 10, dtype=torch.long), use_cache=True).past_key_values
    held = sum(x.nbytes for layer in cache.layers for x in (layer.keys, layer.values))
    assert cost.kv_cache(cost.shape_of(config), 10) == held


def test_operations_are_what_a_forward_pass_does():
    """torch counts the products of matrices; it counts attention over the whole square, we over its causal half."""
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForCausalLM

    config = config_of("llama")
    model, length = AutoModelForCausalLM.from_config(config, attn_implementation="eager"), 32
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, length, dtype=torch.long), use_cache=False)
    shape = cost.shape_of(config)
    half = 2 * shape.layers * shape.heads * shape.head_dim * length * length
    rotary = shape.head_dim // 2 * length * 2  # positions times frequencies, written as a product
    assert abs(counter.get_total_flops() - half - cost.operations(shape, length, tokens=length)) <= rotary


BATCH = Batch(prompts=64, group=8, prompt=512, completion=2048, micro=4)


def test_state_by_hand_and_its_spread():
    shape = PUBLISHED["Qwen/Qwen2.5-Math-1.5B"]
    alone = cost.memory(shape, BATCH, Placement())
    assert alone["weights"].high + alone["gradients"].high + alone["optimizer"].high == 16 * shape.parameters
    spread = cost.memory(shape, BATCH, Placement(gpus=8, sharding="fsdp"))
    assert spread["optimizer"].high == shape.parameters
    copies = cost.memory(shape, BATCH, Placement(gpus=8))
    assert copies["optimizer"] == alone["optimizer"] and copies["gradients"].high == 8 * shape.parameters
    lora = cost.memory(shape, BATCH, Placement(lora_rank=32, weight_bytes=2))
    adapter = cost.lora_parameters(shape, 32)
    assert lora["weights"].high == 2 * shape.parameters + 4 * adapter
    assert (lora["gradients"].high, lora["optimizer"].high) == (4 * adapter, 8 * adapter)


def test_more_of_anything_costs_more_and_ends_are_ordered():
    shape = PUBLISHED["Qwen/Qwen3-1.7B"]
    placement = Placement(gpus=8, sharding="fsdp", host="verl", reserved=0.6)
    for more in (
        Batch(64, 8, 512, 4096, 4),
        Batch(128, 8, 512, 2048, 4),
        Batch(64, 16, 512, 2048, 4),
        Batch(64, 8, 1024, 2048, 4),
    ):
        for name, value in cost.seconds(shape, BATCH, placement).items():
            other = cost.seconds(shape, more, placement)[name]
            assert 0 < value.low < value.high and value.low < other.low and value.high < other.high
    for host in ("trl", "verl"):
        for gpus in (1, 8):
            for value in cost.memory(shape, BATCH, Placement(gpus=gpus, host=host)).values():
                assert 0 <= value.low <= value.high
    assert cost.memory(shape, BATCH, placement)["logits"] == Range(4, 8) * (4 * 2560 * shape.vocabulary)


def test_what_does_not_change_the_learning_costs_what_it_costs():
    shape = PUBLISHED["Qwen/Qwen2.5-Math-1.5B"]
    plain = cost.seconds(shape, BATCH, Placement(extra_forward=0, checkpointing=False))
    assert plain["log-probs"] == Range(0, 0)
    more = cost.seconds(shape, BATCH, Placement(extra_forward=1, reference=True))
    assert more["log-probs"].high == pytest.approx(2 / 3 * plain["training"].high)
    assert more["training"].high == pytest.approx(4 / 3 * plain["training"].high)
    assert more["sampling"] == plain["sampling"]


def test_wrong_placements_are_named():
    with pytest.raises(ValueError, match="sharding must be one of ddp, fsdp; got 'tp'"):
        Placement(sharding="tp")
    with pytest.raises(ValueError, match="gpus must be at least 1"):
        Placement(gpus=0)


def test_the_page_on_scaling_is_what_the_module_says():
    written = runpy.run_path(str(ROOT / "benchmarks" / "scaling.py"))
    assert written["PAGE"].read_text() == written["page"](), "run: python benchmarks/scaling.py"


def test_a_shape_is_a_plain_value():
    assert Shape(1, 2, 3, 1, 1, 2, 5, 9, tied=True).parameters == 5 * 2 + 2 + (2 * 4 + 2 * 4 + 18 + 4)
