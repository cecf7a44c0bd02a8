"""What a result may not depend on; several threads at once; and an accelerator that has too little memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from auralflow_core.config import Config, validate
from auralflow_core.errors import AudioError
from auralflow_core.model import SeparationModel, SpectrogramMaskModel, WaveformModel
from auralflow_core.separate import Separator
from auralflow_core.separate.runner import one_core_threads

Audio = NDArray[np.float32]
ModelMaker = Callable[..., SeparationModel]


def noise(channels: int, frames: int, seed: int = 0) -> Audio:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, frames)).astype(np.float32)


class Recurrent(nn.Module):
    """Masks by layers whose sums torch shares among cores and batches in different ways."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 2, 5, padding=2)
        self.norm = nn.BatchNorm2d(2)
        self.lstm = nn.LSTM(2 * bins, 48, batch_first=True, bidirectional=True)
        self.attention = nn.MultiheadAttention(96, 4, batch_first=True)
        self.head = nn.Linear(96, 2 * bins)

    def forward(self, magnitude: Tensor) -> Tensor:
        hidden = self.norm(self.convolution(magnitude)).permute(0, 3, 1, 2).flatten(2)
        hidden, _ = self.lstm(hidden)
        hidden, _ = self.attention(hidden, hidden, hidden, need_weights=False)
        mask = self.head(hidden).sigmoid().unflatten(2, (2, -1))
        permuted: Tensor = mask.permute(0, 2, 3, 1)
        return permuted


class Convolution(nn.Module):
    """A network that sees seven samples or frames around each."""

    receptive_field = 7

    def __init__(self, domain: str) -> None:
        super().__init__()
        self.layer = nn.Conv1d(1, 1, 7, padding=3) if domain == "waveform" else nn.Conv2d(1, 1, (3, 7), padding=(1, 3))

    def forward(self, audio: Tensor) -> Tensor:
        found: Tensor = self.layer(audio)
        return found


def model_of(network: nn.Module, kind: type[SeparationModel] = SpectrogramMaskModel, **dataset: Any) -> SeparationModel:
    data = {
        "model": {"type": "Toy"},
        "dataset": {"sample_rate": 8000, "num_fft": 128, "window_size": 128, "hop_length": 32, **dataset},
        "training": {"device": "cpu"},
        "separation": {"segment": 0.3},
    }
    model = kind(validate(Config, data), network)
    model.eval()
    return model


@pytest.fixture
def recurrent() -> SeparationModel:
    torch.manual_seed(0)
    return model_of(Recurrent(65), num_channels=2)


class TestBits:
    def test_neither_threads_nor_batches_nor_torchs_own_threads_matter(self, recurrent: SeparationModel) -> None:
        audio = noise(2, 20_000)
        expected = Separator(recurrent, threads=1)(audio, 8000).tobytes()
        for threads, batch_size in [(2, 1), (3, 4), (1, 7)]:
            assert Separator(recurrent, threads=threads, batch_size=batch_size)(audio, 8000).tobytes() == expected
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(before + 2)
            assert Separator(recurrent)(audio, 8000).tobytes() == expected
        finally:
            torch.set_num_threads(before)

    @pytest.mark.parametrize("settings", [{"shifts": 3}, {"tta": True}, {"sum_to_mixture": True}])
    @pytest.mark.parametrize("rate", [8000, 11025])
    def test_blocks_do_not_matter(self, recurrent: SeparationModel, settings: dict[str, Any], rate: int) -> None:
        separator = Separator(recurrent, **settings)
        audio = noise(2, 15_001)
        blocks = [audio[:, start : start + 700] for start in range(0, 15_001, 700)]
        found = np.concatenate(list(separator.stream(blocks, 2, rate)), axis=-1)
        assert found.tobytes() == separator(audio, rate).tobytes()

    def test_several_threads_may_use_one_separator(self, recurrent: SeparationModel) -> None:
        recurrent.train()
        separator = Separator(recurrent, threads=2)
        songs = [noise(2, 9000 + 100 * seed, seed) for seed in range(6)]
        expected = [separator(song, 8000).tobytes() for song in songs]
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(lambda song: separator(song, 8000).tobytes(), songs))
        assert found == expected
        assert recurrent.training

    def test_torch_is_left_as_it_was(self, recurrent: SeparationModel) -> None:
        def number_in_a_new_thread() -> int:
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(torch.get_num_threads).result()

        before = torch.get_num_threads()
        try:
            torch.set_num_threads(3)
            with one_core_threads(2) as pool:
                assert {pool.submit(torch.get_num_threads).result() for _ in range(4)} == {1}
                assert (torch.get_num_threads(), number_in_a_new_thread()) == (3, 3)
            stream = Separator(recurrent).stream([noise(2, 9000)], 2, 8000)
            next(stream)
            stream.close()  # type: ignore[attr-defined]
            assert (torch.get_num_threads(), number_in_a_new_thread()) == (3, 3)
            assert torch.is_grad_enabled()
        finally:
            torch.set_num_threads(before)

    def test_closing_a_stream_early_ends_its_threads(self, recurrent: SeparationModel) -> None:
        before = set(threading.enumerate())
        for settings in ({}, {"shifts": 2}, {"sum_to_mixture": True}):
            stream = Separator(recurrent, **settings).stream([noise(2, 50_000)], 2, 8000)
            next(stream)
            stream.close()  # type: ignore[attr-defined]
        assert set(threading.enumerate()) == before

    def test_nothing_is_printed(self, recurrent: SeparationModel, capfd: pytest.CaptureFixture[str]) -> None:
        Separator(recurrent)(noise(2, 9000), 8000)
        assert capfd.readouterr() == ("", "")


