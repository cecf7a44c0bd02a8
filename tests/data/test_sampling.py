"""Which excerpts chunks are made of: songs in memory, whose samples tell stem, song and place."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auralflow_core.config import DatasetConfig, validate
from auralflow_core.data.chunks import ChunkDataset, ChunkKey
from auralflow_core.data.drawing import REST
from auralflow_core.data.song import Audio, Root, Song
from auralflow_core.errors import AuralflowError, ConfigError

RATE = 1000
STEMS = ("vocals", "drums", "bass")


@dataclass
class Counting:
    """Sample k is `(first + k) / 2**20`, so that sums of a few are exact; silent from `silent_from` on."""

    first: int
    silent_from: int = 1 << 30
    reads: list[tuple[int, int]] = field(default_factory=list)

    def read(self, start: int, frames: int) -> Audio:
        self.reads.append((start, frames))
        place = start + np.arange(frames)
        return np.where(place < self.silent_from, (self.first + place) / 2**20, 0).astype(np.float32)[None]


def song(number: int, frames: int = 950, *, stems: Sequence[str] = STEMS, mixture: bool = True, **kw: Any) -> Song:
    sources = {name: Counting(100_000 * (1 + STEMS.index(name)) + 5000 * number) for name in stems}
    given_ = Counting(500_000 + 5000 * number) if mixture else None
    return Song(f"song {number}", sources, given_, RATE, 1, frames, **kw)


def loose(stem: str, number: int, frames: int = 950, **kw: Any) -> Song:
    return replace(song(number, frames, stems=[stem], mixture=False, **kw), name=f"{stem} {number}")


def config(targets: str = "vocals,drums", *, max_num_samples: int = 100_000, **sampling: Any) -> DatasetConfig:
    sizes = {"num_fft": 16, "window_size": 16, "hop_length": 8, "sample_rate": RATE, "sample_length": 0.1}
    return DatasetConfig.model_validate(
        {**sizes, "targets": targets, "sampling": sampling, "max_num_samples": max_num_samples}
    )


def keys(dataset: ChunkDataset, epoch: int = 0) -> list[ChunkKey]:
    return [ChunkKey(epoch, number) for number in range(len(dataset))]


def drawn(dataset: ChunkDataset, epoch: int = 0) -> Counter[str]:
    return Counter(dataset.excerpt(key).song.name for key in keys(dataset, epoch))


SAMPLINGS = st.fixed_dictionaries(
    {
        "stems": st.sampled_from(["auto", "aligned", "independent"]),
        "places": st.sampled_from(["grid", "anywhere"]),
        "mixture": st.sampled_from(["given", "sum"]),
        "remix": st.sampled_from([0, 0.5, 1]),
        "mixup": st.sampled_from([[], [0.7], [0.5, 0.5]]),
        "min_mean_abs": st.sampled_from([0, 0.3]),
        "song_share": st.sampled_from(["equal", "duration"]),
    }
)


class TestAnySampling:
    @settings(max_examples=60, deadline=None)
    @given(sampling=SAMPLINGS, seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 50))
    def test_a_chunk_is_what_its_description_says_and_nothing_else_is_read(
        self, sampling: dict[str, Any], seed: int, epoch: int
    ) -> None:
        songs = [song(number, 350 + 200 * number) for number in range(4)]
        dataset = ChunkDataset(songs, config(max_num_samples=6, **sampling), seed=seed)
        again = pickle.loads(pickle.dumps(dataset))
        by_name = {each.name: each for each in songs}
        for key in keys(dataset, epoch):
            mixture, targets = dataset[key]
            assert all(torch.equal(*pair) for pair in zip((mixture, targets), again[key], strict=True))
            assert torch.equal(dataset.mixture(key), mixture)
            facts = dataset.describe(key)
            assert (facts["epoch"], facts["number"]) == key
            for index, target in enumerate(("vocals", "drums")):
                expected = np.zeros(100)
                for piece in facts["excerpts"]:
                    if target in piece["stems"]:
                        expected += piece["gain"] * by_name[piece["song"]].stems[target].read(piece["start"], 100)[0]
                assert np.allclose(targets[index, 0].numpy(), expected, atol=1e-6)
            is_given = len(facts["excerpts"]) == 1 and sampling["mixture"] == "given"
            if is_given and sampling["stems"] != "independent":
                place = facts["excerpts"][0]
                assert torch.equal(
                    mixture[0], torch.from_numpy(by_name[place["song"]].read_mixture(place["start"], 100))[0]
                )
        sources = [source for each in songs for source in each.stems.values()]
        assert all(frames == 100 for source in sources if isinstance(source, Counting) for _, frames in source.reads)

    @settings(max_examples=20, deadline=None)
    @given(sampling=SAMPLINGS)
    def test_validation_is_a_fixed_grid_of_songs_as_they_are(self, sampling: dict[str, Any]) -> None:
        songs = [song(number) for number in range(2)]
        dataset = ChunkDataset(songs, config(**sampling), shuffle=False)
        assert len(dataset) == 18
        for key in keys(dataset):
            (piece,) = dataset.describe(key)["excerpts"]
            assert (piece["song"], piece["start"]) == (f"song {key.number // 9}", 100 * (key.number % 9))
            assert all(torch.equal(*pair) for pair in zip(dataset[key], dataset[ChunkKey(3, key.number)], strict=True))

    def test_chunks_may_grow_and_songs_be_exchanged(self) -> None:
        dataset = ChunkDataset([song(0)], config(remix=1.0))
        longer = copy.copy(dataset)
        longer.config = dataset.config.model_copy(update={"sample_length": 0.2})
        assert dataset[ChunkKey(0, 0)][0].shape == (1, 100) and longer[ChunkKey(0, 0)][0].shape == (1, 200)
        longer.songs = [song(7)]
        assert longer.excerpt(ChunkKey(0, 0)).song.name == "song 7"


class TestIndependentStems:
    def test_stems_come_from_different_songs_and_add_up(self) -> None:
        songs = [song(number) for number in range(5)]
        dataset = ChunkDataset(songs, config(stems="independent"))
        apart = 0
        for key in keys(dataset):
            mixture, targets = dataset[key]
            pieces = {stem: piece for piece in dataset.describe(key)["excerpts"] for stem in piece["stems"]}
            assert set(pieces) == set(STEMS)
            rest = songs[int(pieces["bass"]["song"][-1])].stems["bass"].read(pieces["bass"]["start"], 100)
            assert np.allclose(mixture.numpy(), targets.numpy().sum(0) + rest, atol=1e-6)
            apart += len({piece["song"] for piece in pieces.values()}) > 1
        assert apart > 0.8 * len(dataset)

    def test_files_of_single_stems_are_independent_by_themselves(self) -> None:
        songs = [loose("vocals", number) for number in range(3)] + [loose("drums", 0, 9500)]
        dataset = ChunkDataset(songs, config())
        assert len(dataset) == 95  # as many as there are of the stem with the most
        assert drawn(dataset) == {"drums 0": 95}
        stems = Counter(piece["song"] for key in keys(dataset) for piece in dataset.describe(key)["excerpts"])
        assert stems["drums 0"] == 95 and min(stems[f"vocals {number}"] for number in range(3)) > 10
        assert all(targets.amin((1, 2)).min() > 0 for _, targets in map(dataset.__getitem__, keys(dataset)))

    def test_the_rest_can_be_chosen(self) -> None:
        for patterns, expected in (("", {"vocals"}), ("ba*", {"vocals", "bass"}), ("drums,bass", set(STEMS))):
            dataset = ChunkDataset([song(0), song(1)], config("vocals", stems="independent", rest=patterns))
            assert {
                stem for piece in dataset.describe(ChunkKey(0, 0))["excerpts"] for stem in piece["stems"]
            } == expected

    def test_what_a_mixture_holds_besides_the_targets_is_a_stem_where_no_other_is(self) -> None:
        songs = [song(number, stems=["vocals"]) for number in range(3)]
        dataset = ChunkDataset(songs, config("vocals", stems="independent"))
        for key in keys(dataset):
            mixture, targets = dataset[key]
            pieces = {stem: piece for piece in dataset.describe(key)["excerpts"] for stem in piece["stems"]}
            rest, start = songs[int(pieces[REST]["song"][-1])], pieces[REST]["start"]
            expected = rest.read_mixture(start, 100) - rest.read_stems(["vocals"], start, 100)[0]
            assert np.allclose((mixture - targets[0]).numpy(), expected, atol=1e-6)

    def test_a_target_that_no_song_has_is_named(self) -> None:
        with pytest.raises(AuralflowError, match="no song has a stem 'drum'; did you mean drums"):
            ChunkDataset([loose("vocals", 0), loose("drums", 0)], config("vocals,drum"))


class TestQuietChunks:
    def quiet(self, number: int, *, until: int, stem: str = "vocals") -> Song:
        one = song(number)
        sources = {**one.stems, stem: Counting(300_000, silent_from=until)}
        return replace(one, stems=sources)

    def test_they_are_drawn_again(self) -> None:
        songs = [self.quiet(number, until=400) for number in range(3)]
        assert any(
            not targets[0].any()
            for _, targets in map(ChunkDataset(songs, config()).__getitem__, keys(ChunkDataset(songs, config())))
        )
        dataset = ChunkDataset(songs, config(min_mean_abs=0.01, retries=100))
        assert len(dataset) == 27
        assert all(float(targets[0].mean()) >= 0.01 for _, targets in map(dataset.__getitem__, keys(dataset)))

    def test_the_last_retry_is_taken(self) -> None:
        dataset = ChunkDataset([self.quiet(0, until=0)], config(min_mean_abs=0.01, retries=3))
        source = dataset.songs[0].stems["vocals"]
        assert isinstance(source, Counting)
        _, targets = dataset[ChunkKey(0, 0)]
        assert not targets[0].any() and len(source.reads) == 4

    def test_balanced_targets_sound_equally_often(self) -> None:
        songs = [self.quiet(0, until=100), *(song(number, stems=["drums"]) for number in range(1, 9))]
        balanced = ChunkDataset(songs, config(balance=True, missing_stems="silence", retries=300), seed=3)
        plain = ChunkDataset(songs, config(missing_stems="silence"), seed=3)
        sounding = [
            sum(bool(dataset[key][1][0].any()) for key in keys(dataset)) / len(dataset) for dataset in (plain, balanced)
        ]
        assert sounding[0] < 0.05 and sounding[1] == pytest.approx(0.5, abs=0.05)
        assert len(balanced) == len(plain) == 81

    def test_a_song_without_a_target_is_refused_or_silent(self) -> None:
        songs = [song(0), song(1, stems=["vocals", "bass"])]
        with pytest.raises(AuralflowError, match="song 'song 1' has no stem 'drums'"):
            ChunkDataset(songs, config())
        for shuffle in (True, False):
            dataset = ChunkDataset(songs, config(missing_stems="silence"), shuffle=shuffle)
            for key in keys(dataset):
                assert dataset[key][1][1].any() == (dataset.excerpt(key).song.name == "song 0")


class TestShares:
    @settings(max_examples=60, deadline=None)
    @given(
        lengths=st.lists(st.integers(1, 950), min_size=1, max_size=6),
        weights=st.lists(st.sampled_from([0.25, 0.5, 1, 2, 3.3]), min_size=6, max_size=6),
        places=st.sampled_from(["grid", "anywhere"]),
    )
    def test_songs_have_the_share_that_their_weights_say(
        self, lengths: list[int], weights: list[float], places: str
    ) -> None:
        songs = [song(number, frames, weight=weights[number]) for number, frames in enumerate(lengths)]
        dataset = ChunkDataset(songs, config(places=places, max_num_samples=40), seed=2)
        size = [max(1, frames // 100) if places == "grid" else 1 for frames in lengths]
        shares = np.array([size[number] * weights[number] for number in range(len(songs))])
        if places == "anywhere":
            assert len(dataset) == 40
        else:
            assert len(dataset) == min(40, max(1, round(float(shares.sum()))))
        counts = sum((drawn(dataset, epoch) for epoch in range(30)), Counter())
        expected = shares / shares.sum() * len(dataset) * 30
        for number in range(len(songs)):
            if len(dataset) < 40 or places == "anywhere":  # else the cut decides, too
                assert abs(counts[f"song {number}"] - expected[number]) < 14

    def test_a_weight_on_the_grid_is_so_many_passes(self) -> None:
        dataset = ChunkDataset([song(0), song(1)], config(weights={"*1": 3, "nothing*": 9}))
        assert drawn(dataset) == {"song 0": 9, "song 1": 27}
        half = ChunkDataset([song(0), song(1)], config(weights={"*1": 0.5}))
        assert all(drawn(half, epoch)["song 1"] in (4, 5) for epoch in range(20))
        starts = {half.excerpt(key).start // 100 for epoch in range(20) for key in keys(half, epoch)}
        assert starts == set(range(9))

    def test_patterns_multiply_with_the_songs_own_weights(self) -> None:
        dataset = ChunkDataset([song(0, weight=2.0), song(1)], config(weights={"song*": 0.5}))
        assert drawn(dataset)["song 0"] == 9

    def test_weight_zero_leaves_a_song_out_of_everything(self) -> None:
        dataset = ChunkDataset([song(0), song(1), song(2)], config(weights={"*1": 0}, remix=1, mixup=0.9))
        assert "song 1" not in drawn(dataset)
        found = {piece["song"] for key in keys(dataset) for piece in dataset.describe(key)["excerpts"]}
        assert found == {"song 0", "song 2"}
        with pytest.raises(AuralflowError, match="all songs have the weight 0"):
            ChunkDataset([song(0)], config(weights={"*": 0}))
        assert len(ChunkDataset([song(0)], config(weights={"*": 0}), shuffle=False)) == 9

    def test_an_epoch_of_draws_from_anywhere_has_max_num_samples(self) -> None:
        songs = [song(0, 900), song(1, 300)]
        equal = ChunkDataset(songs, config(places="anywhere", max_num_samples=400))
        longer = ChunkDataset(songs, config(places="anywhere", song_share="duration", max_num_samples=400))
        assert drawn(equal) == {"song 0": 200, "song 1": 200} and drawn(longer) == {"song 0": 300, "song 1": 100}
        starts = {equal.excerpt(key).start for key in keys(equal)}
        assert len(starts) > 200 and max(starts) > 780

    @pytest.mark.parametrize("places", ["grid", "anywhere"])
    def test_roots_have_the_share_that_their_weights_say(self, places: str) -> None:
        one, two, loose_root = Root("one", 1.0), Root("two", 2.0), Root("three", 1.0)
        songs = [song(0, root=one), *(song(number, root=two) for number in (1, 2, 3, 4))]
        songs += [replace(loose(stem, number), root=loose_root) for stem in STEMS for number in (5, 6)]
        dataset = ChunkDataset(songs, config(places=places, max_num_samples=60))
        shares: Counter[str] = Counter()
        for epoch in range(20):
            for key in keys(dataset, epoch):
                shares[dataset.excerpt(key).song.root.name] += 1
        total = sum(shares.values())
        assert {name: round(4 * count / total, 1) for name, count in shares.items()} == {"one": 1, "two": 2, "three": 1}

    def test_roots_without_weights_are_one_data_set(self) -> None:
        songs = [song(0, root=Root("one")), song(1, root=Root("two")), song(2, root=Root("two"))]
        dataset = ChunkDataset(songs, config())
        plain = ChunkDataset([replace(each, root=Root()) for each in songs], config())
        assert [dataset.excerpt(key).start for key in keys(dataset)] == [
            plain.excerpt(key).start for key in keys(plain)
        ]


class TestRemixAndMixup:
    def test_the_share_of_remixed_chunks(self) -> None:
        songs = [song(number) for number in range(20)]
        dataset = ChunkDataset(songs, config(remix=0.3), seed=4)
        share = sum(len(dataset.describe(key)["excerpts"]) > 1 for key in keys(dataset)) / len(dataset)
        assert share == pytest.approx(0.3, abs=0.1)

    def test_mixup_adds_excerpts_within_its_gains(self) -> None:
        songs = [song(number) for number in range(4)]
        dataset = ChunkDataset(songs, config(mixup="1,0.5", mixup_gain=[-12, -6]))
        counts: Counter[str] = Counter()
        for key in keys(dataset):
            first, *added = dataset.describe(key)["excerpts"]
            assert first["gain"] == 1 and set(first["stems"]) == {"vocals", "drums"}
            assert all(10 ** (-12 / 20) <= piece["gain"] <= 10 ** (-6 / 20) for piece in added)
            counts.update(stem for piece in added for stem in piece["stems"])
        assert all(len(dataset) < counts[stem] < 2 * len(dataset) for stem in STEMS)

    def test_the_mixture_is_the_sum_once_anything_is_added(self) -> None:
        dataset = ChunkDataset([song(number, stems=["vocals", "drums"]) for number in range(4)], config(mixup=0.5))
        for key in keys(dataset):
            mixture, targets = (tensor.numpy() for tensor in dataset[key])
            pieces = dataset.describe(key)["excerpts"]
            one = next(each for each in dataset.songs if each.name == pieces[0]["song"])
            expected = one.read_mixture(pieces[0]["start"], 100)
            if any(REST in piece["stems"] for piece in pieces):
                continue
            planned = one.read_stems(["vocals", "drums"], pieces[0]["start"], 100)
            assert np.allclose(mixture - expected, (targets - planned).sum(0), atol=1e-5)


class TestRest:
    def test_summed_mixtures_hold_all_stems_and_nothing_else(self) -> None:
        for targets in ("vocals", "vocals,drums,bass"):
            for shuffle in (True, False):
                dataset = ChunkDataset([song(0)], config(targets, mixture="sum"), shuffle=shuffle)
                for key in keys(dataset):
                    expected = dataset.songs[0].read_stems(list(STEMS), dataset.excerpt(key).start, 100).sum(0)
                    assert np.allclose(dataset[key][0].numpy(), expected, atol=1e-6)

    def test_a_mixture_is_kept_where_one_stem_alone_is_known(self) -> None:
        dataset = ChunkDataset([song(0, stems=["vocals"])], config("vocals", mixture="sum"))
        for key in keys(dataset):
            expected = dataset.songs[0].read_mixture(dataset.excerpt(key).start, 100)
            assert np.allclose(dataset[key][0].numpy(), expected, atol=1e-6)

    @pytest.mark.parametrize("settings_", [{}, {"min_mean_abs": 0.001}, {"mixup": [0.0]}])
    def test_without_need_only_targets_and_mixture_are_read(self, settings_: dict[str, Any]) -> None:
        one = song(0)
        dataset = ChunkDataset([one], config("vocals", **settings_))
        _ = dataset[ChunkKey(0, 0)]
        reads = {name: len(source.reads) for name, source in one.stems.items() if isinstance(source, Counting)}
        assert reads == {"vocals": 1, "drums": 0, "bass": 0}
        assert isinstance(one.mixture, Counting) and len(one.mixture.reads) == 1


class TestAugmentedChunks:
    def dataset(self, augmentations: dict[str, Any], **sampling: Any) -> ChunkDataset:
        plain = config("vocals,drums,bass", **sampling)
        settings_ = DatasetConfig.model_validate({**plain.model_dump(), "augmentations": augmentations})
        return ChunkDataset([song(number, stems=STEMS, mixture=False) for number in range(4)], settings_, seed=3)

    @pytest.mark.parametrize("sampling", [{}, {"remix": 0.5, "mixup": [0.5]}, {"mixture": "sum"}])
    def test_mixture_and_targets_stay_consistent(self, sampling: dict[str, Any]) -> None:
        dataset = self.dataset({"stems": {"gain": {"p": 0.8}, "polarity": {"p": 0.5}}}, **sampling)
        for key in keys(dataset):
            mixture, targets = dataset[key]
            assert torch.allclose(mixture, targets.sum(0), atol=1e-6)
            assert torch.equal(dataset.mixture(key), mixture)
            assert "vocals" in dataset.describe(key)["augmentations"]

    def test_a_faster_tempo_reads_more_of_the_song(self) -> None:
        pytest.importorskip("python_stretch")
        dataset = self.dataset({"song": {"tempo": {"p": 1, "min_rate": 1.5, "max_rate": 1.5}}})
        for key in keys(dataset)[:8]:
            assert dataset[key][0].shape == (1, 100)
        reads = {read for one in dataset.songs for source in one.stems.values() for read in source.reads}  # type: ignore[attr-defined]
        assert {frames for _, frames in reads} == {150} and max(start + frames for start, frames in reads) <= 950

    def test_validation_is_not_augmented(self) -> None:
        augmented = self.dataset({"stems": {"gain": {"p": 1}}})
        dataset = ChunkDataset(augmented.songs, augmented.config, shuffle=False)
        mixture, targets = dataset[ChunkKey(0, 3)]
        assert np.array_equal(targets.numpy(), dataset.songs[0].read_stems(list(STEMS), 300, 100))
        assert np.allclose(mixture.numpy(), dataset.songs[0].read_mixture(300, 100), atol=1e-7)


class TestSettings:
    @pytest.mark.parametrize(
        ("sampling", "words"),
        [
            ({"remix": 1.5}, "sampling.remix: 1.5"),
            ({"mixup": [0.5, 2]}, r"sampling.mixup\[1\]: 2"),
            ({"mixup_gain": [0, -6]}, "exchange the two"),
            ({"weights": {"*": -1}}, "sampling.weights"),
            ({"stems": "independent", "balance": True}, "balanced already"),
            ({"stem": "independent"}, "did you mean stems"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, sampling: dict[str, Any], words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            validate(DatasetConfig, {"sampling": sampling})

    def test_short_forms(self) -> None:
        assert validate(DatasetConfig, {"sampling": "independent"}).sampling.stems == "independent"
        assert validate(DatasetConfig, {"sampling": {"mixup": 0.2}}).sampling.mixup == [0.2]
