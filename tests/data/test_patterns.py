"""Patterns of songs and stems: what fits nothing is refused, with the nearest names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auralflow_core.config import DatasetConfig, validate
from auralflow_core.data.chunks import ChunkDataset, ChunkKey
from auralflow_core.data.drawing import check_song_patterns
from auralflow_core.data.song import Audio, Song
from auralflow_core.errors import ConfigError, DataError

RATE = 1000


class Silence:
    """A source without sound."""

    def read(self, start: int, frames: int) -> Audio:
        return np.zeros((1, frames), np.float32)


def song(number: int, stems: Sequence[str] = ("vocals", "drums", "bass")) -> Song:
    return Song(f"song {number}", dict.fromkeys(stems, Silence()), Silence(), RATE, 1, 950)


def config(
    targets: str = "vocals,drums", augmentations: dict[str, Any] | None = None, **sampling: Any
) -> DatasetConfig:
    sizes = {"num_fft": 16, "window_size": 16, "hop_length": 8, "sample_rate": RATE, "sample_length": 0.1}
    groups = {"sampling": sampling, "augmentations": augmentations or {}}
    return validate(DatasetConfig, {**sizes, **groups, "targets": targets})


def drawn(dataset: ChunkDataset) -> set[str]:
    return {dataset.excerpt(ChunkKey(0, number)).song.name for number in range(len(dataset))}


SONGS = (song(0), song(1), replace(song(2), name="Blue (Live)"))


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        (
            {"weights": {"song*": 2, "song 8": 0}},
            r"weights: 'song 8' fits no training song \(of 3\); did you mean",
        ),
        ({"weights": {"*live*": 0.5}}, r"'\*live\*' fits no training song \(of 3\); did you mean 'Blue \(Live\)'\?"),
        ({"weights": {"blu": 0.5}}, r"did you mean 'Blue \(Live\)'"),
        ({"weights": {"xyz*": 0.5}}, r"; there are song 0, song 1, Blue \(Live\) \(patterns"),
        ({"rest": "bass,drum"}, r"rest: 'drum' fits no stem besides the targets; there are bass \("),
        ({"rest": "vocals"}, "rest: 'vocals' fits no"),
        ({"rest": "bas"}, "did you mean 'bass'"),
    ],
)
def test_one_that_fits_nothing_is_refused(sampling: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        check_song_patterns(SONGS, config(**sampling))
    assert "\n" not in str(caught.value)


def test_many_songs_are_not_all_listed() -> None:
    with pytest.raises(ConfigError, match=r"fits no training song \(of 40\); there are song 0, .*song 4, \.\.\. "):
        check_song_patterns([song(number) for number in range(40)], config(weights={"xyz": 1}))


def test_what_fits_is_taken() -> None:
    check_song_patterns(SONGS, config(weights={"*": 1, "Blue*": 0, "song [01]": 2}, rest="b?ss"))
    check_song_patterns(SONGS, config(rest=""))
    check_song_patterns([song(0, stems=["vocals"])], config("vocals", rest="(rest),"))


@given(
    names=st.lists(st.text("ab *", min_size=1, max_size=4), min_size=1, max_size=5, unique=True),
    pattern=st.text("ab *?", min_size=1, max_size=3),
)
def test_what_is_taken_changes_what_is_drawn(names: list[str], pattern: str) -> None:
    songs = [replace(song(number), name=name) for number, name in enumerate(names)]
    chosen = config(weights={pattern: 0})
    try:
        left = drawn(ChunkDataset(songs, chosen))
    except DataError:
        left = set()
    try:
        check_song_patterns(songs, chosen)
    except ConfigError:
        assert left == set(names)
    else:
        assert left < set(names)


def test_augmentations_of_a_stem_that_is_no_target_are_refused(
    refused: Callable[..., str], model_folder: Path, song_folder: Path
) -> None:
    setting = "--augmentations.stems_by_name.{}.gain.p"
    message = refused("train", model_folder, song_folder, setting.format("vocal"), 1)
    assert "stems_by_name: 'vocal' fits no" in message and "did you mean 'vocals'" in message
    assert "fits no" in refused("train", model_folder, song_folder, setting.format("bass"), 1)
    assert not (model_folder / "checkpoint").exists()


@pytest.mark.parametrize("name", ["vocals", "v*", "(rest)"])
def test_augmentations_of_parts_are_taken(name: str) -> None:
    ChunkDataset([song(0)], config(augmentations={"stems_by_name": {name: {"gain": {"p": 1}}}}))


@pytest.mark.parametrize("name", ["weights", "rest"])
def test_training_refuses_patterns_before_its_first_step(
    refused: Callable[..., str], model_folder: Path, song_folder: Path, name: str
) -> None:
    value = {"weights": '{"train song 9": 0}', "rest": "drum"}[name]
    message = refused("train", model_folder, song_folder, f"--sampling.{name}", value)
    assert f"sampling.{name}: " in message and "did you mean" in message
    assert not (model_folder / "checkpoint").exists()
