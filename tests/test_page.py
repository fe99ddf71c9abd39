"""The page without a browser: what it holds, what it leaves out and says so, and that nothing in it is more than text."""

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from differential_smoothing.evaluation import compare, counts, summarise
from differential_smoothing.report import Limits, page, write_page
from differential_smoothing.report.drawing import PALETTE, Drawing, model_roles
from differential_smoothing.report.plots import (
    apart,
    difference_drawing,
    modes_drawing,
    pass_at_k_drawing,
    round_numbers,
)

HOSTILE = "</script><script>alert(1)</script></style><img src=x onerror=alert(1)><!--\u202e\u2067\"'&\x00\u2028"


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    before: str
    after: str
    verdict: str
    sentences: tuple
    findings: pd.DataFrame
    modes: pd.DataFrame
    problems: pd.DataFrame


def rollouts(problems=12, samples=8, models=("base", "grpo"), completion="1+{}") -> pd.DataFrame:
    """Problem p is solved by the first p % (samples + 1) samples of base, by every second one of those by the others."""
    rows = []
    for m, model in enumerate(models):
        for p in range(problems):
            for s in range(samples):
                right = s < p % (samples + 1) and (m == 0 or s % 2 == 0)
                rows.append(
                    (
                        model,
                        0,
                        -1,
                        f"p{p:02}",
                        s,
                        "what is it?",
                        completion.format(s),
                        right,
                        f"1+{s % (3 - min(m, 1))}" if right else None,
                        -1.5,
                        4,
                    )
                )
    names = [
        "model",
        "seed",
        "step",
        "prompt_id",
        "sample",
        "prompt",
        "completion",
        "correct",
        "canonical",
        "logp",
        "num_tokens",
    ]
    return pd.DataFrame(rows, columns=names)


def diagnosis(frame: pd.DataFrame) -> Diagnosis:
    table = counts(frame)
    sides = [table[table["model"] == m].set_index("prompt_id") for m in ("base", "grpo")]
    problems = pd.concat(
        [s[["n", "c", "distinct"]].add_suffix(f"_{w}") for s, w in zip(sides, ("before", "after"))], axis=1
    )
    problems["given_up"] = (problems["c_before"] > 0) & (problems["c_after"] == 0)
    found = frame[frame["canonical"].notna()].groupby(["prompt_id", "canonical", "model"]).size().unstack(fill_value=0)
    modes = found.rename(columns={"base": "before", "grpo": "after"}).reset_index().assign(n_before=8, n_after=8)
    findings = pd.DataFrame(
        [
            ("pass@1", 0.05, 0.01, 0.09, "points", 12, "Change of Pass@1."),
            ("slope", 0.4, -0.1, 0.9, "", 9, "How fast."),
            ("odd", np.nan, np.nan, np.nan, "nats", 0, "Nothing to say."),
        ],
        columns=["finding", "estimate", "low", "high", "unit", "problems", "meaning"],
    )
    sentences = ("grpo is sharpened against base.", "Lower the learning rate.")
    return Diagnosis("base", "grpo", "sharpened", sentences, findings, modes, problems.reset_index())


def whole(frame: pd.DataFrame, **options) -> str:
    return page(frame, summarise(frame, seed=0), compare(frame, "grpo", "base", seed=0), **options)


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.raw, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.cdata_elem:
            self.raw.append((self.cdata_elem, data))
        else:
            self.text += data


