"""Chunks of songs in memory, whose samples count up: each one tells where it was read."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from auralflow_core.audio import resample
from auralflow_core.config import DatasetConfig, TrainingConfig
from auralflow_core.data.chunks import BatchSampler, ChunkDataset, ChunkKey, chunk_loader
from auralflow_core.data.song import Audio, Song
from auralflow_core.errors import AuralflowError

RATE = 1000


@dataclass
class Counting:
    """Sample k of channel c is `(first + k + c / 2) / 2**16`: exact in float32."""

    first: int
    channels: int = 1
    reads: list[tuple[int, int]] = field(default_factory=list)

    def read(self, start: int, frames: int) -> Audio:
        self.reads.append((start, frames))
        place = self.first + start + np.arange(frames)
        return ((place + np.arange(self.channels)[:, None] / 2) / 2**16).astype(np.float32)


def song(number: int, frames: int, *, channels: int = 1, rate: int = RATE, stems: str = "vocals drums") -> Song:
    sources = {name: Counting(1000 * number + 200 * index, channels) for index, name in enumerate(stems.split())}
    return Song(f"song {number}", sources, Counting(20_000 + 1000 * number, channels), rate, channels, frames)


def config(**settings: Any) -> DatasetConfig:
    sizes = {"num_fft": 16, "window_size": 16, "hop_length": 8}
    return DatasetConfig.model_validate({"sample_rate": RATE, "sample_length": 0.1, **sizes, **settings})


def keys(dataset: ChunkDataset, epoch: int = 0) -> list[ChunkKey]:
    return [ChunkKey(epoch, number) for number in range(len(dataset))]


def places(dataset: ChunkDataset, epoch: int = 0) -> list[tuple[str, int]]:
    excerpts = [dataset.excerpt(key) for key in keys(dataset, epoch)]
    return [(excerpt.song.name, excerpt.start) for excerpt in excerpts]


LENGTHS = st.lists(st.integers(1, 950), min_size=1, max_size=6)


class TestPlan:
    @settings(max_examples=100, deadline=None)
    @given(lengths=LENGTHS, seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 1000), shuffle=st.booleans())
    def test_an_epoch_covers_each_songs_grid_once(
        self, lengths: Sequence[int], seed: int, epoch: int, shuffle: bool
    ) -> None:
        songs = [song(number, frames) for number, frames in enumerate(lengths)]
        dataset = ChunkDataset(songs, config(), seed=seed, shuffle=shuffle)
        found = places(dataset, epoch)
        assert len(found) == len(dataset) == sum(max(1, frames // 100) for frames in lengths)
        for each in songs:
            starts = sorted(start for name, start in found if name == each.name)
            assert starts == list(range(starts[0], starts[0] + 100 * len(starts), 100))
            assert len(starts) == max(1, each.frames // 100)
            assert starts[0] >= 0 and (starts[-1] + 100 <= each.frames or starts == [0])
            assert shuffle or starts[0] == 0

    def test_the_plan_depends_on_seed_and_epoch_alone(self) -> None:
        songs = [song(number, 950) for number in range(3)]
        one, same, other = (ChunkDataset(songs, config(), seed=seed) for seed in (1, 1, 2))
        for epoch in (3, 0, 2, 3):
            assert places(one, epoch) == places(same, epoch)
        assert places(one, 0) != places(one, 1)
        assert places(one, 0) != places(other, 0)

    def test_validation_is_the_same_in_every_epoch(self) -> None:
        dataset = ChunkDataset([song(0, 950), song(1, 300)], config(), shuffle=False)
        assert places(dataset, 0) == places(dataset, 7)
        assert places(dataset)[:2] == [("song 0", 0), ("song 0", 100)]

    def test_max_num_samples_cuts_the_epoch_and_over_epochs_all_is_seen(self) -> None:
        dataset = ChunkDataset([song(number, 500) for number in range(4)], config(max_num_samples="5"))
        assert len(dataset) == len(places(dataset)) == 5
        assert len({place for epoch in range(40) for place in places(dataset, epoch)}) == 20

    def test_over_epochs_chunks_begin_everywhere(self) -> None:
        dataset = ChunkDataset([song(0, 250)], config())
        starts = Counter(start for epoch in range(600) for _, start in places(dataset, epoch))
        assert set(starts) == set(range(51)) | set(range(100, 151))

    def test_unequal_songs_do_not_hide_each_other(self) -> None:
        dataset = ChunkDataset([song(0, 900), song(1, 100)], config())
        assert Counter(name for name, _ in places(dataset)) == {"song 0": 9, "song 1": 1}


class TestContent:
    def test_mixture_and_targets_come_from_one_place(self) -> None:
        songs = [song(number, 350) for number in range(2)]
        dataset = ChunkDataset(songs, config(targets=["drums", "vocals"]))
        for key in keys(dataset):
            mixture, targets = dataset[key]
            excerpt = dataset.excerpt(key)
            first = 1000 * songs.index(excerpt.song) + excerpt.start
            expected = torch.arange(100) / 2**16
            assert torch.equal(mixture, (expected + (20_000 + first) / 2**16)[None])
            assert torch.equal(targets[0], (expected + (200 + first) / 2**16)[None])
            assert torch.equal(targets[1], (expected + first / 2**16)[None])

    def test_only_the_chunk_is_read(self) -> None:
        one = song(0, 900)
        dataset = ChunkDataset([one], config(targets=["vocals"]))
        dataset[ChunkKey(0, 0)]
        start = dataset.excerpt(ChunkKey(0, 0)).start
        assert isinstance(one.mixture, Counting) and one.mixture.reads == [(start, 100)]
        sources = one.stems.values()
        assert [source.reads for source in sources if isinstance(source, Counting)] == [[(start, 100)], []]

    def test_a_song_shorter_than_a_chunk_is_followed_by_silence(self) -> None:
        mixture, targets = ChunkDataset([song(0, 30)], config())[ChunkKey(0, 0)]
        assert mixture.shape == (1, 100)
        assert torch.equal(mixture[0, :30], (20_000 + torch.arange(30)) / 2**16)
        assert not mixture[:, 30:].any() and not targets[..., 30:].any()

    @pytest.mark.parametrize("rate", [500, 800, 1100, 2000, 4410])
    @pytest.mark.parametrize("frames", [37, 5000])
    def test_other_rates_are_converted(self, rate: int, frames: int) -> None:
        one = song(0, frames, rate=rate)
        dataset = ChunkDataset([one], config())
        mixture, targets = dataset[ChunkKey(0, 0)]
        assert mixture.shape == (1, 100) and targets.shape == (1, 1, 100)
        start, length = dataset.excerpt(ChunkKey(0, 0)).start, min(frames, -(-rate // 10))
        expected = torch.from_numpy(resample(one.read_mixture(start, length), rate, RATE))[:, :100]
        assert torch.equal(mixture[:, : expected.shape[1]], expected)
        assert not mixture[:, expected.shape[1] :].any()

    @pytest.mark.parametrize(("have", "want"), [(1, 2), (2, 1), (2, 2), (1, 1), (6, 1)])
    def test_other_channel_counts_are_converted(self, have: int, want: int) -> None:
        mixture, targets = ChunkDataset([song(0, 300, channels=have)], config(num_channels=want))[ChunkKey(0, 0)]
        assert mixture.shape == (want, 100) and targets.shape == (1, want, 100)
        middle = mixture.mean(0) - mixture[0, 0]
        assert torch.allclose(middle - middle[0], torch.arange(100) / 2**16, atol=1e-6)

    def test_six_channels_for_a_stereo_model_are_refused_before_training(self) -> None:
        # Not when the first such chunk is read, which may be hours later.
        with pytest.raises(AuralflowError, match="6 channels"):
            ChunkDataset([song(0, 300), song(1, 300, channels=6)], config(num_channels=2))

    def test_whatever_the_lengths_and_rates_batches_fit(self) -> None:
        songs = [song(0, 20, rate=1000), song(1, 999, rate=882), song(2, 3000, rate=2205, channels=2)]
        dataset = ChunkDataset(songs, config(sample_length=0.0333))
        assert {tuple(dataset[key][0].shape) for key in keys(dataset)} == {(1, 33)}


class TestLoader:
    def batches(self, workers: int, epoch: int = 1, first: int = 0) -> list[tuple[Tensor, Tensor]]:
        dataset = ChunkDataset([song(number, 450) for number in range(3)], config(), seed=5)
        training = TrainingConfig.model_validate({"batch_size": 5, "num_workers": workers})
        loader, sampler = chunk_loader(dataset, training)
        sampler.start_at(epoch, first)
        return [tuple(batch) for batch in loader]

    def test_batches_follow_the_plan(self) -> None:
        batches = self.batches(0)
        assert [tuple(batch[0].shape) for batch in batches] == [(5, 1, 100), (5, 1, 100), (2, 1, 100)]
        assert batches[0][1].shape == (5, 1, 1, 100)

    def test_beginning_inside_an_epoch_skips_what_was_seen(self) -> None:
        whole, rest = self.batches(0), self.batches(0, first=1)
        assert len(rest) == 2
        assert all(torch.equal(a[0], b[0]) for a, b in zip(whole[1:], rest, strict=True))
        assert self.batches(0, first=3) == []

    def test_epochs_follow_each_other(self) -> None:
        assert not torch.equal(self.batches(0, epoch=1)[0][0], self.batches(0, epoch=2)[0][0])

    def test_workers_give_the_same_batches(self) -> None:
        for alone, shared in zip(self.batches(0), self.batches(2), strict=True):
            assert torch.equal(alone[0], shared[0]) and torch.equal(alone[1], shared[1])

    def test_workers_that_stay_take_up_the_next_epoch(self) -> None:
        dataset = ChunkDataset([song(number, 450) for number in range(3)], config(), seed=5)
        loader, sampler = chunk_loader(dataset, TrainingConfig.model_validate({"batch_size": 5, "num_workers": 2}))
        for epoch in range(3):
            sampler.start_at(epoch, epoch)
            found = [batch[0] for batch in loader]
            expected = [torch.stack([dataset[key][0] for key in sampler.keys(epoch, n)]) for n in range(epoch, 3)]
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

    def test_a_data_set_can_be_pickled_for_spawned_workers(self) -> None:
        dataset = ChunkDataset([song(0, 450)], config(), seed=5)
        dataset[ChunkKey(0, 0)]
        again = pickle.loads(pickle.dumps(dataset))
        assert places(again, 3) == places(dataset, 3)

    @given(chunks=st.integers(1, 40), size=st.integers(1, 12), first=st.integers(0, 45))
    def test_the_sampler_names_every_chunk_once(self, chunks: int, size: int, first: int) -> None:
        dataset = ChunkDataset([song(0, 100 * chunks)], config())
        sampler = BatchSampler(dataset, size)
        sampler.start_at(2, first)
        named = [key for batch in sampler for key in batch]
        assert named == [ChunkKey(2, number) for number in range(first * size, chunks)]
        assert len(sampler) == -(-chunks // size)
        assert all(sampler)


class TestChunksPerSong:
    @given(lengths=LENGTHS, count=st.integers(1, 20))
    @settings(max_examples=30, deadline=None)
    def test_each_song_has_as_many(self, lengths: list[int], count: int) -> None:
        songs = [song(number, frames) for number, frames in enumerate(lengths)]
        data = ChunkDataset(songs, config(n_chunks_per_song=count), seed=1)
        found = places(data)
        assert Counter(name for name, _ in found) == {one.name: count for one in songs}
        limits = {one.name: max(0, one.frames - 100) for one in songs}
        assert all(0 <= start <= limits[name] for name, start in found)
        assert found == places(ChunkDataset(songs, config(n_chunks_per_song=count), seed=1))

    def test_epochs_differ_and_reach_everywhere(self) -> None:
        data = ChunkDataset([song(0, 950)], config(n_chunks_per_song=200))
        assert places(data, 0) != places(data, 1)
        starts = {start for epoch in range(20) for _, start in places(data, epoch)}
        assert min(starts) < 5 and max(starts) > 845 and len(starts) > 500

    def test_validation_keeps_its_grid(self) -> None:
        songs = [song(0, 950)]
        drawn, plain = (ChunkDataset(songs, config(n_chunks_per_song=count), shuffle=False) for count in (3, None))
        assert places(drawn) == places(plain)
