"""What a training step costs, from a model's config alone: parameters, memory per GPU, floating-point operations, seconds.

Parameters, key-value cache and floating-point operations are counts and exact for Llama, Qwen2, Qwen3, Mistral and Ministral
shapes. Memory and time are ranges from a low to a high reading, never one number. The activations' high end is what transformers
keeps for the backward pass under bf16 autocast, counted tensor by tensor; a test counts them again. Nothing here has been
measured on a GPU: seconds are operations or bytes divided by what the GPU's data sheet promises, times a stated share of it.

Left out: fragmentation and the CUDA context (1 to 2 GB), communication between GPUs, moving weights into the rollout engine, the
optimizer's own time, and rewards. Where those matter, a step takes longer than the high end.

1 GB is 1e9 bytes. ``configs/SCALING.md`` is written from this module, and a test checks that it still is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

__all__ = [
    "GPUS",
    "H100",
    "PUBLISHED",
    "Batch",
    "Gpu",
    "Placement",
    "Range",
    "Shape",
    "Share",
    "activations",
    "at_once",
    "gpu_named",
    "kv_cache",
    "lora_parameters",
    "memory",
    "operations",
    "seconds",
    "shape_of",
]


@dataclass(frozen=True)
class Range:
    """From a low to a high estimate. Sums and products with a number >= 0 take both ends along."""

    low: float
    high: float

    def __add__(self, other: Range | float) -> Range:
        other = other if isinstance(other, Range) else Range(other, other)
        return Range(self.low + other.low, self.high + other.high)

    __radd__ = __add__

    def __mul__(self, factor: float) -> Range:
        return Range(self.low * factor, self.high * factor)

    __rmul__ = __mul__


@dataclass(frozen=True)
class Shape:
    """The numbers of a decoder's config that decide what it costs.

    ``bias``: of the attention's projections, 'none', 'qkv' (Qwen2) or 'all'. ``qk_norm``: a norm on queries and keys (Qwen3).
    ``tied``: the output layer is the embedding. ``context``: positions, prompt and completion together.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    tied: bool
    bias: str = "none"
    qk_norm: bool = False
    mlp_bias: bool = False

    @property
    def layer_matrices(self) -> int:
        """Weights of one layer's seven matrices: ``h*nd`` and ``nd*h`` (q, o), ``2*h*kd`` (k, v), ``3*h*f`` (gate, up, down).

        h hidden, nd heads * head_dim, kd kv_heads * head_dim, f intermediate.
        """
        h, queries, keys = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        return 2 * h * queries + 2 * h * keys + 3 * h * self.intermediate

    @property
    def parameters(self) -> int:
        """All weights: embedding ``V*h``, output ``V*h`` unless tied, last norm ``h``, and per layer matrices, ``2*h`` norms, biases."""
        h, queries, keys = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        layer = self.layer_matrices + 2 * h
        if self.bias != "none":
            layer += queries + 2 * keys + (h if self.bias == "all" else 0)
        if self.qk_norm:
            layer += 2 * self.head_dim
        if self.mlp_bias:
            layer += 2 * self.intermediate + h
        return self.vocabulary * h * (1 if self.tied else 2) + h + self.layers * layer

    @property
    def multiplied(self) -> int:
        """Weights that each token is multiplied with: ``layers * layer_matrices + V*h`` (an embedding lookup multiplies nothing)."""
        return self.layers * self.layer_matrices + self.vocabulary * self.hidden


def shape_of(config: Any) -> Shape:
    """The shape in a transformers config (or a mapping with the same names). ValueError for an architecture not counted here."""
    if isinstance(config, Mapping):
        from types import SimpleNamespace

        config = SimpleNamespace(**config)
    kind = config.model_type
    if kind not in ("llama", "qwen2", "qwen3", "mistral", "ministral"):
        raise ValueError(
            f"The cost of a model of type {kind!r} is not known here; llama, qwen2, qwen3, mistral and ministral are."
        )
    flagged = "all" if getattr(config, "attention_bias", False) and kind in ("llama", "qwen3") else "none"
    return Shape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        heads=config.num_attention_heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        vocabulary=config.vocab_size,
        context=config.max_position_embeddings,
        tied=bool(config.tie_word_embeddings),
        bias="qkv" if kind == "qwen2" else flagged,
        qk_norm=kind == "qwen3",
        mlp_bias=kind == "llama" and bool(getattr(config, "mlp_bias", False)),
    )


