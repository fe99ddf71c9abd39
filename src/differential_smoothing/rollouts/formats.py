"""Which tool wrote a file: the registry of formats, in the order in which their columns are looked for."""

from .format import Format
from .harnesses import EVALSCOPE, INSPECT, LIGHTEVAL, NEMO_SKILLS, OPENCOMPASS, QWEN
from .lm_eval import LM_EVAL
from .sources import Source
from .trainers import PLAIN, PLAIN_CHAT, TRL, VERIFIERS, VERL

__all__ = ["FORMATS", "detect"]

FORMATS = (
    PLAIN,  # no other tool writes a prompt_id
    TRL,
    VERIFIERS,
    VERL,
    LM_EVAL,
    EVALSCOPE,
    LIGHTEVAL,
    NEMO_SKILLS,
    QWEN,
    OPENCOMPASS,
    INSPECT,
    PLAIN_CHAT,
)

_ROWS = (
    'Write JSON lines of {"prompt_id": ..., "completion": ..., "correct": true or false}, one per completion, with any more of '
    "prompt, model, seed, solution, canonical"
)
_ANSWERS_ONLY = (
    (
        frozenset({"custom_id", "response"}),
        "OpenAI batch output: answers without prompts or verdicts",
        "the completion is response.body.choices[0].message.content, custom_id identifies the request, and with it the problem, that it "
        "answers; differential_smoothing.tasks.math.verify(completion, gold).correct is a verdict on mathematics",
    ),
)


def detect(source: Source, where: str) -> Format:
    """The format whose columns the file has. ValueError if it is none."""
    for form in FORMATS:
        if form.known_by <= set(source.names):
            return form
    for known_by, found, how in _ANSWERS_ONLY:
        if known_by <= set(source.names):
            raise ValueError(f"{where}: found {found}, expected completions with a verdict each. {_ROWS}: {how}.")
    raise ValueError(
        f"{where}: found the columns {source.names[:20]}, expected those of a rollouts table, of "
        + ", ".join(f"{form.name} ({', '.join(sorted(form.known_by))})" for form in FORMATS)
        + f". {_ROWS}."
    )
