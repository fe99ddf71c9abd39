"""The pictures of the laboratory and the page that holds them."""

from __future__ import annotations

import html
import re
from pathlib import Path

from differential_smoothing.tabular.claims.verdict import Claim
from differential_smoothing.tabular.figures.collapse import draw_collapse
from differential_smoothing.tabular.figures.optima import draw_biases, draw_frontier, draw_map
from differential_smoothing.tabular.figures.style import STYLE
from differential_smoothing.tabular.figures.training import draw_dynamics, draw_modes

__all__ = ["FIGURES", "draw_all", "page_section"]


def draw_all(folder: Path, *, seed: int) -> list[Path]:
    """Every figure as .svg and .png into ``folder``. The same seed gives the same SVG text."""
    from matplotlib import rc_context

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with rc_context(STYLE):
        for name, (draw, _) in FIGURES.items():
            figure = draw(seed)
            for suffix in ("svg", "png"):
                path = folder / f"{name}.{suffix}"
                figure.savefig(path, dpi=200, metadata={"Date": None} if suffix == "svg" else None)
                paths.append(path)
    return paths


def page_section(claims: list[Claim], folder: Path | None) -> str:
    """The figures that ``draw_all`` left in ``folder`` and the table of claims as one HTML section with everything inside: no
    files, no scripts, no network. Without a folder there are no figures."""
    parts = ["<section id='tabular'>", "<h2>The exact laboratory</h2>"]
    for name, (_, caption) in FIGURES.items() if folder else ():
        svg = (folder / f"{name}.svg").read_text(encoding="utf-8")
        # ids are unique within a figure only
        svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", svg[svg.index("<svg") :])
        parts.append(f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>")
    parts.append(
        "<table><thead><tr><th>Claim</th><th>Verdict</th><th>Worst margin</th><th>Holds on</th><th>Instances</th>"
        "<th>Condition, counterexample</th></tr></thead><tbody>"
    )
    for claim in claims:
        cells = (
            f"{claim.name}: {claim.statement}.",
            claim.verdict,
            f"{claim.margin:.1e}",
            f"{claim.held:.1%}",
            str(claim.instances),
            claim.note,
        )
        parts.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    return "\n".join([*parts, "</tbody></table>", "</section>"])


FIGURES = {
    "frontier": (
        draw_frontier,
        "One prompt, KL(pi || p) = 0.5 nats. DS with gamma_n = 0 is the best trade of correctness for diversity; a bonus, a "
        "penalty and gamma_n spend part of the budget on wrong answers.",
    ),
    "biases": (
        draw_biases,
        "Six correct answers with 60% of the mass, groups of 8, gammas 0.5: GRPO makes the likely answer likelier. The published term hardly "
        "helps the rare ones, the centred term helps them all, and gamma_n sharpens further.",
    ),
    "map": (
        draw_map,
        "Prompts whose base is right 30% of the time and spreads the rest over 30 wrong answers (Zipf exponent 1). Colour: how fast "
        "correctness changes with a small entropy bonus at equal beta, orange up, pink down (there a penalty raises it), white and the "
        "line not at all. A bonus helps where correct answers are many and even. At equal KL neither helps.",
    ),
    "dynamics": (
        draw_dynamics,
        "64 prompts that share all parameters, expected steps with groups of 8. Pass@1 rises for all; GRPO pays with Pass@64, the penalty and "
        "gamma_n most.",
    ),
    "modes": (
        draw_modes,
        "The same runs. Every rule narrows down the correct answers that it uses, the bonus least and gamma_n most; DS as published first falls below "
        "GRPO and ends above it. The entropy of the policy does not tell them apart so: it counts wrong answers too.",
    ),
    "collapse": (
        draw_collapse,
        "Which side of the critical strength. Left: one prompt of 8 right answers, groups of 8. Below the line a small difference between right answers grows, "
        "above it shrinks; every run starts at the left, nearly even, and has to cross the line before its answers are lost. Right: where other prompts hold success at one "
        "half. A leader above the line gains, one below it is pulled back, and what is certain enough stays certain at every strength.",
    ),
}
