from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal
import soxr
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from auralflow_core.config.stft_sizes import check_nola
from auralflow_core.errors import ConfigError
from auralflow_core.transforms import ISTFT, STFT, mask_activation, resample

LEADING = [(), (1,), (2, 1), (2, 3, 2)]


def noise(*shape: int, seed: int = 0) -> Tensor:
    """White noise in [-1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def hann(size: int) -> np.ndarray:
    return np.sin(np.pi * np.arange(size) / size) ** 2


def dft_frames(audio: np.ndarray, num_fft: int, window_size: int, hop: int) -> np.ndarray:
    """The definition, frame by frame: `(bin, frame)` of `(time,)`, frame k centred on sample k * hop."""
    window = np.zeros(num_fft)
    left = (num_fft - window_size) // 2
    window[left : left + window_size] = hann(window_size)
    num_frames = math.ceil(len(audio) / hop) + 1
    padded = np.concatenate([np.zeros(num_fft), audio, np.zeros(2 * num_fft + hop)])
    starts = [num_fft + frame * hop - num_fft // 2 for frame in range(num_frames)]
    return np.stack([np.fft.rfft(window * padded[start : start + num_fft]) for start in starts], axis=1)


class TestRoundTrip:
    @settings(max_examples=150, deadline=None)
    @given(
        num_fft=st.integers(2, 96),
        window_share=st.floats(0.01, 1),
        hop_share=st.floats(0.01, 1.2),
        length=st.integers(1, 400),
        leading=st.sampled_from(LEADING),
        seed=st.integers(0, 9),
    )
    def test_every_size_that_is_taken_is_inverted(
        self, num_fft: int, window_share: float, hop_share: float, length: int, leading: tuple[int, ...], seed: int
    ) -> None:
        window_size = max(2, round(num_fft * window_share))
        hop = max(1, round(window_size * hop_share))
        try:
            stft, istft = STFT(num_fft, window_size, hop), ISTFT(num_fft, window_size, hop)
        except ConfigError:
            assume(False)
        audio = noise(*leading, length, seed=seed)
        spectrogram = stft(audio)
        assert spectrogram.shape == (*leading, num_fft // 2 + 1, -(-length // hop) + 1)
        rebuilt = istft(spectrogram, length)
        assert rebuilt.shape == audio.shape
        assert rebuilt.dtype == torch.float32
        assert (rebuilt - audio).abs().max() < 1e-5

    @pytest.mark.parametrize("hop", [1, 255, 256, 400, 511, 512, 513, 600, 700, 730])
    @pytest.mark.parametrize("length", [1, 300, 1024, 10_007])
    def test_default_window_with_any_hop(self, hop: int, length: int) -> None:
        length = min(length, 2000) if hop == 1 else length
        audio = noise(2, length)
        stft, istft = STFT(1024, 1024, hop), ISTFT(1024, 1024, hop)
        assert (istft(stft(audio), length) - audio).abs().max() < 1e-5

    def test_float64_is_kept(self) -> None:
        audio = noise(2, 5000).double()
        stft, istft = STFT(512).double(), ISTFT(512).double()
        rebuilt = istft(stft(audio), 5000)
        assert rebuilt.dtype == torch.float64
        assert (rebuilt - audio).abs().max() < 1e-13

    def test_defaults_are_full_window_and_half_hop(self) -> None:
        stft = STFT(256)
        assert (stft.window_size, stft.hop_length) == (256, 128)

    def test_gradients_go_both_ways(self) -> None:
        audio = noise(1, 2, 700).requires_grad_()
        rebuilt = ISTFT(128)(STFT(128)(audio), 700)
        rebuilt.square().sum().backward()
        assert audio.grad is not None
        assert torch.allclose(audio.grad, 2 * audio.detach(), atol=1e-4)

    def test_the_way_back_may_ask_for_another_length(self) -> None:
        audio = noise(1000)
        spectrogram = STFT(64)(audio)
        assert torch.allclose(ISTFT(64)(spectrogram, 900), audio[:900], atol=1e-5)


class TestForward:
    @pytest.mark.parametrize(
        ("num_fft", "window_size", "hop"), [(64, 64, 32), (64, 64, 7), (64, 40, 20), (65, 33, 11), (128, 128, 90)]
    )
    @pytest.mark.parametrize("length", [1, 2, 31, 64, 65, 640, 641])
    def test_equals_the_definition(self, num_fft: int, window_size: int, hop: int, length: int) -> None:
        audio = noise(length).double()
        found = STFT(num_fft, window_size, hop).double()(audio).numpy()
        expected = dft_frames(audio.numpy(), num_fft, window_size, hop)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-5

    @pytest.mark.parametrize(("num_fft", "hop"), [(256, 128), (256, 64), (512, 128)])
    def test_equals_scipy(self, num_fft: int, hop: int) -> None:
        audio = noise(10 * num_fft)
        window = scipy.signal.get_window("hann", num_fft)
        _, _, expected = scipy.signal.stft(
            audio.numpy(), window=window, nperseg=num_fft, noverlap=num_fft - hop, boundary="zeros", padded=True
        )
        found = STFT(num_fft, num_fft, hop)(audio).numpy() / window.sum()
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-6

    def test_items_do_not_leak_into_each_other(self) -> None:
        stft = STFT(64)
        batch = noise(3, 2, 500)
        assert torch.equal(stft(batch)[1, 1], stft(batch[1, 1]))

    def test_silence_stays_silent(self) -> None:
        stft, istft = STFT(64), ISTFT(64)
        assert not istft(stft(torch.zeros(2, 333)), 333).any()


class TestModule:
    @pytest.mark.parametrize("kind", [STFT, ISTFT])
    def test_window_moves_with_the_module_and_stays_out_of_its_state(self, kind: type[STFT] | type[ISTFT]) -> None:
        module = kind(128)
        assert [name for name, _ in module.named_buffers()] == ["window"]
        assert module.state_dict() == {}
        assert module.double().window.dtype == torch.float64
        assert module.to("meta").window.device.type == "meta"

    def test_window_is_periodic_hann(self) -> None:
        assert np.abs(STFT(64).window.numpy() - hann(64)).max() < 1e-6


class TestNola:
    @settings(max_examples=200, deadline=None)
    @given(window_size=st.integers(2, 600), hop_share=st.floats(0.002, 1.5))
    def test_agrees_with_scipy(self, window_size: int, hop_share: float) -> None:
        hop = max(1, round(window_size * hop_share))
        window = scipy.signal.get_window("hann", window_size)
        if hop > window_size or not scipy.signal.check_NOLA(window, window_size, window_size - hop):
            with pytest.raises(ConfigError):
                check_nola(window_size, window_size, hop)
        elif scipy.signal.check_NOLA(window, window_size, window_size - hop, tol=2e-3):
            check_nola(window_size, window_size, hop)

    def test_message_says_hop_window_and_remedy(self) -> None:
        with pytest.raises(ConfigError, match=r"hop_length 1000 .*window_size 1024.*at most 512") as caught:
            STFT(1024, 1024, 1000)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("sizes", "word"),
        [
            ((64, 65, 16), "window_size 65"),
            ((64, 1, 1), "window_size 1"),
            ((64, 64, -1), "hop_length -1"),
            # Not to be taken for "not given".
            ((64, 64, 0), "hop_length 0"),
        ],
    )
    @pytest.mark.parametrize("kind", [STFT, ISTFT])
    def test_impossible_sizes_are_refused(
        self, sizes: tuple[int, int, int], word: str, kind: type[STFT] | type[ISTFT]
    ) -> None:
        with pytest.raises(ConfigError, match=word):
            kind(*sizes)


def sine(frequency: float, rate: int, seconds: float = 0.5) -> np.ndarray:
    return np.asarray(0.9 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate), np.float64)


def inner(signal: np.ndarray) -> np.ndarray:
    """Without the ends, where the signal meets the silence outside."""
    edge = len(signal) // 5
    return signal[edge:-edge]


class TestResample:
    @settings(max_examples=30, deadline=None)
    @given(
        length=st.integers(1, 3000),
        from_rate=st.sampled_from([8000, 16000, 22050, 44100, 48000]),
        to_rate=st.sampled_from([8000, 22050, 44100]),
        leading=st.sampled_from(LEADING),
    )
    def test_length_is_the_ceiling(self, length: int, from_rate: int, to_rate: int, leading: tuple[int, ...]) -> None:
        found = resample(noise(*leading, length), from_rate, to_rate)
        assert found.shape == (*leading, math.ceil(length * to_rate / from_rate))

    def test_same_rate_is_the_same_signal(self) -> None:
        audio = noise(2, 100)
        assert torch.equal(resample(audio, 44100, 44100), audio)

    @pytest.mark.parametrize(
        ("from_rate", "to_rate"), [(44100, 48000), (48000, 44100), (44100, 22050), (8000, 44100), (44100, 16000)]
    )
    @pytest.mark.parametrize("share", [0.02, 0.5, 0.85])
    def test_tone_in_band_keeps_100_db(self, from_rate: int, to_rate: int, share: float) -> None:
        frequency = share * min(from_rate, to_rate) / 2
        found = resample(torch.from_numpy(sine(frequency, from_rate)), from_rate, to_rate).numpy()
        expected = sine(frequency, to_rate)
        error = inner(found[: len(expected)] - expected[: len(found)])
        assert 10 * np.log10(np.sum(inner(expected) ** 2) / np.sum(error**2)) >= 100

    @pytest.mark.parametrize(("from_rate", "to_rate"), [(44100, 22050), (48000, 16000), (48000, 44100)])
    def test_tone_above_the_new_band_vanishes(self, from_rate: int, to_rate: int) -> None:
        frequency = min(1.1 * to_rate / 2, 0.98 * from_rate / 2)
        found = resample(torch.from_numpy(sine(frequency, from_rate)), from_rate, to_rate).numpy()
        assert 20 * np.log10(np.abs(inner(found)).max() / 0.9) < -100

    def test_agrees_with_soxr_on_music_like_noise(self) -> None:
        smooth = scipy.signal.firwin(255, 0.7)
        audio = scipy.signal.lfilter(smooth, 1, noise(44100).numpy()).astype(np.float32)
        found = resample(torch.from_numpy(audio), 44100, 48000).numpy()
        expected = soxr.resample(audio, 44100, 48000, "VHQ")
        error = inner(found[:48000] - expected[:48000])
        assert 10 * np.log10(np.sum(inner(expected) ** 2) / np.sum(error**2)) >= 90


class TestMaskActivation:
    X = torch.linspace(-6, 6, 2 * 3 * 1 * 4 * 5).reshape(2, 3, 1, 4, 5)

    @pytest.mark.parametrize(
        ("name", "formula"),
        [
            ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
            ("hard_sigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1)),
            ("relu", lambda x: np.maximum(x, 0)),
            ("leaky_relu", lambda x: np.where(x > 0, x, 0.1 * x)),
            ("softplus", lambda x: np.log1p(np.exp(x))),
            ("tanh", np.tanh),
            ("identity", lambda x: x),
            ("softmax", lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)),
        ],
    )
    def test_formula(self, name: str, formula: object) -> None:
        found = mask_activation(name, leak_factor=0.1)(self.X).numpy()
        assert np.abs(found - formula(self.X.numpy().astype(np.float64))).max() < 1e-5  # type: ignore[operator]

    def test_every_name_that_the_config_takes_is_known(self) -> None:
        from typing import get_args

        from auralflow_core.config import MaskActivation

        for name in get_args(get_args(MaskActivation)[0]):
            assert mask_activation(name)(self.X).shape == self.X.shape

    def test_softmax_of_one_target_is_a_sigmoid(self) -> None:
        alone = self.X[:, :1]
        assert torch.allclose(mask_activation("softmax")(alone), alone.sigmoid())

    def test_unknown_name_gets_the_nearest(self) -> None:
        with pytest.raises(ConfigError, match="did you mean sigmoid"):
            mask_activation("sigmoit")
