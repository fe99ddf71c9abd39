"""The dry run: what it says of good configs, and that each mistake is found and said in words, with real tokenizers and configs."""

import json
import sys
from pathlib import Path

import pytest
from families import CHATML, FAMILIES, make_family, ten_problems

from differential_smoothing import cli
from differential_smoothing.training import parse_config, train
from differential_smoothing.training.plan import make_plan, placement_of

CONFIGS = Path(__file__).parents[1] / "configs"
CPU = [
    "--use_cpu",
    "true",
    "--bf16",
    "false",
    "--report_to",
    "none",
    "--gradient_checkpointing",
    "false",
    "--disable_tqdm",
    "true",
    "--per_device_train_batch_size",
    "8",
    "--num_generations",
    "4",
    "--max_completion_length",
    "8",
]


@pytest.fixture
def plan(tmp_path):
    def of(*flags, here=False, **options):
        options = {"output_dir": tmp_path / "run", **options}
        arguments = [*CPU, *flags, *(f"--{k}={v}" for k, v in options.items())]
        return make_plan(*parse_config(arguments, elsewhere=not here), here=here)

    return of


@pytest.fixture(scope="session")
def qwen(tmp_path_factory):
    return make_family("qwen2", tmp_path_factory.mktemp("qwen2"))


@pytest.fixture(scope="session")
def ten(tmp_path_factory):
    """Ten easy problems, as a file that the task math reads."""
    path = tmp_path_factory.mktemp("ten") / "ten.jsonl"
    ten_problems(path)
    return str(path)


def math(path, **more):
    test = Path(path).with_name("test.jsonl")
    test.write_text('{"question": "How much is 3 times 5?", "answer": "15"}')
    return json.dumps({"train": path, "test": str(test), **more})


# --- recipes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_passes_the_dry_run_without_a_network(path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dsmooth", "train", "--config", str(path), "--dry-run"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out = capsys.readouterr().out
    assert stop.value.code == 0, out
    assert "No mistake was found" in out and "MISTAKE" not in out
    assert "not fit" not in out, "a recipe must fit the GPU that it is planned for"
    for row in ("Model", "Rule", "Sampling", "Memory", "Saved", "Evaluated"):
        assert f"\n{row}" in "\n" + out
    assert max(map(len, out.splitlines())) < 200