_QWEN_1_5B = Shape(28, 1536, 8960, 12, 2, 128, 151936, 4096, tied=True, bias="qkv")
_QWEN_3B = Shape(36, 2048, 11008, 16, 2, 128, 151936, 32768, tied=True, bias="qkv")
_QWEN_7B = Shape(28, 3584, 18944, 28, 4, 128, 152064, 4096, tied=False, bias="qkv")

#: Configs as published on the Hub, so that a plan can be made without it. The paper's five models and their nearest relatives.
PUBLISHED: dict[str, Shape] = {
    "Qwen/Qwen2.5-Math-1.5B": _QWEN_1_5B,
    "Qwen/Qwen2.5-1.5B": replace(_QWEN_1_5B, context=131072),
    "Qwen/Qwen2.5-1.5B-Instruct": replace(_QWEN_1_5B, context=32768),
    "Qwen/Qwen3-1.7B": Shape(28, 2048, 6144, 16, 8, 128, 151936, 40960, tied=True, qk_norm=True),
    "Qwen/Qwen2.5-3B": _QWEN_3B,
    "Qwen/Qwen2.5-3B-Instruct": _QWEN_3B,
    "Qwen/Qwen2.5-Math-7B": _QWEN_7B,
    "mistralai/Ministral-8B-Instruct-2410": Shape(36, 4096, 12288, 32, 8, 128, 131072, 32768, tied=False),
}


@dataclass(frozen=True)
class Gpu:
    """A GPU by its data sheet: ``memory`` in bytes, dense bf16 ``flops`` and memory ``bandwidth`` per second."""

    name: str
    memory: float
    flops: float
    bandwidth: float


H100 = Gpu("H100 80GB", 80e9, 989e12, 3.35e12)
#: By the name that a user gives; the SXM versions.
GPUS = {"a100": Gpu("A100 80GB", 80e9, 312e12, 2.04e12), "h100": H100, "h200": Gpu("H200 141GB", 141e9, 989e12, 4.8e12)}


def gpu_named(name: str) -> Gpu:
    """The GPU that ``--gpu`` names; ValueError lists the known ones."""
    if name not in GPUS:
        raise ValueError(f"--gpu must be one of {', '.join(GPUS)}; got {name!r}.")
    return GPUS[name]


@dataclass(frozen=True)
class Share:
    """What a real program gets of the data sheet, low to high: of operations in training, of bandwidth in decoding."""

    compute: Range = Range(0.25, 0.5)
    bandwidth: Range = Range(0.3, 0.7)


@dataclass(frozen=True)
class Batch:
    """What is sampled and learned from in one step of generation: ``prompts`` x ``group`` completions over all GPUs.

    ``prompt`` and ``completion`` are lengths in tokens, the completion's the longest allowed; ``written`` is the share of it that
    completions use on average. ``micro`` completions go through the model at once on each GPU.
    """

    prompts: int
    group: int
    prompt: int
    completion: int
    micro: int
    written: Range = Range(0.3, 1.0)

    @property
    def rollouts(self) -> int:
        """Completions per step, ``prompts * group``."""
        return self.prompts * self.group

    @property
    def tokens(self) -> Range:
        """Tokens that are learned from or read per step: ``rollouts * (prompt + written * completion)``."""
        return self.rollouts * (self.written * self.completion + self.prompt)


@dataclass(frozen=True)
class Placement:
    """Where a model lives: GPUs, how its training state is spread, and which engine samples.

    ``sharding``: 'ddp' (everything on every GPU) or 'fsdp' (spread over all). ``weight_bytes``: 4 is TRL's and verl's default, a
    float32 master copy computed with in bf16. ``rollouts``: 'vllm' on the same GPUs, 'server' on others, or 'model' itself.
    ``reserved``: share of a GPU that vLLM takes. ``host``: 'trl', which never holds all logits, or 'verl'. ``extra_forward``:
    passes for log-probs that no earlier pass computed: verl's and, with vLLM, TRL's old log-probs, and a reference model's if beta > 0.
    """

    gpus: int = 1
    sharding: str = "ddp"
    lora_rank: int = 0
    weight_bytes: int = 4
    checkpointing: bool = True
    host: str = "trl"
    rollouts: str = "vllm"
    reserved: float = 0.3
    extra_forward: int = 1
    reference: bool = False

    def __post_init__(self):
        choices = {"sharding": ("ddp", "fsdp"), "host": ("trl", "verl"), "rollouts": ("vllm", "server", "model")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}.")
        if self.gpus < 1:
            raise ValueError(f"gpus must be at least 1, got {self.gpus}.")


