"""Writes configs/SCALING.md from differential_smoothing.training.cost, so that no number in it is typed by hand.

python benchmarks/scaling.py            # tests/test_cost.py fails while the page is not what this writes
"""

from pathlib import Path

from differential_smoothing.training import cost
from differential_smoothing.training.cost import Batch, Placement, Range

PAGE = Path(__file__).parents[1] / "configs" / "SCALING.md"

MODELS = {  # the paper's, with the longest response of their recipes
    "Qwen/Qwen2.5-Math-1.5B": 2048,
    "Qwen/Qwen3-1.7B": 4096,
    "Qwen/Qwen2.5-3B": 1024,
    "Qwen/Qwen2.5-Math-7B": 2048,
    "mistralai/Ministral-8B-Instruct-2410": 2048,
}


def _gb(value: Range | float) -> str:
    value = value if isinstance(value, Range) else Range(value, value)
    low, high = (f"{x / 1e9:.1f}" if x < 1e10 else f"{x / 1e9:.0f}" for x in (value.low, value.high))
    return low if low == high else f"{low} to {high}"


def _s(value: Range) -> str:
    return f"{value.low:.0f} to {value.high:.0f}"


def _setting(completion: int, gpus: int, host: str, lora: int = 0) -> tuple[Batch, Placement]:
    batch = Batch(prompts=64, group=8, prompt=512, completion=completion, micro=4)
    return batch, Placement(
        gpus=gpus,
        sharding="fsdp" if gpus > 1 else "ddp",
        lora_rank=lora,
        weight_bytes=2 if lora else 4,
        host=host,
        reserved=0.4 if host == "trl" else 0.6,
    )


