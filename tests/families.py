"""The architectures of the models that people train, made tiny, each with a chat template of its family's style.

Real classes of transformers from small configs and a real tokenizer of single characters; the weights are random. The templates are short ones of
our own that behave as the families' do: where the system prompt goes, what opens an answer, what ends it, thinking.
"""

import json
from pathlib import Path

import torch

from differential_smoothing.tasks import make_task
from differential_smoothing.training.base_model import make_tokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
INST = (  # no generation prompt: an answer follows [/INST] at once; the system prompt goes into the question
    "<s>{% set ns = namespace(system='') %}{% for m in messages %}{% if m.role == 'system' %}{% set ns.system = m.content + '\n\n' %}"
    "{% elif m.role == 'user' %}[INST]{{ ns.system }}{{ m.content }}[/INST]{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
)
HEADERS = (
    "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)

#: model_type -> template, end of an answer, other special tokens
FAMILIES = {
    "qwen2": (CHATML, "<|im_end|>", ["<|im_start|>", "<|endoftext|>"]),
    "qwen3": (THINKING, "<|im_end|>", ["<|im_start|>", "<|endoftext|>", "<think>", "</think>"]),
    "mistral": (INST, "</s>", ["<s>", "[INST]", "[/INST]"]),
    "llama": (HEADERS, "<|eot_id|>", ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"]),
}


def make_family(
    kind: str, folder: Path, *, template: str | None = None, eos: str | None = None, context: int = 512
) -> str:
    """A folder with a tiny model of that kind and its tokenizer; ``template`` and ``eos`` in place of the family's own."""
    from transformers import AutoConfig, AutoModelForCausalLM

    usual, end, others = FAMILIES[kind]
    tokenizer = make_tokenizer(make_task("math"), context=context)
    tokenizer.add_special_tokens({"additional_special_tokens": [end, *others]})
    tokenizer.eos_token, tokenizer.pad_token = eos or end, "<pad>"
    tokenizer.chat_template = usual if template is None else template or None
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind,
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=kind.startswith("qwen"),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        use_sliding_window=False,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def ten_problems(path: Path) -> None:
    """Ten easy problems of mathematics, as a file of questions and answers."""
    rows = [{"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(1, 11)]
    path.write_text("\n".join(map(json.dumps, rows)))
