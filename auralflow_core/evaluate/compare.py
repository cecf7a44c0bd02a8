"""Evaluations side by side: differences song by song, with intervals and a sign test."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from auralflow_core.errors import DataError
from auralflow_core.evaluate.report import KIND
from auralflow_core.evaluate.song import BSS_METRICS
from auralflow_core.evaluate.store import OWN
from auralflow_core.metrics import LOWER_IS_BETTER, bootstrap_interval

_SHOWN = 5
# In dB, as far as scores are exact: differences below it have no winner.
_TIE = 1e-3
Values = dict[tuple[str, str], dict[str, float]]
"""Numbers by target and metric, then by song."""


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        name: What it is called in tables.
        values: By target and metric, then by song; NaN where there is no score.
        songs: The songs, each with the fingerprint of its audio, if that is known.
        settings: What the numbers depend on besides model and songs, as far as it is known.
    """

    name: str
    values: Values
    songs: dict[str, str | None]
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """One evaluation against another in one metric of one target, over the songs that both have a score of.

    Attributes:
        baseline: Name of the evaluation that is compared with.
        other: Name of the evaluation that is compared.
        target: The target.
        metric: The metric.
        songs: How many songs count.
        baseline_median: Median over these songs.
        other_median: Median over these songs.
        median: Median of the differences other - baseline.
        mean: Their mean.
        interval: 95 % bootstrap interval of the median difference; NaN for a single song.
        better: Songs in which the other is better by 0.001 dB or more; for a few metrics that is a lower number.
        worse: Songs in which it is as much worse.
        p: Two-sided p-value of the sign test, songs without a difference left out.
    """

    baseline: str
    other: str
    target: str
    metric: str
    songs: int
    baseline_median: float
    other_median: float
    median: float
    mean: float
    interval: tuple[float, float]
    better: int
    worse: int
    p: float


def read_evaluation(path: Path) -> Evaluation:
    """Read a finished evaluation.

    Args:
        path: A model folder that was tested, an `evaluation.json`, or a folder of museval's files (`test/SONG.json`).

    Raises:
        DataError: There is nothing of the kind, or a file is damaged.
    """
    if path.is_dir() and not (path / "evaluation.json").is_file():
        files = sorted((path / "test").rglob("*.json")) or sorted(path.glob("*.json"))
        if not files or (path / "config.json").is_file():
            raise DataError(
                f"{path}: holds no evaluation; run `auralflow test {path} DATA` first, or name a folder with museval's "
                "test/SONG.json"
            )
        return _read_museval(path, files)
    file = path / "evaluation.json" if path.is_dir() else path
    data = _load(file)
    if data.get("kind") != KIND:
        raise DataError(f"{file}: is no evaluation.json of auralflow; of museval's files name their folder")
    try:
        return _from_document(str(path), data)
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{file}: is damaged; run `auralflow test` again") from None


def compare(evaluations: Sequence[Evaluation]) -> list[Difference]:
    """Compare each evaluation with the first one, in the columns that are in all of them.

    Raises:
        DataError: There are fewer than two, or they have no song, or no target and metric in common.
    """
    if len(evaluations) < 2:
        raise DataError("one evaluation has nothing to be compared with; name two or more")
    songs = common_songs(evaluations)
    if not songs:
        raise DataError(
            f"{' and '.join(one.name for one in evaluations)} have no song in common; test them on the same data"
        )
    first, *others = evaluations
    columns = [key for key in first.values if all(key in other.values for other in others)]
    if not columns:
        raise DataError(
            f"{' and '.join(one.name for one in evaluations)} have no target in common ("
            + "; ".join(", ".join(sorted({target for target, _ in one.values})) for one in evaluations)
            + ")"
        )
    return [_difference(first, other, *column, songs) for other in others for column in columns]


