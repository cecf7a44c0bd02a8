"""What the tests of audio share."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

Signal = NDArray[np.float32]


@pytest.fixture(scope="session")
def music() -> Callable[..., Signal]:
    """Return a function that makes decaying notes and bursts of noise, `(channel, frames)`, each channel its own."""

    def make(frames: int, channels: int = 2, rate: int = 44100, seed: int = 0) -> Signal:
        rng = np.random.default_rng(seed)
        time = np.arange(frames) / rate
        tones = [0.2 * np.sin(2 * np.pi * (rate / 100) * (1 + c / 3) * time) for c in range(channels)]
        envelope = np.exp(-3 * (time % 0.3)) * ((time % 0.5) < 0.4)
        noise = rng.standard_normal((channels, frames)) * ((time % 0.4) < 0.1)
        return np.asarray(np.array(tones) * envelope + 0.05 * noise, np.float32)

    return make


@pytest.fixture(scope="session")
def picture() -> bytes:
    """Return a PNG of two by two pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = zlib.compress(2 * (b"\0" + bytes(6)))
    header = struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
