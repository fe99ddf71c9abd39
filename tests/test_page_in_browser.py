"""The page in a real browser: it asks for nothing, complains of nothing, and can be used by keyboard and on a phone.

It runs in the system's Chromium. On a machine without one it is skipped and says so, unless DSMOOTH_REQUIRE_BROWSER is set.
"""

import csv
import os
import shutil

import pandas as pd
import pytest
from test_page import diagnosis, rollouts

from differential_smoothing.evaluation import compare, summarise
from differential_smoothing.report import Limits, write_page

MEGABYTE = 1_000_000
RTL = "\u202e\u2067\u0645\u0631\u062d\u0628\u0627 backwards"
TEXTS = {
    "script": "</script><script>window.ran = true</script><script>window.ran = true</script>",
    "style": "</style><style>* { display: none !important }</style>",
    "image": '<img src="https://example.org/x.png" onerror="window.ran = true"><svg onload="window.ran = true">',
    "comment": "<!--<script>",
    "rtl": RTL,
    "long": "W" * MEGABYTE,
    "formula": '=HYPERLINK("http://example.org")',
    "astral": "a" * 599 + "\U0001f600" * 3 + "b" * 50,
}


def _missing(what: str):
    if os.environ.get("DSMOOTH_REQUIRE_BROWSER"):
        pytest.fail(f"DSMOOTH_REQUIRE_BROWSER is set, and there is no {what}.")
    pytest.skip(f"There is no {what}: the page was not opened in a browser.")


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright (pip install playwright)")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        _missing("Chromium (apt-get install chromium)")
    with sync_playwright() as playwright:
        # Root, as in a container, has no sandbox in Chromium.
        arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        started = playwright.chromium.launch(executable_path=path, args=arguments)
        yield started
        started.close()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """60 problems of two models and a diagnosis."""
    frame = rollouts(problems=60)
    path = tmp_path_factory.mktemp("plain") / "r.html"
    write_page(
        path,
        frame,
        summarise(frame, seed=0),
        compare(frame, "grpo", "base", seed=0),
        diagnosis=diagnosis(frame),
        figures=(),
    )
    return path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Completions, prompts, ids and a model's name that try to run, to restyle, to turn round and to be too long."""
    frame = rollouts(problems=len(TEXTS), samples=2)
    text = frame["prompt_id"].map(dict(zip(sorted(frame["prompt_id"].unique()), TEXTS.values())))
    frame["completion"], frame["prompt"] = text, text.str[:5000]
    frame["prompt_id"] = frame["prompt_id"] + " " + text.str[:300]
    frame["model"] = frame["model"].replace("grpo", "grpo" + RTL + TEXTS["image"] + "W" * 300)
    path = tmp_path_factory.mktemp("hostile") / "r.html"
    model = frame["model"].iloc[-1]
    write_page(
        path,
        frame,
        summarise(frame, seed=0),
        compare(frame, model, "base", seed=0),
        figures=(),
        limits=Limits(characters=2 * MEGABYTE, total=20 * MEGABYTE),
        title=TEXTS["script"],
    )
    return path


class Visit:
    """A page that is open, what it asked for and what it complained of."""

    def __init__(self, browser, path, **options):
        self.path = path
        self.context = browser.new_context(**{"viewport": {"width": 1100, "height": 800}, **options})
        self.page = self.context.new_page()
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(path.as_uri())

    def __enter__(self):
        return self.page

    def __exit__(self, kind, *_):
        outside = [url for url in self.requests if not url.startswith(("blob:", "data:"))]
        self.context.close()
        if kind is None:
            assert outside == [self.path.as_uri()] and self.complaints == []


def column(page, number: int) -> list[str]:
    return page.locator(f"#problem-table tbody tr > :nth-child({number})").all_inner_texts()


def widths(page) -> tuple[int, int]:
    return page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")


def test_a_request_or_an_error_would_be_seen(browser, plain, tmp_path):
    """The watch over requests and complaints can fail: a page that does both is caught."""
    bad = tmp_path / "bad.html"
    (tmp_path / "x.css").write_text("")
    bad.write_text("<link rel=stylesheet href=x.css><script>console.error('no'); boom()</script>")
    visit = Visit(browser, bad)
    visit.page.wait_for_load_state()
    assert any(url.endswith("x.css") for url in visit.requests)
    assert "no" in visit.complaints and any("boom" in text for text in visit.complaints)
    visit.context.close()


def test_the_policy_stops_requests_scripts_and_markup(browser, plain):
    visit = Visit(browser, plain)
    page = visit.page
    page.evaluate("""() => { const i = new Image(); i.src = "https://example.org/x.png"; document.body.append(i); }""")
    assert page.evaluate("fetch('https://example.org/').then(() => 'went', () => 'stopped')") == "stopped"
    tried = "try { document.body.innerHTML = '<b>x</b>'; 'set' } catch { 'stopped' }"
    assert page.evaluate(tried) == "stopped"
    handler = "try { document.body.setAttribute('onclick', 'window.ran = true'); 'set' } catch { 'stopped' }"
    assert page.evaluate(handler) == "stopped"
    script = "s => { const n = document.createElement('p'); n.append(s); document.body.append(n); }"
    page.evaluate(script, TEXTS["script"])
    assert page.evaluate("window.ran") is None
    assert any("Content Security Policy" in text for text in visit.complaints)
    visit.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1100])