def data_of(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id=data>(.*?)</script>', text, re.DOTALL)[1])


def test_the_policy_names_the_only_script_and_the_only_style():
    found = Elements(whole(rollouts(), diagnosis=diagnosis(rollouts())))
    policy = next(a["content"] for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
    kinds = [a.get("type") for tag, a in found.tags if tag == "script"]
    assert kinds == ["application/json", None]
    for tag, text in (found.raw[0], found.raw[-1]):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy


def test_nothing_in_the_page_points_outside_or_runs_inline():
    text = whole(rollouts(), diagnosis=diagnosis(rollouts()))
    for tag, attributes in Elements(text).tags:
        for name, value in attributes.items():
            assert not name.startswith("on") and name not in ("style", "src", "srcset", "action"), (tag, name)
            if name in ("href", "xlink:href"):
                assert value.startswith("#") or value == "data:,"
    # The one address is the name of the SVG format, which the script writes into files it saves.
    assert set(re.findall(r"\w+://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}


def test_hostile_text_is_text_everywhere():
    frame = rollouts(models=("base", "grpo"), completion=HOSTILE.replace("{", "") + "{}")
    frame["prompt_id"] = HOSTILE + frame["prompt_id"]
    frame["prompt"] = HOSTILE
    plain = Elements(whole(rollouts(), diagnosis=diagnosis(rollouts())))
    names = {"grpo": "grpo" + HOSTILE}
    named = frame.replace({"model": names})
    found = diagnosis(frame)
    found = dataclasses.replace(
        found, after=names["grpo"], sentences=(HOSTILE, HOSTILE), findings=found.findings.assign(meaning=HOSTILE)
    )
    text = page(
        named, summarise(named, seed=0), compare(named, names["grpo"], "base", seed=0), diagnosis=found, title=HOSTILE
    )
    hostile = Elements(text)
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert sum(tag == "script" for tag, _ in hostile.tags) == 2
    assert not any(tag == "img" for tag, _ in hostile.tags)
    data = data_of(text)
    assert data["problems"]["id"][0] == HOSTILE + "p00"
    assert all(problem["prompt"] == HOSTILE for problem in data["completions"].values())


def test_every_number_of_the_frames_is_in_the_page():
    frame = rollouts()
    frame["correct"] = frame["correct"].astype("boolean")
    frame.loc[3, "correct"] = None
    found = diagnosis(frame)
    data = data_of(whole(frame, diagnosis=found))
    frames = {
        "summary": summarise(frame, seed=0),
        "differences": compare(frame, "grpo", "base", seed=0),
        "findings": found.findings,
        "modes": found.modes,
    }
    for name, expected in frames.items():
        assert data["tables"][name]["columns"] == list(expected.columns)
        rows = [[None if pd.isna(value) else value for value in row] for row in expected.itertuples(index=False)]
        assert data["tables"][name]["rows"] == rows
    table = counts(frame).set_index(["model", "prompt_id"])
    for j, model in enumerate(data["models"]):
        for i, prompt_id in enumerate(data["problems"]["id"]):
            row = table.loc[(model, prompt_id)]
            embedded = [data["problems"][name][j][i] for name in ("n", "c", "distinct")]
            assert embedded == [row["n"], row["c"], None if np.isnan(row["distinct"]) else row["distinct"]]
    given_up = dict(zip(found.problems["prompt_id"], found.problems["given_up"]))
    assert dict(zip(data["problems"]["id"], data["problems"]["given_up"])) == given_up


def test_several_training_seeds_add_up():
    frame = pd.concat([rollouts(), rollouts().assign(seed=1)])
    data = data_of(whole(frame))
    assert data["seeds"] == 2
    assert data["problems"]["n"] == [[16] * 12] * 2
    assert data["problems"]["c"][0] == [2 * (p % 9) for p in range(12)]
    assert data["problems"]["distinct"][0][5] == 3


def test_completions_are_the_first_of_each_kind_where_models_differ_most():
    frame = rollouts(problems=9)
    text = whole(frame, limits=Limits(problems=2, each=2))
    data = data_of(text)
    # Problem 8 is solved 8 and 4 times out of 8, problems 6 and 7 are 3 apart; the first of equals stays first.
    assert [data["problems"]["id"][int(i)] for i in data["completions"]] == ["p08", "p06"]
    base, grpo = data["completions"]["8"]["samples"]
    assert [(s[0], s[2]) for s in base] == [(0, 1), (1, 1)]
    assert [(s[0], s[2]) for s in grpo] == [(0, 1), (2, 1), (1, 0), (3, 0)]
    assert "the 2 problems on which the models differ most, of 9" in text


def test_the_size_is_bounded_and_the_page_says_what_it_left_out():
    frame = rollouts(problems=10, completion="x" * 50_000 + "{}")
    text = whole(frame, limits=Limits(each=1, characters=1000, total=12_000))
    data = data_of(text)
    assert 1 <= len(data["completions"]) < 10
    samples = [s for problem in data["completions"].values() for model in problem["samples"] for s in model]
    assert {len(s[5]) for s in samples} == {1000} and {s[6] for s in samples} == {50_001}
    assert f"{len(samples)} longer texts are cut at 1,000 characters" in text
    assert len(text) < 150_000
    found = diagnosis(rollouts(problems=10))
    data = data_of(whole(frame, diagnosis=found, limits=Limits(rows=3)))
    assert len(data["tables"]["modes"]["rows"]) == 3


def test_the_tables_say_the_numbers_in_words_a_reader_of_the_source_finds():
    text = Elements(whole(rollouts(), diagnosis=diagnosis(rollouts()))).text
    assert "base → grpo: sharpened." in text.replace("\n", "")
    assert "5.0 points" in text and "[1.0, 9.0]" in text and "0.40" in text and "[−0.10, 0.90]" in text
    summary = summarise(rollouts(), seed=0)
    first = summary[(summary["metric"] == "pass@k") & (summary["k"] == 1)].iloc[0]
    assert f"{100 * first['estimate']:.1f}[{100 * first['low']:.1f}, {100 * first['high']:.1f}]" in text


def test_tables_have_captions_and_headings():
    found = Elements(whole(rollouts(), diagnosis=diagnosis(rollouts()))).tags
    count = {name: sum(tag == name for tag, _ in found) for name in ("table", "caption", "main", "h1")}
    assert count == {"table": 4, "caption": 4, "main": 1, "h1": 1}
    assert all("scope" in a for tag, a in found if tag == "th")
    pictures = [a for tag, a in found if tag == "svg" and a.get("aria-hidden") != "true"]
    assert len(pictures) == 6 and all(a["role"] == "img" and len(a["aria-label"]) > 80 for a in pictures)


def test_one_model_and_no_comparison_is_a_page_too():
    frame = rollouts(models=("only",))
    text = page(frame, summarise(frame, seed=0))
    assert "Paired differences" not in text and "Diagnosis" not in text
    assert data_of(text)["models"] == ["only"]


def test_the_same_arguments_give_the_same_page():
    assert whole(rollouts(), diagnosis=diagnosis(rollouts())) == whole(rollouts(), diagnosis=diagnosis(rollouts()))


def test_what_is_no_result_is_refused():
    frame = rollouts()
    with pytest.raises(ValueError, match="summary with .* rows and without the columns"):
        page(frame, frame)
    with pytest.raises(ValueError, match=r"without the columns \['completion'\]"):
        page(frame.drop(columns="completion"), summarise(frame, seed=0))
    with pytest.raises(ValueError, match=r"\['grpo'\] is on one side only"):
        page(frame[frame["model"] == "base"], summarise(frame, seed=0))
    with pytest.raises(ValueError, match="expected every limit at least 1"):
        page(frame, summarise(frame, seed=0), limits=Limits(each=0))
    with pytest.raises(ValueError, match=r"'x.pdf', expected a name that ends in .html"):
        write_page("x.pdf", frame, summarise(frame, seed=0))


def test_figures_lie_beside_the_page(tmp_path):
    frame = rollouts()
    written = write_page(
        tmp_path / "new" / "r.html",
        frame,
        summarise(frame, seed=0),
        compare(frame, "grpo", "base", seed=0),
        diagnosis=diagnosis(frame),
    )
    names = [f"r-{name}.{kind}" for name in ("modes", "pass-at-k", "differences") for kind in ("svg", "png")]
    assert [path.name for path in written] == ["r.html", *names]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(["r.html", *names])
    for path in written[1:]:
        if path.suffix == ".svg":
            text = path.read_text(encoding="utf-8")
            ElementTree.fromstring(text)
            assert "var(" not in text and "hit" not in text
        else:
            assert path.read_bytes().startswith(b"\x89PNG")
    assert written[0].read_text(encoding="utf-8") == whole(frame, diagnosis=diagnosis(frame))


# --- drawings -------------------------------------------------------------------------------------------------------


def circles(drawing: Drawing) -> np.ndarray:
    found = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawing.svg())
    return np.array(found, dtype=float)


@pytest.mark.parametrize("width", [340, 680])
def test_curves_are_drawn_at_their_values(width):
    frame = rollouts(models=("base",))
    summary = summarise(frame, seed=0)
    curve = summary[summary["metric"] == "pass@k"]
    points = circles(pass_at_k_drawing(summary, width))[: len(curve)]
    for place, value in ((points[:, 0], np.log2(curve["k"])), (points[:, 1], curve["estimate"])):
        slope, offset = np.polyfit(value, place, 1)
        np.testing.assert_allclose(place, slope * value + offset, atol=0.02)
    assert np.all(np.diff(points[:, 0]) > 0) and np.all(np.diff(points[:, 1]) < 0)


def test_differences_stand_on_the_side_of_zero_that_they_have_and_hollow_where_unsure():
    names = ["model", "metric", "k", "estimate", "low", "high", "problems", "training_seeds", "samples"]
    rows = [
        ("base - grpo", "pass@k", 1, -0.1, -0.2, -0.05, 9, 1, 1),
        ("base - grpo", "pass@k", 8, 0.1, -0.1, 0.3, 9, 1, 1),
    ]
    drawing = difference_drawing(pd.DataFrame(rows, columns=names), ["base", "grpo"])
    (left, _), (right, _) = circles(drawing)
    svg = drawing.svg()
    zero = next(
        float(x)
        for x, label in re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="middle">([^<]*)</text>', svg)
        if label == "0"
    )
    assert left < zero < right and zero - left == pytest.approx(right - zero, abs=0.1)
    fills = re.findall(r'<circle [^>]*fill="([^"]*)" stroke="([^"]*)"', svg)
    paper, grey = PALETTE["paper"][0], PALETTE["m0"][0]
    assert fills == [(grey, paper), (paper, grey)]


def test_every_solution_is_in_the_cell_of_its_doubling():
    pairs = [(0, 1), (1, 0), (1, 0), (2, 3), (3, 2), (8, 8), (4, 1)]
    modes = pd.DataFrame(pairs, columns=["before", "after"]).assign(n_before=8, n_after=8)
    drawing = modes_drawing(modes, "base", "grpo")
    said = {says for _, says, _ in drawing._hits}
    assert said == {
        "base: 0\ngrpo: 1\n1 solutions",
        "base: 1\ngrpo: 0\n2 solutions",
        "base: 2–3\ngrpo: 2–3\n2 solutions",
        "base: 8\ngrpo: 8\n1 solutions",
        "base: 4–7\ngrpo: 1\n1 solutions",
    }
    assert "Of 6 solutions that base found, grpo never sampled 2; it found 1 that base had not." in drawing.summary
    # Twice as many samples of one side, and twice as many hits: the same shares, so the same cells on the other's scale.
    double = modes.assign(before=2 * modes["before"], n_before=16)
    assert len(modes_drawing(double, "base", "grpo")._hits) == len(said)


def test_no_two_models_share_colour_and_shape():
    roles = model_roles(["base", *(f"m{i:02}" for i in range(30))])
    assert roles["base"] == ("m0", 0) and len(set(roles.values())) == 31


def test_labels_stand_apart_and_as_near_as_they_can():
    places = [10.0, 11.0, 50.0, 51.0, 52.0]
    moved = apart(places, 6, 0, 100)
    assert moved == pytest.approx([7.5, 13.5, 45, 51, 57])
    assert apart([99.0, 98.0], 6, 0, 100) == pytest.approx([100, 94])


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.3, 17.2), (0, 0), (-1e-9, 1e-9), (-96, -3), (0.0, 1e6)])
def test_ticks_enclose_the_range_with_few_round_numbers(low, high):
    ticks = round_numbers(low, high, 5)
    assert ticks[0] <= low + 1e-8 and ticks[-1] >= high - 1e-8 and 2 <= len(ticks) <= 8


def test_what_xml_forbids_does_not_reach_a_file(tmp_path):
    drawing = Drawing(100, 50, "a\x00<b>", "c&\x1b")
    drawing.text(1, 2, "x\x00\x08<y>&")
    drawing.save(tmp_path / "a.svg")
    ElementTree.parse(tmp_path / "a.svg")
    drawing.save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"expected a name that ends in \.svg or \.png"):
        drawing.save(tmp_path / "a.jpg")