def _table(gpus: int) -> list[str]:
    lines = [
        f"**{gpus} x {cost.H100.name}**" + (", FSDP over all of them" if gpus > 1 else ""),
        "",
        "| model | response | TRL: GB per GPU | verl: GB per GPU | s a step | sampling | log-probs | training |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, completion in MODELS.items():
        shape = cost.PUBLISHED[name]
        cells = []
        for host in ("trl", "verl"):
            peak = cost.memory(shape, *_setting(completion, gpus, host))["peak"]
            cells.append(_gb(peak) + (" **no**" if peak.low > cost.H100.memory else ""))
        parts = cost.seconds(shape, *_setting(completion, gpus, "verl"))
        times = [_s(parts[part]) for part in ("step", "sampling", "log-probs", "training")]
        lines.append(f"| {name.partition('/')[2]} | {completion} | {' | '.join(cells + times)} |")
    return lines


def page() -> str:
    """The whole of configs/SCALING.md."""
    name = "Qwen/Qwen2.5-Math-1.5B"
    s, (batch, placement) = cost.PUBLISHED[name], _setting(2048, 8, "trl")
    h, q, k, f = s.hidden, s.heads * s.head_dim, s.kv_heads * s.head_dim, s.intermediate
    length = batch.prompt + batch.completion
    tokens = batch.micro * length
    held, parts = cost.memory(s, batch, placement), cost.seconds(s, batch, placement)
    forward = cost.operations(s, length, tokens=batch.rollouts / 8 * length)
    share = cost.Share()
    adapter = cost.lora_parameters(s, 32)
    lora = ["| model | adapter, rank 32 | GB on one GPU | s a step |", "|---|---:|---:|---:|"]
    for other, completion in MODELS.items():
        shape, setting = cost.PUBLISHED[other], _setting(completion, 1, "trl", lora=32)
        lora.append(
            f"| {other.partition('/')[2]} | {cost.lora_parameters(shape, 32) / 1e6:.0f}M | {_gb(cost.memory(shape, *setting)['peak'])} | "
            f"{_s(cost.seconds(shape, *setting)['step'])} |"
        )
    return "\n".join(
        [
            "# What a step costs",
            "",
            "<!-- Written by benchmarks/scaling.py from src/differential_smoothing/training/cost.py; tests/test_cost.py checks that it still is. -->",
            "",
            "Estimates from a model's config. Parameters, caches and operations are counts; memory and time are ranges, and **none of it has been",
            "measured on a GPU by us**. Not counted: communication, fragmentation and the CUDA context (1 to 2 GB), the weights' way into vLLM, the",
            "optimizer's time, rewards. For your own config: `dsmooth train --config FILE --dry-run`.",
            "",
            f"Every table: {batch.prompts} prompts x {batch.group} completions a step, prompts of {batch.prompt} tokens, {batch.micro} completions at once "
            f"in the model, gradient checkpointing, float32",
            f"weights computed with in bf16. vLLM on the same GPUs gets {0.4:.0%} of each (TRL, beside the training) or {0.6:.0%} (verl, in turn with "
            f"it). Low end: completions of",
            f"{batch.written.low:.0%} of the response's length, {share.compute.high:.0%} of the data sheet's operations ({cost.H100.flops / 1e12:.0f} "
            f"Tflop/s), {share.bandwidth.high:.0%} of its bandwidth ({cost.H100.bandwidth / 1e12:.2f} TB/s). High end: full length, "
            f"{share.compute.low:.0%}",
            f"and {share.bandwidth.low:.0%}. **no**: does not fit.",
            "",
            *_table(8),
            "",
            *_table(1),
            "",
            "**One GPU, LoRA of rank 32 on frozen bf16 weights (TRL)**",
            "",
            *lora,
            "",
            f"## The arithmetic, for {name.partition('/')[2]} on 8 GPUs with TRL",
            "",
            f"`{s.layers}` layers of width h = {h}, q = {s.heads} x {s.head_dim} = {q}, k = {s.kv_heads} x {s.head_dim} = {k}, f = {f}, V = {s.vocabulary:,} "
            f"tokens, output tied to the embedding.",
            "",
            "| what | how | |",
            "|---|---|---:|",
            f"| matrices of a layer | 2hq + 2hk + 3hf | {s.layer_matrices:,} |",
            f"| parameters P | Vh + h + {s.layers} x (matrices + 2h + q + 2k for biases) | {s.parameters:,} |",
            f"| adapter of rank 32 | {s.layers} x 32 x (2(h+q) + 2(h+k) + 3(h+f)) | {adapter:,} |",
            f"| weights, gradients, optimizer | (4 + 4 + 8) P / 8 GPUs, and layers gathered in bf16 | "
            f"{_gb(held['weights'] + held['gradients'] + held['optimizer'])} GB |",
            f"| activations of {batch.micro} x {length:,} tokens | a layer's input 2h to 4h bytes x {s.layers}, one layer again: "
            f"8h+4q+4k+8f to 26h+4q+4k+8f+... | {_gb(held['activations'])} GB |",
            f"| logits | TRL: tiles, and the output layer's gradient 4Vh; verl: {tokens:,} x V x 4 to 8 bytes | {_gb(held['logits'])} GB, verl "
            f"{_gb(Range(4, 8) * (tokens * s.vocabulary))} GB |",
            f"| keys and values of a completion | 4 bytes x {s.layers} x k x {length:,} | {cost.kv_cache(s, length) / 1e6:.0f} MB |",
            f"| completions at once in vLLM | (0.4 x 80 GB - 2P) / that | {cost.at_once(s, batch, placement):.0f} of {batch.rollouts // 8} |",
            f"| operations of a forward pass | {batch.rollouts // 8} x {length:,} tokens x (2 x ({s.layers} x matrices + Vh) + 2 x {s.layers} x q x "
            f"{length:,}) | {forward:.2e} |",
            f"| training | 3 forward passes and 1 for checkpointing | {_s(parts['training'])} s |",
            f"| log-probs | 1 forward pass, because vLLM's differ | {_s(parts['log-probs'])} s |",
            f"| sampling | tokens one after the other, each reads weights and caches | {_s(parts['sampling'])} s |",
            f"| tokens a step | {batch.rollouts} x (512 + {batch.written.low:g} to {batch.written.high:g} x {batch.completion}) | "
            f"{batch.tokens.low / 1e6:.2f} to {batch.tokens.high / 1e6:.2f} million |",
            "",
            "What follows from it: memory of the state falls with the number of GPUs under FSDP and not under DDP; activations and verl's logits grow",
            "with completions at once x length and with nothing else; training time grows with group size x prompts x length and falls with GPUs;",
            "sampling time has a floor, the length of the longest completion times one reading of the weights, that more GPUs do not lower. The",
            "advantages of Differential Smoothing are a few numbers per token and do not show in any of this.",
            "",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page())
