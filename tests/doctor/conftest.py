"""Small songs without faults."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auralflow_core.data.synth import render_song

RATE = 8000
SONGS = {"train": 4, "valid": 1, "test": 2}


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set of rendered songs of twelve seconds; its files are shared."""
    root = tmp_path_factory.mktemp("doctor") / "songs"
    for part, (split, count) in enumerate(SONGS.items()):
        for number in range(count):
            folder = root / split / f"{split} {number}"
            folder.mkdir(parents=True)
            stems = render_song([part, number], 12.0, RATE)
            for name, audio in {**stems, "mixture": np.asarray(sum(stems.values()))}.items():
                soundfile.write(folder / f"{name}.wav", audio.T, RATE, subtype="PCM_16")
    return root


@pytest.fixture
def songs(rendered: Path, tmp_path: Path) -> Path:
    """Return a copy of the data set, to plant a fault in."""
    return Path(shutil.copytree(rendered, tmp_path / "songs"))
