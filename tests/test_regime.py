"""The regime of a run from its own log."""

import json
import math

import pytest

from differential_smoothing.evaluation.diagnosis.regime import read_log, regime_of, regime_sentences


def log(end, *, slope=0.0, entries=40, every=10):
    """A run whose share of decided groups goes from 0.1 to ``end`` and whose reward rises by ``slope`` per step."""
    return [
        {
            "step": every * (i + 1),
            "reward": 0.3 + slope * every * i,
            "frac_reward_zero_std": 0.1 + (end - 0.1) * i / (entries - 1),
            "ds/groups_all_correct": 0.6 * end * i / (entries - 1),
            "ds/groups_all_wrong": 0.4 * end * i / (entries - 1),
        }
        for i in range(entries)
    ]


def test_shares_and_rise_are_those_of_the_log():
    found = regime_of(log(0.9, slope=2e-4))
    assert found.verdict == "decided" and found.steps == 400
    assert found.end["decided"] == pytest.approx(0.9, abs=0.05) and found.start["decided"] == pytest.approx(
        0.1, abs=0.05
    )
    assert found.end["all_right"] == pytest.approx(0.54, abs=0.04) and found.end["all_wrong"] == pytest.approx(
        0.36, abs=0.03
    )
    assert found.rise == pytest.approx(2.0)  # 2e-4 a step is 2 points per 100 steps
    shuffled = log(0.9, slope=2e-4)
    shuffled.reverse()
    assert regime_of(shuffled).rise == pytest.approx(2.0)


@pytest.mark.parametrize(
    "end, verdict", [(0.2, "undecided"), (0.45, "undecided"), (0.55, "decided"), (0.95, "decided")]
)
def test_the_verdict_turns_at_half_of_the_groups(end, verdict):
    assert regime_of(log(end, entries=400)).verdict == verdict


def test_sentences_say_what_to_change():
    early, rest = regime_sentences({"grpo": [log(0.2, slope=3e-4), log(0.3, slope=3e-4)], "ds": [log(0.9)]})
    assert early.startswith("grpo: undecided") and "Train longer" in early and "+3.0 points" in early
    assert rest.startswith("ds: decided") and "all right" in rest and "hardly" not in rest
    (old,) = regime_sentences({"old": [[{"step": 1, "reward": 0.5}]]})
    assert "not known" in old


def test_logs_are_read_from_every_place(tmp_path):
    entries = log(0.8)
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (tmp_path / "trainer_state.json").write_text(
        json.dumps({"log_history": [*entries, {"step": 400, "train_runtime": 3.0}]})
    )
    (tmp_path / "cell.log.json").write_text(json.dumps(entries))
    found = [
        regime_of(read_log(tmp_path / name)) for name in ("", "metrics.jsonl", "trainer_state.json", "cell.log.json")
    ]
    assert all(one == found[0] for one in found)
    other = tmp_path / "trl"
    (other / "checkpoint-10").mkdir(parents=True)
    (other / "checkpoint-10" / "trainer_state.json").write_text(json.dumps({"log_history": entries}))
    assert regime_of(read_log(other)) == found[0]


def test_what_is_no_log_is_said(tmp_path):
    for name, text in (
        ("a.json", "{"),
        ("b.json", "[1, 2]"),
        ("c.json", '{"log_history": 3}'),
        ("d.jsonl", "x\n"),
        ("e.json", "[" * 100_000),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match="training log"):
            read_log(tmp_path / name)
    with pytest.raises(ValueError, match="holds no training log"):
        read_log(tmp_path / "none")
    with pytest.raises(ValueError, match="not the log of a GRPO run"):
        regime_of([{"step": 1, "loss": 0.1}, {"reward": math.nan, "step": 2}])
