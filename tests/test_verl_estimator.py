"""The estimator for verl against verl's own and against ``ds_grpo_advantages``, without Ray. `make test-verl` runs this."""

import json
import math
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("verl")

from omegaconf import OmegaConf
from verl.trainer.ppo import core_algos
from verl_cpu.shared import FILE, OPTIONS, in_verl, padded

from differential_smoothing import ds_grpo_advantages
from differential_smoothing.integrations.verl import estimator, plugin
from differential_smoothing.integrations.verl.estimator import Handed, correct_of, final_rows, shaped_advantages
from differential_smoothing.integrations.verl.options import DSOptions, read_options
from differential_smoothing.rules import RULES, make_rule
from differential_smoothing.rules.discrepancy import entropy_discrepancy


class Batch:
    """Groups of unequal sizes in a shuffled order, ragged completions; what is masked holds nonsense."""

    def __init__(self, seed=0, sizes=(4, 8, 2, 5, 8, 8, 3, 6), tokens=12):
        draw = torch.Generator().manual_seed(seed)
        group = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        self.group = group[torch.randperm(len(group), generator=draw)]
        rows = len(group)
        names = [f"{(7 * g) % 11:08x}-uid" for g in range(len(sizes))]  # whose order is another than the groups'
        self.uid = np.array([names[g] for g in self.group], dtype=object)
        length = torch.randint(1, tokens + 1, (rows,), generator=draw)
        self.mask = (torch.arange(tokens) < length[:, None]).long()
        self.logps = -torch.rand(rows, tokens, generator=draw).mul(3)
        self.entropies = torch.rand(rows, tokens, generator=draw).mul(2)
        self.correct = (torch.rand(rows, generator=draw) < 0.4).float()
        self.correct[self.group == 1], self.correct[self.group == 4] = 1.0, 0.0  # all right, all wrong
        # a format reward on top; a smaller one would show how verl's one-pass mean rounds, 1e-8 / the standard deviation
        self.rewards = self.correct + 0.5 * (torch.rand(rows, generator=draw) < 0.5)
        self.logps[self.mask == 0] = 7.0
        self.entropies[self.mask == 0] = -3.0

    @property
    def token_rewards(self):
        """As verl has them: at the last token."""
        rewards = torch.zeros(self.mask.shape)
        rewards[torch.arange(len(rewards)), self.mask.sum(1) - 1] = self.rewards
        return rewards

    def handed(self, **given):
        rows = len(self.rewards)
        values = dict(
            logps=self.logps,
            correct=self.correct,
            counts=torch.ones(rows, dtype=torch.bool),
            final=torch.arange(rows),
            entropies=self.entropies,
        )
        return Handed(**(values | given))

    def advantages(self, norm_by_std=True, extra=None, **options):
        return shaped_advantages(
            DSOptions(**options),
            self.rewards,
            self.mask,
            uid=self.uid,
            extra=extra or self.handed(),
            norm_by_std=norm_by_std,
        )

    def expected(self, **options):
        return ds_grpo_advantages(
            self.rewards, self.logps, self.mask, correct=self.correct, group=self.group, eps=1e-6, **options
        )


