"""Ensembles against means worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
import scipy.signal
import torch
from numpy.typing import NDArray

from auralflow_core.errors import ConfigError
from auralflow_core.model import SeparationModel
from auralflow_core.separate import BaseSeparator, Ensemble, Separator

Audio = NDArray[np.float32]
ModelMaker = Callable[..., SeparationModel]


def noise(channels: int, frames: int, seed: int = 0) -> Audio:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, frames)).astype(np.float32)


class Gains(BaseSeparator):
    """Gives each target the mixture times a gain, in blocks of a length of its own."""

    def __init__(self, block: int = 100, **gains: float) -> None:
        self._gains, self._block = gains, block
        self.held = self.most_held = 0

    @property
    def targets(self) -> list[str]:
        return list(self._gains)

    @property
    def sample_rate(self) -> int:
        return 8000

    def stream(
        self,
        blocks: Iterable[Audio],
        channels: int,
        sample_rate: int,
        *,
        on_fallback: Callable[[str], object] | None = None,
    ) -> Iterator[Audio]:
        waiting = np.zeros((channels, 0), np.float32)
        for block in blocks:
            waiting = np.concatenate([waiting, block], axis=1)
            while waiting.shape[1] >= self._block:
                yield self._estimates(waiting[:, : self._block])
                waiting = waiting[:, self._block :]
        yield self._estimates(waiting)

    def _estimates(self, audio: Audio) -> Audio:
        return np.stack([gain * audio for gain in self._gains.values()]).astype(np.float32)


class TestWaveform:
    def test_targets_are_the_union_and_each_is_averaged_over_those_that_have_it(self) -> None:
        ensemble = Ensemble([Gains(vocals=0.2, drums=0.5), Gains(block=333, bass=0.3, vocals=0.6)])
        assert ensemble.targets == ["vocals", "drums", "bass"]
        audio = noise(2, 5000)
        expected = np.array([0.4, 0.5, 0.3])[:, None, None] * audio
        assert np.abs(ensemble(audio, 8000) - expected).max() < 1e-6

    @pytest.mark.parametrize(
        ("weights", "vocals"),
        [([1, 3], 0.5), ([{"vocals": 1}, {"vocals": 3}], 0.5), ([{"vocals": 0}, 2], 0.6), ([{"drums": 5}, 1], 0.4)],
    )
    def test_weights(self, weights: list[float | dict[str, float]], vocals: float) -> None:
        ensemble = Ensemble([Gains(vocals=0.2, drums=0.5), Gains(vocals=0.6)], weights)
        audio = noise(1, 1000)
        found = ensemble(torch.from_numpy(audio), 8000)
        assert torch.allclose(found[0], vocals * torch.from_numpy(audio), atol=1e-6)
        assert torch.allclose(found[1], 0.5 * torch.from_numpy(audio), atol=1e-6)

    def test_input_is_pulled_evenly(self) -> None:
        taken = given = 0

        def blocks() -> Iterator[Audio]:
            nonlocal taken
            for _ in range(200):
                taken += 50
                yield noise(1, 50)

        ensemble = Ensemble([Gains(block=70, a=1.0), Gains(block=900, a=0.5), Gains(block=10, a=0.5)])
        for part in ensemble.stream(blocks(), 1, 8000):
            given += part.shape[-1]
            assert taken - given <= 900 + 50
        assert given == taken == 10_000

    def test_of_models_of_different_rates_and_segments(self, make_model: ModelMaker) -> None:
        members = [
            Separator(make_model(None, rate=8000), segment=0.05),
            Separator(make_model(None, rate=11025), segment=0.09),
        ]
        audio = noise(2, 6001)
        found = Ensemble(members)(audio, 8000)
        assert np.abs(found - (members[0](audio, 8000) + members[1](audio, 8000)) / 2).max() < 1e-6
        assert Ensemble(members).sample_rate == 11025

    def test_one_member_alone_is_itself_in_either_mode(self, make_model: ModelMaker) -> None:
        separator = Separator(make_model(None), segment=0.1)
        audio = noise(2, 20_000)
        for mode in ("waveform", "spectrum"):
            assert np.abs(Ensemble([separator], mode=mode)(audio, 8000) - separator(audio, 8000)).max() < 1e-5

    def test_sums_to_the_mixture(self) -> None:
        audio = noise(2, 7777)
        found = Ensemble([Gains(a=0.4, b=0.1), Gains(b=0.2)], sum_to_mixture=True)(audio, 8000)
        assert np.abs(found.sum(axis=0) - audio).max() < 1e-6

    @pytest.mark.parametrize(
        ("weights", "words"),
        [
            ([1], "1 for 2 separators"),
            ([1, -1], "0 or more"),
            ([0, 0], "above 0"),
            ([{"vocal": 1}, 1], "did you mean vocals"),
            ([float("nan"), 1], "0 or more"),
        ],
    )
    def test_weights_that_do_not_fit_are_refused(self, weights: list[float], words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            Ensemble([Gains(vocals=1.0), Gains(vocals=1.0)], weights)

    def test_none_at_all_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="at least one"):
            Ensemble([])


class TestSpectrum:
    @pytest.mark.parametrize("frames", [1, 1000, 4096, 30_000])
    def test_equals_the_whole_array(self, make_model: ModelMaker, frames: int) -> None:
        """Against scipy's transform of the whole signal, magnitudes averaged there."""
        members = [Separator(make_model(None), segment=0.1), Separator(make_model(None), segment=0.23)]
        audio = noise(2, frames)
        found = Ensemble(members, [1, 3], mode="spectrum")(audio, 8000)
        estimates = [member(audio, 8000) for member in members]
        window = scipy.signal.get_window("hann", 4096)
        transform = scipy.signal.ShortTimeFFT(window, 1024, 8000)
        spectra = [transform.stft(np.pad(estimate, ((0, 0), (0, 0), (3072, 4096)))) for estimate in estimates]
        magnitude = 0.25 * np.abs(spectra[0]) + 0.75 * np.abs(spectra[1])
        phase = np.angle(0.25 * spectra[0] + 0.75 * spectra[1])
        expected = transform.istft(magnitude * np.exp(1j * phase))[..., 3072 : 3072 + frames]
        assert found.shape == (2, 2, frames)
        assert np.abs(found - expected).max() < 1e-4

    def test_opposite_estimates_keep_their_level(self) -> None:
        """What the mean of audio would cancel."""
        audio = noise(1, 20_000)
        ensemble = Ensemble([Gains(a=1.0), Gains(a=-0.9)], mode="spectrum")
        assert np.abs(ensemble(audio, 8000)[0] - 0.95 * audio).max() < 1e-4
