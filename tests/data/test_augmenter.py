"""Plans of augmentations, and chunks that go through them: sums, ranges, the same again in any worker."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from auralflow_core.config import Config, DatasetConfig, TrainingConfig, load_config, save_config, validate
from auralflow_core.config.augmentation_groups import (
    AugmentationsConfig,
    MixtureAugmentations,
    SongAugmentations,
    StemAugmentations,
)
from auralflow_core.config.group import Group
from auralflow_core.data.augment import Augmenter, Plan
from auralflow_core.data.augment.effects import EFFECTS
from auralflow_core.data.chunks import ChunkDataset, ChunkKey, chunk_loader
from auralflow_core.data.song import Song
from auralflow_core.errors import ConfigError

RATE = 8000
FRAMES = 2000
TARGETS = ["vocals", "drums"]
PARTS = [*TARGETS, "(rest)"]
STRETCHES = {"pitch", "tempo"}

SONG, STEM, MIXTURE = (
    sorted(set(group.model_fields) - STRETCHES)
    for group in (SongAugmentations, StemAugmentations, MixtureAugmentations)
)


def all_of(group: type[Group], *, without: str = "") -> dict[str, dict[str, float]]:
    return {name: {"p": 1} for name in group.model_fields if name not in without.split()}


def augmenter(*, seed: int = 7, **config: Any) -> Augmenter:
    return Augmenter(AugmentationsConfig.model_validate(config), RATE, TARGETS, seed)


def parts(frames: int = FRAMES, channels: int = 2, seed: int = 0) -> Tensor:
    return torch.tensor(np.random.default_rng(seed).uniform(-0.3, 0.3, (3, channels, frames)), dtype=torch.float32)


def values(drawn: dict[str, Any]) -> list[tuple[str, float]]:
    """Return what was drawn for an effect by name, in all bands."""
    bands = drawn.get("bands", [drawn])
    return [(name, value) for band in bands for name, value in band.items() if name not in ("effect", "seed")]


@st.composite
def chosen(draw: st.DrawFn, names: list[str]) -> dict[str, dict[str, float]]:
    """Draw some augmentations that may or must happen."""
    picked = draw(st.lists(st.sampled_from(names), unique=True, max_size=4))
    return {name: {"p": draw(st.sampled_from([0.5, 1.0]))} for name in picked}


@st.composite
def ranges(draw: st.DrawFn) -> tuple[str, dict[str, float]]:
    """Draw an augmentation and a narrower range of each of its values."""
    name = draw(st.sampled_from(STEM))
    annotation: Any = StemAugmentations.model_fields[name].annotation
    schema = next(choice for choice in annotation.__args__ if choice is not type(None))
    given_ranges: dict[str, float] = {"p": 1.0}
    for value in schema().ranges():
        low, high = getattr(schema(), f"min_{value}"), getattr(schema(), f"max_{value}")
        given_ranges[f"min_{value}"], given_ranges[f"max_{value}"] = sorted(
            draw(st.tuples(st.floats(low, high), st.floats(low, high)))
        )
    return name, given_ranges


SOME: dict[str, Any] = {"song": {"gain": {}, "eq": {}}, "stems": {"reverb": {}, "noise": {}}, "mixture": {"noise": {}}}


class TestPlans:
    def test_a_plan_follows_from_seed_epoch_and_number_alone(self) -> None:
        keys = [(epoch, number) for epoch in range(3) for number in range(20)]
        plans = {key: augmenter(**SOME).plan(*key) for key in keys}
        again = augmenter(**SOME)
        assert all(again.plan(*key) == plans[key] for key in reversed(keys))
        assert all(augmenter(seed=8, **SOME).plan(*key) != plans[key] for key in keys)
        assert len({json.dumps(plan) for plan in plans.values()}) == len(keys)

    def test_a_plan_is_plain_data(self) -> None:
        used = augmenter(stems=all_of(StemAugmentations, without="mute pitch"), mixture=all_of(MixtureAugmentations))
        plan = used.plan(0, 0)
        again: Plan = json.loads(json.dumps(plan))
        assert again == plan and list(plan) == [*PARTS, "(mixture)"]
        for one, other in zip(used(parts(), plan, FRAMES), used(parts(), again, FRAMES), strict=True):
            assert torch.equal(one, other)

    @settings(max_examples=60, deadline=None)
    @given(choice=ranges(), number=st.integers(0, 1000))
    def test_what_is_drawn_lies_in_its_range(self, choice: tuple[str, dict[str, float]], number: int) -> None:
        name, given_ranges = choice
        plan = augmenter(stems={name: given_ranges}).plan(0, number)
        for part in PARTS:
            (drawn,) = plan[part]
            assert drawn["effect"] == name
            for value, found in values(drawn):
                if f"min_{value}" in given_ranges:
                    assert given_ranges[f"min_{value}"] <= found <= given_ranges[f"max_{value}"]

    def test_ranges_are_used_to_their_ends(self) -> None:
        used = augmenter(stems={"gain": {"p": 1, "min_db": -3, "max_db": 5}})
        found = [used.plan(0, number)["vocals"][0]["db"] for number in range(500)]
        assert min(found) < -2.9 and max(found) > 4.9 and np.mean(found) == pytest.approx(1, abs=0.3)

    @pytest.mark.parametrize("p", [0.0, 0.2, 1.0])
    def test_probabilities(self, p: float) -> None:
        used = augmenter(stems={"polarity": {"p": p}})
        found = [bool(used.plan(0, number)[part]) for number in range(500) for part in PARTS]
        assert np.mean(found) == pytest.approx(p, abs=0.05 if 0 < p < 1 else 0)

    def test_a_song_s_stems_share_what_its_own_do_not(self) -> None:
        plan = augmenter(song={"gain": {"p": 1}}, stems={"noise": {"p": 1}}).plan(0, 0)
        assert plan["vocals"][-1] == plan["drums"][-1] or plan["vocals"][0] == plan["drums"][0]
        noises = [drawn for part in PARTS for drawn in plan[part] if drawn["effect"] == "noise"]
        assert len({drawn["seed"] for drawn in noises}) == 3

    def test_stems_by_name(self) -> None:
        by_name = {
            "d*": {"polarity": {"p": 0}, "mute": {"p": 1}},
            "(rest)": {"gain": {"p": 1, "min_db": 6, "max_db": 6}},
        }
        plan = augmenter(stems={"polarity": {"p": 1}, "gain": {"p": 1, "max_db": 0}}, stems_by_name=by_name).plan(0, 0)
        assert [drawn["effect"] for drawn in plan["vocals"]] == ["polarity", "gain"]
        assert [drawn["effect"] for drawn in plan["drums"]] == ["mute"]
        assert plan["(rest)"] == [{"effect": "polarity"}, {"effect": "gain", "db": 6}]


class TestSums:
    @settings(max_examples=40, deadline=None)
    @given(song=chosen(SONG), stems=chosen(STEM), channels=st.integers(1, 2), number=st.integers(0, 99))
    def test_the_mixture_is_the_sum_of_augmented_stems(
        self, song: dict[str, Any], stems: dict[str, Any], channels: int, number: int
    ) -> None:
        used = augmenter(song=song, stems=stems)
        given_parts, plan = parts(channels=channels), used.plan(0, number)
        mixture, targets = used(given_parts, plan, FRAMES)
        assert targets.shape == (2, channels, FRAMES) and mixture.shape == (channels, FRAMES)
        # Silence stays silence, so that each part can be sent through alone.
        alone = [used(given_parts * (torch.arange(3) == part)[:, None, None], plan, FRAMES) for part in range(3)]
        assert torch.allclose(mixture, alone[0][0] + alone[1][0] + alone[2][0], atol=1e-5)
        for target in range(2):
            assert torch.equal(targets[target], alone[target][1][target])
            assert torch.allclose(targets[target], alone[target][0], atol=1e-6)

    @settings(max_examples=20, deadline=None)
    @given(song=chosen(SONG), number=st.integers(0, 99))
    def test_what_happens_to_a_song_happens_to_its_mixture(self, song: dict[str, Any], number: int) -> None:
        used = augmenter(song=song)
        mixture, _ = used(parts(), used.plan(0, number), FRAMES)
        expected = parts().sum(0)
        for drawn in used.plan(0, number)["(rest)"]:
            given_values = {name: value for name, value in drawn.items() if name != "effect"}
            expected = EFFECTS[drawn["effect"]].apply(expected, RATE, **given_values)
        assert torch.allclose(mixture, expected, atol=1e-4)

    @settings(max_examples=20, deadline=None)
    @given(choices=chosen(MIXTURE))
    def test_what_happens_to_the_mixture_leaves_the_targets(self, choices: dict[str, Any]) -> None:
        used = augmenter(mixture=choices)
        mixture, targets = used(parts(), used.plan(0, 0), FRAMES)
        assert torch.equal(targets, parts()[:-1])
        assert torch.equal(mixture, parts().sum(0)) == (not used.plan(0, 0)["(mixture)"])

    @settings(max_examples=20, deadline=None)
    @given(song=chosen(SONG), stems=chosen(STEM), mixture=chosen(sorted({*MIXTURE} - {"mp3"})))
    def test_the_device_finishes_what_a_worker_would(self, **groups: dict[str, Any]) -> None:
        worker = Augmenter(AugmentationsConfig.model_validate(groups), RATE, TARGETS, 7)
        device = Augmenter(AugmentationsConfig.model_validate({**groups, "device": "model"}), RATE, TARGETS, 7)
        plans = [worker.plan(0, number) for number in range(3)]
        chunks = [parts(seed=number) for number in range(3)]
        begun = [device(chunk, plan, FRAMES) for chunk, plan in zip(chunks, plans, strict=True)]
        mixtures, targets = (torch.stack(side) for side in zip(*begun, strict=True))
        found = device.finish(mixtures, targets, plans)
        for number in range(3):
            for one, other in zip(found, worker(chunks[number], plans[number], FRAMES), strict=True):
                assert torch.allclose(one[number], other, atol=1e-4)

    def test_silence_stays_finite(self) -> None:
        used = augmenter(
            song=all_of(SongAugmentations, without="pitch tempo"),
            stems=all_of(StemAugmentations, without="mute pitch"),
            mixture=all_of(MixtureAugmentations),
        )
        for given_parts in (torch.zeros(3, 1, 1), torch.zeros(3, 2, FRAMES)):
            mixture, targets = used(given_parts, used.plan(0, 0), given_parts.shape[-1])
            assert not mixture.any() and not targets.any()

    @pytest.mark.parametrize("rate", [0.8, 1.25])
    def test_tempo_and_pitch_keep_stems_together(self, rate: float) -> None:
        pytest.importorskip("python_stretch")
        tempo = {"p": 1, "min_rate": rate, "max_rate": rate}
        used = augmenter(song={"tempo": tempo}, stems={"pitch": {"p": 1}}, stems_by_name={"drums": {"mute": {"p": 1}}})
        plan = used.plan(0, 0)
        assert used.rate(plan) == pytest.approx(rate)
        excerpt = torch.zeros(3, 1, int(np.ceil(FRAMES * rate)))
        excerpt[:, :, 1000] = 0.5
        mixture, targets = used(excerpt, plan, FRAMES)
        assert mixture.shape == (1, FRAMES) and not targets[1].any()
        places = [int(audio.abs().argmax()) for audio in (targets[0], mixture - targets[0])]
        assert np.abs(np.subtract(places, 1000 / rate)).max() <= RATE // 400 and abs(places[0] - places[1]) <= 2


class Tone:
    """A stem in memory."""

    def __init__(self, seed: int) -> None:
        self._audio = np.random.default_rng(seed).uniform(-0.3, 0.3, (1, 3 * RATE)).astype(np.float32)

    def read(self, start: int, frames: int) -> Any:
        return self._audio[:, start : start + frames]


def dataset(*, shuffle: bool = True, **augmentations: Any) -> ChunkDataset:
    sizes = {"num_fft": 16, "window_size": 16, "hop_length": 8, "sample_length": 0.25, "sample_rate": RATE}
    config = DatasetConfig.model_validate({"targets": TARGETS, "augmentations": augmentations, **sizes})
    stems = [{name: Tone(3 * song + number) for number, name in enumerate([*TARGETS, "bass"])} for song in range(2)]
    songs = [Song(f"song {number}", held, None, RATE, 1, 3 * RATE) for number, held in enumerate(stems)]
    return ChunkDataset(songs, config, seed=3, shuffle=shuffle)


class TestChunks:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_any_worker_makes_the_same_chunk_from_any_batch_on(self, workers: int) -> None:
        data = dataset(**SOME)
        loader, sampler = chunk_loader(data, TrainingConfig(batch_size=4, num_workers=workers))
        sampler.start_at(1, 3)
        for number, (mixtures, targets) in enumerate(loader, start=3):
            for place, key in enumerate(sampler.keys(1, number)):
                mixture, expected = pickle.loads(pickle.dumps(data))[key]
                assert torch.equal(mixtures[place], mixture) and torch.equal(targets[place], expected)
                assert torch.equal(data.mixture(key), mixture)

    def test_validation_is_left_alone(self) -> None:
        data, plain = (dataset(shuffle=False, **settings) for settings in ({"stems": {"gain": {"p": 1}}}, {}))
        for key in (ChunkKey(0, number) for number in range(len(plain))):
            assert all(torch.equal(one, other) for one, other in zip(data[key], plain[key], strict=True))

    def test_a_chunk_says_what_became_of_it(self) -> None:
        data, plain, key = dataset(stems={"gain": {"p": 1}}), dataset(), ChunkKey(0, 5)
        drawn = data.describe(key)["augmentations"]
        for target, (found, before) in enumerate(zip(data[key][1], plain[key][1], strict=True)):
            assert torch.allclose(found, before * 10 ** (drawn[TARGETS[target]][0]["db"] / 20))

    def test_a_faster_song_is_read_further(self) -> None:
        pytest.importorskip("python_stretch")
        data = dataset(song={"tempo": {"p": 1, "min_rate": 2, "max_rate": 2}})
        inside = [key for key in map(ChunkKey, [0] * 20, range(20)) if data.excerpt(key).start + 4000 <= 3 * RATE]
        assert inside
        for key in inside:
            mixture, targets = data[key]
            assert mixture.shape == (1, 2000) and targets.shape == (2, 1, 2000)
            assert targets[:, :, -400:].abs().mean() > 0.03  # no silence at the end


class TestRefusals:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"stems": {"gain": {"min_db": 3, "max_db": 1}}}, "min_db 3 is above max_db 1"),
            ({"stems": {"gain": {"p": 2}}}, "dataset.augmentations.stems.gain.p"),
            ({"stems": {"tempo": {}}}, "dataset.augmentations.stems.tempo: unknown"),
            ({"mixture": {"gain": {}}}, "dataset.augmentations.mixture.gain: unknown"),
            ({"stems": {"revreb": {}}}, "did you mean reverb"),
            ({"song": {"noise": {}}}, "dataset.augmentations.song.noise: unknown"),
            ({"device": "model", "mixture": {"mp3": {}}}, "mixture.mp3 runs on the CPU"),
            ({"device": "gpu"}, "dataset.augmentations.device"),
            ({"stems": {"mp3": {"min_kbps": 32}}}, "dataset.augmentations.stems.mp3.min_kbps"),
        ],
    )
    def test_settings(self, settings: dict[str, Any], words: str) -> None:
        with pytest.raises(ConfigError, match=words.replace(".", r"\.")):
            validate(Config, {"model": {"type": "T"}, "dataset": {"augmentations": settings}})

    def test_a_rate_that_mp3_does_not_have(self) -> None:
        with pytest.raises(ConfigError, match=r"no sample rate of 10000 Hz.*leave out mp3"):
            Augmenter(AugmentationsConfig.model_validate({"mixture": {"mp3": {}}}), 10_000, TARGETS, 0)

    def test_a_missing_library_is_named_before_training(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "python_stretch", None)
        switched_on: dict[str, Any] = {"song": {"tempo": {}}, "stems_by_name": {"vocals": {"pitch": {}}}}
        for group, used in switched_on.items():
            with pytest.raises(ConfigError, match=r"python-stretch.*pip install 'auralflow\[augment\]'"):
                augmenter(**{group: used})
        augmenter(stems={"pitch": {"p": 0}})

    def test_a_saved_configuration_means_the_same(self, tmp_path: Path) -> None:
        settings = {"stems": {"gain": {}}, "stems_by_name": {"drums": {"eq": {"bands": 2}, "gain": {"p": 0}}}}
        config = validate(Config, {"model": {"type": "T"}, "dataset": {"augmentations": settings}})
        save_config(config, tmp_path / "config.json")
        loaded = load_config(tmp_path).dataset.augmentations
        plans = [Augmenter(each, RATE, TARGETS, 0).plan(0, 0) for each in (loaded, config.dataset.augmentations)]
        assert plans[0] == plans[1]


def default_ranges(name: str) -> Iterator[str]:
    """Yield the ranges of an augmentation as the page has them."""
    annotation: Any = {**SongAugmentations.model_fields, **StemAugmentations.model_fields}[name].annotation
    defaults = next(choice for choice in annotation.__args__ if choice is not type(None))()
    for value in defaults.ranges():
        unit = " (to -60 dB)" if value == "seconds" else ""
        yield f"`{value}`{unit} {getattr(defaults, f'min_{value}'):g} to {getattr(defaults, f'max_{value}'):g}"


def test_the_page_s_examples_and_names() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8").split("\n## ")
    (section,) = (part for part in page if part.startswith("Augmentations\n"))
    example = yaml.safe_load(section.split("```yaml\n")[1].split("```")[0])
    used = validate(Config, {"model": {"type": "T"}, **example}).dataset.augmentations.used
    assert used == {"gain", "channel_swap", "polarity", "time_reversal", "eq", "pitch", "tempo", "mp3"}
    groups: dict[str, type[Group]] = {
        "stems": StemAugmentations,
        "song": SongAugmentations,
        "mixture": MixtureAugmentations,
    }
    listed: dict[str, set[str]] = {group: set() for group in groups}
    for row in section.split("|---|---|---|---|---|---|\n")[1].split("\n\n")[0].splitlines():
        title, *marks, ranges_ = (cell.strip() for cell in row.split("|")[1:6])
        name = title.split("`")[1]
        for group, mark in zip(groups, marks, strict=True):
            listed[group] |= {name} if mark == "x" else set()
        assert ranges_ == ", ".join(default_ranges(name)), name
    assert listed == {group: set(schema.model_fields) for group, schema in groups.items()}