@pytest.mark.parametrize("norm_by_std", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_without_smoothing_it_is_verls_own_grpo(seed, norm_by_std):
    batch = Batch(seed, sizes=(4, 8, 1, 5, 8, 1, 3, 6))  # groups of one too
    ours, _ = batch.advantages(norm_by_std)
    arguments = (batch.token_rewards, batch.mask, batch.uid)
    vectorised, _ = core_algos.compute_grpo_vectorized_outcome_advantage(
        *arguments, norm_adv_by_std_in_grpo=norm_by_std
    )
    assert torch.equal(ours, vectorised)
    looped, _ = core_algos.compute_grpo_outcome_advantage(*arguments, norm_adv_by_std_in_grpo=norm_by_std)
    torch.testing.assert_close(ours, looped, atol=1e-5, rtol=1e-5)
    assert not torch.equal(batch.advantages(norm_by_std, gamma_p=1e-3)[0], vectorised)  # so it can fail


SHAPINGS = [
    dict(gamma_p=0.2, gamma_n=0.0),
    dict(gamma_p=0.3, gamma_n=0.1),
    dict(gamma_p=0.05, gamma_n=0.02, level="sum"),
    dict(gamma_p=0.5, gamma_n=0.5, level="mean"),
    dict(gamma_p=0.5, gamma_n=0.3, level="mean", center=True),
    dict(gamma_p=0.05, gamma_n=0.3, level="sum", center=True),
    dict(gamma_p=0.4, gamma_n=0.1, center=True),
    dict(gamma_p=0.4, gamma_n=0.1, relative=True),
    dict(gamma_p=0.4, gamma_n=0.1, relative=True, level="sum"),
    dict(gamma_p=0.05, gamma_n=0.02, level="sum", stage="reward"),
    dict(gamma_p=0.5, gamma_n=0.5, level="mean", stage="reward"),
]


@pytest.mark.parametrize("norm_by_std", [True, False])
@pytest.mark.parametrize("shaping", SHAPINGS, ids=str)
def test_smoothing_is_that_of_the_pure_function_on_shuffled_ragged_batches(shaping, norm_by_std):
    for seed in range(3):
        batch = Batch(seed)
        ours, _ = batch.advantages(norm_by_std, **shaping)
        entropies = {"entropies": batch.entropies} if shaping.get("center") and "level" not in shaping else {}
        expected = batch.expected(scale="group" if norm_by_std else "none", **shaping, **entropies)
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-6)
        assert (ours[batch.mask == 0] == 0).all()


def test_the_order_of_rows_does_not_matter():
    batch = Batch(5)
    before, metrics = batch.advantages(gamma_p=0.3, gamma_n=0.1, level="mean", center=True)
    order = torch.randperm(len(batch.rewards), generator=torch.Generator().manual_seed(1))
    for name in ("group", "mask", "logps", "entropies", "correct", "rewards"):
        setattr(batch, name, getattr(batch, name)[order])
    batch.uid = batch.uid[order.numpy()]
    after, again = batch.advantages(gamma_p=0.3, gamma_n=0.1, level="mean", center=True)
    torch.testing.assert_close(after, before[order], atol=1e-6, rtol=0)
    assert again == pytest.approx(metrics, abs=1e-6)


@pytest.mark.parametrize(
    "name", [name for name in RULES if name not in ("grpo", "uniqueness", "batch_exploration")]
)  # verl has no answers
@pytest.mark.parametrize("gamma_p", [0.0, 0.3])
def test_every_rule_and_the_term_on_top(name, gamma_p):
    if gamma_p and name.startswith("ds_"):
        return  # refused, see below
    batch = Batch(2)
    batch.rewards = batch.correct.clone()  # some rules take no others
    ours, _ = batch.advantages(rule=name, gamma_p=gamma_p)
    arguments = (batch.rewards, batch.logps, batch.mask)
    of_rule = make_rule(name)(*arguments, correct=batch.correct, group=batch.group)
    of_rule = of_rule if of_rule.dim() == 2 else of_rule[:, None]
    term = -gamma_p * batch.correct[:, None] * batch.logps
    torch.testing.assert_close(ours, torch.where(batch.mask != 0, of_rule + term, 0.0), atol=1e-6, rtol=1e-6)


def test_rows_that_verl_adds_count_nowhere():
    batch = Batch(3)
    batch.rewards = batch.correct.clone()
    pad = torch.zeros(len(batch.rewards), dtype=torch.bool)
    pad[[0, 7, 20]] = True
    batch.mask[pad], batch.correct[pad], batch.rewards[pad] = 0, 1.0, 0.0
    batch.uid[pad.numpy()] = "pad"
    for options in (
        dict(gamma_p=0.3, gamma_n=0.1),
        dict(rule="a_grae"),
        dict(rule="psr"),
        dict(schedule="entropy_discrepancy", gamma_p=1.0),
    ):
        whole, metrics = batch.advantages(extra=batch.handed(counts=~pad), **options)
        rest = Batch(3)
        for name in ("group", "mask", "logps", "entropies", "correct", "rewards"):
            setattr(rest, name, getattr(batch, name)[~pad])
        rest.uid = batch.uid[~pad.numpy()]
        alone, expected = rest.advantages(**options)
        torch.testing.assert_close(whole[~pad], alone, atol=1e-6, rtol=0)
        assert (whole[pad] == 0).all() and metrics == pytest.approx(expected, abs=1e-6)


