"""Scores of validation songs while a model is trained, by the metrics of `auralflow test` that need no filters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from auralflow_core.data.song import Song
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
        songs = trainer.valid_data.songs[: _song_count(trainer)]
        trainer.tell("on_scores", _medians([score_excerpt(separator, song, seconds) for song in songs]))


def score_whole_songs(trainer: Trainer) -> dict[str, float]:
    """Score as many whole validation songs as is set, with the weights of the best checkpoint.

    Returns:
        By `metric/target`, medians over songs of what `score_excerpt` finds; nothing where no song is asked for.
    """
    songs = trainer.valid_data.songs[: trainer.config.validation.full_songs]
    if not songs:
        return {}
    separator = Separator(trainer.model)
    with _best_weights(trainer):
        scores = _medians([score_excerpt(separator, song) for song in songs])
    trainer.tell("on_scores", {f"songs/{name}": value for name, value in scores.items()})
    return scores


@contextmanager
def _best_weights(trainer: Trainer) -> Iterator[None]:
    """Give the network the weights of the best checkpoint, if there is one, for the time of the body."""
    network, step = trainer.model.network, trainer.progress.best_step
    if step < 0:
        yield
        return
    own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(trainer.store.load(step, "model"))
    try:
        yield
    finally:
        network.load_state_dict(own)


def _song_count(trainer: Trainer) -> int:
    """Return how many songs are scored: as many as is set, or as the length of an epoch allows."""
    visuals, feed = trainer.model.config.visuals, trainer.feed
    trained = feed.batches * feed.batch_size * feed.data.config.sample_length * visuals.metric_every_n_epochs
    return min(visuals.metric_songs, max(1, int(_SHARE * trained / visuals.metric_length)))


def score_excerpt(separator: Separator, song: Song, seconds: float = math.inf) -> dict[str, float]:
    """Score so many seconds of a song's middle, at its own rate and channel count.

    Returns:
        By `metric/target`: SDR (the median over frames of one second), SI-SDR and uSDR in dB; NaN where the target, or
        for SDR any target, is silent.
    """
    # Imported late: scipy takes a second and a half, which the first step need not wait for.
    from auralflow_core.metrics import frame_sdr, song_metrics

    targets = separator.targets
    frames = round(min(song.frames, seconds * song.sample_rate))
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


def _medians(songs: list[dict[str, float]]) -> dict[str, float]:
    return {name: _median([song[name] for song in songs]) for name in songs[0]}


def _median(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.median(known)) if known else float("nan")