def test_it_opens_in_silence_and_fits(browser, plain, width, scheme):
    with Visit(browser, plain, viewport={"width": width, "height": 800}, color_scheme=scheme) as page:
        scroll, client = widths(page)
        assert scroll <= client == width
        light = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert light == (scheme == "light")
        page.click("#theme")
        assert light != (page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)")
        shown = page.locator("figure svg:visible")
        assert shown.count() == 3
        # Type in the figures stays readable: at least 10 pixels on the screen.
        for svg in shown.all():
            scale = svg.evaluate("s => s.getBoundingClientRect().width / s.viewBox.baseVal.width")
            assert 11 * scale > 10


def test_sorting_and_filtering_by_keyboard(browser, plain):
    with Visit(browser, plain) as page:
        spread = [float(text) for text in column(page, 2)]
        assert spread == sorted(spread, reverse=True) and len(spread) == 25
        heads = page.locator("#problem-table thead tr:last-child th")
        assert [head.get_attribute("aria-sort") for head in heads.all()][:3] == ["none", "descending", "none"]
        page.locator("#problem-table thead button").first.focus()
        page.keyboard.press("Enter")
        assert heads.first.get_attribute("aria-sort") == "ascending"
        assert column(page, 1) == [f"p{i:02}" for i in range(25)]
        page.keyboard.press("Space")
        assert heads.first.get_attribute("aria-sort") == "descending"
        assert column(page, 1)[0] == "p59"
        page.focus("#find")
        page.keyboard.type("p1")
        assert column(page, 1) == [f"p{i}" for i in range(19, 9, -1)]
        assert page.inner_text("#count") == "10 of 60 problems"
        page.fill("#find", "")
        page.focus("#which")
        page.keyboard.press("ArrowDown")
        never = column(page, 3)
        assert page.inner_text("#count") == f"{len(never)} of 60 problems" and 0 <= len(never) < 60
        page.fill("#find", "no such problem")
        assert page.inner_text("#count") == "0 of 60 problems"


def test_pages_are_turned_by_keyboard_and_a_problem_opens(browser, plain):
    with Visit(browser, plain) as page:
        page.focus("#next")
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        assert page.inner_text("#page") == "Page 3 of 3" and page.locator("#next").is_disabled()
        assert len(column(page, 1)) == 10
        link = page.locator("#problem-table tbody button").first
        name = link.inner_text()
        link.focus()
        ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        page.keyboard.press("Enter")
        assert ring != "none"
        assert page.evaluate("document.activeElement.id") == "completions-title"
        assert page.inner_text("#completions-title") == f"Completions: {name}"
        assert page.locator("#columns h3").count() == 2
        page.click("#problem-after")
        assert page.inner_text("#completions-title") != f"Completions: {name}"


def test_everything_that_can_be_used_is_reached_by_tab_and_named(browser, plain):
    with Visit(browser, plain) as page:
        reached = set()
        for _ in range(90):
            page.keyboard.press("Tab")
            reached.add(
                page.evaluate("document.activeElement.id || document.activeElement.textContent.trim().slice(0, 30)")
            )
        assert {"theme", "find", "which", "next", "last", "problem-after"} <= reached
        unnamed = page.evaluate("""() => [...document.querySelectorAll("button, input, select, a, [tabindex='0']")].filter(
            n => !(n.textContent.trim() || n.getAttribute("aria-label") || (n.labels && n.labels.length))).length""")
        assert unnamed == 0


def test_figures_say_their_values_under_arrow_keys_and_pointer(browser, plain):
    with Visit(browser, plain) as page:
        figure = page.locator("figure svg[aria-label^='Pass@k']:visible")
        figure.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        said = page.inner_text("#tip")
        assert said.startswith("Pass@2 (%)") and "base" in said and "grpo" in said
        assert page.text_content("#spoken").split() == said.split()
        page.keyboard.press("Escape")
        assert page.locator("#tip").is_hidden()
        figure.locator(".hit").last.hover()
        assert page.inner_text("#tip").startswith("Pass@8 (%)")
        # It goes along when the page scrolls, and away when something else is pressed.
        before = page.locator("#tip").bounding_box()["y"]
        page.evaluate("scrollBy({top: 40, behavior: 'instant'})")
        page.wait_for_function(
            "y => Math.abs(y - 40 - document.querySelector('#tip').getBoundingClientRect().y) < 2", arg=before
        )
        page.locator("h1").click()
        assert page.locator("#tip").is_hidden()


