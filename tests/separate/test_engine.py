"""The streamed separator against overlap-add over the whole array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

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


def overlap_add(model: SeparationModel, audio: Audio, segment: int, overlap: float, window: str = "cosine") -> Audio:
    """Cut the whole array, mirrored at its ends, into segments, the last moved back; take the weighted mean."""
    hop = int((1 - overlap) * segment)
    context = (segment - hop) // 2
    audio = np.pad(audio, ((0, 0), (context, context)), mode="reflect")
    length = audio.shape[1]
    starts = [*range(0, max(0, length - segment), hop), max(0, length - segment)]
    weights = weights_of(window, segment, segment - hop)
    output = np.zeros((len(model.targets), *audio.shape))
    total = np.zeros(length)
    for start in starts:
        estimate = model.separate(torch.from_numpy(audio[:, start : start + segment])).numpy()
        frames = estimate.shape[-1]
        output[..., start : start + frames] += weights[:frames] * estimate
        total[start : start + frames] += weights[:frames]
    output, total = output[..., context : length - context], total[context : length - context]
    return np.asarray(output / total, np.float32)


def weights_of(window: str, segment: int, overlap: int) -> NDArray[np.float64]:
    place = np.arange(segment)
    if not overlap and window == "cosine":
        return np.ones(segment)
    if window == "triangle":
        rising = (place + 1.0)[: segment // 2]
        return np.concatenate([rising, np.arange(segment - segment // 2, 0, -1.0)]) / (segment - segment // 2)
    to_border = np.minimum(place, place[::-1]) + 0.5
    return np.sin(0.5 * np.pi * np.minimum(1, to_border / overlap)) ** 2


def demucs_apply(
    model: SeparationModel, audio: Audio, segment: int, overlap: float, valid_length: Callable[[int], int]
) -> Audio:
    """Separate as `demucs.apply.apply_model(shifts=0, split=True)` does, from its description."""
    length = audio.shape[1]
    stride = int((1 - overlap) * segment)
    weights = weights_of("triangle", segment, 0)
    output = np.zeros((len(model.targets), *audio.shape))
    total = np.zeros(length)
    border = valid_length(segment)
    wide = np.pad(audio, ((0, 0), (border, border)))
    for offset in range(0, length, stride):
        chunk = min(segment, length - offset)
        before = (valid_length(chunk) - chunk) // 2
        begin = border + offset - before
        estimate = model.separate(torch.from_numpy(wide[:, begin : begin + valid_length(chunk)].copy())).numpy()
        output[..., offset : offset + chunk] += weights[:chunk] * estimate[..., before : before + chunk]
        total[offset : offset + chunk] += weights[:chunk]
    return np.asarray(output / total, np.float32)


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
        window=st.sampled_from(["cosine", "triangle"]),
    )
    def test_equals_the_whole_array(
        self, make_model: ModelMaker, length: int, segment: int, overlap: float, channels: int, window: str
    ) -> None:
        model = make_model(None)
        separator = Separator(model, segment=segment / 8000, overlap=overlap, window=window)
        audio = noise(channels, length)
        found = separator(audio, 8000)
        expected = overlap_add(model, audio, segment, overlap, window)
        assert found.shape == (2, channels, length)
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() < 1e-6

    @quick
    @given(
        length=st.integers(1, 2500),
        segment=st.integers(40, 700),
        overlap=st.sampled_from([0, 0.25, 0.4, 0.5]),
        block=st.integers(1, 700),
        step=st.sampled_from([None, 1, 37, 1000]),
    )
    def test_padded_segments_lie_where_demucs_has_them(
        self, make_model: ModelMaker, length: int, segment: int, overlap: float, block: int, step: int | None
    ) -> None:
        """Of a network that can do with any length, one that declares none, and ones that want multiples of a step."""
        model = make_model(None)

        def valid_length(frames: int) -> int:
            return -(-frames // step) * step if step else segment

        if step:
            object.__setattr__(model.network, "valid_length", valid_length)
        separator = Separator(model, segment=segment / 8000, overlap=overlap, window="triangle", final_segment="padded")
        audio = noise(2, length)
        found = np.concatenate(list(separator.stream(cut(audio, [block]), 2, 8000)), axis=-1)
        assert np.abs(found - demucs_apply(model, audio, segment, overlap, valid_length)).max() < 1e-6

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
        for part in Separator(make_model(), segment=0.05, overlap=0.25, threads=1).stream(blocks(), 1, 8000):
            given_out += part.shape[-1]
            # Two segments of 400 are in the works, and what they overlap waits for the next.
            assert taken - given_out <= 3 * 400 + 50 + 100
        assert given_out == taken == 10_000

    @pytest.mark.parametrize(
        ("settings_", "words"),
        [
            ({"segment": 0}, r"separation\.segment: 0"),
            ({"segment": -1}, r"separation\.segment: -1"),
            ({"overlap": 0.6}, r"separation\.overlap: 0\.6 must be less than or equal to 0\.5"),
            ({"overlap": -0.1}, r"separation\.overlap: -0\.1"),
            ({"segment": float("nan")}, "segment"),
            ({"segment": float("inf")}, "segment"),
            ({"overlap": float("nan")}, "overlap"),
            ({"segmnt": 5}, "did you mean segment"),
            ({"window": "cosin"}, r"separation\.window: .*did you mean cosine"),
            ({"threads": 0}, "threads: 0"),
            ({"batch_size": 0}, "batch_size: 0"),
        ],
    )
    def test_values_out_of_range_are_refused(
        self, make_model: ModelMaker, settings_: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(ConfigError, match=words):
            Separator(make_model(), **settings_)

    def test_segment_and_overlap_come_from_the_config(self, make_model: ModelMaker) -> None:
        model = make_model(None, segment=0.02, overlap=0.5)
        audio = torch.from_numpy(noise(1, 3000))
        explicit = Separator(make_model(None), segment=0.02, overlap=0.5)(audio, 8000)
        assert torch.equal(Separator(model)(audio, 8000), explicit)
        assert not torch.equal(Separator(model, overlap=0.25)(audio, 8000), explicit)

    @pytest.mark.parametrize(
        "changes", [{}, {"overlap": 0.0}, {"shifts": 2}, {"window": "triangle", "final_segment": "padded"}]
    )
    @pytest.mark.parametrize("frames", [0, 1, 1500])
    def test_a_margin_is_silence_at_both_ends(
        self, frames: int, changes: dict[str, Any], make_model: ModelMaker
    ) -> None:
        model, audio, margin = make_model(None, **changes), noise(1, frames), 100
        found = Separator(model, margin=margin / 8000)(audio, 8000)
        padded = Separator(model)(np.pad(audio, ((0, 0), (margin, margin))), 8000)
        np.testing.assert_array_equal(found, padded[..., margin : margin + frames])


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
