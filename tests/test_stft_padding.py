"""The transform that mirrors the audio at its ends, against torch's own centred one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from auralflow_core.config import Config, validate
from auralflow_core.errors import ConfigError
from auralflow_core.transforms import ISTFT, STFT


@settings(max_examples=80, deadline=None)
@given(
    num_fft=st.integers(2, 64),
    window_share=st.floats(0.3, 1),
    hop_share=st.floats(0.05, 0.7),
    length=st.integers(1, 300),
    seed=st.integers(0, 9),
)
def test_mirrored_ends(num_fft: int, window_share: float, hop_share: float, length: int, seed: int) -> None:
    window_size = max(2, round(num_fft * window_share))
    hop = max(1, round(window_size * hop_share))
    try:
        stft = STFT(num_fft, window_size, hop, "reflect")
    except ConfigError:
        assume(False)
    audio = torch.rand(2, length, generator=torch.Generator().manual_seed(seed)) - 0.5
    found = stft(audio)
    if length > num_fft // 2:
        expected = torch.stft(audio, num_fft, hop, window_size, stft.window, pad_mode="reflect", return_complex=True)
        # Of an odd number, torch pads one sample less.
        assert num_fft % 2 or 4 * hop > window_size or found.shape == expected.shape
        common = expected.shape[-1]
        torch.testing.assert_close(found[..., :common], expected, atol=1e-5, rtol=1e-5)
    rebuilt = ISTFT(num_fft, window_size, hop)(found, length)
    assert (rebuilt - audio).abs().max() < 1e-5


@pytest.mark.parametrize("seconds", [1, 1.0001, 1.5])
@pytest.mark.parametrize("hop", [256, 512])
@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_the_configuration_knows_the_number_of_frames(seconds: float, hop: int, padding: str) -> None:
    dataset = {"sample_rate": 8192, "hop_length": hop, "stft_padding": padding, "sample_length": seconds}
    config = validate(Config, {"model": {"type": "any"}, "dataset": dataset}).dataset
    stft = STFT(config.num_fft, config.window_size, config.hop_length, config.stft_padding)
    assert stft(torch.zeros(config.chunk_frames)).shape == (config.num_bins, config.num_frames)
