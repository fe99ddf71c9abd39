"""Every snippet of the documents works: Python runs, with a tiny model where one is trained; commands parse; studies are read."""

import importlib.util

import pytest
from snippets import INLINE, PAGES, ROOT, check_command, check_mention, check_yaml, commands, run_python, snippets

TEXTS = {page: (ROOT / page).read_text() for page in PAGES}
needs_trl = pytest.mark.skipif(
    importlib.util.find_spec("trl") is None, reason="TRL is not installed: pip install -e '.[trl]'"
)


def of(language):
    blocks = [
        s for page, text in TEXTS.items() for s in snippets(page, text) if s.language == language and s.why is None
    ]
    return pytest.mark.parametrize("snippet", blocks, ids=[s.name for s in blocks])


def short(completions, **_):
    """A reward that a random model sometimes earns."""
    return [float(len(text) % 2 == 0) for text in completions]


def start() -> dict:
    """The names that a page may use without defining them: a reward function and a data set of the reader's own."""
    from datasets import Dataset

    from differential_smoothing.tasks import countdown

    problems = countdown.generate(16, split="train", seed=0)
    return {"my_reward": short, "my_dataset": Dataset.from_list([{"prompt": countdown.prompt(p)} for p in problems])}


WITH_PYTHON = [
    page for page, text in TEXTS.items() if any(s.language == "python" and s.why is None for s in snippets(page, text))
]


@needs_trl
@pytest.mark.parametrize("page", WITH_PYTHON)
def test_python_runs(page, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = start()
    for snippet in snippets(page, TEXTS[page]):
        if snippet.language == "python" and snippet.why is None:
            run_python(snippet, names, tiny_model, tmp_path)


@needs_trl
@of("sh")
def test_commands_parse(snippet):
    for command in commands(snippet):
        check_command(command)


@needs_trl
@pytest.mark.parametrize("page", [page for page in PAGES if INLINE.search(TEXTS[page])])
def test_commands_in_the_text_parse(page):
    for command in INLINE.findall(TEXTS[page]):
        check_mention(command)


@needs_trl
@of("yaml")
def test_studies_and_options_are_read(snippet, tmp_path):
    check_yaml(snippet, tmp_path)


# --- the tests above can fail -------------------------------------------------------------------------------------------


def one(language, code, before=""):
    (snippet,) = snippets("page.md", f"{before}```{language}\n{code}\n```\n")
    return snippet


BROKEN = [
    "dsmooth evalute a.parquet",
    "dsmooth evaluate a.parquet --basline a",
    "dsmooth sample --model base",  # without --output
    "dsmooth train --config configs/countdown_ds_grpo.yaml --gama_p 0.3",
    "dsmooth train --config configs/no_such.yaml",
    "dsmooth compare benchmarks/no_such.yaml --output runs/x",
    "torchrun --nproc_per_node 2 -m differential_smoothing train --config configs/countdown_ds_grpo.yaml --gamma_p much",
    "make tests",
    "python benchmarks/no_such.py",
    "python -m verl.trainer.main_ppo --config-path configs/verl --config-name no_such",
    "pip install -e '.[trll]'",
    "pip install 'differential-smoothing[trl]'",
    "ls runs",  # nothing checks it
]


@needs_trl
@pytest.mark.parametrize("command", BROKEN)
def test_a_broken_command_is_found(command):
    with pytest.raises(Exception, match=r"\w") as found:
        check_command(command)
    assert isinstance(found.value, ValueError) or hasattr(found.value, "format_message"), found.value


@needs_trl
@pytest.mark.parametrize(
    "mention", ["dsmooth evalute", "dsmooth evaluate --basline a", "dsmooth train --gama_p 0.3", "make tests"]
)
def test_a_broken_mention_is_found(mention):
    with pytest.raises(Exception, match=r"\w"):
        check_mention(mention)


@needs_trl
def test_a_whole_mention_may_leave_out_what_is_required():
    check_mention("dsmooth evaluate")
    check_mention("dsmooth train")
    check_mention("dsmooth train --config FILE --dry-run")


@needs_trl
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("from differential_smoothing.integrations.trl import DSGRPOConfig\nDSGRPOConfig(gama_p=0.2)", TypeError),
        ("from differential_smoothing.integrations.trl import DSGRPOConfig\nDSGRPOConfig(rule='no_such')", ValueError),
        ("from differential_smoothing import ds_grpo", ImportError),
        ("my_undefined", NameError),
    ],
)
def test_a_broken_block_is_found(code, error, tmp_path):
    with pytest.raises(error):
        run_python(one("python", code), {}, "no model", tmp_path)


def test_a_block_is_run_with_the_line_of_its_page(tmp_path):
    with pytest.raises(ZeroDivisionError) as found:
        run_python(one("python", "x = 1\nx / 0", "two\nlines\n"), {}, "no model", tmp_path)
    assert found.traceback[-1].lineno + 1 == 5


@needs_trl
@pytest.mark.parametrize("code", ["rules: {grpo: {}}", "models: {grpo: {}}\nseed: [0]", "gama_p: 0.2"])
def test_broken_yaml_is_found(code, tmp_path):
    with pytest.raises(ValueError):
        check_yaml(one("yaml", code), tmp_path)


def test_no_block_escapes():
    assert one("python", "1 / 0", "<!-- illustration: it would fail -->\n").why == "it would fail"
    for text in (
        "```\ndsmooth x\n```\n",
        "```bash\ndsmooth x\n```\n",
        "```sh\ndsmooth x\n",
        "<!-- illustration:  -->\n```sh\nx\n```\n",
    ):
        with pytest.raises(ValueError, match="page.md"):
            snippets("page.md", text)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_is_read(page):
    assert sum(line.startswith("```") for line in TEXTS[page].splitlines()) == 2 * len(snippets(page, TEXTS[page]))
