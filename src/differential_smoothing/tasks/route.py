"""Route: travel from one town to another over given roads, through a given number of towns, none of them twice.

A task with many answers that a person likes to read. Every simple path of the asked length is right, so a policy can
keep several or settle on one. All answers of a problem have the same length: there is no shorter one to settle on.

    compact   AB AD BC CE DE > A E 4 :                      ABCE
    chat      There are roads between ... Athens - Bern ... Athens, Bern, Cairo, Essen

**The same answer.** The canonical form is the sequence of towns; roads are two-way and there is one per pair of towns.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from .task import Prompt, Split, Task, Unreadable, Verdict, answer_of, split_of_text

__all__ = ["Journey", "Route", "routes"]

#: Towns by their initials, which are their names in compact form.
TOWNS = {
    name[0]: name
    for name in (
        "Athens",
        "Bern",
        "Cairo",
        "Delhi",
        "Essen",
        "Faro",
        "Geneva",
        "Hanoi",
        "Izmir",
        "Jena",
        "Kyoto",
        "Lima",
    )
}
MAX_CHARACTERS = 400
_SEPARATOR = re.compile(r"[\s,;>-]+")
_ARROWS = str.maketrans(dict.fromkeys("→⟶⇒–—", ">"))


class Journey(NamedTuple):
    """A problem: two-way ``roads`` such as ``("AB", "AD")``, sorted; the first and the last town; ``stops``, the number
    of towns on the way, both ends included."""

    roads: tuple[str, ...]
    start: str
    goal: str
    stops: int


class Route(Task[Journey]):
    """Simple paths of a given length in a random graph.

    Args:
        towns: number of towns of a map, 3 to 12.
        roads: number of roads of a map, each between two different towns.
        stops: towns on the way, both ends included, 2 to ``towns``.
        min_routes, max_routes: floor and ceiling on the number of right answers of a problem, both included; None is no
            ceiling.

    ValueError if an option makes no sense, or too few maps have such problems (from ``problems``).
    """

    name = "route"
    column_names = ("roads", "start", "goal", "stops")
    words = (*TOWNS, *map(str, range(2, 13)), ">", ":")
    pattern = "[0-9]+|."

    def __init__(
        self, towns: int = 8, roads: int = 14, stops: int = 5, min_routes: int = 4, max_routes: int | None = None
    ):
        ceiling = 10**9 if max_routes is None else max_routes
        given = {"towns": towns, "roads": roads, "stops": stops, "min_routes": min_routes, "max_routes": ceiling}
        for option, value in given.items():
            if type(value) is not int:
                raise ValueError(f"The option {option} of route must be a whole number, got {value!r}.")
        checks = {
            f"3 <= towns <= {len(TOWNS)}": 3 <= towns <= len(TOWNS),
            "1 <= roads <= towns * (towns - 1) / 2": 1 <= roads <= towns * (towns - 1) // 2,
            "2 <= stops <= towns": 2 <= stops <= towns,
            "1 <= min_routes <= max_routes": 1 <= min_routes <= ceiling,
        }
        for condition, holds in checks.items():
            if not holds:
                raise ValueError(f"The task route needs {condition}; got {given}.")
        self.towns, self.roads, self.stops, self.range = towns, roads, stops, (min_routes, ceiling)

    def problems(self, count: int, *, split: Split, seed: int) -> list[Journey]:
        """``count`` different problems of a split: a uniform map, a uniform pair of towns among those that qualify."""
        rng = random.Random(f"route {split} {seed}")
        towns = list(TOWNS)[: self.towns]
        pairs = ["".join(pair) for pair in itertools.combinations(towns, 2)]
        chosen: dict[Journey, None] = {}
        misses = 0
        while len(chosen) < count:
            roads = tuple(sorted(rng.sample(pairs, self.roads)))
            ends = [tuple(rng.sample(pair, 2)) for pair in itertools.combinations(towns, 2)]
            journeys = [Journey(roads, start, goal, self.stops) for start, goal in ends]
            fitting = [
                j
                for j in journeys
                if j not in chosen
                and split_of_text(self.problem_id(j)) == split
                and self.range[0] <= len(routes(j)) <= self.range[1]
            ]
            if fitting:
                chosen[rng.choice(fitting)] = None
                misses = 0
            elif (misses := misses + 1) > 2000:
                raise ValueError(
                    f"Only {len(chosen)} route problems of the {split} split were found where {count} were asked for "
                    f"(towns={self.towns}, roads={self.roads}, stops={self.stops}, routes={self.range}). "
                    f"Ask for fewer or widen the range."
                )
        return list(chosen)

    def problem_id(self, problem: Journey) -> str:
        """``"AB AD BC CE DE > A E 4"``."""
        return f"{' '.join(problem.roads)} > {problem.start} {problem.goal} {problem.stops}"

    def prompt(self, problem: Journey, *, chat: bool = False) -> Prompt:
        """``"AB AD BC CE DE > A E 4 :"`` or, with ``chat``, messages that name the towns."""
        if not chat:
            return f"{self.problem_id(problem)} :"
        roads = ", ".join(f"{TOWNS[road[0]]} - {TOWNS[road[1]]}" for road in problem.roads)
        return [
            {
                "role": "user",
                "content": (
                    f"There are two-way roads between these towns: {roads}. Travel from {TOWNS[problem.start]} to "
                    f"{TOWNS[problem.goal]} through exactly {problem.stops} different towns, both ends included. Give "
                    f"only the towns in their order inside <answer> </answer>, for example "
                    f"<answer>Lima, Kyoto, Jena</answer>."
                ),
            }
        ]

    def columns(self, problem: Journey) -> dict[str, object]:
        """``roads``, a list of pairs of letters; ``start``, ``goal``; ``stops``."""
        return {**problem._asdict(), "roads": list(problem.roads)}

    def problem(self, roads: Sequence[str], start: str, goal: str, stops: int) -> Journey:
        """The problem of these columns. ValueError if they hold none."""
        listed = list(roads) if isinstance(roads, (list, tuple)) else []
        pairs = ["".join(sorted(road)) for road in listed if isinstance(road, str)]
        known = all(len(p) == 2 and p[0] != p[1] and set(p) <= set(TOWNS) for p in pairs)
        if not pairs or len(pairs) != len(listed) or not known or len(set(pairs)) != len(pairs):
            raise ValueError(
                f"roads must be a list of different pairs of towns such as 'AB', towns {''.join(TOWNS)}; got {roads!r:.80}."
            )
        if not (start in TOWNS and goal in TOWNS and start != goal):
            raise ValueError(
                f"start and goal must be two of the towns {''.join(TOWNS)}; got {start!r:.20}, {goal!r:.20}."
            )
        if isinstance(stops, bool) or not isinstance(stops, int) or not 2 <= stops <= len(TOWNS):
            raise ValueError(f"stops must be a whole number from 2 to {len(TOWNS)}; got {stops!r:.20}.")
        return Journey(tuple(sorted(pairs)), start, goal, stops)

    def verify(self, completion: str, problem: Journey, *, chat: bool = False) -> Verdict:
        """Is the answer a simple path of ``stops`` towns over the roads? Every town by its name or its initial."""
        try:
            towns = _towns(answer_of(completion, chat))
            _check(towns, problem)
        except Unreadable as reason:
            return Verdict(False, str(reason), None)
        return Verdict(True, "a route", towns)

    def demonstration(self, problem: Journey, rng: random.Random) -> str | None:
        """A uniformly drawn right answer; None if there is none."""
        found = routes(problem)
        return rng.choice(found) if found else None

    def in_chat(self, answer: str) -> str:
        """``"ABCE"`` with the names of the towns, in tags."""
        return f"<answer>{', '.join(TOWNS[town] for town in answer)}</answer>"


def _towns(answer: object) -> str:
    """The initials of the towns of an answer, in order. Unreadable if it holds anything else."""
    if not isinstance(answer, str) or len(answer) > MAX_CHARACTERS:
        raise Unreadable(f"not a text of at most {MAX_CHARACTERS} characters")
    words = [word for word in _SEPARATOR.split(answer.translate(_ARROWS)) if word]
    # initials may stand together, since a tokenizer without white space writes them so; a name has small letters
    names = [name for word in words for name in (word if word.isupper() else [word])]
    for name in names:
        if name not in TOWNS and TOWNS.get(name[0]) != name:
            raise Unreadable(f"{name!r:.30} is not a town")
    return "".join(name[0] for name in names)


def _check(towns: str, problem: Journey) -> None:
    """Unreadable with the reason if ``towns`` is not a right answer."""
    if not towns:
        raise Unreadable("no towns")
    if (towns[0], towns[-1]) != (problem.start, problem.goal):
        raise Unreadable(f"from {towns[0]} to {towns[-1]} instead of {problem.start} to {problem.goal}")
    if len(set(towns)) < len(towns):
        raise Unreadable("a town twice")
    if len(towns) != problem.stops:
        raise Unreadable(f"{len(towns)} towns instead of {problem.stops}")
    for a, b in itertools.pairwise(towns):
        if min(a, b) + max(a, b) not in problem.roads:
            raise Unreadable(f"no road {a}{b}")


@lru_cache(maxsize=65536)
def routes(problem: Journey) -> tuple[str, ...]:
    """Every right answer in compact form, sorted."""

    def extended(path: str) -> Iterator[str]:
        if len(path) == problem.stops:
            if path[-1] == problem.goal:
                yield path
            return
        if path[-1] != problem.goal:
            for a, b in map(tuple, problem.roads):
                if path[-1] in (a, b) and (after := b if path[-1] == a else a) not in path:
                    yield from extended(path + after)

    return tuple(sorted(extended(problem.start)))
