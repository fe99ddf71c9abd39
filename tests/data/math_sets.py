"""Small copies in form, not in content, of the public data sets that the task ``math`` knows: every problem here is our own.

``SETS[name]`` is ``(files, problems)``: the files of the data set's repository on the Hub, path -> rows (or text, for the card), with the columns,
types and nesting that its public card and files show; and what the task should read of them, split -> [(question, answer)].
``write`` writes the files as the Hub has them, so that ``datasets`` loads them as it loads the Hub's.
"""

import json

import pyarrow
import pyarrow.parquet

DAPO = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: $Answer (without quotes) "
    'where $Answer is the answer to the problem.\n\n{}\n\nRemember to put your answer on its own line after "Answer:".'
)
SUBJECTS = [
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
]


def card(*configs):
    lines = ["---", "configs:"]
    for config, files in configs:
        lines += [f"- config_name: {config}", "  data_files:"]
        for split, path in files:
            lines += [f"  - split: {split}", f"    path: {path}"]
    return "\n".join([*lines, "---", "# Stand-in"])


def dapo(question, answer, index):
    return {
        "data_source": "math_dapo",
        "prompt": [{"content": DAPO.format(question), "role": "user"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": answer, "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": index},
    }


def olympiad(number, question, answer, **other):
    images = {f"image_{i}": None for i in range(1, 10)}
    return {
        "id": number,
        "question": question,
        "solution": ["One adds up."],
        "final_answer": [answer],
        "context": None,
        **images,
        "modality": "Text-only",
        "difficulty": "Competition",
        "is_multiple_answer": False,
        "unit": None,
        "answer_type": "Numerical",
        "error": None,
        "question_type": "Open-ended",
        "subfield": "Algebra",
        "subject": "Math",
        "language": "English",
        **other,
    }


MATH = {
    subject: [
        {
            "problem": f"Let $a = {i + 2}$ and $b = a^2$. What is $a + b$ ({subject})?",
            "level": f"Level {i % 5 + 1}",
            "type": subject.replace("_", " ").title(),
            "solution": f"First $b = \\boxed{{{(i + 2) ** 2}}}$ is not asked for. The sum is $\\boxed{{\\frac{{{2 * (i + 2) * (i + 3)}}}{{2}}}}$.",
        }
    ]
    for i, subject in enumerate(SUBJECTS)
}
MATH_READ = [(rows[0]["problem"], f"\\frac{{{2 * (i + 2) * (i + 3)}}}{{2}}") for i, rows in enumerate(MATH.values())]

SETS = {
    "math": (
        {
            "README.md": card(*((s, [("train", f"{s}/train-*"), ("test", f"{s}/test-*")]) for s in SUBJECTS)),
            **{f"{s}/train-00000-of-00001.parquet": rows for s, rows in MATH.items()},
            **{
                f"{s}/test-00000-of-00001.parquet": [
                    {"problem": f"In {s}, what is $1+1$?", "level": "Level 1", "type": s, "solution": "$\\boxed{2}$"}
                ]
                for s in SUBJECTS
            },
        },
        {"train": MATH_READ, "test": [(f"In {s}, what is $1+1$?", "2") for s in SUBJECTS]},
    ),
    "math500": (
        {
            "test.jsonl": [
                {
                    "problem": "Write $0.\\overline{7}$ as a fraction.",
                    "solution": "It is $\\boxed{\\frac{7}{9}}$.",
                    "answer": "\\frac{7}{9}",
                    "subject": "Prealgebra",
                    "level": 2,
                    "unique_id": "test/prealgebra/1.json",
                },
                {
                    "problem": "Convert $(0,4)$ to polar coordinates.",
                    "solution": "We get \\[\\boxed{\\left( 4, \\frac{\\pi}{2} \\right)}.\\]",
                    "answer": "\\left( 4, \\frac{\\pi}{2} \\right)",
                    "subject": "Precalculus",
                    "level": 2,
                    "unique_id": "test/precalculus/2.json",
                },
            ]
        },
        {
            "test": [
                ("Write $0.\\overline{7}$ as a fraction.", "\\frac{7}{9}"),
                ("Convert $(0,4)$ to polar coordinates.", "\\left( 4, \\frac{\\pi}{2} \\right)"),
            ]
        },
    ),
    "dapo_17k": (
        {
            "data/dapo-math-17k.parquet": [
                dapo("Find the least prime above $90$.", "97", "a-1"),
                dapo("How many edges\n\nhas a cube?", "12", "a-2"),
                dapo("Find the  least prime above 90.", "97", "a-3"),
            ]
        },
        {
            "train": [
                ("Find the least prime above $90$.", "97"),
                ("How many edges\n\nhas a cube?", "12"),
                ("Find the  least prime above 90.", "97"),
            ]
        },
    ),
    "dapo_14k": (
        {
            "README.md": card(*((c, [("train", f"{c}/train-*")]) for c in ("all", "cn", "en"))),
            **{
                f"{c}/train-00000-of-00001.parquet": [
                    {
                        "prompt": question,
                        "solution": "41",
                        "data_source": "math_dapo",
                        "source_prompt": dapo(question, "41", "b-1")["prompt"],
                        "ability": "MATH",
                        "reward_model": {"ground_truth": "41", "style": "rule-lighteval/MATH_v2"},
                        "extra_info": {"index": "b-1"},
                    }
                ]
                for c, question in (
                    ("all", "Which is it?"),
                    ("cn", "哪个？"),
                    ("en", "Find the largest prime below $43$."),
                )
            },
        },
        {"train": [("Find the largest prime below $43$.", "41")]},
    ),
    "deepscaler": (
        {
            "deepscaler.json": [
                {"problem": "What is $\\sin 30^\\circ$?", "answer": "\\frac{1}{2}", "solution": ""},
                {
                    "problem": "Name the sum of the first ten odd numbers.",
                    "answer": "100",
                    "solution": "It is a square.",
                },
                {"problem": "Nobody wrote down the answer to this one.", "answer": "", "solution": ""},
            ]
        },
        {
            "train": [
                ("What is $\\sin 30^\\circ$?", "\\frac{1}{2}"),
                ("Name the sum of the first ten odd numbers.", "100"),
                ("Nobody wrote down the answer to this one.", ""),
            ]
        },
    ),
    "gsm8k": (
        {
            "README.md": card(
                ("main", [("train", "main/train-*"), ("test", "main/test-*")]),
                ("socratic", [("train", "socratic/train-*"), ("test", "socratic/test-*")]),
            ),
            **{
                f"{c}/{s}-00000-of-00001.parquet": [
                    {
                        "question": f"Mia buys {n} pens for $2 each ({c}). What does she pay?",
                        "answer": f"She pays {n}*2=<<{n}*2={n * 2}>>{n * 2} dollars.\n#### {n * 2:,}",
                    }
                ]
                for c in ("main", "socratic")
                for s, n in (("train", 600), ("test", 7))
            },
        },
        {
            "train": [("Mia buys 600 pens for $2 each (main). What does she pay?", "1,200")],
            "test": [("Mia buys 7 pens for $2 each (main). What does she pay?", "14")],
        },
    ),
    "aime24": (
        {
            "test-00000-of-00001.parquet": [
                {
                    "id": 60,
                    "problem": "Find the remainder of $2^{10}$ divided by $1000$.",
                    "solution": "\\boxed{024}",
                    "url": "example.invalid/1",
                }
            ]
        },
        {"test": [("Find the remainder of $2^{10}$ divided by $1000$.", "024")]},
    ),
    "aime25": (
        {"test.jsonl": [{"problem": "Find the sum of all divisors of $12$.", "answer": "28", "id": "0"}]},
        {"test": [("Find the sum of all divisors of $12$.", "28")]},
    ),
    "amc23": (
        {
            "test-00000-of-00001.parquet": [
                {
                    "id": 0,
                    "question": "Two trains leave $36$ miles apart and meet. How far did they go?",
                    "answer": "36.0",
                    "url": "example.invalid/2",
                },
                {"id": 1, "question": "What is half of $27$?", "answer": "13.5", "url": "example.invalid/3"},
            ]
        },
        {
            "test": [
                ("Two trains leave $36$ miles apart and meet. How far did they go?", "36.0"),
                ("What is half of $27$?", "13.5"),
            ]
        },
    ),
    "olympiadbench": (
        {
            "README.md": card(
                *(
                    (c, [("train", f"OlympiadBench/{c}/{c}.parquet")])
                    for c in ("OE_MM_maths_en_COMP", "OE_TO_maths_en_COMP")
                )
            ),
            "OlympiadBench/OE_MM_maths_en_COMP/OE_MM_maths_en_COMP.parquet": [
                olympiad(9, "What does the picture show?", "A cat")
            ],
            "OlympiadBench/OE_TO_maths_en_COMP/OE_TO_maths_en_COMP.parquet": [
                olympiad(1, "Solve $x^2-5x+6=0$.", "$2,3$", is_multiple_answer=True),
                olympiad(
                    2,
                    "What is its area?",
                    "$\\frac{9 \\pi}{4}$",
                    context="A circle has radius $1.5$ cm.",
                    unit="cm^2",
                    error="1e-2",
                ),
            ],
        },
        {
            "train": [
                ("Solve $x^2-5x+6=0$.", "$2,3$"),
                ("A circle has radius $1.5$ cm.\nWhat is its area?", "$\\frac{9 \\pi}{4}$"),
            ]
        },
    ),
    "minerva": (
        {
            "test.jsonl": [
                {"question": "A star is $3$ pc away. How far is that in light years, to two digits?", "answer": "9.8"},
                {"question": "What is the charge of the electron in coulomb, to two digits?", "answer": "-1.6e-19"},
            ]
        },
        {
            "test": [
                ("A star is $3$ pc away. How far is that in light years, to two digits?", "9.8"),
                ("What is the charge of the electron in coulomb, to two digits?", "-1.6e-19"),
            ]
        },
    ),
}


def write(name, folder):
    """The files of the data set ``name`` into ``folder``, as its repository on the Hub has them."""
    for path, content in SETS[name][0].items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content), file)
        elif file.suffix == ".jsonl":
            file.write_text("".join(json.dumps(row) + "\n" for row in content))
        else:
            file.write_text(content if isinstance(content, str) else json.dumps(content))
