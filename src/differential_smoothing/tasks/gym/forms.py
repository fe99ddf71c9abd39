"""How a reasoning-gym data set looks to a small model: short prompts and answers, and answers drawn at random.

The form of a data set that is not listed in ``FORMS`` is its own: the question, the answer as its scorer reads it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

from differential_smoothing.tasks.task import Task, Unreadable

__all__ = ["FORMS", "Form"]

Entry = Mapping[str, Any]


class Form:
    """The data set's own questions and answers. ``entry`` is what the generator made: question, answer, metadata."""

    #: See ``Task``.
    words: tuple[str, ...] = Task.words
    pattern: str = Task.pattern

    def prompt(self, entry: Entry) -> str:
        """The compact prompt."""
        return entry["question"]

    def expand(self, answer: str, entry: Entry) -> str:
        """A compact answer as the data set's scorer reads it. Unreadable if it is none."""
        return answer.strip()

    def canonical(self, answer: str, entry: Entry) -> str:
        """What two *correct* answers, as the scorer reads them, share exactly when they are the same answer."""
        return " ".join(answer.split())

    def demonstration(self, entry: Entry, rng: random.Random) -> str | None:
        """A correct compact answer, drawn at random; None if none is known."""
        return entry["answer"]


class SingleAnswer(Form):
    """One right answer: however a lenient scorer lets it be spelt, it is that answer."""

    def canonical(self, answer: str, entry: Entry) -> str:
        """The data set's answer."""
        return entry["answer"]


class ChainSum(SingleAnswer):
    """``12 + 34 - 5 =`` -> ``41``; digits and signs are the tokens."""

    words = tuple("0123456789+-*/=")
    pattern = "."

    def prompt(self, entry: Entry) -> str:
        """The expression and ``=``."""
        return f"{entry['metadata']['expression']} ="


class GraphColor(Form):
    """``0-3 1-2 1-3 4 :`` -> ``1121``: the edges and the number of vertices, then the colour of each vertex in order.

    Colourings that differ only in the names of the colours are the same answer: ``1121`` is ``2212``. Up to ten
    vertices and nine colours; ValueError beyond, as for a graph that the generator could not have coloured.
    """

    words = (*(f"{i}-{j}" for i in range(10) for j in range(i + 1, 10)), *map(str, range(1, 11)), ":")
    pattern = "[0-9]-[0-9]|10|."

    def prompt(self, entry: Entry) -> str:
        """Edges in order, the number of vertices, a colon."""
        vertices, edges, _ = self._puzzle(entry)
        return f"{' '.join(f'{i}-{j}' for i, j in edges)} {vertices} :".strip()

    def expand(self, answer: str, entry: Entry) -> str:
        """``121`` -> ``{"0": 1, "1": 2, "2": 1}``."""
        vertices, _, _ = self._puzzle(entry)
        digits = "".join(answer.split())
        if len(digits) != vertices or not (digits.isascii() and digits.isdigit()):
            raise Unreadable(f"not {vertices} digits, one colour for each vertex")
        return json.dumps({str(i): int(digit) for i, digit in enumerate(digits)})

    def canonical(self, answer: str, entry: Entry) -> str:
        """The colours renamed in the order in which they appear: ``{"0": 3, "1": 1, "2": 3}`` -> ``121``."""
        colours = json.loads(answer)
        names: dict[int, int] = {}
        vertices, _, _ = self._puzzle(entry)
        return "".join(str(names.setdefault(colours[str(i)], len(names) + 1)) for i in range(vertices))

    def demonstration(self, entry: Entry, rng: random.Random) -> str | None:
        """Vertices in random order get random colours that their neighbours do not have, with backtracking."""
        vertices, edges, colours = self._puzzle(entry)
        neighbours: list[set[int]] = [set() for _ in range(vertices)]
        for i, j in edges:
            neighbours[i].add(j)
            neighbours[j].add(i)
        order = rng.sample(range(vertices), vertices)
        chosen: dict[int, Any] = {}

        def colour(place: int) -> bool:
            if place == vertices:
                return True
            vertex = order[place]
            for c in rng.sample(colours, len(colours)):
                if all(chosen.get(other) != c for other in neighbours[vertex]):
                    chosen[vertex] = c
                    if colour(place + 1):
                        return True
                    del chosen[vertex]
            return False

        return "".join(str(chosen[i]) for i in range(vertices)) if colour(0) else None

    def _puzzle(self, entry: Entry) -> tuple[int, list[list[int]], list[int]]:
        puzzle = entry["metadata"]["puzzle"]
        vertices, colours = len(puzzle["vertices"]), puzzle["color_options"]
        if vertices > 10 or len(colours) > 9:
            raise ValueError(
                f"The compact form of graph_color has up to 10 vertices and 9 colours, got {vertices} and {len(colours)}. "
                f"Lower max_num_vertices and num_colors, or use chat prompts."
            )
        return vertices, puzzle["edges"], colours


#: Data set of reasoning-gym -> its form; all others have ``Form()``.
FORMS: dict[str, Form] = {"chain_sum": ChainSum(), "graph_color": GraphColor()}