def test_unscored_completions_get_nothing_and_leave_their_group_alone():
    batch = Batch(4)
    unscored = torch.zeros(len(batch.rewards), dtype=torch.bool)
    unscored[[1, 9, 30]] = True
    batch.rewards[unscored] = batch.correct[unscored] = torch.nan
    ours, metrics = batch.advantages(gamma_p=0.3, gamma_n=0.2)
    torch.testing.assert_close(ours, batch.expected(gamma_p=0.3, gamma_n=0.2), atol=1e-6, rtol=1e-6)
    assert (ours[unscored] == 0).all() and ours.isfinite().all()
    assert metrics["ds/unknown"] == pytest.approx(3 / len(unscored)) and "ds/unknown" not in Batch(4).advantages()[1]


@pytest.mark.parametrize("shaping", SHAPINGS, ids=str)
def test_a_log_prob_that_is_not_finite(shaping):
    """Under the mask NaN counts as masked and an infinite one is refused; beside the mask both may stand."""
    batch = Batch(10)
    clean, _ = batch.advantages(**shaping)
    garbage = batch.mask == 0
    batch.logps[garbage] = batch.entropies[garbage] = torch.nan
    torch.testing.assert_close(batch.advantages(**shaping)[0], clean, atol=1e-6, rtol=1e-6)
    batch.logps[garbage] = torch.inf
    torch.testing.assert_close(batch.advantages(**shaping)[0], clean, atol=1e-6, rtol=1e-6)
    batch.logps[3, 0] = torch.nan
    entropies = {"entropies": batch.entropies} if shaping.get("center") and "level" not in shaping else {}
    torch.testing.assert_close(
        batch.advantages(**shaping)[0], batch.expected(**shaping, **entropies), atol=1e-6, rtol=1e-6
    )
    batch.logps[3, 0] = -torch.inf
    with pytest.raises(ValueError, match="infinite log-probability"):
        batch.advantages(**shaping)


def test_what_is_logged_is_what_a_loop_finds():
    batch = Batch(6)
    advantages, metrics = batch.advantages(gamma_p=0.3, gamma_n=0.1)
    plain, _ = batch.advantages()
    seen = {True: [], False: []}
    for row, right in enumerate(batch.correct.tolist()):
        for token in range(batch.mask.size(1)):
            if batch.mask[row, token]:
                term = float(advantages[row, token] - plain[row, token])
                seen[bool(right)].append((float(batch.logps[row, token]), term))
    for name, right in (("correct", True), ("incorrect", False)):
        logp, term = np.mean(seen[right], axis=0)
        assert metrics[f"ds/logp_{name}"] == pytest.approx(logp, abs=1e-5)
        assert metrics[f"ds/term_{name}"] == pytest.approx(term, abs=1e-5)
    assert metrics["ds/correct"] == pytest.approx(float(batch.correct.mean()), abs=1e-6)
    batch.correct[:] = 0
    assert "ds/logp_correct" not in batch.advantages()[1]  # undefined is left out, never 0


@pytest.mark.parametrize(
    "shaping", [s for s in SHAPINGS if s.get("stage") == "reward" or s.get("center") or s.get("relative")], ids=str
)
def test_the_logged_term_is_what_was_added_wherever_it_was(shaping):
    batch = Batch(7)
    advantages, metrics = batch.advantages(**shaping)
    right = (batch.mask != 0) & (batch.correct == 1)[:, None]
    added = (advantages - batch.advantages()[0])[right].mean()
    assert metrics["ds/term_correct"] == pytest.approx(float(added), abs=1e-5)


