"""Several data sets in one: their names, splits, types and shares."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auralflow_core.build import open_dataset
from auralflow_core.config import Config, validate
from auralflow_core.config.yaml import dump_yaml
from auralflow_core.data.open import fingerprint, suited
from auralflow_core.data.song import Song
from auralflow_core.errors import AuralflowError

SongWriter = Callable[..., Path]


def config(**dataset: Any) -> Config:
    return validate(Config, {"model": {"type": "any"}, "dataset": dataset})


def names(songs: list[Song]) -> list[str]:
    return [song.name for song in songs]


@pytest.fixture
def roots(write_song: SongWriter, tmp_path: Path) -> Path:
    """Folders `one` and `two` with songs of the same names, `three` with a description."""
    for folder in ("one/train/a", "one/train/b", "one/valid/c", "one/test/d", "two/train/a", "two/valid/c", "three/x"):
        write_song(tmp_path / folder, frames=400)
    stems = {name: f"x/{name}.wav" for name in ("vocals", "drums")}
    described = [
        {"name": "x", "split": "train", "stems": stems, "weight": 3},
        {"name": "y", "split": "valid", "stems": stems},
    ]
    (tmp_path / "three/auralflow-data.json").write_text(json.dumps({"songs": described}))
    return tmp_path


def write_mix(root: Path, *entries: dict[str, Any]) -> Path:
    (root / "auralflow-mix.json").write_text(json.dumps({"roots": entries}))
    return root


def test_several_folders_are_one_data_set(roots: Path) -> None:
    dataset = open_dataset([roots / "one", roots / "two", roots / "three"], config())
    songs = dataset.songs("train")
    assert names(songs) == ["one - a", "one - b", "three - x", "two - a"]
    assert [song.weight for song in songs] == [1, 1, 3, 1]
    assert {song.root.name: song.root.weight for song in songs} == {"one": None, "two": None, "three": None}
    assert names(dataset.songs("valid")) == ["one - c", "three - y", "two - c"]
    assert names(dataset.songs("test")) == ["one - d"]
    assert fingerprint(songs)["songs"] == names(songs)


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_description_names_roots_types_and_weights(roots: Path, suffix: str) -> None:
    entries = [{"root": "one", "weight": 2}, {"root": "../x/two", "type": "folder", "weight": 0.5}]
    (roots / "x").mkdir()
    (roots / "two").rename(roots / "x/two")
    (roots / "mix").mkdir()
    entries[0]["root"] = "../one"
    data = {"roots": entries}
    (roots / f"mix/auralflow-mix.{suffix}").write_text(json.dumps(data) if suffix == "json" else dump_yaml(data))
    songs = open_dataset(roots / "mix", config()).songs("train")
    assert {song.name: song.root.weight for song in songs} == {"one - a": 2, "one - b": 2, "two - a": 0.5}


def test_folders_of_one_name_are_told_apart(roots: Path, write_song: SongWriter) -> None:
    write_song(roots / "other/one/train/a", frames=400)
    songs = open_dataset([roots / "one", roots / "other/one"], config())
    prefix = f"{roots.name} - one - "
    assert [song.root.name for song in songs.songs("test")] == [prefix.removesuffix(" - ")]


def test_a_description_beside_songs_goes_first(roots: Path) -> None:
    write_mix(roots / "one", {"root": ".", "type": "folder"}, {"root": "../two"})
    assert len(open_dataset(roots / "one", config()).songs("train")) == 3


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([], "has no list `roots`"),
        (["one"], r"roots\[0\] is no mapping"),
        ([{"root": "one", "wieght": 1}], "wieght: unknown; did you mean weight"),
        ([{"root": 3}], r"roots\[0\].root: 3 is no folder"),
        ([{"root": "one", "weight": 0}], "0 is no number above 0"),
        ([{"root": "one", "weight": 1e7}], "is no number above 0, up to 1000000"),
        ([{"root": "one", "type": 1}], "no name of a type"),
        ([{"root": "one", "weight": 1}, {"root": "two"}], "some roots have a weight"),
        ([{"root": "one"}, {"root": "gone"}], "gone: no such folder"),
        ([{"root": "one"}, {"root": "./one"}], "is named twice"),
        ([{"root": "."}], "is the mix itself"),
        ([{"root": "one", "type": "nothing"}], "nothing"),
        ([{"root": "two"}, {"root": "inner"}], "is a mix of data sets itself"),
    ],
)
def test_what_is_wrong_is_named(roots: Path, entries: list[Any], words: str) -> None:
    (roots / "inner").mkdir()
    write_mix(roots / "inner", {"root": "../one"})
    write_mix(roots, *entries)
    with pytest.raises(AuralflowError, match=words) as caught:
        open_dataset(roots, config())
    assert "\n" not in str(caught.value)


def test_a_root_without_songs_to_validate_with_is_named(roots: Path, write_song: SongWriter) -> None:
    write_song(roots / "small/train/a", frames=400)
    dataset = open_dataset([roots / "one", roots / "small"], config())
    with pytest.raises(AuralflowError, match="cannot be divided"):
        dataset.songs("valid")
    with pytest.raises(AuralflowError, match="no folder test/"):
        open_dataset([roots / "two", roots / "small"], config()).songs("test")


class TestSongsOfOtherShapes:
    @pytest.fixture
    def songs(self, roots: Path, write_song: SongWriter) -> list[Song]:
        write_song(roots / "one/train/s", frames=400, channels=2)
        write_song(roots / "one/train/t", frames=400, rate=4000)
        return open_dataset(roots / "one", config()).songs("train")

    def settings(self, **settings: Any) -> Any:
        return config(sample_rate=8000, **settings).dataset

    def test_they_are_converted_and_counted(self, songs: list[Song]) -> None:
        kept, remarks = suited(songs, self.settings())
        assert kept == songs
        assert remarks == [
            "1 of 4 songs are converted as they are read: they have 2 channel(s), the model 1",
            "1 of 4 songs are converted as they are read: they have 4000 Hz, the model 8000",
        ]

    def test_they_are_left_out_and_counted(self, songs: list[Song]) -> None:
        kept, remarks = suited(songs, self.settings(other_channels="discard", other_rates="discard"))
        assert names(kept) == ["a", "b"]
        assert remarks == [
            "1 of 4 songs are left out: they have 2 channel(s), the model 1",
            "1 of 4 songs are left out: they have 4000 Hz, the model 8000",
        ]

    def test_what_cannot_be_converted_is_refused_and_never_said_to_be_converted(
        self, songs: list[Song], roots: Path, write_song: SongWriter
    ) -> None:
        write_song(roots / "one/train/surround", frames=400, channels=6)
        songs = open_dataset(roots / "one", config()).songs("train")
        with pytest.raises(AuralflowError, match=r"'surround' has 6 channels.*--other_channels discard"):
            suited(songs, self.settings(num_channels=2))
        kept, remarks = suited(songs, self.settings())  # the mean of all
        assert len(kept) == 5
        assert remarks[0] == "2 of 5 songs are converted as they are read: they have 2 or 6 channel(s), the model 1"

    @pytest.mark.parametrize("setting", ["other_channels", "other_rates"])
    def test_leaving_out_all_is_refused(self, songs: list[Song], setting: str) -> None:
        only = songs[2:3] if setting == "other_channels" else songs[3:]
        with pytest.raises(AuralflowError, match=f"convert them: --{setting} convert"):
            suited(only, self.settings(**{setting: "discard"}))
