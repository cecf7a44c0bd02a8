"""Scores of a model on a data set, by BSSEval v4 as museval computes it."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from auralflow_core.data.song import Song
from auralflow_core.files import write_text
from auralflow_core.metrics import bss_eval, frame_sdr
from auralflow_core.separate import Separator

Backend = Literal["auralflow", "museval"]
METRICS = ("SDR", "ISR", "SIR", "SAR")
MEDIAN = "median"


@dataclass(frozen=True)
class Score:
    """The scores of one target of one song in dB: medians over frames of one second.

    `mixture_sdr` is the score of the mixture itself, taken as the estimate: what separation has to beat.
    """

    song: str
    target: str
    sdr: float
    isr: float
    sir: float
    sar: float
    mixture_sdr: float

    @property
    def values(self) -> tuple[float, ...]:
        """SDR, ISR, SIR, SAR and the mixture's SDR."""
        return (self.sdr, self.isr, self.sir, self.sar, self.mixture_sdr)


def evaluate(
    separator: Separator,
    songs: Sequence[Song],
    *,
    backend: Backend = "auralflow",
    progress: Callable[[Song, list[Score]], None] | None = None,
) -> list[Score]:
    """Separate songs and score each target.

    Args:
        separator: The separator.
        songs: Songs that have every target.
        backend: `auralflow` computes BSSEval v4 itself, `museval` lets the museval package do it.
        progress: Called after each song.

    Raises:
        DataError: A song lacks a target.
    """
    targets = separator.model.targets
    for song in songs:
        song.require(targets)
    scores = []
    for song in songs:
        found = score_song(separator, song, backend)
        scores += found
        if progress:
            progress(song, found)
    return scores


def score_song(separator: Separator, song: Song, backend: Backend = "auralflow") -> list[Score]:
    """Separate one song and score each target.

    The stems that the model does not estimate are scored against as one: their sum is a further reference, and what
    the estimates leave of the mixture is its estimate.
    """
    targets = separator.model.targets
    mixture = song.read_mixture()
    references = song.read_stems(targets)
    estimates = separator(torch.from_numpy(mixture), song.sample_rate).numpy()
    others = [name for name in song.stems if name not in targets]
    if others:
        rest = song.read_stems(others).sum(axis=0, keepdims=True)
        references = np.concatenate([references, rest])
        estimates = np.concatenate([estimates, mixture[None] - estimates.sum(axis=0, keepdims=True)])
    frames = _metric_frames(references, estimates, song.sample_rate, backend)
    mixtures = np.broadcast_to(mixture, references.shape)
    mixture_sdr = frame_sdr(references, mixtures, window=song.sample_rate, hop=song.sample_rate)
    scores = []
    for number, target in enumerate(targets):
        sdr, isr, sir, sar = (_median(frames[metric][number]) for metric in METRICS)
        scores.append(Score(song.name, target, sdr, isr, sir, sar, _median(mixture_sdr[number])))
    return scores


def medians(scores: Sequence[Score]) -> list[Score]:
    """Return each target's median over songs, under the song name `median`; songs without a score do not count."""
    targets = list(dict.fromkeys(score.target for score in scores))
    rows = []
    for target in targets:
        columns = zip(*(score.values for score in scores if score.target == target), strict=True)
        rows.append(Score(MEDIAN, target, *(_median(np.array(column)) for column in columns)))
    return rows


def write_csv(path: Path, scores: Sequence[Score]) -> None:
    """Write the scores of each song and target, and the medians over songs, in dB."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["song", "target", *METRICS, "mixture_SDR"])
    for score in [*scores, *medians(scores)]:
        writer.writerow([score.song, score.target, *(f"{value:.5f}" for value in score.values)])
    write_text(path, text.getvalue())


def _metric_frames(
    references: NDArray[np.float32], estimates: NDArray[np.float32], sample_rate: int, backend: Backend
) -> dict[str, NDArray[np.float64]]:
    """Return each metric's values `(target, frame)`, for frames of one second."""
    if backend == "auralflow":
        scores = bss_eval(references, estimates, window=sample_rate, hop=sample_rate)
        return {"SDR": scores.sdr, "ISR": scores.isr, "SIR": scores.sir, "SAR": scores.sar}
    from museval.metrics import bss_eval as museval_bss_eval

    by_time = [np.moveaxis(audio, 1, 2).astype(np.float64) for audio in (references, estimates)]
    try:
        sdr, isr, sir, sar, _ = museval_bss_eval(*by_time, window=sample_rate, hop=sample_rate)
    except ValueError:
        # museval refuses a song with a wholly silent source; such a song has no score.
        sdr = isr = sir = sar = np.full((len(references), 1), math.nan)
    return {"SDR": sdr, "ISR": isr, "SIR": sir, "SAR": sar}


def _median(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(statistics.median(known.tolist())) if len(known) else math.nan