def lora_parameters(shape: Shape, rank: int) -> int:
    """Weights of a LoRA adapter on all seven matrices of every layer: ``rank * (inputs + outputs)`` each; none on the output layer."""
    h, f = shape.hidden, shape.intermediate
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return shape.layers * rank * (2 * (h + queries) + 2 * (h + keys) + 3 * (h + f))


def kv_cache(shape: Shape, tokens: int) -> int:
    """Bytes of keys and values of one sequence in bf16: ``2 (k, v) * 2 bytes * layers * kv_heads * head_dim * tokens``."""
    return 4 * shape.layers * shape.kv_heads * shape.head_dim * tokens


def activations(shape: Shape, tokens: int, *, checkpointing: bool) -> Range:
    """Bytes that the backward pass needs of ``tokens`` tokens, without the logits.

    One layer keeps, per token, in the fewest and in the most bytes (h, nd, kd, f as in ``Shape.layer_matrices``):

    - low, everything once and in bf16: ``2 * (4h + 2nd + 2kd + 4f)``: two inputs, two norms; q and the attention's result; k and v; gate, up, their
      activation and product.
    - high, transformers under bf16 autocast with float32 weights: ``26h + 4nd + 4kd + 8f + 4*heads + 8``: the residual and the norms in
      float32 (16h) and one bf16 copy for each of q, k, v, gate and up (10h). Qwen3's norms add ``6nd + 6kd + 4*(heads + kv_heads)``.

    Without checkpointing all layers keep this, and autocast its bf16 copies of the matrices (high). With it a layer keeps its
    input (``2h`` or ``4h``), and one layer at a time is computed again. Attention is taken to be fused: nothing grows with the
    square of the length.
    """
    h, f = shape.hidden, shape.intermediate
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    low = 2 * (4 * h + 2 * queries + 2 * keys + 4 * f)
    high = 26 * h + 4 * queries + 4 * keys + 8 * f + 4 * shape.heads + 8
    if shape.qk_norm:
        high += 6 * queries + 6 * keys + 4 * (shape.heads + shape.kv_heads)
    layer, copy = Range(low, high) * tokens, Range(0, 2 * shape.layer_matrices)
    if not checkpointing:
        return (layer + copy) * shape.layers
    return Range(2, 4) * (h * tokens * shape.layers) + layer + copy


def memory(shape: Shape, batch: Batch, placement: Placement, gpu: Gpu = H100) -> dict[str, Range]:
    """Bytes per GPU at full length, by what holds them. Sum what is there at once: see ``peak``.

    - ``weights``: ``weight_bytes * P``, and as many again for a reference model (an adapter needs none); P all parameters.
    - ``gradients``: as wide as what is trained, ``weight_bytes * trained`` (4 for an adapter), with DDP up to twice that (its buckets).
      ``optimizer``: two moments, ``2 * weight_bytes * trained``. So 16 bytes per trained parameter in float32.
    - FSDP divides these by the number of GPUs and gathers the embedding and one or two layers at a time in bf16.
    - ``activations``: of ``micro * (prompt + completion)`` tokens.
    - ``logits``: TRL computes log-probs in tiles, up to 1 GB, and the gradient of a trained output layer aside, ``4 * V * h``; verl holds all
      ``micro * (prompt + completion) * V`` logits with their gradient, ``4`` to ``8`` bytes each.
    - ``engine``: what sampling holds: vLLM what is ``reserved`` for it, its bf16 weights ``2P`` included; the model itself keys and
      values of this GPU's completions, ``kv_cache(prompt + completion) * rollouts / gpus``, in the width of its weights.
    - ``peak``: everything together; with verl, which empties its engine while it trains, the larger of training and sampling.
    """
    p, spread = shape.parameters, placement.gpus if placement.sharding == "fsdp" else 1
    trained = lora_parameters(shape, placement.lora_rank) if placement.lora_rank else p
    width = 4 if placement.lora_rank else placement.weight_bytes  # PEFT keeps adapters in float32
    weights = placement.weight_bytes * p + (width * trained if placement.lora_rank else 0)
    gathered = Range(0, 0)
    if spread > 1:
        gathered = Range(1, 2) * (2 * shape.layer_matrices) + Range(1, 2) * 2 * shape.vocabulary * shape.hidden
    reference = placement.weight_bytes * p if placement.reference and not placement.lora_rank else 0
    length = batch.prompt + batch.completion
    tokens = batch.micro * length
    held = {
        "weights": Range(1, 1) * ((weights + reference) / spread) + gathered,
        "gradients": Range(1, 2 if placement.sharding == "ddp" and placement.gpus > 1 else 1)
        * (width * trained / spread),
        "optimizer": Range(2, 2) * (width * trained / spread),
        "activations": activations(shape, tokens, checkpointing=placement.checkpointing),
        "logits": Range(0, 1e9) + (0 if placement.lora_rank else 4 * shape.vocabulary * shape.hidden),
    }
    if placement.host == "verl":
        held["logits"] = Range(4, 8) * (tokens * shape.vocabulary)
    if placement.rollouts == "vllm":
        held["engine"] = Range(1, 1) * (placement.reserved * gpu.memory)
    elif placement.rollouts == "model":
        cached = kv_cache(shape, length) * batch.rollouts / placement.gpus
        held["engine"] = Range(1, 2) * cached
    else:
        held["engine"] = Range(0, 0)
    training = sum((v for k, v in held.items() if k != "engine"), Range(0, 0))
    state = held["weights"] + held["gradients"] + held["optimizer"]
    if placement.host == "verl":
        sampling = state + held["engine"]
        held["peak"] = Range(max(training.low, sampling.low), max(training.high, sampling.high))
    elif placement.rollouts == "model":  # keys and values are gone when training begins
        sampling = held["weights"] + held["optimizer"] + held["engine"]
        held["peak"] = Range(max(training.low, sampling.low), max(training.high, sampling.high))
    else:
        held["peak"] = training + held["engine"]
    return held


