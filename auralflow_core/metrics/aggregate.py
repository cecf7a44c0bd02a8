"""Frames to songs, songs to tables: medians, bootstrap intervals and museval's JSON layout."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from auralflow_core.errors import DataError
from auralflow_core.metrics.bsseval import BSSScores

BOOTSTRAP_SAMPLES = 10_000
MUSEVAL_DIGITS = 5


def median_over_frames(scores: BSSScores) -> dict[str, NDArray[np.float64]]:
    """Return the median over frames of each metric: `SDR`, `ISR`, `SIR`, `SAR`, each `(target,)` in dB.

    Frames that are NaN do not count, and neither do infinite ones, which museval writes as NaN before its aggregation
    takes the median. A target without any other frame is NaN.
    """
    return {name: _median(frames) for name, frames in _by_name(scores).items()}


def bootstrap_interval(
    values: ArrayLike, level: float = 0.95, seed: int = 0, *, statistic: str = "median"
) -> tuple[float, float]:
    """Return an interval for the median (or mean) over songs, by the percentile bootstrap.

    Songs are drawn with replacement 10,000 times (Efron, "Bootstrap methods: another look at the jackknife", 1979). The
    same values, level and seed give the same interval.

    Args:
        values: One number a song; NaN does not count.
        level: Share of the draws that the interval holds, between 0 and 1.
        seed: Seed of the draws.
        statistic: `median` or `mean`.

    Returns:
        Lower and upper end, in the unit of the values; both NaN if no value is left.

    Raises:
        DataError: The level is not between 0 and 1, or the statistic is unknown.
    """
    if not 0 < level < 1:
        raise DataError(f"level is {level}; it lies between 0 and 1, and is 0.95 for a 95 % interval")
    if statistic not in ("median", "mean"):
        raise DataError(f"statistic is {statistic!r}; known are median and mean")
    known = np.asarray(values, dtype=np.float64).ravel()
    known = known[~np.isnan(known)]
    if not len(known):
        return math.nan, math.nan
    draws = np.random.default_rng(seed).integers(len(known), size=(BOOTSTRAP_SAMPLES, len(known)))
    statistics = np.median(known[draws], axis=1) if statistic == "median" else known[draws].mean(axis=1)
    low, high = np.quantile(statistics, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def museval_json(
    scores: BSSScores, targets: Sequence[str], *, window_seconds: float = 1.0, hop_seconds: float = 1.0
) -> dict[str, Any]:
    """Return the scores of one song in the layout of museval's files, for `json.dumps`.

    museval's `EvalStore.add_eval_dir` reads such a file. As museval writes them, values are rounded to five decimals
    and infinite ones are NaN, which Python's JSON and museval's schema allow.

    Args:
        scores: Scores of the song.
        targets: Names of the targets, in the order of the scores.
        window_seconds: Duration of a frame.
        hop_seconds: Time from frame to frame.

    Raises:
        DataError: There are not as many names as targets.
    """
    values = _by_name(scores)
    if len(targets) != len(scores.sdr):
        raise DataError(f"{len(targets)} target names for {len(scores.sdr)} targets; give one name for each")
    return {
        "targets": [
            {"name": name, "frames": _frames(values, number, window_seconds, hop_seconds)}
            for number, name in enumerate(targets)
        ]
    }


def _frames(
    values: Mapping[str, NDArray[np.float64]], target: int, window_seconds: float, hop_seconds: float
) -> list[dict[str, Any]]:
    return [
        {
            "time": frame * hop_seconds,
            "duration": window_seconds,
            "metrics": {name: _written(values[name][target, frame]) for name in ("SDR", "SIR", "SAR", "ISR")},
        }
        for frame in range(values["SDR"].shape[1])
    ]


def _written(value: float) -> float:
    return math.nan if math.isinf(value) else round(float(value), MUSEVAL_DIGITS)


def _by_name(scores: BSSScores) -> dict[str, NDArray[np.float64]]:
    return {"SDR": scores.sdr, "ISR": scores.isr, "SIR": scores.sir, "SAR": scores.sar}


def _median(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([np.median(known) if len(known := row[np.isfinite(row)]) else math.nan for row in frames])