class TestReceptiveField:
    @pytest.mark.parametrize("kind", [WaveformModel, SpectrogramMaskModel])
    @pytest.mark.parametrize("frames", [1, 500, 2400, 2401, 9999, 20_000])
    def test_segments_give_what_the_whole_song_gives(self, kind: type[SeparationModel], frames: int) -> None:
        torch.manual_seed(0)
        model = model_of(Convolution(kind.domain), kind)
        audio = torch.from_numpy(noise(1, frames))
        found = Separator(model)(audio, 8000)
        assert (found - model.separate(audio)).abs().max() < 1e-6

    def test_a_window_can_be_asked_for_instead(self) -> None:
        model = model_of(Convolution("waveform"), WaveformModel)
        audio = torch.from_numpy(noise(1, 9999))
        assert (Separator(model, window="triangle")(audio, 8000) - model.separate(audio)).abs().max() > 1e-4

    def test_a_segment_that_is_too_short_is_refused(self) -> None:
        model = model_of(Convolution("magnitude"))
        with pytest.raises(Exception, match=r"separation\.segment: 0\.05 s is 400 samples.*use at least 0\.1 s"):
            Separator(model, segment=0.05)


class TestAveraging:
    def test_shifts_are_the_mean_of_delayed_passes(self, make_model: ModelMaker) -> None:
        import random

        model = make_model(None)
        audio = noise(1, 9000)
        found = Separator(model, shifts=3, shift_seed=7)(audio, 8000)
        draw = random.Random(7)
        passes = []
        for _ in range(3):
            delay = draw.randint(0, 4000)
            passes.append(Separator(model)(np.pad(audio, ((0, 0), (delay, 0))), 8000)[..., delay:])
        assert np.abs(found - np.mean(passes, axis=0)).max() < 1e-6
        assert not np.array_equal(found, Separator(model, shifts=3, shift_seed=8)(audio, 8000))

    def test_tta_is_the_mean_of_what_swapped_and_inverted_audio_gives(self) -> None:
        torch.manual_seed(1)
        network = nn.Sequential(nn.Conv1d(2, 2, 5, padding=2), nn.Tanh())
        model = model_of(network, WaveformModel, num_channels=2)
        audio = torch.from_numpy(noise(2, 5000))
        plain = Separator(model)
        expected = (plain(audio, 8000) - plain(-audio, 8000) + plain(audio.flip(0), 8000).flip(1)) / 3
        found = Separator(model, tta=True)(audio, 8000)
        assert (found - expected).abs().max() < 1e-6
        assert (found - plain(audio, 8000)).abs().max() > 1e-3

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_lower_precision_is_near_and_comes_back_as_float32(self, recurrent: SeparationModel, dtype: str) -> None:
        audio = torch.from_numpy(noise(2, 9000))
        exact = Separator(recurrent)(audio, 8000)
        found = Separator(recurrent, dtype=dtype)(audio, 8000)
        assert found.dtype == torch.float32
        assert 0 < (found - exact).abs().max() < 0.01
        assert torch.equal(Separator(recurrent)(audio, 8000), exact)

    @pytest.mark.parametrize("rate", [8000, 44100])
    @pytest.mark.parametrize("frames", [1, 2048, 30_001])
    def test_sum_to_mixture(self, make_model: ModelMaker, rate: int, frames: int) -> None:
        audio = noise(2, frames)
        found = Separator(make_model((0.6, 0.3)), sum_to_mixture=True)(audio, rate)
        assert 20 * np.log10(np.abs(found.sum(axis=0) - audio).max() + 1e-9) < -90

    def test_what_is_left_over_goes_where_something_sounds(self, make_model: ModelMaker) -> None:
        found = Separator(make_model((0.5, 0.0)), sum_to_mixture=True)(noise(1, 20_000), 8000)
        assert np.abs(found[1]).max() < 1e-4


