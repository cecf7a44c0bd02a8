"""Scores of validation songs while a model is trained, by the metrics of `auralflow test` that need no filters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from auralflow_core.data.song import Song
from auralflow_core.metrics import frame_sdr, song_metrics
from auralflow_core.separate import Separator
from auralflow_core.trainer.callbacks import Callback, Epoch

if TYPE_CHECKING:
    from auralflow_core.trainer.loop import Trainer
    from auralflow_core.trainer.progress import Summary


# Scored audio, as a share of the audio that is trained on meanwhile. To separate costs a third of a training step on as
# much audio, so that scores take some 2 % of the time.
_SHARE = 0.06


class ValidationScores(Callback):
    """Separates the middle of some validation songs every few epochs and at the end, and tells `on_scores`.

    How many songs at most, how much of each and how often is set by `metric_songs`, `metric_length` and
    `metric_every_n_epochs` of the group `visuals`. Where epochs are short it is fewer songs, but always the same ones.
    """

    def __init__(self) -> None:
        self._last_step = -1

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """Score, if this epoch is one of those that are scored."""
        if epoch.epoch % trainer.model.config.visuals.metric_every_n_epochs == 0:
            self._score(trainer)

    def on_end(self, trainer: Trainer, summary: Summary) -> None:
        """Score what training ended with, unless somebody waits for it to stop."""
        if summary.reason != "interrupted":
            self._score(trainer)

    def _score(self, trainer: Trainer) -> None:
        step = trainer.progress.step
        if step == self._last_step:
            return
        self._last_step = step
        separator, seconds = Separator(trainer.model), trainer.model.config.visuals.metric_length
        songs = [score_excerpt(separator, song, seconds) for song in trainer.valid_data.songs[: _song_count(trainer)]]
        trainer.tell("on_scores", {name: _median([song[name] for song in songs]) for name in songs[0]})


def _song_count(trainer: Trainer) -> int:
    """Return how many songs are scored: as many as is set, or as the length of an epoch allows."""
    visuals, feed = trainer.model.config.visuals, trainer.feed
    trained = feed.batches * feed.batch_size * feed.data.config.sample_length * visuals.metric_every_n_epochs
    return min(visuals.metric_songs, max(1, int(_SHARE * trained / visuals.metric_length)))


def score_excerpt(separator: Separator, song: Song, seconds: float) -> dict[str, float]:
    """Score the middle of a song, at its own rate and channel count.

    Returns:
        By `metric/target`: SDR (the median over frames of one second), SI-SDR and uSDR in dB; NaN where the target, or
        for SDR any target, is silent.
    """
    targets = separator.targets
    frames = min(song.frames, round(seconds * song.sample_rate))
    start = (song.frames - frames) // 2
    estimates = separator(torch.from_numpy(song.read_mixture(start, frames)), song.sample_rate).numpy()
    references = song.read_stems(targets, start, frames)
    sdr = frame_sdr(references, estimates, window=song.sample_rate, hop=song.sample_rate)
    scores = song_metrics(references, estimates, sample_rate=song.sample_rate)
    columns = {
        "SDR": [_median(row) for row in sdr.tolist()],
        "SI-SDR": scores["SI-SDR"].tolist(),
        "uSDR": scores["uSDR"].tolist(),
    }
    return {
        f"{metric}/{target}": value
        for metric, values in columns.items()
        for target, value in zip(targets, values, strict=True)
    }


def _median(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.median(known)) if known else float("nan")
