"""Songs on disk and in memory, whose every sample tells where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

Audio = NDArray[np.float32]
SongWriter = Callable[..., Path]


def noise(*shape: int, seed: int = 0) -> Audio:
    """White noise in [-0.2, 0.2]."""
    return np.random.default_rng(seed).uniform(-0.2, 0.2, shape).astype(np.float32)


@pytest.fixture
def write_song() -> SongWriter:
    """Write a folder of stems: `write_song(folder, stems={"vocals": audio}, rate=8000, suffix="wav")`."""

    def write(
        folder: Path,
        names: str = "vocals drums",
        *,
        stems: Mapping[str, Audio] | None = None,
        mixture: bool = True,
        frames: int = 4000,
        channels: int = 1,
        rate: int = 8000,
        suffix: str = "wav",
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        stems = dict(stems or {name: noise(channels, frames, seed=seed) for seed, name in enumerate(names.split())})
        if mixture:
            stems["mixture"] = np.sum(list(stems.values()), axis=0)
        for name, audio in stems.items():
            subtype = "FLOAT" if suffix == "wav" else "PCM_24"
            soundfile.write(folder / f"{name}.{suffix}", audio.T, rate, subtype=subtype)
        return folder

    return write
