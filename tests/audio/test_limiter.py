"""The limiter: never above the ceiling, nothing changed where nothing exceeds it, whatever the blocks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from auralflow_core.audio import Limiter
from auralflow_core.errors import AudioError

Signal = NDArray[np.float32]
RATE = 8000
REACH = 80  # frames; ten milliseconds


def loud(frames: int, channels: int, level: float, seed: int) -> Signal:
    rng = np.random.default_rng(seed)
    swell = np.sin(np.arange(frames) / 1500) ** 2
    return (level * swell * rng.uniform(-1, 1, (channels, frames))).astype(np.float32)


def limited(sound: Signal, cuts: list[int], ceiling: float = 1.0) -> Signal:
    limiter = Limiter(sound.shape[0], RATE, ceiling)
    edges = [0, *sorted(min(cut, sound.shape[1]) for cut in cuts), sound.shape[1]]
    for _ in range(2):  # the end of a signal makes the limiter ready for another
        parts = [limiter.process(sound[:, a:b], last=i == len(edges) - 2) for i, (a, b) in enumerate(pairwise(edges))]
    return np.concatenate(parts, axis=1)


@given(
    frames=st.integers(0, 30_000),
    channels=st.integers(1, 3),
    level=st.floats(0.5, 30),
    ceiling=st.sampled_from([1.0, 0.5, 0.891]),
    cuts=st.lists(st.integers(0, 30_000), max_size=6),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_length_ceiling_and_blocks(
    frames: int, channels: int, level: float, ceiling: float, cuts: list[int], seed: int
) -> None:
    sound = loud(frames, channels, level, seed)
    result = limited(sound, cuts, ceiling)
    assert result.shape == sound.shape and result.dtype == np.float32
    assert np.abs(result).max(initial=0) <= np.float32(ceiling)
    np.testing.assert_array_equal(result, limited(sound, [], ceiling))
    # Polarity stays, nothing becomes louder, and what is out of reach of a peak is not touched.
    assert (np.abs(result) <= np.abs(sound)).all() and (result * sound >= 0).all()
    over = np.abs(sound).max(axis=0, initial=0) > np.float32(ceiling)
    near = np.convolve(over, np.ones(2 * REACH + 1), "same") > 0.5 if frames > 2 * REACH else np.ones(frames, bool)
    np.testing.assert_array_equal(result[:, ~near], sound[:, ~near])


def test_the_gain_is_smooth_and_the_same_in_all_channels() -> None:
    sound = np.full((2, 4000), 0.5, np.float32)
    sound[1] = 0.25
    sound[0, 2000] = 2.0
    gain = limited(sound, []) / sound
    np.testing.assert_allclose(gain[0], gain[1], rtol=1e-6)
    assert gain[0, 2000] == pytest.approx(0.5)
    # Over ten milliseconds on each side, without a step.
    assert np.abs(np.diff(gain[1])).max() < 0.03
    touched = np.flatnonzero(gain[1] != 1)
    assert REACH - 5 < 2000 - touched[0] <= REACH and REACH - 5 < touched[-1] - 2000 <= REACH


def test_a_peak_on_the_border_of_the_signal() -> None:
    for place in (0, -1):
        sound = np.full((1, 500), 0.5, np.float32)
        sound[0, place] = -4
        assert limited(sound, [3])[0, place] == -1


def test_nonsense_is_refused() -> None:
    for arguments in ((0, RATE, 1.0), (1, 0, 1.0), (1, RATE, 0.0), (1, RATE, float("nan"))):
        with pytest.raises(AudioError, match="must be positive"):
            Limiter(*arguments)
    with pytest.raises(AudioError, match=r"\(2, time\)"):
        Limiter(2, RATE).process(np.zeros((1, 5), np.float32))
