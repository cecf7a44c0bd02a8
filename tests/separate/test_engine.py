"""The streamed separator against overlap-add over the whole array."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import soxr
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from auralflow_core.errors import ConfigError
from auralflow_core.model import SeparationModel
from auralflow_core.separate import Separator

Audio = NDArray[np.float32]
ModelMaker = Callable[..., SeparationModel]

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def noise(channels: int, frames: int, seed: int = 0) -> Audio:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, frames)).astype(np.float32)


def music(channels: int, frames: int, rate: int) -> Audio:
    """Tones well inside the band of 8 kHz, which any conversion of the rate keeps; silent at both ends."""
    time = np.arange(frames) / rate
    tones = sum(np.sin(2 * np.pi * frequency * time + phase) for phase, frequency in enumerate((110, 440, 1000, 2200)))
    fade = np.sin(np.pi * np.arange(frames) / frames) ** 2
    return (0.2 * tones * fade * (1 + np.arange(channels)[:, None]) / channels).astype(np.float32)


def overlap_add(model: SeparationModel, audio: Audio, segment: int, overlap: int) -> Audio:
    """Cut the whole array into segments, the last moved back to the end, weigh each with its fades, and add."""
    length = audio.shape[1]
    hop = segment - overlap
    if length <= segment:
        return model.separate(torch.from_numpy(audio)).numpy()
    grid = [*range(0, length - segment, hop), length - segment]
    ramp = np.sin(0.5 * np.pi * (np.arange(overlap) + 0.5) / max(1, overlap)) ** 2
    output = np.zeros((len(model.targets), *audio.shape))
    for number, start in enumerate(grid):
        # A segment begins to count where the grid without the move would have it begin.
        begin = number * hop
        until = length if number == len(grid) - 1 else begin + segment
        weight = np.ones(until - begin)
        if number > 0:
            weight[:overlap] = ramp
        if number < len(grid) - 1:
            weight[len(weight) - overlap :] = 1 - ramp
        estimate = model.separate(torch.from_numpy(audio[:, start : start + segment])).numpy()
        output[..., begin:until] += weight * estimate[..., begin - start : until - start]
    return output


def cut(audio: Audio, sizes: list[int]) -> Iterator[Audio]:
    """Cut audio into blocks of the given sizes, over and over."""
    start, number = 0, 0
    while start < audio.shape[1]:
        size = sizes[number % len(sizes)]
        yield audio[:, start : start + size]
        start, number = start + size, number + 1


class TestOverlapAdd:
    @quick
    @given(
        length=st.integers(1, 2500),
        segment=st.integers(40, 700),
        overlap=st.floats(0, 0.5),
        channels=st.integers(1, 3),
    )
    def test_equals_the_whole_array(
        self, make_model: ModelMaker, length: int, segment: int, overlap: float, channels: int
    ) -> None:
        model = make_model(None)
        separator = Separator(model, segment=segment / 8000, overlap=overlap)
        audio = noise(channels, length)
        found = separator(torch.from_numpy(audio), 8000).numpy()
        expected = overlap_add(model, audio, segment, int(segment * overlap))
        assert found.shape == (2, channels, length)
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() < 1e-6

    @quick
    @given(
        length=st.integers(1, 3000),
        sizes=st.lists(st.integers(1, 900), min_size=1, max_size=4),
        rate=st.sampled_from([8000, 8000, 11025, 6000]),
    )
    def test_does_not_depend_on_the_blocks_to_the_bit(
        self, make_model: ModelMaker, length: int, sizes: list[int], rate: int
    ) -> None:
        separator = Separator(make_model(None), segment=0.03, overlap=0.25)
        audio = noise(2, length)
        parts = list(separator.stream(cut(audio, [max(size, length // 50) for size in sizes]), 2, rate))
        whole = list(separator.stream([audio], 2, rate))
        found, expected = (np.concatenate(blocks, axis=-1) for blocks in (parts, whole))
        assert found.shape == (2, 2, length)
        assert found.tobytes() == expected.tobytes()

    def test_empty_blocks_change_nothing(self, make_model: ModelMaker) -> None:
        separator = Separator(make_model(None))
        audio = noise(1, 1000)
        empty = audio[:, :0]
        found = list(separator.stream([empty, audio[:, :300], empty, audio[:, 300:], empty], 1, 8000))
        assert np.array_equal(np.concatenate(found, axis=-1), separator(torch.from_numpy(audio), 8000).numpy())

    @pytest.mark.parametrize("rate", [8000, 44100])
    def test_nothing_gives_nothing(self, make_model: ModelMaker, rate: int) -> None:
        assert Separator(make_model((1.0, 0.5)))(torch.zeros(2, 0), rate).shape == (2, 2, 0)

    def test_memory_is_that_of_a_segment(self, make_model: ModelMaker) -> None:
        """Output comes as the input goes in, not at the end."""
        taken = 0

        def blocks() -> Iterator[Audio]:
            nonlocal taken
            for _ in range(100):
                taken += 100
                yield noise(1, 100)

        given_out = 0
        for part in Separator(make_model(), segment=0.05, overlap=0.25).stream(blocks(), 1, 8000):
            given_out += part.shape[-1]
            assert taken - given_out <= 400 + 100
        assert given_out == taken == 10_000

    @pytest.mark.parametrize(
        ("settings_", "words"),
        [
            ({"segment": 0}, r"separation\.segment: 0"),
            ({"segment": -1}, r"separation\.segment: -1"),
            ({"overlap": 0.6}, r"separation\.overlap: 0\.6 is not in \[0, 0\.5\]"),
            ({"overlap": -0.1}, r"separation\.overlap: -0\.1"),
            ({"segment": float("nan")}, "segment"),
            ({"segment": float("inf")}, "segment"),
            ({"overlap": float("nan")}, "overlap"),
        ],
    )
    def test_values_out_of_range_are_refused(
        self, make_model: ModelMaker, settings_: dict[str, float], words: str
    ) -> None:
        with pytest.raises(ConfigError, match=words):
            Separator(make_model(), **settings_)

    def test_segment_and_overlap_come_from_the_config(self, make_model: ModelMaker) -> None:
        model = make_model(None, segment=0.02, overlap=0.5)
        audio = torch.from_numpy(noise(1, 3000))
        explicit = Separator(make_model(None), segment=0.02, overlap=0.5)(audio, 8000)
        assert torch.equal(Separator(model)(audio, 8000), explicit)
        assert not torch.equal(Separator(model, overlap=0.25)(audio, 8000), explicit)


class TestIdentity:
    @pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000])
    @pytest.mark.parametrize("channels", [1, 2, 6])
    def test_a_mask_of_one_gives_the_input_back(self, make_model: ModelMaker, rate: int, channels: int) -> None:
        audio = music(channels, rate + 17, rate)
        found = Separator(make_model((1.0,)), segment=0.2)(torch.from_numpy(audio), rate).numpy()
        assert found.shape == (1, channels, rate + 17)
        assert 20 * np.log10(np.abs(found[0] - audio).max() / np.abs(audio).max()) < -90

    @pytest.mark.parametrize("rate", [8000, 12000, 44100])
    @pytest.mark.parametrize("frames", [1, 2, 3, 50, 399, 400, 401, 700, 701])
    def test_length_is_exact_for_the_shortest_too(self, make_model: ModelMaker, rate: int, frames: int) -> None:
        audio = noise(1, frames)
        found = Separator(make_model((1.0, 0.5)), segment=0.05)(torch.from_numpy(audio), rate)
        assert found.shape == (2, 1, frames)
        assert torch.isfinite(found).all()

    def test_a_click_stays_where_it_was(self, make_model: ModelMaker) -> None:
        for rate in (16000, 44100):
            audio = np.zeros((1, rate), np.float32)
            audio[0, rate // 3] = 1
            found = Separator(make_model((1.0,)))(torch.from_numpy(audio), rate).numpy()
            expected = soxr.resample(soxr.resample(audio.T, rate, 8000), 8000, rate)[:, 0]
            assert np.argmax(np.abs(found[0, 0])) == np.argmax(np.abs(expected)) == rate // 3

    def test_a_constant_gain_leaves_no_seams(self, make_model: ModelMaker) -> None:
        audio = music(1, 8000, 8000)
        found = Separator(make_model((0.5,)), segment=0.03, overlap=0.3)(torch.from_numpy(audio), 8000).numpy()
        assert np.abs(found[0] - 0.5 * audio).max() < 1e-6
