"""The commands around a language model, from a supervised start that is there to the page, with a tiny model in its place."""

import pytest

from differential_smoothing.cli import main
from differential_smoothing.training.base_model import make_model, make_tokenizer

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}:{% endif %}"


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """An output folder whose supervised start is a model of 10 very narrow layers with one token per letter."""
    from differential_smoothing.tasks.route import Route

    class Letters(Route):
        words = tuple(chr(i) for i in range(32, 127))
        pattern = r"[\s\S]"

    output = tmp_path_factory.mktemp("quickstart")
    tokenizer = make_tokenizer(Letters(), context=800)
    tokenizer.chat_template = TEMPLATE
    make_model(seed=0, hidden=16, layers=10, heads=2, vocabulary=len(tokenizer), context=800).save_pretrained(
        output / "start"
    )
    tokenizer.save_pretrained(output / "start")
    return output


@pytest.mark.slow
def test_the_quickstart_trains_samples_and_writes_its_pages_and_continues(start, capsys, monkeypatch):
    options = ["--model", str(start / "start"), "--steps", "1", "--problems", "2", "--samples", "4", "--jobs", "1"]
    monkeypatch.setattr("sys.argv", ["dsmooth", "quickstart-llm", "--output", str(start), *options])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr().out
    assert ended.value.code in (0, None), printed
    assert printed.startswith("About ") and "minutes on this machine" in printed
    page = (start / "completions.html").read_text()
    assert all(f"<td>{name}</td>" in page for name in ("base", "grpo", "ds_grpo"))
    assert (start / "study" / "report.html").is_file() and (start / "study" / "grpo-seed0" / "model").is_dir()
    before = {path: path.stat().st_mtime_ns for path in (start / "study").glob("*/model/*")}
    with pytest.raises(SystemExit):
        main()
    assert {path: path.stat().st_mtime_ns for path in (start / "study").glob("*/model/*")} == before


def test_a_wrong_number_of_steps_is_named(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["dsmooth", "quickstart-llm", "--output", str(tmp_path / "x"), "--steps", "0"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code not in (0, None) and "--steps must be at least 1" in capsys.readouterr().err
