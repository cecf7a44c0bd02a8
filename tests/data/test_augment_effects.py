"""What each augmentation does, beside numpy, scipy and what the ear would find: level, pitch, place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from auralflow_core.data.augment.effects import EFFECTS

RATE = 16000
Array = NDArray[Any]

DRAWN: dict[str, dict[str, Any]] = {
    "mute": {},
    "tempo": {"rate": 1.25},
    "pitch": {"semitones": 3.0},
    "time_reversal": {},
    "eq": {"bands": [{"hz": 500.0, "db": 6.0, "q": 1.0}, {"hz": 3000.0, "db": -9.0, "q": 2.0}]},
    "high_pass": {"hz": 200.0},
    "low_pass": {"hz": 3000.0},
    "distortion": {"drive_db": 12.0},
    "clipping": {"cut_db": 6.0},
    "reverb": {"seconds": 0.5, "wet_db": -6.0, "seed": 5},
    "noise": {"snr_db": 20.0, "seed": 6},
    "mp3": {"kbps": 96.0},
    "channel_swap": {},
    "polarity": {},
    "gain": {"db": -6.0},
}


def audio(frames: int = RATE // 2, channels: int = 2, seed: int = 0) -> Tensor:
    """Return noise that is louder on the left, and louder later on."""
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, frames))
    return torch.tensor(noise * np.linspace(0.2, 1, frames) / np.arange(1, channels + 1)[:, None], dtype=torch.float32)


def apply(name: str, given: Tensor, **drawn: Any) -> Array:
    if name in ("pitch", "tempo"):
        pytest.importorskip("python_stretch")
    return EFFECTS[name].apply(given, RATE, **(drawn or DRAWN[name])).double().numpy()


def tone(hz: float, seconds: float = 1.0, channels: int = 1) -> Tensor:
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)
    return torch.tensor(np.tile(wave, (channels, 1)), dtype=torch.float32)


def impulse(frames: int, *places: int, channels: int = 1) -> Tensor:
    found = torch.zeros(channels, frames)
    found[:, list(places)] = 0.5
    return found


def strongest_hz(wave: Array) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 8 * len(wave)))
    return float(spectrum.argmax() * RATE / (8 * len(wave)))


def db(ratio: Any) -> Any:
    return 20 * np.log10(ratio)


@pytest.mark.parametrize("name", EFFECTS)
class TestEach:
    @pytest.mark.parametrize("channels", [1, 2])
    def test_shape_and_type_stay_and_the_input_too(self, name: str, channels: int) -> None:
        given_audio = audio(channels=channels)
        before = given_audio.clone()
        found = apply(name, given_audio)
        assert found.shape == (channels, round(RATE // 2 / DRAWN[name].get("rate", 1)))
        assert np.isfinite(found).all()
        assert torch.equal(given_audio, before)

    def test_it_is_drawn_once_and_made_again(self, name: str) -> None:
        assert np.array_equal(apply(name, audio()), apply(name, audio()))

    @pytest.mark.parametrize("frames", [1, 2, 1000])
    def test_silence_stays_silent_at_any_length(self, name: str, frames: int) -> None:
        assert not apply(name, torch.zeros(2, frames)).any()

    def test_it_does_something(self, name: str) -> None:
        found = apply(name, audio())
        assert found.shape != (2, RATE // 2) or not np.allclose(found, audio(), atol=1e-3)

    @pytest.mark.parametrize("level", [1e-4, 4.0])
    def test_what_it_does_does_not_depend_on_the_level(self, name: str, level: float) -> None:
        found = apply(name, audio() * level) / level
        tolerance = {"mp3": 0.05, "pitch": 0.01}.get(name, 1e-4)
        assert np.abs(found - apply(name, audio())).max() < tolerance


class TestLevel:
    @given(level=st.floats(-60, 20))
    def test_gain_is_in_decibels(self, level: float) -> None:
        ratio = np.abs(apply("gain", audio(100), db=level)).max() / np.abs(audio(100).numpy()).max()
        assert db(ratio) == pytest.approx(level, abs=1e-4)

    def test_signs_channels_and_directions(self) -> None:
        given_audio = audio().numpy()
        assert np.array_equal(apply("polarity", audio()), -given_audio)
        assert np.array_equal(apply("channel_swap", audio()), given_audio[::-1])
        assert np.array_equal(apply("time_reversal", audio()), given_audio[:, ::-1])
        assert np.array_equal(apply("channel_swap", audio(channels=1)), audio(channels=1))


class TestFilters:
    """Each one beside scipy's response of the analogue filter, at every frequency at once."""

    def response(self, name: str, **drawn: Any) -> tuple[Array, Array]:
        found = apply(name, impulse(2 * RATE, RATE), **drawn)[0]
        # An impulse in the middle, taken back to the start: no phase means no delay.
        spectrum = np.fft.rfft(np.roll(found, -RATE)) / 0.5
        assert np.abs(spectrum.imag).max() < 1e-3
        return np.fft.rfftfreq(2 * RATE, 1 / RATE), spectrum.real

    @settings(max_examples=30, deadline=None)
    @given(hz=st.floats(100, 7000), level=st.floats(-20, 20), q=st.floats(0.3, 4))
    def test_eq(self, hz: float, level: float, q: float) -> None:
        frequencies, found = self.response("eq", bands=[{"hz": hz, "db": level, "q": q}])
        amplitude, centre = 10 ** (level / 40), 2 * np.pi * hz
        numerator = [1, amplitude / q * centre, centre**2]
        denominator = [1, centre / (amplitude * q), centre**2]
        _, expected = scipy.signal.freqs(numerator, denominator, 2 * np.pi * frequencies)
        assert np.allclose(found, np.abs(expected), atol=3e-3 * max(1, 10 ** (level / 20)))

    def test_bands_multiply(self) -> None:
        bands = DRAWN["eq"]["bands"]
        _, both = self.response("eq", bands=bands)
        single = [self.response("eq", bands=[band])[1] for band in bands]
        assert np.allclose(both, single[0] * single[1], atol=1e-3)

    @settings(max_examples=20, deadline=None)
    @given(hz=st.floats(40, 7000), kind=st.sampled_from(["low_pass", "high_pass"]))
    def test_cuts_are_butterworths_of_second_order(self, hz: float, kind: str) -> None:
        frequencies, found = self.response(kind, hz=hz)
        design = scipy.signal.butter(2, 2 * np.pi * hz, kind.replace("_", ""), analog=True)
        _, expected = scipy.signal.freqs(*design, 2 * np.pi * frequencies)
        assert np.allclose(found, np.abs(expected), atol=3e-3)


