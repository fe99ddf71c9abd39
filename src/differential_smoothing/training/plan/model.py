"""Checks of the model and its tokenizer, without the weights: shape, end of sequence, chat template."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from differential_smoothing.sampling.number_format import quick_dtype
from differential_smoothing.training import RunArguments, cost, hub, resolve_model
from differential_smoothing.training.models import frozen_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from differential_smoothing.integrations.trl import DSGRPOConfig
from .page import Plan

__all__ = ["in_one_line", "look_at_model", "rendered"]

# --- model ---------------------------------------------------------------------------------------------------------


def look_at_model(
    plan: Plan, run: RunArguments, config: DSGRPOConfig
) -> tuple[cost.Shape | None, int | None, PreTrainedTokenizerBase | None]:
    """The model's shape, the positions it has, and its tokenizer; None for what is not known."""
    shape = context = tokenizer = None
    try:
        name = resolve_model(run.model)
        loaded = hub.load_config(name, known=list(cost.PUBLISHED))
        context = getattr(loaded.get_text_config(), "max_position_embeddings", None)
        _architecture(plan, name, loaded)
        try:
            shape = cost.shape_of(loaded)
        except ValueError as error:
            plan.notes.append(f"{error} So memory and time are not estimated.")
        tokenizer = hub.load_tokenizer(name, known=list(cost.PUBLISHED))
        if not _tokenizer(plan, run, config, tokenizer, loaded):
            tokenizer = None
    except hub.Unreachable as error:
        plan.unchecked.append(f"{error} Not looked at: its tokenizer, chat template and the lengths of prompts.")
        if shape is None and (shape := cost.PUBLISHED.get(run.model)):
            context = shape.context
            plan.notes.append(f"The size of {run.model} is the published one, as written in this program.")
    except ValueError as error:
        plan.mistakes.append(str(error))
    if shape is None:
        plan.rows.append(("Model", run.model))
    else:
        trained = "all trained"
        if run.lora_r:
            trained = f"{cost.lora_parameters(shape, run.lora_r):,} more in a LoRA adapter of rank {run.lora_r} trained"
        plan.rows.append(
            (
                "Model",
                f"{run.model}: {shape.parameters:,} parameters, {trained}; {shape.layers} layers of width {shape.hidden}, "
                f"{shape.context:,} positions, {shape.vocabulary:,} tokens.",
            )
        )
    if config.use_cpu and not plan.mistakes:
        plan.rows.append(("Numbers", _number_format(run, config)))
    return shape, context, tokenizer


def _number_format(run: RunArguments, config: DSGRPOConfig) -> str:
    """In which number format the weights are on a CPU, and why."""
    asked = (config.model_init_kwargs or {}).get("dtype")
    if asked is not None or config.bf16:
        return f"Weights in {asked or 'float32'}{', products in bfloat16 (bf16: true)' if config.bf16 else ''}, as asked for."
    name = resolve_model(run.model)
    if frozen_dtype(run, config, name):
        return "Frozen weights in bfloat16, which this processor multiplies faster; the adapter in float32."
    if str(quick_dtype(name)) == "torch.bfloat16":
        return (
            "Weights in float32: they are trained, and bfloat16 would lose small steps. This processor multiplies bfloat16 faster: bf16: true "
            "casts for the products, lora_r freezes the weights."
        )
    return "Weights in float32."


def _architecture(plan: Plan, name: str, loaded: Any) -> None:
    kinds = loaded.architectures or []
    if not any(kind.endswith(("ForCausalLM", "ForConditionalGeneration")) for kind in kinds):
        plan.mistakes.append(
            f"{name!r} is not a causal language model: its config.json has architectures={kinds}, and one that ends in "
            f"ForCausalLM is needed."
        )
    folder = Path(name)
    if folder.is_dir() and not [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]:
        plan.mistakes.append(f"The folder {name!r} has a config but no weights (*.safetensors).")


def _tokenizer(plan: Plan, run: RunArguments, config: DSGRPOConfig, tokenizer: Any, loaded: Any) -> bool:
    """End of sequence and chat template: what would go wrong without an error, or with one that says little. Can prompts be made?"""
    ends = loaded.eos_token_id if isinstance(loaded.eos_token_id, list) else [loaded.eos_token_id]
    ends = {i for i in [*ends, tokenizer.eos_token_id] if i is not None}
    if tokenizer.eos_token_id is None:
        plan.mistakes.append(
            f"The tokenizer of {run.model!r} has no end-of-sequence token, so no completion would end. Set eos_token in its "
            f"tokenizer_config.json."
        )
    if not run.chat:
        return True
    if not tokenizer.chat_template:
        plan.mistakes.append(
            f"chat: true, but the tokenizer of {run.model!r} has no chat template: it is a base model's. Take the model's instruct "
            f"version, leave chat out, or put a template into the folder as chat_template.jinja."
        )
        return False
    probe, answer = [{"role": "user", "content": "Hello"}], "Certainly not"
    try:
        bare, prompt, whole = (
            rendered(tokenizer, config, messages, generate)
            for messages, generate in (
                (probe, False),
                (probe, True),
                ([*probe, {"role": "assistant", "content": answer}], False),
            )
        )
    except Exception as error:
        plan.mistakes.append(f"The chat template of {run.model!r} fails on a plain question: {in_one_line(error)}")
        return False
    at = whole.find(answer)
    # Templates such as Mistral's need no generation prompt: there the answer follows the question at once.
    if prompt == bare and at >= 0 and whole[: len(bare)] == bare and whole[len(bare) : at].strip():
        plan.mistakes.append(
            f"The chat template of {run.model!r} has no generation prompt: add_generation_prompt changes nothing, although an answer of the "
            f"assistant begins with {whole[len(bare) : at]!r}, so the model would have to write that first. Add to the template: "
            f"{{% if add_generation_prompt %}}...{{% endif %}}."
        )
    after = whole[at + len(answer) :].strip() if at >= 0 else ""
    closing = tokenizer.encode(after, add_special_tokens=False)[:1] if after else []
    if closing and closing[0] in tokenizer.all_special_ids and closing[0] not in ends:
        plan.notes.append(
            f"The chat template ends an answer with {tokenizer.decode(closing)!r}, and {run.model!r} stops at "
            f"{', '.join(repr(tokenizer.decode([i])) for i in sorted(ends))} unless its generation_config.json says more. Base models "
            f"do that; if completions run to their full length, this is why."
        )
    return True


def rendered(tokenizer: Any, config: DSGRPOConfig, messages: Any, generate: bool = True) -> str:
    """``messages`` as the chat template writes them; ``generate``: up to where the assistant begins."""
    options = config.chat_template_kwargs or {}
    return tokenizer.apply_chat_template(messages, add_generation_prompt=generate, tokenize=False, **options)


def in_one_line(error: BaseException) -> str:
    """An error as one line of at most 300 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
