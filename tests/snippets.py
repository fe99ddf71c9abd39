"""Snippets of the documents, and what is checked of each kind.

A fence names its language. ``python`` runs, ``sh`` parses, ``yaml`` is read as the study or the options that it is, ``text`` is nothing to
run. The blocks of a page run in order in one namespace, so a later one may use the names of an earlier one. One that is not meant to run
says so on the line before its fence, with a reason:

    <!-- illustration: slime is not on PyPI -->
"""

import ast
import re
import shlex
import tomllib
from pathlib import Path
from typing import NamedTuple

import typer
import yaml

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "DECISIONS.md",
    "configs/README.md",
    *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))),
)
LANGUAGES = ("python", "sh", "yaml", "text")
FENCE = re.compile(
    r"(?:<!-- illustration: (?P<why>[^>]*?) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S
)
INLINE = re.compile(r"(?<!`)`((?:dsmooth |make |python benchmarks/)[^`\n]*)`(?!`)")

#: What a training of a snippet is given where the snippet leaves it to the host: a few small steps on the CPU.
SMALL = dict(
    use_cpu=True,
    bf16=False,
    per_device_train_batch_size=8,
    num_generations=8,
    max_completion_length=8,
    max_steps=2,
    report_to=[],
    save_strategy="no",
    gradient_checkpointing=False,
    disable_tqdm=True,
    logging_steps=1,
)


class Snippet(NamedTuple):
    """``why`` is the reason of an illustration, None for a block that runs."""

    page: str
    line: int
    language: str
    code: str
    why: str | None

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def snippets(page: str, text: str) -> list[Snippet]:
    """The fenced blocks of a page, in order. ValueError for a block without a language, or an illustration without a reason."""
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        language, why = match["language"], match["why"]
        if language not in LANGUAGES:
            raise ValueError(
                f"{page}:{line}: the block's language is {language!r}. Name one of {', '.join(LANGUAGES)}."
            )
        if why is not None and not why.strip():
            raise ValueError(f"{page}:{line}: an illustration needs a reason.")
        found.append(Snippet(page, line, language, match["code"], why))
    if 2 * len(found) != sum(line.startswith("```") for line in text.splitlines()):
        raise ValueError(f"{page}: a block is not closed.")
    return found


class Smaller(ast.NodeTransformer):
    """Every model of the Hub becomes the one in ``folder``, and configs of trainings get ``SMALL`` for what they leave out."""

    def __init__(self, folder: str):
        self.folder = folder

    def visit_Constant(self, node):
        hub = isinstance(node.value, str) and re.fullmatch(r"Qwen/[\w.-]+", node.value)
        return ast.copy_location(ast.Constant(self.folder), node) if hub else node

    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in ("DSGRPOConfig", "GRPOConfig"):
            given = {keyword.arg for keyword in node.keywords}
            node.keywords += [
                ast.keyword(name, ast.parse(repr(value), mode="eval").body)
                for name, value in SMALL.items()
                if name not in given
            ]
        return node


def run_python(snippet: Snippet, names: dict, model: str, folder: Path) -> None:
    """Run a block with the page's ``names``. One that opens with ``# NAME.py`` is also written to that file of ``folder``."""
    file = re.match(r"# ([\w/]+\.py)\n", snippet.code)
    if file:
        (folder / file[1]).write_text(snippet.code)
    code = "\n" * snippet.line + snippet.code  # so that a traceback has the page's line
    tree = ast.fix_missing_locations(Smaller(model).visit(ast.parse(code, snippet.page)))
    exec(compile(tree, snippet.page, "exec"), names)


def commands(snippet: Snippet) -> list[str]:
    """The commands of a shell block, without comments, continued lines joined."""
    lines = snippet.code.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def check_mention(command: str) -> None:
    """``check_command`` for one that is named in the text, which may leave out what it must be given."""
    if command.startswith("dsmooth train") and "--config" not in command:
        command += " --config FILE"
    try:
        check_command(command.replace("FILE", "configs/countdown_ds_grpo.yaml"))
    except Exception as error:
        if type(error).__name__ != "MissingParameter":  # of typer's own copy of click
            raise


def check_command(command: str) -> None:
    """ValueError, or one of typer's errors, for a command that could not start."""
    words = shlex.split(command, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    for word in words:
        if (
            re.fullmatch(r"\.?/?(configs|benchmarks|examples)/[\w./-]+\.(yaml|py)", word)
            and not (ROOT / word).is_file()
        ):
            raise ValueError(f"There is no file {word!r}: {command}")
    program, *rest = words
    if program == "dsmooth":
        check_dsmooth(rest)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
        if not rest or any(word not in targets for word in rest if "=" not in word):
            raise ValueError(f"The Makefile has no such target: {command}")
    elif program == "pip":
        check_pip(rest)
    elif program == "python" and rest[:1] == ["-m"] and rest[1] == "verl.trainer.main_ppo":
        name = rest[rest.index("--config-name") + 1]
        if not (ROOT / "configs" / "verl" / f"{name}.yaml").is_file():
            raise ValueError(f"configs/verl has no {name}.yaml: {command}")
    elif program == "python" and rest and rest[0].endswith(".py"):
        if not (ROOT / rest[0]).is_file():
            raise ValueError(f"There is no file {rest[0]!r}: {command}")
    elif "differential_smoothing" in rest:  # behind torchrun or accelerate launch
        check_dsmooth(rest[rest.index("differential_smoothing") + 1 :])
    else:
        raise ValueError(f"Nothing checks {program!r}: {command}. Mark the block as an illustration, with a reason.")


def check_dsmooth(words: list[str]) -> None:
    """The arguments as ``dsmooth`` reads them; those of ``train`` and ``compare`` to the end. Nothing is run."""
    from differential_smoothing.cli import app
    from differential_smoothing.studies.read import read_study
    from differential_smoothing.training import parse_config

    program = typer.main.get_command(app)
    name, *rest = words
    if name not in program.commands:
        raise ValueError(f"There is no command dsmooth {name}. Known: {', '.join(program.commands)}.")
    inner = program.commands[name].make_context(name, rest)
    if name == "train":
        parse_config([str(ROOT / w) if w.startswith("configs/") else w for w in inner.args], elsewhere=True)
    if name == "compare":
        read_study(ROOT / inner.params["study"])


def check_pip(words: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words:
        asked = re.fullmatch(r"(\S*)\[([\w,]+)\]", word)
        if asked and asked[1] != ".":
            raise ValueError(f"{word}: the package is not on an index, so a clone is installed, '.[{asked[2]}]'.")
        for extra in asked[2].split(",") if asked else ():
            if extra not in extras:
                raise ValueError(f"{word}: pyproject.toml has no extra {extra!r}.")


def check_yaml(snippet: Snippet, folder: Path) -> None:
    """A study or a sweep is read as one, anything else as options of a training."""
    from differential_smoothing.studies.read import read_study
    from differential_smoothing.training import parse_config

    path = folder / "snippet.yaml"
    content = yaml.safe_load(snippet.code)
    if {"rules", "models"} & set(content):
        path.write_text(snippet.code)
        read_study(path)
    else:
        path.write_text(snippet.code + f"output_dir: {folder}\nuse_cpu: true\nbf16: false\n")
        parse_config(["--config", str(path)], elsewhere=True)
