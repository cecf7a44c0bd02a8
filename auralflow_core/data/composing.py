"""What chunks are made of: excerpts of stems, read, drawn again where they are silent, and laid over each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from auralflow_core.audio import match_channels, resample
from auralflow_core.config import DatasetConfig
from auralflow_core.data.drawing import REST, Drawer, Excerpt, has_residual
from auralflow_core.data.song import Audio, Song


class Layer(NamedTuple):
    """A piece of a chunk.

    Attributes:
        stem: The stem it is an excerpt of, or `REST`.
        excerpt: Where it comes from.
        gain: What it is multiplied with.
    """

    stem: str
    excerpt: Excerpt
    gain: float = 1.0


Piece = tuple[Layer, Tensor]
"""A layer and its audio, float32 `(channel, time)`, without its gain."""


class Composed(NamedTuple):
    """A chunk before augmentation.

    Attributes:
        layers: What it is made of.
        parts: Float32 `(part, channel, time)`: the targets; and the rest, if the mixture is their sum.
        whole: Where all of it lies side by side, unaltered; none if it does not.
    """

    layers: list[Layer]
    parts: Tensor
    whole: Excerpt | None


class StemReader:
    """Reads excerpts at the configured rate and channel count; what is shorter is followed by silence.

    Args:
        config: The settings of the group `dataset`.
        frames: Length of what is returned, in samples.
    """

    def __init__(self, config: DatasetConfig, frames: int) -> None:
        self._config = config
        self._frames = frames

    def mixture(self, excerpt: Excerpt) -> Tensor:
        """Return the song's mixture, float32 `(channel, time)`."""
        song, start, frames = excerpt
        return self._fitted(song.read_mixture(start, frames)[None], song)[0]

    def targets(self, excerpt: Excerpt) -> Tensor:
        """Return the targets, float32 `(target, channel, time)`; one that the song lacks is silent."""
        song, start, frames = excerpt
        names = self._config.targets
        present = [name for name in names if name in song.stems]
        audio = song.read_stems(present, start, frames)
        if len(present) < len(names):
            whole = np.zeros((len(names), *audio.shape[1:]), np.float32)
            whole[[names.index(name) for name in present]] = audio
            audio = whole
        return self._fitted(audio, song)

    def rest(self, excerpt: Excerpt, targets: Tensor) -> Tensor:
        """Return what the song holds besides the targets, float32 `(channel, time)`.

        It is the sum of its other stems, or else its mixture without the targets, or else silence.
        """
        song, start, frames = excerpt
        if has_residual(song, self._config):
            return self.mixture(excerpt) - targets.sum(0)
        others = [name for name in song.stems if name not in self._config.targets]
        return self._fitted(song.read_stems(others, start, frames).sum(axis=0)[None], song)[0]

    def stem(self, excerpt: Excerpt, name: str) -> Tensor:
        """Return one stem or `REST`, float32 `(channel, time)`."""
        if name == REST:
            return self.rest(excerpt, self.targets(excerpt))
        song, start, frames = excerpt
        return self._fitted(song.read_stems([name], start, frames), song)[0]

    def _fitted(self, audio: Audio, song: Song) -> Tensor:
        """Convert `(stem, channel, time)`."""
        config = self._config
        if song.sample_rate == config.sample_rate and audio.shape[1:] == (config.num_channels, self._frames):
            return torch.from_numpy(np.ascontiguousarray(audio, np.float32))
        fitted = torch.zeros(len(audio), config.num_channels, self._frames)
        for stem, place in zip(audio, fitted, strict=True):
            # soxr: at rates with no small ratio, such as 44056 to 44100 Hz, torchaudio's kernel takes gigabytes.
            converted = resample(match_channels(stem, config.num_channels), song.sample_rate, config.sample_rate)
            kept = np.ascontiguousarray(converted[:, : self._frames])
            place[:, : kept.shape[1]] = torch.from_numpy(kept)
        return fitted


