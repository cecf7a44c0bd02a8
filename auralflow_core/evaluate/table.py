"""Rows and columns: scores of songs side by side, medians and intervals over songs, and the CSV of both."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from auralflow_core.evaluate.song import MIXTURE, MODEL, SongScores
from auralflow_core.files import write_text
from auralflow_core.metrics import bootstrap_interval

MEDIAN = "median"
# The columns that have always come first.
_FIRST = ("SDR", "ISR", "SIR", "SAR", "mixture_SDR")


@dataclass(frozen=True)
class Score:
    """The scores of one target of one song, or over songs.

    `values` are by column: a metric's name for the model's own score (`SDR`), with the estimate before it for that of
    another estimate (`mixture_SDR`: the mixture itself taken as the estimate; `irm_SDR`: an oracle).
    """

    song: str
    target: str
    values: Mapping[str, float]

    def __getitem__(self, column: str) -> float:
        """Return a column's value; NaN where there is none."""
        return self.values.get(column, math.nan)


def score_rows(song: str, estimates: Mapping[str, SongScores]) -> list[Score]:
    """Return one row a target with the columns of all estimates."""
    targets = next(iter(estimates.values())).targets
    columns = {
        column_name(estimate, metric): values
        for estimate, scores in estimates.items()
        for metric, values in scores.values.items()
    }
    names = [*(name for name in _FIRST if name in columns), *(name for name in columns if name not in _FIRST)]
    return [
        Score(song, target, {name: float(columns[name][number]) for name in names})
        for number, target in enumerate(targets)
    ]


def column_name(estimate: str, metric: str) -> str:
    """Return the column of an estimate's metric."""
    return metric if estimate == MODEL else f"{estimate}_{metric}"


def medians(scores: Sequence[Score]) -> list[Score]:
    """Return each target's median over songs, under the song name `median`.

    Songs without a score do not count, and neither do infinite ones, as in museval.
    """
    return [
        Score(MEDIAN, target, {name: _median(values) for name, values in columns.items()})
        for target, columns in by_target(scores).items()
    ]


def summarize(scores: Sequence[Score]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what tables say of each target's columns.

    Returns:
        By target and column: `median` and `mean` over songs, `interval`, the 95 % bootstrap interval of the median (NaN
        for a single song), and `songs`, how many have a number there. `gain_SDR` and the like are differences song by
        song between the model's score and the mixture's.
    """
    return {
        target: {name: _statistics(values) for name, values in {**columns, **_gains(columns)}.items()}
        for target, columns in by_target(scores).items()
    }


def by_target(scores: Sequence[Score]) -> dict[str, dict[str, list[float]]]:
    """Return the values over songs of each column of each target."""
    columns: dict[str, dict[str, list[float]]] = {}
    for score in scores:
        for name in score.values:
            columns.setdefault(score.target, {}).setdefault(name, [])
    for score in scores:
        for name, values in columns[score.target].items():
            values.append(score[name])
    return columns


def write_csv(path: Path, scores: Sequence[Score]) -> None:
    """Write the scores of each song and target, and the medians over songs."""
    rows = [*scores, *medians(scores)]
    columns = list(dict.fromkeys(name for row in rows for name in row.values))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["song", "target", *columns])
    for row in rows:
        writer.writerow([row.song, row.target, *(f"{row[name]:.5f}" for name in columns)])
    write_text(path, text.getvalue())


def _gains(columns: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    prefix = column_name(MIXTURE, "")
    return {
        f"gain_{name}": [own - mixture for own, mixture in zip(values, columns[prefix + name], strict=True)]
        for name, values in columns.items()
        if prefix + name in columns
    }


def _statistics(values: Sequence[float]) -> dict[str, Any]:
    known = _finite(values)
    return {
        "median": _median(values),
        # One song says nothing of others.
        "interval": list(bootstrap_interval(known)) if len(known) > 1 else [math.nan, math.nan],
        "mean": float(known.mean()) if len(known) else math.nan,
        "songs": len(known),
    }


def _median(values: Sequence[float]) -> float:
    known = _finite(values)
    return float(np.median(known)) if len(known) else math.nan


def _finite(values: Sequence[float]) -> Any:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]
