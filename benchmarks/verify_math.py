"""How many mathematical answers are verified in a second: new ones, remembered ones, and plain numbers.

    python benchmarks/verify_math.py

Every completion is a working of about 2,000 characters with an answer of tests/data/math_pairs.jsonl at its end (without the hostile
ones, which cost up to a second each). Reported are pairs per second of *processor* time of this process and of those that run
sympy, so that other work on the machine does not count; what sympy does is shared among the cores, the rest is not. "new" sees every pair once, "as in training" sees
groups of 16 completions per problem whose answers repeat, "remembered" sees them again, "plain numbers" are all different and need
no library. Written to benchmarks/results/verify_math.txt.
"""

import json
import random
import resource
from pathlib import Path

from differential_smoothing.tasks.math import compare as maths

HERE = Path(__file__).parent
WORKING = (
    "We add the two numbers, take half of the sum and see that it is less than before, so that $x + {i} = 7$ holds.\n"
    * 18
)


def seconds():
    """Processor time of this process and of all that it started, dead or alive."""
    ours = resource.getrusage(resource.RUSAGE_SELF)
    total = ours.ru_utime + ours.ru_stime
    sessions = {process.popen.pid for process in maths.POOL._all}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) in sessions:  # times of the process, and of its ended children
            total += sum(map(int, fields[11:15])) / 100
    return total


def pairs_of_the_tests():
    rows = map(json.loads, (HERE.parent / "tests" / "data" / "math_pairs.jsonl").read_text().splitlines())
    return [
        (row["completion"], row["gold"])
        for row in rows
        if isinstance(row["completion"], str) and row["note"] != "hostile"
    ]


def rate(pairs, batch=256):
    completions = [WORKING.replace("{i}", str(i)) + completion for i, (completion, _) in enumerate(pairs)]
    start = seconds()
    for i in range(0, len(pairs), batch):
        maths.verify_many(completions[i : i + batch], [gold for _, gold in pairs[i : i + batch]])
    return len(pairs) / (seconds() - start)


def main():
    rng = random.Random(0)
    maths.verify("\\boxed{\\sqrt{2}}", "\\sqrt{3}")  # loads sympy
    pairs = rng.sample(pairs_of_the_tests(), 200)
    lines = [f"pairs per second of processor time; completions of {len(WORKING)} characters, in batches of 256", ""]
    lines.append(f"{'new, every pair once':34}{rate(pairs):10.0f}   ({len(pairs)} pairs)")
    group = [pair for pair in rng.choices(pairs, k=100) for _ in range(16)]
    maths.COMPARED = maths.Cache(maths.CACHE)
    lines.append(
        f"{'as in training, 16 of a problem':34}{rate(group):10.0f}   ({len(group)} pairs, {len(set(group))} different)"
    )
    lines.append(f"{'remembered':34}{rate(group):10.0f}   ({len(group)} pairs)")
    numbers = [(f"\\boxed{{{n}}}", str(n + rng.randint(0, 1))) for n in range(2000)]
    lines.append(f"{'plain numbers, all different':34}{rate(numbers):10.0f}   ({len(numbers)} pairs)")
    text = "\n".join(lines) + "\n"
    print(text, end="")
    (HERE / "results" / "verify_math.txt").write_text(text)


if __name__ == "__main__":
    main()