SETTINGS = {  # of the authors: learning rate, longest response
    "math_qwen2.5_math_1.5b": (1e-6, 2048),
    "math_qwen3_1.7b": (5e-7, 4096),
    "math_qwen2.5_math_7b": (1e-6, 2048),
    "math_ministral_8b": (3e-7, 2048),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_settings_are_the_papers(name):
    run, config = parse_config(["--config", str(CONFIGS / f"{name}.yaml")], elsewhere=True)
    assert (config.learning_rate, config.max_completion_length) == SETTINGS[name]
    assert (config.num_generations, config.temperature, config.epsilon, config.epsilon_high) == (8, 0.7, 0.2, 0.25)
    assert (config.beta, config.loss_type, config.level, config.gamma_n) == (0, "dapo", "token", 0)
    assert config.generation_batch_size == 64 * 8 and run.processes == config.world_size == 8
    assert config.steps_per_generation == config.gradient_accumulation_steps  # one update per generation, on policy
    assert run.chat and run.task == "math" and run.rollout == "host"


def test_a_plan_on_known_files_has_its_numbers(plan, qwen, ten):
    good = plan(
        model=qwen,
        task="math",
        task_options=math(ten, style="qwen_math"),
        chat="true",
        rollout="host",
        gamma_p=0.2,
        problems=100,
        num_train_epochs=3,
    )
    assert good.mistakes == []
    rows = dict(good.rows)
    used = int(rows["Problems"].split()[0])
    assert 5 <= used <= 10  # the task keeps a tenth for development
    assert f"{used // 2 * 3} steps" in rows["Training"]
    assert "2 prompts x 4 completions = 8, of at most 8 tokens" in rows["Sampling"]
    assert "-0.2 x each token's own log pi_old added for correct completions" in rows["Rule"]
    assert "test.jsonl" in rows["Evaluated"] and "--chat" in rows["Evaluated"]


def test_the_evaluation_is_asked_as_the_training_was(plan, qwen, ten):
    kwargs = '{"enable_thinking": false}'
    said = dict(
        plan(
            model=qwen,
            task="math",
            task_options=math(ten),
            chat="true",
            rollout="host",
            chat_template_kwargs=kwargs,
            top_p=0.9,
            use_vllm="true",
        ).rows
    )["Evaluated"]
    assert f"--chat-template-kwargs '{kwargs}' --top-p 0.9 --engine vllm" in said


def test_a_sample_has_all_test_problems_and_the_template_s_options(qwen, tmp_path, monkeypatch):
    """Of data sets, that is: 500 of them would be a subset that nobody asked for."""
    asked, test = [], tmp_path / "test.jsonl"
    test.write_text(
        "".join(json.dumps({"question": f"How much is {n} + 1?", "answer": str(n + 1)}) + "\n" for n in range(510))
    )
    monkeypatch.setattr("differential_smoothing.sampling.parts.sample_to_file", lambda job, *_, **__: asked.append(job))
    flags = [
        "--task",
        "math",
        "--task-options",
        json.dumps({"test": str(test)}),
        "--chat",
        "--chat-template-kwargs",
        '{"a": 1}',
        "--max-new-tokens",
        "24",
    ]
    command = ["dsmooth", "sample", "--model", qwen, *flags, "--output", str(tmp_path / "x.parquet")]
    for more in ([], ["--problems", "3"]):
        monkeypatch.setattr(sys, "argv", command + more)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 0
    assert [len(job.problems) for job in asked] == [510, 3] and asked[0].chat_template_kwargs == {"a": 1}


@pytest.mark.parametrize(
    "options",
    [
        dict(problems=7),
        dict(problems=13, gradient_accumulation_steps=2, num_iterations=2),
        dict(problems=20, gradient_accumulation_steps=1, steps_per_generation=2, num_train_epochs=2),
    ],
    ids=str,
)
def test_steps_are_those_that_the_trainer_makes(options, plan, tiny_model, tmp_path):
    said = dict(plan(model=tiny_model, **options).rows)["Training"]
    run, config = parse_config(
        [*CPU, *(f"--{k}={v}" for k, v in options.items()), "--model", tiny_model, "--output_dir", str(tmp_path)]
    )
    made = []
    train(run, config, on_step=lambda step, steps: made.append((step, steps)))
    assert made[-1][0] == made[-1][1] and said.startswith(f"{made[-1][1]} steps"), (said, made[-1])


# --- mistakes in the tokenizer and the template ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_templates_of_the_families_are_right(kind, plan, ten, tmp_path):
    model = make_family(kind, tmp_path / "model")
    for style in ("boxed", "qwen_math"):
        found = plan(model=model, task="math", task_options=math(ten, style=style), chat="true", rollout="host")
        assert found.mistakes == [] and not [n for n in found.notes if "template" in n]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("", "has no chat template: it is a base model's"),
        (CHATML.partition("{% if add")[0], "has no generation prompt: add_generation_prompt changes nothing"),
        ("{{ raise_exception('only pictures') }}", "fails on a plain question: TemplateError: only pictures"),
        (
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML,
            "system, user: TemplateError: no system",
        ),
        ("{% for", "fails on a plain question: TemplateSyntaxError"),
    ],
)
def test_a_template_that_will_not_do(template, message, plan, ten, tmp_path):
    model = make_family("qwen2", tmp_path / "model", template=template)
    options = math(ten, style="qwen_math")
    found = plan(model=model, task="math", task_options=options, chat="true", rollout="host").mistakes
    assert len(found) == 1 and message in found[0]
    assert (
        plan(model=model, task="math", task_options=options, rollout="host").mistakes == []
    )  # without chat it is not used


def test_an_end_that_is_not_where_the_template_ends_is_noted(plan, ten, tmp_path):
    model = make_family("qwen2", tmp_path / "model", eos="<|endoftext|>")
    found = plan(model=model, task="math", task_options=math(ten), chat="true", rollout="host")
    assert found.mistakes == []
    assert any(
        "ends an answer with '<|im_end|>'" in note and "stops at '<|endoftext|>'" in note for note in found.notes
    )


