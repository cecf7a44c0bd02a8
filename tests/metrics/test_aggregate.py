"""Medians, intervals, and files that museval reads."""

from __future__ import annotations

import json
import math
from pathlib import Path

import museval
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auralflow_core.errors import DataError
from auralflow_core.metrics import BSSScores, bootstrap_interval, median_over_frames, museval_json

TARGETS = ["vocals", "drums"]


def scores(seed: int = 0, frames: int = 6) -> BSSScores:
    values = np.random.default_rng(seed).normal(5, 3, (4, len(TARGETS), frames))
    values[:, :, 1] = np.nan
    values[2, 0, 3] = np.inf
    return BSSScores(*values)


def museval_store(found: BSSScores) -> museval.TrackStore:
    store = museval.TrackStore("a song")
    for number, name in enumerate(TARGETS):
        values = {"SDR": found.sdr, "ISR": found.isr, "SIR": found.sir, "SAR": found.sar}
        store.add_target(name, {metric: frames[number].tolist() for metric, frames in values.items()})
    return store


def test_the_json_is_musevals() -> None:
    store = museval_store(scores())
    ours = museval_json(scores(), TARGETS)
    theirs = json.loads(store.json)
    store.scores = ours
    store.validate()
    assert ours["targets"][0]["frames"][2].keys() == theirs["targets"][0]["frames"][2].keys()
    for mine, target in zip(ours["targets"], theirs["targets"], strict=True):
        assert mine["name"] == target["name"]
        for frame, expected in zip(mine["frames"], target["frames"], strict=True):
            assert (frame["time"], frame["duration"]) == (expected["time"], expected["duration"])
            assert frame["metrics"] == pytest.approx(expected["metrics"], abs=1.1e-5, nan_ok=True)


def test_musevals_aggregation_reads_the_files_and_agrees_with_our_medians(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    for seed in range(3):
        text = json.dumps(museval_json(scores(seed), TARGETS))
        (tmp_path / "test" / f"song {seed}.json").write_text(text)
    store = museval.EvalStore()
    store.add_eval_dir(tmp_path)
    theirs = store.agg_frames_scores()
    for seed in range(3):
        for metric, medians in median_over_frames(scores(seed)).items():
            for name, median in zip(TARGETS, medians, strict=True):
                assert theirs[f"song {seed}", name, metric] == pytest.approx(median, abs=2e-5)


def test_a_target_without_any_score_has_no_median() -> None:
    empty = np.full((2, 3), np.nan)
    assert all(
        np.isnan(medians).all() for medians in median_over_frames(BSSScores(empty, empty, empty, empty)).values()
    )


def test_times_follow_the_hop() -> None:
    frames = museval_json(scores(frames=4), TARGETS, window_seconds=2.0, hop_seconds=0.5)["targets"][1]["frames"]
    assert [(frame["time"], frame["duration"]) for frame in frames] == [(0, 2), (0.5, 2), (1, 2), (1.5, 2)]


def test_names_must_fit_the_targets() -> None:
    with pytest.raises(DataError, match="3 target names for 2 targets"):
        museval_json(scores(), [*TARGETS, "bass"])


@given(values=st.lists(st.floats(-50, 50), min_size=1, max_size=20), statistic=st.sampled_from(["median", "mean"]))
@settings(max_examples=10, deadline=None)
def test_the_interval_holds_the_statistic_and_is_reproducible(values: list[float], statistic: str) -> None:
    low, high = bootstrap_interval(values, statistic=statistic)
    # Draws of few songs are discrete: the interval lies within the values, and a wider level holds a narrower one.
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert bootstrap_interval([*values, math.nan], statistic=statistic) == (low, high)
    inner = bootstrap_interval(values, 0.5, statistic=statistic)
    assert low <= inner[0] <= inner[1] <= high


def test_the_interval_of_a_mean_is_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(0, 1, 400)
    low, high = bootstrap_interval(values, statistic="mean")
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)
    assert bootstrap_interval(values, seed=1, statistic="mean") != (low, high)


def test_intervals_of_nothing_and_settings_out_of_range() -> None:
    assert all(math.isnan(end) for end in bootstrap_interval([math.nan]))
    with pytest.raises(DataError, match=r"level is 95"):
        bootstrap_interval([1.0], 95)
    with pytest.raises(DataError, match="'mode'"):
        bootstrap_interval([1.0], statistic="mode")