class Accelerator:
    """A model that says it is on an accelerator, whose memory holds so many segments."""

    def __init__(self, model: SeparationModel, capacity: int) -> None:
        self._model, self.capacity = model, capacity
        self.device = torch.device("cuda")
        self.batches: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def separate(self, audio: Tensor) -> Tensor:
        self.batches.append(len(audio))
        if len(audio) > self.capacity:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return self._model.separate(audio)


class TestMemoryOfAnAccelerator:
    @pytest.fixture
    def separate_on(self, make_model: ModelMaker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
        from auralflow_core.separate import engine

        model = make_model(None)
        audio = noise(2, 5000)
        expected = Separator(model)(audio, 8000)

        def separate(capacity: int, batch_size: int) -> tuple[Audio, Audio, list[str], list[int]]:
            accelerator = Accelerator(model, capacity)
            monkeypatch.setattr(engine, "variant", lambda _, dtype, device=None: model if device else accelerator)
            separator = Separator(accelerator, batch_size=batch_size)  # type: ignore[arg-type]
            notes: list[str] = []
            found = separator(audio, 8000, on_fallback=notes.append)
            return found, expected, notes, accelerator.batches

        yield separate

    def test_enough(self, separate_on: Callable[..., Any]) -> None:
        found, expected, notes, batches = separate_on(8, 8)
        assert np.abs(found - expected).max() < 1e-6
        assert notes == []
        assert batches[0] == 8

    def test_the_batch_is_halved(self, separate_on: Callable[..., Any]) -> None:
        found, expected, notes, batches = separate_on(2, 8)
        assert np.abs(found - expected).max() < 1e-6
        assert notes == [
            "cuda: out of memory; went on with 4 segments at once",
            "cuda: out of memory; went on with 2 segments at once",
        ]
        assert batches[:3] == [8, 4, 2] and max(batches[2:]) == 2

    def test_the_song_goes_on_the_cpu(self, separate_on: Callable[..., Any]) -> None:
        found, expected, notes, batches = separate_on(0, 2)
        assert np.abs(found - expected).max() < 1e-6
        assert len(notes) == 2 and "went on on the CPU" in notes[1]
        assert batches == [2, 1]

    def test_other_errors_are_errors(self, make_model: ModelMaker, monkeypatch: pytest.MonkeyPatch) -> None:
        model = make_model()
        monkeypatch.setattr(model.network, "forward", lambda _: (_ for _ in ()).throw(RuntimeError("broken")))
        with pytest.raises(RuntimeError, match="broken"):
            Separator(model)(noise(1, 900), 8000)


class TestCall:
    def test_arrays_and_tensors_come_back_as_what_they_were(self, make_model: ModelMaker) -> None:
        separator = Separator(make_model(None))
        audio = noise(2, 3000)
        found = separator(audio, 8000)
        assert isinstance(found, np.ndarray) and found.dtype == np.float32
        assert np.array_equal(separator(torch.from_numpy(audio), 8000).numpy(), found)
        assert np.array_equal(separator(audio.astype(np.float64), 8000), found)

    def test_progress_ends_at_the_length(self, make_model: ModelMaker) -> None:
        told: list[float] = []
        Separator(make_model())(noise(1, 10_000), 8000, progress=told.append)
        assert told == sorted(told) and len(told) > 10
        assert told[-1] == 1.25

    @pytest.mark.parametrize(
        "audio", [np.zeros(100, np.float32), np.zeros((1, 2, 3), np.float32), np.zeros((1, 9), int)]
    )
    def test_what_is_no_audio_is_refused(self, make_model: ModelMaker, audio: Any) -> None:
        with pytest.raises(AudioError, match=r"\(channel, time\)"):
            Separator(make_model())(audio, 8000)
