"""Separated excerpts of validation songs: for the ears in `audio/`, for the eyes in `images/`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from auralflow_core.audio import AudioWriter, match_channels
from auralflow_core.data.song import Song
from auralflow_core.files import atomic_file
from auralflow_core.layout import ModelFolder
from auralflow_core.trainer.callbacks import Callback, Epoch
from auralflow_core.transforms import resample

if TYPE_CHECKING:
    from auralflow_core.trainer.loop import Trainer
    from auralflow_core.trainer.progress import Summary


@dataclass(frozen=True)
class Snippet:
    """An excerpt of a song, separated.

    Attributes:
        song: The song's name.
        mixture: `(channel, time)`.
        targets: By target name, `(channel, time)`.
        estimates: By target name, `(channel, time)`.
        sample_rate: In Hz.
    """

    song: str
    mixture: Tensor
    targets: dict[str, Tensor]
    estimates: dict[str, Tensor]
    sample_rate: int


class SnippetMaker(Callback):
    """Separates excerpts every few epochs and at the end, and tells `on_snippets` of them."""

    def __init__(self) -> None:
        self._last_step = -1

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """Make snippets if this epoch is one of those that show some."""
        if epoch.epoch % trainer.model.config.visuals.every_n_epochs == 0:
            self._make(trainer)

    def on_end(self, trainer: Trainer, summary: Summary) -> None:
        """Make snippets of what training ended with, unless somebody waits for it to stop."""
        if summary.reason != "interrupted":
            self._make(trainer)

    def _make(self, trainer: Trainer) -> None:
        step = trainer.progress.step
        if step == self._last_step:
            return
        self._last_step = step
        songs = trainer.valid_data.songs[: trainer.model.config.visuals.num_snippets]
        trainer.tell("on_snippets", [make_snippet(trainer, song) for song in songs])


def make_snippet(trainer: Trainer, song: Song) -> Snippet:
    """Separate the middle of a song."""
    model = trainer.model
    frames = min(song.frames, round(model.config.visuals.snippet_length * song.sample_rate))
    start = (song.frames - frames) // 2
    mixture = song.read_mixture(start, frames)
    stems = song.read_stems(model.targets, start, frames)

    def convert(audio: Tensor) -> Tensor:
        return resample(audio, song.sample_rate, model.sample_rate)

    channels = model.config.dataset.num_channels
    mixed = convert(torch.from_numpy(match_channels(mixture, channels)))
    targets = {
        name: convert(torch.from_numpy(match_channels(stem, channels)))
        for name, stem in zip(model.targets, stems, strict=True)
    }
    estimates = dict(zip(model.targets, model.separate(mixed), strict=True))
    return Snippet(song.name, mixed, targets, estimates, model.sample_rate)


class AudioSnippets(Callback):
    """Writes `audio/epoch-0005/<song> - <target>.wav`."""

    def __init__(self, folder: ModelFolder) -> None:
        self._folder = folder.audio

    def on_snippets(self, trainer: Trainer, snippets: list[Snippet]) -> None:
        """Write each snippet's mixture, targets and estimates."""
        folder = self._folder / _epoch_name(trainer)
        for snippet in snippets:
            parts = {"mixture": snippet.mixture}
            parts |= {f"{name} target": audio for name, audio in snippet.targets.items()}
            parts |= {f"{name} estimate": audio for name, audio in snippet.estimates.items()}
            for name, audio in parts.items():
                path = folder / f"{snippet.song} - {name}.wav"
                with AudioWriter(path, snippet.sample_rate, audio.shape[0]) as writer:
                    writer.write(audio.numpy())


class ImageSnippets(Callback):
    """Writes `images/epoch-0005/<song> - <target>.png`."""

    def __init__(self, folder: ModelFolder) -> None:
        self._folder = folder.images

    def on_snippets(self, trainer: Trainer, snippets: list[Snippet]) -> None:
        """Draw each target of each snippet."""
        from auralflow_core.trainer.figures import snippet_figure

        folder = self._folder / _epoch_name(trainer)
        for snippet in snippets:
            for name in snippet.targets:
                with atomic_file(folder / f"{snippet.song} - {name}.png") as scratch:
                    snippet_figure(snippet, name, trainer.model.stft).savefig(scratch, format="png")


def _epoch_name(trainer: Trainer) -> str:
    return f"epoch-{trainer.progress.epoch:04d}"
