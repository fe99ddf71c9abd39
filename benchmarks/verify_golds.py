"""Checks of the verifier of mathematics that need no label, on right answers of seven public test sets (tests/data/math_golds.py says where they are from).

    python benchmarks/verify_golds.py [PAIRS]

Two different right answers that begin alike are almost never equal (PAIRS of them, 24,000 by default); an answer that says nothing ("NAME=77,78", "0", "x", an empty box) is paid
nowhere; every answer equals itself and its respellings; one sign, digit, letter's case or term changed makes another answer. Each count is beside the number of pairs that are paid
though their letters do not explain it: those are printed, and there should be none. Written to benchmarks/results/verify_golds.txt. Some ten minutes on one core.
"""

import random
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "data"))

import math_golds

from differential_smoothing.tasks.math import verify_many
from differential_smoothing.tasks.math.compare import unreadable


def verdicts(pairs, batch=2_000):
    """Whether each (gold, answer) is paid."""
    paid = []
    for i in range(0, len(pairs), batch):
        part = pairs[i : i + batch]
        paid += [
            v.correct for v in verify_many([f"\\boxed{{{answer}}}" for _, answer in part], [gold for gold, _ in part])
        ]
    return paid


def main():
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 24_000
    left_out = unreadable(math_golds.golds())
    golds = [gold for gold in math_golds.golds() if gold not in left_out]
    lines = [
        f"{len(golds):,} right answers; {len(left_out)} cannot be read: {', '.join(map(repr, left_out))}",
        "",
        f"{'':46}{'pairs':>9}{'paid':>9}{'not explained':>15}{'seconds':>9}",
    ]
    unexplained = []

    def check(name, pairs, explained, expected=False):
        start = time.time()
        paid = verdicts(pairs)
        found = [pair for pair, p in zip(pairs, paid) if p is not expected and not explained(*pair)]
        lines.append(f"{name:46}{len(pairs):9,}{sum(paid):9,}{len(found):15,}{time.time() - start:9.0f}")
        print(lines[-1], flush=True)
        unexplained.extend((name, *pair) for pair in found)

    print("\n".join(lines), flush=True)
    pairs = [pair for pair in math_golds.alike(number) if not left_out.keys() & set(pair)]
    check("different answers that begin alike", pairs, math_golds.excused)
    rng = random.Random(0)
    some = [g for g in golds if "=" in g] + rng.sample(golds, 300)
    check(
        "answers that say nothing",
        [(g, c) for g in dict.fromkeys(some) for c in math_golds.CONSTANTS],
        math_golds.constant_is_right,
    )
    edited = {(gold, text): kind for gold in golds for kind, text in math_golds.edits(gold, rng).items()}
    check("single edits", list(edited), lambda gold, text: math_golds.edit_is_none(gold, text, edited[gold, text]))
    check("itself", [(gold, gold) for gold in golds], lambda *_: False, expected=True)
    check(
        "respelled", [(g, t) for g in golds for t in math_golds.respelled(g).values()], lambda *_: False, expected=True
    )
    lines += ["", *(f"{name}: {gold!r} <- {answer!r}" for name, gold, answer in unexplained)]
    print("\n".join(lines[-len(unexplained) - 1 :]))
    (HERE / "results" / "verify_golds.txt").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