def common_songs(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return the songs that all evaluations have."""
    return [song for song in evaluations[0].songs if all(song in other.songs for other in evaluations[1:])]


def doubts(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return what speaks against a comparison: other songs, other audio, other settings."""
    first = evaluations[0]
    songs = common_songs(evaluations)
    lines = []
    for other in evaluations[1:]:
        names = f"{first.name} and {other.name}"
        for one, two in ((first, other), (other, first)):
            only = [song for song in one.songs if song not in two.songs]
            if only:
                lines.append(f"songs of {one.name} that {two.name} lacks do not count ({len(only)}): {_list(only)}")
        audio = [song for song in songs if None not in (a := (first.songs[song], other.songs[song])) and a[0] != a[1]]
        if audio:
            lines.append(f"songs whose audio is another in {names} ({len(audio)}): {_list(audio)}")
        if first.settings and other.settings:
            changed = [name for name in _SETTINGS if first.settings.get(name) != other.settings.get(name)]
            if changed:
                lines.append(f"{names} were tested with another {', '.join(changed)}")
    return lines


# Those that change the yardstick; a model's own settings may differ.
_SETTINGS = ("split", "backend", "metric", "window_seconds", "hop_seconds", "filter_length")


def sign_test(better: int, worse: int) -> float:
    """Return the two-sided p-value of the exact sign test: how often fair coins fall at least this unevenly.

    Source: Dixon and Mood, "The statistical sign test", 1946.
    """
    count = better + worse
    tail = sum(math.comb(count, number) for number in range(min(better, worse) + 1))
    return min(1.0, float(2 * tail / 2**count))


def _difference(first: Evaluation, other: Evaluation, target: str, metric: str, songs: Sequence[str]) -> Difference:
    pairs = np.array(
        [[one.values[target, metric].get(song, math.nan) for song in songs] for one in (first, other)], dtype=np.float64
    )
    baseline, compared = pairs[:, np.isfinite(pairs).all(axis=0)]
    found = compared - baseline
    gains = -found if metric in LOWER_IS_BETTER else found
    better, worse = int((gains >= _TIE).sum()), int((gains <= -_TIE).sum())
    middle = [float(np.median(row)) if len(found) else math.nan for row in (baseline, compared, found)]
    return Difference(
        first.name,
        other.name,
        target,
        metric,
        len(found),
        middle[0],
        middle[1],
        middle[2],
        float(found.mean()) if len(found) else math.nan,
        bootstrap_interval(found) if len(found) > 1 else (math.nan, math.nan),
        better,
        worse,
        sign_test(better, worse),
    )


def _from_document(name: str, data: Mapping[str, Any]) -> Evaluation:
    values: Values = {}
    for row in data["scores"]:
        for column, value in row.items():
            # Those of the mixture and of oracles (`irm_SDR`) are the same for every model.
            if column not in ("song", "target") and "_" not in column:
                number = math.nan if value is None else float(value)
                values.setdefault((row["target"], column), {})[row["song"]] = number
    return Evaluation(name, values, dict(data["songs"]), {**data["settings"], "split": data["data"]["split"]})


def _read_museval(path: Path, files: Sequence[Path]) -> Evaluation:
    """Read a folder of museval's files: medians over frames, beside the further numbers of files of ours."""
    values: Values = {}
    songs: dict[str, str | None] = {}
    for file in files:
        data = _load(file)
        own = data.get(OWN, {})
        song = own.get("song", file.stem)
        songs[song] = own.get("audio")
        try:
            for target in data["targets"]:
                for metric in BSS_METRICS:
                    frames = np.array([frame["metrics"][metric] for frame in target["frames"]], dtype=np.float64)
                    known = frames[np.isfinite(frames)]
                    median = float(np.median(known)) if len(known) else math.nan
                    values.setdefault((target["name"], metric), {})[song] = median
            for metric, numbers in own.get("scores", {}).items():
                for name, value in numbers.items():
                    values.setdefault((name, metric), {}).setdefault(song, float(value))
        except (KeyError, TypeError, ValueError):
            raise DataError(f"{file}: has not museval's layout; remove it, or score its song again") from None
    return Evaluation(str(path), values, songs)


def _load(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); score the songs again") from None
    if not isinstance(data, dict):
        raise DataError(f"{path}: holds no evaluation; score the songs again")
    return data


def _list(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest
