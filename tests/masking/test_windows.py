from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from auralflow_core.errors import ConfigError
from auralflow_core.masking import Magnitudes, OverlapAdd, SpectrogramWindows
from auralflow_core.transforms import ISTFT, STFT


@settings(max_examples=100, deadline=None)
@given(
    num_fft=st.integers(2, 64),
    window_share=st.floats(0.3, 1),
    hop_share=st.floats(0.05, 0.7),
    padding=st.sampled_from(["zeros", "reflect"]),
    length=st.integers(1, 300),
    size=st.integers(1, 20),
    seed=st.integers(0, 9),
)
def test_windows_there_and_back_equal_the_whole_transform(
    num_fft: int, window_share: float, hop_share: float, padding: str, length: int, size: int, seed: int
) -> None:
    window_size = max(2, round(num_fft * window_share))
    hop = max(1, round(window_size * hop_share))
    try:
        stft = STFT(num_fft, window_size, hop, padding)
    except ConfigError:
        assume(False)
    generator = torch.Generator().manual_seed(seed)
    audio = torch.rand(2, 3, length, generator=generator) - 0.5
    whole = stft(audio)
    windows = SpectrogramWindows(stft, audio, size)
    assert windows.num_frames == whole.shape[-1]
    assert all(window.shape[-1] == size for window in list(windows)[:-1])
    torch.testing.assert_close(torch.cat(list(windows), dim=-1), whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.cat(list(Magnitudes(windows)), dim=-1), whole.abs(), atol=1e-6, rtol=0)

    # Changed, so that more than the way back of untouched audio is compared.
    changed = whole * torch.rand(whole.shape, generator=generator)
    joined = OverlapAdd(stft, audio.shape, windows.num_frames)
    for part in changed.split(size, dim=-1):
        joined.add(part)
    expected = ISTFT(num_fft, window_size, hop)(changed, length)
    torch.testing.assert_close(joined.audio(), expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 100, 4096, 9001])
def test_untouched_audio_comes_back(length: int) -> None:
    stft = STFT(1024, 1024, 256)
    audio = torch.rand(1, length, generator=torch.Generator().manual_seed(0)) - 0.5
    windows = SpectrogramWindows(stft, audio, 7)
    joined = OverlapAdd(stft, audio.shape, windows.num_frames)
    for window in windows:
        joined.add(window)
    torch.testing.assert_close(joined.audio(), audio, atol=1e-6, rtol=0)
