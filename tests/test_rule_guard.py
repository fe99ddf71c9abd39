"""The guard around a rule: whatever a rule does wrong is a ValueError that names it, the batch and what to do."""

import pytest
import torch

from differential_smoothing.rules import PRESETS, RULES, BoundRule, make_rule

NAN, INF = float("nan"), float("inf")


def batch():
    return {
        "rewards": torch.tensor([1.0, 0.0, NAN]),
        "logps": -torch.ones(3, 2),
        "mask": torch.tensor([[1, 1], [1, 0], [0, 0]]),
        "correct": torch.tensor([1.0, 0.0, NAN]),
        "group": torch.tensor([7, 7, 8]),
    }


def bound(body, **options):
    def mine(rewards, logps, mask, *, correct, group, **_):
        return body(rewards.nan_to_num(nan=0.0), rewards, logps, mask)

    return BoundRule("mine", mine, options, True)


def in_place(rewards, given):
    def change(r, original, logps, mask):
        {"rewards": original, "logps": logps, "mask": mask}[given].mul_(2)
        return r

    return change


def through_numpy(r, original, logps, mask):
    array = original.numpy()
    array -= 0.5
    return r


FAULTS = {
    "nan": (lambda r, *_: r / 0, ("returned inf", "completion 0 (reward 1, correct 1, group 7)", "spread of 0")),
    "0/0": (lambda r, *_: (r - r) / 0, ("returned nan", "3 of 3", "reward NaN must get 0")),
    "minus infinity": (lambda r, *_: r.log(), ("returned -inf", "completion 1")),
    "one token": (lambda r, o, lp, m: torch.where(m != 0, NAN, 0.0), ("returned nan", "3 of 6", "completion 0")),
    "wrong shape": (lambda r, *_: r[:2], ("shape (3,) or (3, 2), got (2,)", "one per token")),
    "a column": (lambda r, *_: r[:, None], ("got (3, 1)",)),
    "a number": (lambda r, *_: r.sum(), ("got ()",)),
    "integers": (lambda r, *_: r.long(), ("must return a tensor of floats, got torch.int64", "(batch, tokens)")),
    "bool": (lambda r, *_: r > 0, ("got torch.bool",)),
    "nothing": (lambda r, *_: None, ("got NoneType",)),
    "a list": (lambda r, *_: r.tolist(), ("got list",)),
    "another device": (lambda r, *_: r.to("meta"), ("on the device of the rewards, cpu, got meta", "new_zeros")),
    "changed rewards": (in_place(None, "rewards"), ("changed its input rewards in place", "rewards.clone()")),
    "changed logps": (in_place(None, "logps"), ("changed its input logps in place",)),
    "changed mask": (in_place(None, "mask"), ("changed its input mask in place",)),
    "changed through numpy": (through_numpy, ("changed its input rewards in place",)),
    "raises": (lambda r, *_: {}["width"], ("failed at step 12: KeyError: 'width'", "by itself")),
    "asserts": (lambda r, *_: (_ for _ in ()).throw(AssertionError("odd")), ("AssertionError: odd",)),
    "indexes": (lambda r, *_: r[9], ("IndexError",)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_rule_that_misbehaves_is_named(fault):
    body, said = FAULTS[fault]
    with pytest.raises(ValueError) as caught:
        bound(body, width=3)(**batch(), where="step 12")
    for part in ("mine(width=3)", "step 12", *said):
        assert part in str(caught.value), str(caught.value)


def test_a_rule_that_behaves_is_left_alone():
    for body in (lambda r, *_: r - 0.5, lambda r, o, lp, m: lp * m):
        data = batch()
        got = bound(body)(**data)
        want = body(data["rewards"].nan_to_num(nan=0.0), None, data["logps"], data["mask"])
        assert torch.equal(got, want)


def test_what_stands_under_no_mask_does_not_matter():
    got = bound(lambda r, o, lp, m: torch.where(m != 0, 0.5, NAN))(**batch())
    assert got.tolist() == [[0.5, 0.5], [0.5, 0.0], [0.0, 0.0]]


def test_the_dtype_is_that_of_the_rewards():
    assert bound(lambda r, *_: r.double())(**batch()).dtype == torch.float32
    data = {**batch(), "rewards": batch()["rewards"].double()}
    assert bound(lambda r, *_: r.float())(**data).dtype == torch.float64


def test_progress_is_given_to_who_asks():
    def asks(rewards, logps, mask, *, correct, group, progress=None):
        return torch.full_like(rewards, progress)

    data = batch()
    assert BoundRule("asks", asks, {}, False)(**data, progress=0.25).tolist() == [0.25] * 3
    assert BoundRule("not", make_rule("nsr").function, {}, False)(**data, progress=0.25).tolist() == [0, -1, 0]


def lacks(rewards, logps, mask, *, correct):
    return rewards


def has(rewards, logps, mask, *, correct, group, width=1):
    return rewards


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: BoundRule("mine", lacks, {}, True),
            ("'mine'", "lacks group", "(rewards, logps, mask, *, correct, group"),
        ),
        (lambda: BoundRule("mine", has, {"widht": 2}, True), ("'mine'", "no option 'widht'", "width")),
        (lambda: BoundRule("mine", has, {"group": 2}, True), ("no option 'group'", "width")),
        (lambda: BoundRule("mine", dict, {}, True), ("'mine'", "no signature that can be read", "Python function")),
        (lambda: make_rule("pkpo", {"progress": 0.5}), ("'pkpo'", "no option 'progress'", "k, baseline, anneal")),
        (lambda: make_rule("dr_grpo", {"eps": 1}), ("'dr_grpo'", "no option 'eps'", "none")),
        (lambda: make_rule("ds_grpo", {"gama_p": 1}), ("ds_grpo(gama_p=1)", "gama_p")),
        (lambda: make_rule("ds_grpo", {"center": True}), ("ds_grpo(center=True)", "needs entropies", "level='mean'")),
        (lambda: make_rule("grpo", [1]), ("'grpo'", "mapping", "[1]")),
        (lambda: make_rule("max_rl"), ("no rule 'max_rl'", "Did you mean 'maxrl'?", "file.py:function")),
        (lambda: make_rule("zzz"), ("no rule 'zzz'.", "Known are grpo, dr_grpo")),
        (lambda: make_rule(3), ("no rule 3", "Known are")),
        (lambda: make_rule("no_such_package:f"), ("'no_such_package:f'", "ModuleNotFoundError", "Check the path")),
        (lambda: make_rule(":f"), ("':f'", "cannot be imported")),
        (lambda: make_rule("math:"), ("math has no function ''",)),
        (lambda: make_rule("math:pi"), ("math has no function 'pi'", "'math:pi'")),
        (lambda: make_rule("nowhere/rule.py:f"), ("no file 'nowhere/rule.py'", "Check the path")),
    ],
)
def test_what_cannot_become_a_rule_is_refused_before_any_batch(make, said):
    with pytest.raises(ValueError) as caught:
        make()
    for part in said:
        assert part in str(caught.value), str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def f(:", "SyntaxError"),
        ("import no_such_thing", "No module named 'no_such_thing'"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("g = 1", "has no function 'f'"),
        ("f = 1", "has no function 'f'"),
        ("def f(x): return x", "lacks rewards, logps, mask, correct, group"),
    ],
)
def test_a_broken_file_is_named(text, said, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        make_rule(f"{path}:f")
    assert said in str(caught.value) and str(path) in str(caught.value)


def test_a_file_of_one_s_own_may_hold_what_python_files_hold(tmp_path):
    path = tmp_path / "math.py"  # the name of a module that exists: it must not hide it
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport torch\n"
        "@dataclass\nclass Clip:\n    most: float\n"
        "def f(rewards, logps, mask, *, correct, group, most=0.5):\n"
        "    return rewards.nan_to_num(nan=0.0).clamp(max=Clip(most).most)\n"
        "f.needs_logps = False\n"
    )
    rule = make_rule(f"{path}:f", {"most": 0.25})
    assert not rule.needs_logps and rule(**{**batch(), "logps": None}).tolist() == [0.25, 0, 0]
    assert make_rule("differential_smoothing.rules.w_reinforce:nsr").needs_logps
    import math

    assert math.pi > 3


def test_names_do_not_clash():
    assert not set(RULES) & set(PRESETS)
    assert not any(":" in name for name in (*RULES, *PRESETS))