def test_the_schedule_multiplies_the_gammas():
    batch = Batch(8)
    discrepancy = entropy_discrepancy(batch.logps, batch.mask, batch.correct)
    ours, metrics = batch.advantages(gamma_p=2.0, schedule="entropy_discrepancy")
    assert metrics["ds/entropy_discrepancy"] == pytest.approx(discrepancy, abs=1e-6) and discrepancy != 0
    expected = batch.expected(gamma_p=2.0 * max(discrepancy, 0.0), gamma_n=0.0)
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-6)


def test_a_session_of_several_outputs_is_one_completion_of_its_group():
    keys = ["a_0_0", "b_0_0", "a_0_1", "a_1_0", "b_1_0", "a_1_1", "a_1_10", "a_1_2"]
    final = final_rows(keys)
    assert final.tolist() == [2, 1, 2, 6, 4, 6, 6, 6]
    uid, rewards = np.array([key[0] for key in keys], dtype=object), torch.tensor([1.0, 0, 1, 0, 1, 0, 0, 0])
    mask, logps = torch.ones(8, 3), -torch.rand(8, 3, generator=torch.Generator().manual_seed(0))
    extra = Handed(logps=logps, correct=rewards, counts=torch.ones(8, dtype=torch.bool), final=final)
    ours, _ = shaped_advantages(DSOptions(gamma_p=0.5), rewards, mask, uid=uid, extra=extra)
    last = [2, 6, 1, 4]  # two sessions of two prompts: each reward 1 and 0
    plain, _ = core_algos.compute_grpo_outcome_advantage(rewards[last][:, None], mask[last], uid[last])
    of_session = {row: plain[place] for place, row in enumerate(last)}
    for row in range(8):
        expected = of_session[int(final[row])] - 0.5 * rewards[row] * logps[row]
        torch.testing.assert_close(ours[row], expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="several outputs"):
        shaped_advantages(DSOptions(rule="ds_grpo"), rewards, mask, uid=uid, extra=extra)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_recorded_batch_that_trl_is_given_has_todays_advantages(name):
    batch = json.loads(FILE.read_text())
    torch.testing.assert_close(in_verl(batch, OPTIONS[name]), padded(batch["advantages"][name]), atol=1e-6, rtol=1e-5)


class TestCorrect:
    def test_is_never_the_sign_of_the_score(self):
        assert correct_of(torch.tensor([0.1, 1.0, -1.0, math.nan]), None, DSOptions()).nan_to_num(nan=9).tolist() == [
            0,
            1,
            0,
            9,
        ]

    def test_is_the_key_that_was_named(self):
        infos = [{"acc": True, "format": 0}, {"acc": 0.0}, {"format": 1}, {"acc": None}, None]
        ours = correct_of(torch.tensor([0.1, 5, 5, 5, 5]), infos, DSOptions(correct_key="acc"))
        assert ours.nan_to_num(nan=9).tolist() == [1, 0, 9, 9, 9]

    def test_a_wrong_key_is_refused_with_those_that_are_there(self):
        with pytest.raises(ValueError, match=r"correct_key=accuracy.*compute_score returned acc, format"):
            correct_of(torch.zeros(1), [{"acc": 1, "format": 0}], DSOptions(correct_key="accuracy"))
        with pytest.raises(ValueError, match="must be a number"):
            correct_of(torch.zeros(1), [{"acc": "yes"}], DSOptions(correct_key="acc"))