class Composition:
    """One training chunk in the making.

    Args:
        drawer: Draws the excerpts.
        epoch: The chunk's epoch.
        number: Its number in the epoch.
        seed: Seed of the draws.
        rate: How much of a song becomes the chunk, as a multiple of its length.
    """

    def __init__(self, drawer: Drawer, epoch: int, number: int, *, seed: int, rate: float = 1.0) -> None:
        self._drawer = drawer
        self._rate = rate
        self._targets = drawer.config.targets
        self._sampling = drawer.config.sampling
        self._reader = StemReader(drawer.config, math.ceil(drawer.config.chunk_frames * rate))
        self._rng = np.random.default_rng([seed, epoch, number, 2])
        self._place = drawer.place(epoch, number)

    def compose(self, *, with_rest: bool) -> Composed:
        """Return the chunk.

        Args:
            with_rest: Whether the last part is read even where the song's own mixture would do.
        """
        if self._place.is_independent or self._happens(self._sampling.remix):
            pieces = self._from_many_songs()
            pieces += self._on_top(pieces)
            return Composed([layer for layer, _ in pieces], self._summed(pieces), None)
        excerpt, targets = self._from_one_song()
        pieces = [(Layer(name, excerpt), audio) for name, audio in zip(self._targets, targets, strict=True)]
        added = self._on_top(pieces)
        if not (added or with_rest):
            return Composed([layer for layer, _ in pieces], targets, excerpt)
        pieces += added
        parts = self._summed(pieces, self._reader.rest(excerpt, targets))
        return Composed([layer for layer, _ in pieces], parts, None if added else excerpt)

    def _summed(self, pieces: Sequence[Piece], rest: Tensor | None = None) -> Tensor:
        """Return the targets and the rest, each the sum of its pieces."""
        parts: list[Tensor | None] = [*(None for _ in self._targets), rest]
        for layer, audio in pieces:
            number = self._part(layer.stem)
            scaled, before = audio if layer.gain == 1 else audio * layer.gain, parts[number]
            parts[number] = scaled if before is None else before.add_(scaled)
        silence = torch.zeros(()).expand(pieces[0][1].shape)
        return torch.stack([silence if part is None else part for part in parts])

    def _from_one_song(self) -> tuple[Excerpt, Tensor]:
        """Return one excerpt and its targets: the planned one, or another if it is too quiet."""
        excerpt, lead = self._stretched(self._place.excerpt), self._place.lead
        audio = self._reader.targets(excerpt)
        for _ in range(self._sampling.retries):
            needed = [lead] if lead else [name for name in self._targets if name in excerpt.song.stems]
            if all(self._sounds(audio[self._targets.index(name)]) for name in needed):
                break
            excerpt = self._stretched(self._drawer.anywhere(self._rng, lead, aligned=True))
            audio = self._reader.targets(excerpt)
        return excerpt, audio

    def _from_many_songs(self) -> list[Piece]:
        """Return every stem from a song of its own; the leading one is where it was planned."""
        planned = self._place.excerpt
        lead = self._place.lead or next(iter(self._drawer.stems(planned.song)), "")
        return [self._piece(name, planned if name == lead else None) for name in self._drawer.names]

    def _on_top(self, pieces: Sequence[Piece]) -> list[Piece]:
        """Return further excerpts of the stems that a chunk, or its song, has."""
        low, high = self._sampling.mixup_gain
        songs = {id(layer.excerpt.song): layer.excerpt.song for layer, _ in pieces} if self._sampling.mixup else {}
        held = {name for song in songs.values() for name in self._drawer.stems(song)}
        added = []
        for name in [name for name in self._drawer.names if name in held]:
            for probability in self._sampling.mixup:
                if self._happens(probability):
                    gain = float(10 ** (self._rng.uniform(low, high) / 20))
                    layer, audio = self._piece(name)
                    added.append((layer._replace(gain=gain), audio))
        return added

    def _piece(self, name: str, planned: Excerpt | None = None) -> Piece:
        """Return an excerpt of one stem, the planned one if it is not too quiet."""
        excerpt = self._stretched(planned or self._drawer.anywhere(self._rng, name))
        audio = self._reader.stem(excerpt, name)
        for _ in range(self._sampling.retries):
            if name not in self._targets or self._sounds(audio):
                break
            excerpt = self._stretched(self._drawer.anywhere(self._rng, name))
            audio = self._reader.stem(excerpt, name)
        return Layer(name, excerpt), audio

    def _stretched(self, excerpt: Excerpt) -> Excerpt:
        """Return an excerpt as long as is needed, moved back where the song ends before."""
        if self._rate == 1:
            return excerpt
        song = excerpt.song
        frames = min(math.ceil(self._drawer.config.sample_length * song.sample_rate * self._rate), song.frames)
        return Excerpt(song, min(excerpt.start, song.frames - frames), frames)

    def _happens(self, probability: float) -> bool:
        return probability > 0 and bool(self._rng.random() < probability)

    def _sounds(self, audio: Tensor) -> bool:
        level = self._sampling.level
        return not level or float(torch.linalg.vector_norm(audio, 1)) >= level * audio.numel()

    def _part(self, name: str) -> int:
        return self._targets.index(name) if name in self._targets else len(self._targets)