@pytest.mark.parametrize("width", [390, 1100])
def test_hostile_text_neither_runs_nor_breaks_the_layout(browser, hostile, width):
    with Visit(browser, hostile, viewport={"width": width, "height": 800}) as page:
        page.fill("#find", "")
        page.select_option("#which", "0")
        for _ in TEXTS:
            page.click("#problem-after")
            scroll, client = widths(page)
            assert scroll <= client == width
            shown = page.locator("#columns pre").first.text_content()
            assert any(whole.startswith(shown.removesuffix("\ufffd")) for whole in TEXTS.values())
            assert page.locator("main").is_visible()
        assert page.evaluate("window.ran") is None
        assert page.locator("img, pre script, pre style, pre img, pre svg").count() == 0
        directions = page.evaluate("[...document.querySelectorAll('#columns pre')].every(p => p.dir === 'auto')")
        assert directions
        # What is turned round stays inside its own box: the words beside it keep their direction.
        assert page.evaluate("getComputedStyle(document.querySelector('#count')).direction") == "ltr"
        assert page.evaluate("getComputedStyle(document.querySelector('bdi')).unicodeBidi") == "isolate"
        for sentence in page.locator("#differences li").all():
            ends = """n => { const r = document.createRange(), t = n.lastChild, l = t.length, x = i => {
                r.setStart(t, i); r.setEnd(t, i + 1); return r.getBoundingClientRect(); };
                return [x(l - 2).right, x(l - 1).left]; }"""
            last, stop = sentence.evaluate(ends)
            assert stop >= last - 1  # the full stop stands to the right of the last letter


def test_a_megabyte_is_shown_in_pieces(browser, hostile):
    with Visit(browser, hostile, viewport={"width": 390, "height": 800}) as page:
        page.fill("#find", "WWWW")
        page.locator("#problem-table tbody button").first.click()
        box = page.locator("#columns pre").first
        assert len(box.text_content()) == 600
        more = page.locator("#columns article").first.locator("button")
        assert more.inner_text() == "Show more (999,400 characters)"
        more.focus()
        page.keyboard.press("Enter")
        assert len(box.text_content()) == 50_600
        for _ in range(19):
            more.click()
        assert len(box.text_content()) == MEGABYTE and more.count() == 0
        scroll, client = widths(page)
        assert scroll <= client


def test_no_character_is_cut_in_halves(browser, hostile):
    with Visit(browser, hostile) as page:
        page.fill("#find", "aaaa")
        page.locator("#problem-table tbody button").first.click()
        assert page.locator("#columns pre").first.text_content() == TEXTS["astral"][:600]


def downloaded(page, name: str) -> list[list[str]]:
    with page.expect_download() as waiting:
        page.click(f"[data-csv={name}] >> visible=true")
    assert waiting.value.suggested_filename == f"{name}.csv"
    with open(waiting.value.path(), encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_every_table_can_be_saved_as_csv_with_every_digit(browser, plain):
    frame = rollouts(problems=60)
    expected = {
        "summary": summarise(frame, seed=0),
        "differences": compare(frame, "grpo", "base", seed=0),
        "findings": diagnosis(frame).findings,
        "modes": diagnosis(frame).modes,
    }
    with Visit(browser, plain) as page:
        for name, table in expected.items():
            header, *rows = downloaded(page, name)
            assert header == list(table.columns) and len(rows) == len(table)
            for row, values in zip(rows, table.itertuples(index=False)):
                for cell, value in zip(row, values):
                    number = isinstance(value, float) and value == value
                    assert float(cell) == value if number else cell == ("" if pd.isna(value) else str(value))
        header, *rows = downloaded(page, "problems")
        assert header == ["prompt_id", "model", "n", "c", "distinct"]
        assert rows[:2] == [["p00", "base", "8", "0", "0"], ["p00", "grpo", "8", "0", "0"]] and len(rows) == 120
        assert len(downloaded(page, "completions")) > 60
        with page.expect_download() as waiting:
            page.click("[data-svg=modes]")
        svg = waiting.value.path().read_text(encoding="utf-8")
        assert svg.startswith("<svg") and "var(" not in svg


def test_a_spreadsheet_runs_nothing_of_it(browser, hostile):
    csv.field_size_limit(2 * MEGABYTE)
    with Visit(browser, hostile) as page:
        cells = [cell for row in downloaded(page, "completions") for cell in row]
    assert "'" + TEXTS["formula"] in cells and TEXTS["formula"] not in cells
    assert TEXTS["rtl"] in cells and TEXTS["long"] in cells


def test_thousands_of_problems_stay_quick(browser, tmp_path):
    frame = rollouts(problems=5000, samples=4)
    write_page(tmp_path / "big.html", frame, summarise(rollouts(), seed=0), figures=())
    assert (tmp_path / "big.html").stat().st_size < 2_000_000
    with Visit(browser, tmp_path / "big.html") as page:
        assert page.inner_text("#count") == "5000 of 5000 problems"
        # However many problems there are, the document holds one page of rows.
        assert page.locator("#problem-table tbody tr").count() == 25
        page.locator("#problem-table thead button").nth(2).click()
        page.fill("#find", "p49")
        assert page.inner_text("#count") == "111 of 5000 problems"
        assert page.locator("*").count() < 1500