class TestOptions:
    def test_come_from_the_omegaconf_object(self):
        given = OmegaConf.create({"rule": "pkpo", "rule_options": {"k": 2}, "gamma_p": 0.2})
        assert read_options(given) == DSOptions(rule="pkpo", rule_options={"k": 2}, gamma_p=0.2)
        assert read_options(None) == DSOptions()

    @pytest.mark.parametrize(
        "given, words",
        [
            ({"gama_p": 0.1}, "algorithm.ds.gama_p.*Did you mean gamma_p"),
            ({"gamma_p": -0.1}, "gamma_p must be a finite number >= 0"),
            ({"level": "tokens"}, "algorithm.ds.level must be one of token, mean, sum"),
            ({"rule": "pass_at_k"}, "There is no rule 'pass_at_k'"),
            ({"rule": "kl"}, "preset of TRL's options"),
            ({"rule": "grpo", "rule_options": {"eps": 1}}, "norm_adv_by_std_in_grpo"),
            ({"rule": "pkpo", "rule_options": {"kk": 1}}, "no option 'kk'"),
            ({"rule": "ds_grpo", "gamma_p": 0.1}, "gammas of its own"),
            ({"rule": "maxrl", "gamma_p": 0.1, "stage": "reward", "level": "sum"}, "use stage=advantage"),
            ({"stage": "reward"}, "Set level to 'mean' or 'sum'"),
            ({"schedule": "entropy_discrepancy"}, "all of them are 0"),
            ({"rule": "uniqueness"}, "answer"),
            ({"center": "yes"}, "algorithm.ds.center cannot be 'yes'"),
            (
                {"relative": True},
                "algorithm.ds.relative=true has no effect while gamma_p and gamma_n are 0. Set gamma_p",
            ),
            (
                {"relative": True, "gamma_p": 0.4, "center": True},
                "algorithm.ds.relative=true is centred by itself, at the advantage stage. Leave center out",
            ),
            ({"relative_floor": 0.1, "gamma_p": 0.4}, "no effect without algorithm.ds.relative=true"),
            (0.2, "must hold keys and values"),
        ],
    )
    def test_a_wrong_one_is_named(self, given, words):
        with pytest.raises(ValueError, match=words):
            read_options(given)

    @pytest.mark.parametrize("answer, refused", [("answer", True), ("answer=None", False), ("progress", False)])
    def test_a_rule_that_needs_what_verl_does_not_hand_over(self, answer, refused, tmp_path):
        (tmp_path / "ds_mine.py").write_text(
            f"def mine(rewards, logps, mask, *, correct, group, {answer}):\n    return rewards\n"
        )
        given = {
            "rule": f"{tmp_path / 'ds_mine.py'}:mine",
            "gamma_p": 0.1,
        }  # and it is no preset, whatever its file is called
        if refused:
            with pytest.raises(ValueError, match="asks for answer.*verl does not hand over"):
                read_options(given)
        else:
            assert read_options(given).smooths

    def test_a_rule_of_the_users_is_made_once_and_keeps_its_state(self, tmp_path):
        (tmp_path / "counts.py").write_text(
            "calls = 0\n\ndef counts(rewards, logps, mask, *, correct, group):\n    global calls\n    calls += 1\n"
            "    return 0 * rewards + calls\n"
        )
        batch, config = Batch(3), {"ds": {"rule": f"{tmp_path / 'counts.py'}:counts"}}
        options = read_options(config["ds"])
        for call in (1, 2, 3):
            token = estimator.handed.set(batch.handed(options=options))
            try:
                advantages, _ = estimator.estimate(batch.token_rewards, batch.mask, config, batch.uid)
            finally:
                estimator.handed.reset(token)
            assert advantages[batch.mask == 1].unique().tolist() == [call]


def test_verls_own_advantage_step_calls_it():
    from verl import DataProto
    from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

    batch = Batch(9)
    data = DataProto.from_dict(
        {"token_level_rewards": batch.token_rewards, "response_mask": batch.mask}, non_tensors={"uid": batch.uid}
    )
    config = OmegaConf.create({"ds": {"gamma_p": 0.2}, "norm_adv_by_std_in_grpo": False})
    keys = [f"{uid}_{row}_0" for row, uid in enumerate(batch.uid)]
    extra = batch.handed()
    token = estimator.handed.set(extra)
    try:
        done = compute_advantage_for_multi_trajectories(data, keys, "dsmooth", config=config)
    finally:
        estimator.handed.reset(token)
    expected = batch.expected(gamma_p=0.2, gamma_n=0.0, scale="none")
    torch.testing.assert_close(done.batch["advantages"], expected, atol=1e-6, rtol=1e-6)
    assert extra.metrics["ds/correct"] == pytest.approx(float(batch.correct.mean()))
    with pytest.raises(RuntimeError, match="trainer.v1.trainer_mode to dsmooth_sync"):
        compute_advantage_for_multi_trajectories(data, keys, "dsmooth", config=config)


