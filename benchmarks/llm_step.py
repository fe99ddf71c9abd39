"""A GRPO step of SmolLM2-135M on one core: the stock trainer, ours, and the time of the matrix products alone.

    python benchmarks/llm_step.py --rounds 3 > benchmarks/results/llm_step.txt

Four prompts (routes in chat form) with 8 completions of at most 18 tokens each, weights in bfloat16, an adapter of rank 16 on all linear layers. Each measurement is a process of its own
that takes three steps and reports the median processor seconds of the last two; a round is one of each, in turn, so that other work on the
machine disturbs all of them alike. Printed: medians over the rounds, and the ratios within rounds.

The floor is what a step of ours cannot do without: every prompt read once for the generation and once for the loss, every completion's token read once
for each, the head for completions only, and the gradient with respect to every layer's input. It is timed with the model's own weights and the
same numbers of rows. Attention, normalisation, the softmax over 49,152 words, the adapter and the optimiser are not in it.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
warnings.filterwarnings("ignore", category=FutureWarning)

import torch
from torch.nn.functional import linear

KINDS = ("stock", "ours", "floor")
PROMPTS, GROUP, LONGEST, RANK = 4, 8, 18, 16


def chosen_task():
    from differential_smoothing.tasks import make_task

    return make_task("route", towns=6, roads=10, stops=4, min_routes=4)


def step_seconds(kind, model):
    """Processor seconds of the parts of each of three steps."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from differential_smoothing.integrations.trl import DSGRPOConfig, DSGRPOTrainer, shared_prefix_rollout
    from differential_smoothing.sampling.memory import keep_freed_memory

    ours, task, steps = kind == "ours", chosen_task(), []
    if ours:
        keep_freed_memory()

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.start = time.process_time()

        def on_step_end(self, *_, **__):
            steps.append(time.process_time() - self.start)

    with tempfile.TemporaryDirectory() as folder:
        trainer = (DSGRPOTrainer if ours else GRPOTrainer)(
            model=model,
            args=(DSGRPOConfig if ours else GRPOConfig)(
                output_dir=folder,
                per_device_train_batch_size=PROMPTS * GROUP,
                num_generations=GROUP,
                max_completion_length=LONGEST,
                max_steps=3,
                learning_rate=1e-4,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
                logging_steps=100,
                model_init_kwargs={"dtype": "bfloat16"},
                **({"gamma_p": 0.2, "share_prompts": True} if ours else {}),
            ),
            reward_funcs=task.reward,
            train_dataset=Dataset.from_list(
                [
                    {"prompt": task.prompt(p, chat=True), **task.columns(p)}
                    for p in task.problems(64, split="train", seed=0)
                ]
            ),
            processing_class=AutoTokenizer.from_pretrained(model),
            peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
            callbacks=[Clock()],
            **({"rollout_func": shared_prefix_rollout} if ours else {}),
        )
        trainer.train()
    return steps


@torch.no_grad()
def floor_seconds(model):
    """Processor seconds of the matrix products of a step, three times."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from differential_smoothing.training.supervised import prompt_ids

    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    task = chosen_task()
    asked = prompt_ids(
        task, task.problems(PROMPTS, split="train", seed=0), AutoTokenizer.from_pretrained(model), chat=True
    )
    prompts, rows, written = sum(map(len, asked)), PROMPTS * GROUP, 16  # the mean length of a completion
    layers = [module.weight for module in network.model.modules() if isinstance(module, torch.nn.Linear)]
    head = network.lm_head.weight

    def made(count, weights, backward=False):  # what the operands cost is not the product's
        x = {n: torch.randn(count, n).bfloat16() for n in {*(s for w in weights for s in w.shape)}}
        start = time.process_time()
        for weight in weights:
            x[weight.size(0)] @ weight if backward else linear(x[weight.size(1)], weight)
        return time.process_time() - start

    made(8, layers)
    seconds = []
    for _ in range(3):
        generated = made(prompts, layers) + sum(made(rows, [*layers, head]) for _ in range(written))
        forward = made(prompts, layers) + made(rows * written, [*layers, head])
        backward = made(prompts, layers, True) + made(rows * written, [*layers, head], True)
        seconds.append(generated + forward + backward)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="smollm2", help="smollm2, or a folder such as a supervised start")
    parser.add_argument("--one", choices=KINDS, help="one measurement, as a line of JSON")
    arguments = parser.parse_args()
    from differential_smoothing.training.models import resolve_model

    model = resolve_model(arguments.model)
    if arguments.one:
        steps = floor_seconds(model) if arguments.one == "floor" else step_seconds(arguments.one, model)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print(json.dumps({"seconds": statistics.median(steps[1:]), "peak": peak}))
        return
    found = {kind: [] for kind in KINDS}
    for _ in range(arguments.rounds):
        for kind in KINDS:
            command = [sys.executable, __file__, "--model", model, "--one", kind]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[kind].append(json.loads(output.splitlines()[-1]))
    print(
        f"{PROMPTS} prompts x {GROUP} completions of at most {LONGEST} tokens, LoRA rank {RANK}, one core, {arguments.rounds} rounds"
    )
    for kind in KINDS:
        seconds, peak = (statistics.median(one[name] for one in found[kind]) for name in ("seconds", "peak"))
        print(
            f"{kind:16} {seconds:6.2f} s a step, peak {peak:.1f} GB"
            if kind != "floor"
            else f"{kind:16} {seconds:6.2f} s"
        )
    for kind in KINDS:
        ratios = [one["seconds"] / mine["seconds"] for one, mine in zip(found[kind], found["ours"])]
        if kind != "ours":
            print(f"{kind} / ours: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