def at_once(shape: Shape, batch: Batch, placement: Placement, gpu: Gpu = H100) -> float:
    """How many completions of full length vLLM has room for on a GPU: ``(reserved * memory - 2P) / kv_cache(prompt + completion)``.

    Negative if its weights do not fit into what is reserved; infinite where another engine samples.
    """
    if placement.rollouts != "vllm":
        return float("inf")
    room = placement.reserved * gpu.memory - 2 * shape.parameters
    return room / kv_cache(shape, batch.prompt + batch.completion)


def operations(shape: Shape, length: float, *, tokens: float) -> float:
    """Floating-point operations of a forward pass over ``tokens`` tokens in sequences of ``length``.

    ``2 * multiplied`` per token, and for attention ``2 * 2 * layers * heads * head_dim * length / 2``: scores and their
    products with the values, over half of the length on average because it is causal.
    """
    attention = 2 * shape.layers * shape.heads * shape.head_dim * length
    return tokens * (2 * shape.multiplied + attention)


def seconds(
    shape: Shape, batch: Batch, placement: Placement, gpu: Gpu = H100, share: Share | None = None
) -> dict[str, Range]:
    """Seconds per step, by what takes them; the low end has short completions and a well used GPU.

    - ``sampling``: ``written * completion`` times one decoding step of this GPU's completions, ``n = rollouts / gpus``: it reads the
      weights (``2 * multiplied`` bytes) and every completion's keys and values (at half length) at ``bandwidth``, or computes
      ``2 * multiplied * n`` operations if that takes longer. Where vLLM has room for fewer than n at full length (``at_once``) the weights are read
      more often, ``n / at_once`` times. The high end waits for completions of full length.
    - ``log-probs``: ``extra_forward`` passes, and one of the reference model.
    - ``training``: a backward pass costs two forward ones, one if only an adapter learns; checkpointing adds a forward one.
    """
    share = Share() if share is None else share
    ends = []
    for written, compute, bandwidth in (
        (batch.written.low, share.compute.high, share.bandwidth.high),
        (batch.written.high, share.compute.low, share.bandwidth.low),
    ):
        completion = written * batch.completion
        length = batch.prompt + completion
        rollouts = batch.rollouts / placement.gpus
        forward = operations(shape, length, tokens=rollouts * length) / (gpu.flops * compute)
        cached = rollouts * kv_cache(shape, 1) * (batch.prompt + completion / 2)
        rounds = rollouts / min(rollouts, max(1.0, at_once(shape, batch, placement, gpu)))
        decoding = max(
            (rounds * 2 * shape.multiplied + cached) / (gpu.bandwidth * bandwidth),
            2 * shape.multiplied * rollouts / (gpu.flops * compute),
        )
        ends.append(
            {
                "sampling": completion * decoding,
                "log-probs": forward * (placement.extra_forward + placement.reference),
                "training": forward * ((2 if placement.lora_rank else 3) + placement.checkpointing),
            }
        )
    low, high = ends
    parts = {name: Range(low[name], high[name]) for name in low}
    return parts | {"step": sum(parts.values(), Range(0, 0))}