class TestReverb:
    def room(self, seconds: float, wet_db: float, frames: int = 2 * RATE, seed: int = 1) -> Array:
        return apply("reverb", impulse(frames, 0, channels=2), seconds=seconds, wet_db=wet_db, seed=seed) / 0.5

    def test_it_is_a_convolution_with_one_room(self) -> None:
        expected = scipy.signal.fftconvolve(audio().numpy(), self.room(0.5, -6, RATE // 2, 5), axes=-1)
        assert np.allclose(apply("reverb", audio()), expected[:, : RATE // 2], atol=1e-4)

    @pytest.mark.parametrize(("seconds", "wet_db"), [(0.3, -6.0), (1.5, -20.0)])
    def test_it_decays_by_60_db_and_has_its_level(self, seconds: float, wet_db: float) -> None:
        room = self.room(seconds, wet_db)
        room[:, 0] -= 1  # the direct sound
        left = np.cumsum(room[:, ::-1] ** 2, axis=-1)[:, ::-1]  # Schroeder, 1965: what comes later
        assert 10 * np.log10(left[:, 0]) == pytest.approx([wet_db, wet_db], abs=0.01)
        after = round(seconds / 3 * RATE)
        assert 10 * np.log10(left[:, after] / left[:, 0]) == pytest.approx([-20, -20], abs=1)

    def test_rooms_differ_by_seed_and_channel(self) -> None:
        room, other = self.room(0.5, -6), self.room(0.5, -6, seed=2)
        assert abs(np.corrcoef(room[0, 1:], room[1, 1:])[0, 1]) < 0.1
        assert abs(np.corrcoef(room[0, 1:], other[0, 1:])[0, 1]) < 0.1


class TestDamage:
    @settings(max_examples=30, deadline=None)
    @given(drive=st.floats(0, 60), level=st.floats(1e-3, 2))
    def test_distortion_is_a_tanh_that_keeps_the_peak(self, drive: float, level: float) -> None:
        given_audio = audio(500) * level
        peak, factor = float(given_audio.abs().max()), 10 ** (drive / 20)
        expected = peak * np.tanh(given_audio.double().numpy() * factor / peak) / np.tanh(factor)
        assert np.allclose(apply("distortion", given_audio, drive_db=drive), expected, atol=2e-6 * level)
        assert np.abs(expected).max() == pytest.approx(peak)

    @settings(max_examples=30, deadline=None)
    @given(cut=st.floats(0, 40))
    def test_clipping_cuts_below_the_peak(self, cut: float) -> None:
        given_audio = audio(500).double().numpy()
        limit = np.abs(given_audio).max() * 10 ** (-cut / 20)
        assert np.allclose(apply("clipping", audio(500), cut_db=cut), given_audio.clip(-limit, limit), atol=1e-6)

    @pytest.mark.parametrize("snr_db", [-10.0, 20.0, 60.0])
    def test_noise_is_white_and_has_its_level(self, snr_db: float) -> None:
        given_audio = audio().double().numpy()
        added = apply("noise", audio(), snr_db=snr_db, seed=3) - given_audio
        assert db(given_audio.std() / added.std()) == pytest.approx(snr_db, abs=0.2)
        whole = np.fft.rfft(added[0])
        low, high = np.abs(whole[: len(whole) // 2]).mean(), np.abs(whole[len(whole) // 2 :]).mean()
        assert db(low / high) == pytest.approx(0, abs=0.5)
        assert abs(np.corrcoef(added)[0, 1]) < 0.05

    @pytest.mark.parametrize("channels", [1, 2])
    @pytest.mark.parametrize("rate", [8000, 44100])
    def test_mp3_keeps_the_place_and_loses_less_at_higher_rates(self, rate: int, channels: int) -> None:
        wave = scipy.signal.lfilter([1], [1, -0.95], audio(rate, channels).numpy()).astype(np.float32)
        lost = []
        for kbps in (64.0, 320.0):
            found = EFFECTS["mp3"].apply(torch.from_numpy(wave), rate, kbps=kbps).numpy()
            correlation = scipy.signal.correlate(found[0], wave[0], method="fft")
            assert correlation.argmax() == len(wave[0]) - 1
            lost.append(np.square(found - wave).mean() / np.square(wave).mean())
        assert lost[0] < 0.1
        assert lost[1] < lost[0] or rate == 8000  # where 64 kbit/s is the highest


@pytest.mark.parametrize("channels", [1, 2])
class TestStretch:
    @pytest.mark.parametrize("semitones", [-5.0, 0.5, 4.0])
    def test_pitch_moves_frequencies(self, semitones: float, channels: int) -> None:
        found = apply("pitch", tone(440, channels=channels), semitones=semitones)
        for wave in found:
            assert strongest_hz(wave) == pytest.approx(440 * 2 ** (semitones / 12), rel=0.01)

    @pytest.mark.parametrize("semitones", [-5.0, 0.5, 4.0])
    def test_pitch_moves_nothing_in_time(self, semitones: float, channels: int) -> None:
        for place in (20, 3000, 15980):
            found = apply("pitch", impulse(RATE, place, channels=channels), semitones=semitones)
            assert np.abs(np.abs(found).argmax(axis=-1) - place).max() <= 2

    @pytest.mark.parametrize("rate", [0.5, 0.9, 1.1, 2.0])
    def test_tempo_keeps_frequencies_and_changes_places(self, rate: float, channels: int) -> None:
        wave = apply("tempo", tone(440, channels=channels), rate=rate)[0]
        assert len(wave) == round(RATE / rate)
        assert strongest_hz(wave) == pytest.approx(440, rel=0.01)
        for place in (20, 8000, 15900):
            found = apply("tempo", impulse(RATE, place, channels=channels), rate=rate)
            assert np.abs(np.abs(found).argmax(axis=-1) - place / rate).max() <= RATE // 400