def test_no_end_of_sequence(plan, tiny_model, tmp_path):
    import shutil

    folder = shutil.copytree(tiny_model, tmp_path / "model")
    for name in ("config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({k: v for k, v in content.items() if not k.startswith("eos")}))
    assert "has no end-of-sequence token" in plan(model=folder).mistakes[0]


def test_a_folder_that_cannot_be_trained(plan, tiny_model, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertForMaskedLM"]}))
    said = " ".join(plan(model=tmp_path).mistakes)
    assert "not a causal language model" in said and "no weights" in said
    assert "holds no model" in plan(model=str(CONFIGS)).mistakes[0]


# --- mistakes in numbers and options ---------------------------------------------------------------------------------


def test_prompts_and_completions_longer_than_the_context(plan, qwen, ten, tiny_model):
    found = plan(
        "--max_completion_length", "450", model=qwen, task="math", task_options=math(ten), chat="true", rollout="host"
    ).mistakes
    assert (
        len(found) == 1
        and "and the model has positions for 512" in found[0]
        and "Lower max_completion_length to" in found[0]
    )
    lower = found[0].rpartition("max_completion_length to ")[2].split()[0].rstrip(".")
    assert (
        plan(
            "--max_completion_length",
            lower,
            model=qwen,
            task="math",
            task_options=math(ten),
            chat="true",
            rollout="host",
        ).mistakes
        == []
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(problems=1), "There are 1 problems, and every step takes 2"),
        (dict(use_vllm="true"), "use_vllm is set, but the rollout is our own sampler's"),
        (dict(push_to_hub="true"), "hf upload OWNER/NAME"),
        (dict(eval_strategy="steps", per_device_eval_batch_size=8), "dsmooth train has no problems to evaluate on"),
        (dict(task="cuntdown"), "There is no task 'cuntdown'. Known: countdown"),
        (dict(model="./nowhere"), "There is no model folder './nowhere'"),
    ],
    ids=str,
)
def test_wrong_options_say_what_to_do(options, message, plan, tiny_model):
    found = plan(**{"model": tiny_model, **options}).mistakes
    assert len(found) == 1 and message in found[0] and len(found[0]) < 600


def test_a_batch_without_whole_groups_says_what_it_is_made_of(plan, tiny_model):
    with pytest.raises(
        ValueError, match=r"divisible by num_generations \(3\).*gradient_accumulation_steps x processes"
    ):
        plan("--num_generations", "3", model=tiny_model)
    assert plan("--num_generations", "3", model=tiny_model, processes=3).mistakes == []


def test_a_missing_column_is_named_with_its_line(plan, tiny_model, tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_text('{"nums": [1, 2]}')
    assert "line 1: no target" in plan(model=tiny_model, data_file=path).mistakes[0]
    path.write_text('{"prompt": "1+1"}')
    found = plan(model=tiny_model, task="math", task_options=math(str(path)), rollout="host").mistakes
    assert len(found) == 1 and "question" in found[0] and str(path) in found[0]


def test_what_this_machine_lacks_counts_only_where_the_run_starts(plan, tiny_model):
    from importlib.util import find_spec

    options = dict(model=tiny_model, rollout="host", processes=8)
    flags = [] if find_spec("vllm") else ["--use_vllm", "true"]
    elsewhere, here = plan(*flags, **options), plan(*flags, here=True, **options)
    assert elsewhere.mistakes == [] and "on 8 processes" in dict(elsewhere.rows)["Sampling"]
    assert "made for 8 processes, and 1 were launched" in here.mistakes[0]
    if flags:
        assert any("pip install vllm" in said for said in elsewhere.unchecked)
        assert any("pip install vllm" in said for said in here.mistakes)


def test_a_real_training_does_not_start_with_a_mistake(tiny_model, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    arguments = [*CPU, "--model", tiny_model, "--output_dir", str(run), "--problems", "1"]
    monkeypatch.setattr(sys, "argv", ["dsmooth", "train", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2 and "Nothing was started" in capsys.readouterr().err and not run.exists()
    monkeypatch.setattr(sys, "argv", ["dsmooth", "train", *arguments, "--dry-run"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2 and "MISTAKE" in capsys.readouterr().out and not run.exists()


def test_no_network_is_no_mistake_and_a_known_model_has_its_size(plan):
    known = plan(model="Qwen/Qwen2.5-Math-7B", processes=8)
    assert known.mistakes == [] and "7,615,616,512 parameters" in dict(known.rows)["Model"]
    assert "HF_HUB_OFFLINE" in known.unchecked[0]
    unknown = plan(model="owner/model")
    assert unknown.mistakes == [] and len(unknown.unchecked) == 1 and "Memory" not in dict(unknown.rows)


def test_what_cost_is_asked_for_is_what_is_configured():
    run, config = parse_config(
        ["--config", str(CONFIGS / "math_qwen2.5_math_7b.yaml"), "--beta", "0.01"], elsewhere=True
    )
    placed = placement_of(run, config)
    assert (placed.gpus, placed.sharding, placed.weight_bytes, placed.rollouts) == (8, "fsdp", 4, "vllm")
    assert placed.checkpointing and placed.reference and placed.extra_forward == 1
    run, config = parse_config(["--config", str(CONFIGS / "math_qwen2.5_math_7b_lora.yaml")], elsewhere=True)
    placed = placement_of(run, config)
    assert (placed.gpus, placed.sharding, placed.weight_bytes, placed.lora_rank) == (1, "ddp", 2, 32)
    assert not placed.reference