class TestHost:
    def test_it_registers_what_it_says(self):
        from verl.trainer.ppo.v1 import get_trainer_cls

        assert core_algos.get_adv_estimator_fn("dsmooth") is estimator.estimate
        assert get_trainer_cls("dsmooth_sync") is plugin.Sync
        assert get_trainer_cls("dsmooth_colocate_async") is plugin.ColocateAsync
        assert get_trainer_cls("dsmooth_separate_async") is plugin.SeparateAsync

    @pytest.mark.parametrize("version", ["0.8.0", "0.10.0", "0.10.0.dev0", "0.10.0rc1", "1.2", "unknown", ""])
    def test_another_verl_is_refused(self, version):
        with pytest.raises(ImportError, match="Install verl=="):
            plugin.check_host(version)

    def test_the_verl_of_the_tests_and_its_repairs_are_not(self):
        for version in (*plugin.TESTED, "0.9.0", "0.9.2", "0.9.1.post1"):
            plugin.check_host(version)

    def test_a_trl_that_verls_workers_cannot_stand_is_refused(self, tmp_path, monkeypatch):
        plugin.check_trl()  # the environment of these tests has none
        old, new = tmp_path / "old", tmp_path / "new"
        for folder, content in ((new, ""), (old, "class AutoModelForCausalLMWithValueHead: ...")):
            (folder / "trl").mkdir(parents=True)
            (folder / "trl" / "__init__.py").write_text(content)
        try:
            monkeypatch.syspath_prepend(new)
            with pytest.raises(RuntimeError, match="environment of its own, without trl"):
                plugin.check_trl()
            del sys.modules["trl"]
            monkeypatch.syspath_prepend(old)
            plugin.check_trl()
        finally:
            sys.modules.pop("trl", None)

    @pytest.mark.parametrize("wrong", ["version", "interface"])
    def test_a_plug_in_that_verl_could_not_load_says_so_although_verl_does_not(self, wrong, tmp_path):
        """verl's own loading of the entry point, in a copy of verl (of links) with one file changed."""
        import verl

        copy = tmp_path / "verl"
        shutil.copytree(
            os.path.dirname(verl.__file__), copy, copy_function=os.symlink, ignore=shutil.ignore_patterns("__pycache__")
        )
        if wrong == "version":
            changed, text = copy / "version" / "version", "0.10.0.dev0"
        else:
            changed = copy / "trainer" / "ppo" / "v1" / "trainer_base.py"
            of_today = "def _compute_advantage(self, batch: KVBatchMeta, metrics: dict)"
            text = changed.read_text().replace(of_today, of_today[:-1] + ", timing: dict | None = None)")
        changed.unlink()
        changed.write_text(text)
        done = run_trainer_of_the_name("dsmooth_sync", {"PYTHONPATH": str(tmp_path)})
        assert str(copy) in done.stdout
        assert "could not be loaded as a plug-in of verl" in done.stderr and "VERL_USE_EXTERNAL_PLUGINS" in done.stderr
        assert (
            "found 0.10.0.dev0" if wrong == "version" else "_compute_advantage has another signature"
        ) in done.stderr
        assert done.returncode and "Unknown trainer 'dsmooth_sync'" in done.stderr

    def test_a_run_without_the_plug_in_stops_before_any_worker(self):
        """``get_trainer_cls`` is the first that verl's runner does."""
        done = run_trainer_of_the_name("dsmooth_sync", {"VERL_USE_EXTERNAL_PLUGINS": "none"})
        assert done.returncode and "Unknown trainer 'dsmooth_sync'" in done.stderr
        assert "could not be loaded" not in done.stderr
        done = run_trainer_of_the_name("dsmooth_sync", {})
        assert done.returncode == 0 and "could not be loaded" not in done.stderr


def run_trainer_of_the_name(name, environment):
    """A process that imports verl, which loads the plug-in by its entry point or not, and asks verl for the trainer."""
    code = (
        f"import verl; print(verl.__file__); from verl.trainer.ppo.v1 import get_trainer_cls; get_trainer_cls({name!r})"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith("VERL_USE_EXTERNAL")}
    return subprocess.run([sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True)
