"""PCM read where it lies, against libsndfile."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from auralflow_core.audio import audio_info
from auralflow_core.data.pcm import wav_source
from auralflow_core.errors import AuralflowError

SUBTYPES = ("PCM_16", "PCM_24", "PCM_32", "FLOAT")


def noise(frames: int, channels: int) -> np.ndarray:
    audio = np.random.default_rng(frames).uniform(-1, 1, (frames, channels))
    audio[:3] = [[-1], [0], [1 - 2**-23]]
    return audio


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("channels", [1, 2, 6])
@given(place=st.tuples(st.integers(0, 1000), st.integers(0, 1000)).map(sorted))
@settings(max_examples=10, deadline=None)
def test_the_samples_are_libsndfiles(
    container: str, subtype: str, channels: int, place: list[int], tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.mktemp("wav") / "a.wav"
    soundfile.write(path, noise(1000, channels), 8000, subtype, format=container)
    source = wav_source(audio_info(path))
    assert source is not None
    start, end = place
    expected = soundfile.read(path, dtype="float32", always_2d=True)[0].T[:, start:end]
    found = source.read(start, end - start)
    assert found.dtype == np.float32 and found.flags.c_contiguous
    assert np.array_equal(found, expected)


def test_chunks_before_the_samples_are_passed_by(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(100, 2), 8000, "PCM_16")
    content = path.read_bytes()
    extra = struct.pack("<4sI", b"LIST", 5) + b"12345\0"
    path.write_bytes(
        content[:4] + struct.pack("<I", len(content) + len(extra) - 8) + content[8:36] + extra + content[36:]
    )
    source = wav_source(audio_info(path))
    assert source is not None
    assert np.array_equal(source.read(0, 100), soundfile.read(path, dtype="float32")[0].T)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {"subtype": "ULAW"}),
        ("a.wav", {"subtype": "DOUBLE"}),
        ("a.wav", {"subtype": "PCM_16", "endian": "BIG"}),
        ("a.flac", {}),
        ("a.aiff", {}),
    ],
)
def test_what_has_to_be_decoded(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    soundfile.write(tmp_path / name, noise(100, 2), 8000, **options)
    assert wav_source(audio_info(tmp_path / name)) is None


def test_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(100, 2), 8000, "PCM_16")
    source = wav_source(audio_info(path))
    assert source is not None
    for start, frames in ((0, 101), (-1, 2), (100, 1)):
        with pytest.raises(AuralflowError, match="only 100 frames"):
            source.read(start, frames)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(AuralflowError, match="cut short"):
        source.read(50, 50)
    path.unlink()
    with pytest.raises(AuralflowError, match=r"a\.wav"):
        source.read(0, 1)
