"""Folders of single stems: found, trained with, and combined for validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auralflow_core.config import Config, DatasetConfig, validate
from auralflow_core.data.cache import SongCache
from auralflow_core.data.folder import FolderDataset
from auralflow_core.data.stem_folders import StemFoldersDataset
from auralflow_core.errors import AuralflowError

RATE = 8000
SongWriter = Callable[..., Path]


def write(path: Path, *, frames: int = 800, channels: int = 1, rate: int = RATE, level: float = 0.1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = level * np.random.default_rng(len(path.name)).uniform(-1, 1, (frames, channels))
    soundfile.write(path, audio, rate, subtype="PCM_16")


def dataset(root: Path, **settings: object) -> StemFoldersDataset:
    return StemFoldersDataset(root, DatasetConfig.model_validate(settings))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four files of vocals and three of drums."""
    for name in "abcd":
        write(tmp_path / f"train/vocals/voice {name}.wav", frames=800)
    for name, suffix in zip("abc", ("wav", "flac", "flac"), strict=True):
        write(tmp_path / f"train/drums/kit {name}.{suffix}", frames=500)
    (tmp_path / "train/vocals/notes.txt").write_text("x")
    (tmp_path / "train/vocals/.hidden.wav").write_text("x")
    return tmp_path


def test_training_has_a_song_of_one_stem_for_each_file(root: Path) -> None:
    (root / "valid").mkdir()
    songs = dataset(root).songs("train")
    assert [song.name for song in songs] == [f"drums - kit {x}" for x in "abc"] + [
        f"vocals - voice {x}" for x in "abcd"
    ]
    assert all(list(song.stems) == [song.name.split(" - ")[0]] and song.mixture is None for song in songs)


def test_some_files_of_each_stem_are_kept_and_combined_for_validation(root: Path) -> None:
    train, valid = dataset(root).songs("train"), dataset(root).songs("valid")
    assert len(train) == 5 and [song.name for song in valid] == ["combination 1"]
    (song,) = valid
    assert set(song.stems) == {"vocals", "drums"} and song.frames == 500
    names = {source.path.name for source in song.stems.values()}  # type: ignore[attr-defined]
    assert not names & {source.path.name for each in train for source in each.stems.values()}  # type: ignore[attr-defined]
    assert np.allclose(song.read_mixture(), song.read_stems(["vocals", "drums"]).sum(0), atol=1e-6)


def test_a_mono_file_joins_stereo_ones_also_out_of_the_cache(root: Path, tmp_path: Path) -> None:
    write(root / "valid/vocals/one.wav", channels=2)
    write(root / "valid/drums/one.flac", channels=1)
    (song,) = dataset(root).songs("valid")
    (kept,) = SongCache(tmp_path / "cache").songs([song])
    expected, _ = soundfile.read(root / "valid/drums/one.flac", dtype="float32")
    for each in (song, kept):
        assert each.channels == 2
        assert (each.read_stems(["drums"], 7, 100)[0] == expected[None, 7:107]).all()


def test_files_of_one_rate_are_combined(root: Path) -> None:
    for stem, rates in {"vocals": (8000, 16000, 16000), "drums": (16000, 11025, 16000)}.items():
        for number, rate in enumerate(rates):
            write(root / f"valid/{stem}/{number}.wav", rate=rate)
    assert [song.sample_rate for song in dataset(root).songs("valid")] == [16000, 16000]


def test_validation_and_test_may_be_songs(root: Path, write_song: SongWriter) -> None:
    write_song(root / "valid/whole song")
    write_song(root / "test/another")
    assert [song.name for song in dataset(root).songs("valid")] == ["whole song"]
    assert [song.name for song in dataset(root).songs("test")] == ["another"]
    assert len(dataset(root).songs("train")) == 7


def test_it_is_told_from_folders_of_songs(root: Path, write_song: SongWriter, tmp_path: Path) -> None:
    assert StemFoldersDataset.detects(root) and StemFoldersDataset.detects(root / "train")
    songs = tmp_path / "songs"
    write_song(songs / "train/vocals")  # a song of that name
    assert not StemFoldersDataset.detects(songs) and FolderDataset.detects(songs)
    assert not StemFoldersDataset.detects(tmp_path / "nowhere")


def test_other_names_are_stems_where_the_type_says_so(tmp_path: Path) -> None:
    for name in ("kazoo", "oud"):
        for number in range(2):
            write(tmp_path / f"{name}/{number}.wav")
    assert not StemFoldersDataset.detects(tmp_path)
    assert {stem for song in dataset(tmp_path).songs("valid") for stem in song.stems} == {"kazoo", "oud"}


def one_file_of_drums(root: Path) -> None:
    for path in (root / "train/drums").glob("*.flac"):
        path.unlink()


def an_empty_file(root: Path) -> None:
    write(root / "train/vocals/voice a.wav", frames=0)
    (root / "valid").mkdir()


def different_rates(root: Path) -> None:
    write(root / "valid/vocals/1.wav", rate=8000)
    write(root / "valid/drums/1.wav", rate=9000)


@pytest.mark.parametrize(
    ("spoil", "split", "words"),
    [
        (one_file_of_drums, "valid", "stem 'drums': 1 song"),
        (lambda root: None, "test", "has no folder test/"),
        (an_empty_file, "train", "no samples"),
        (lambda root: (root / "train").rename(root / "valid"), "train", "holds no folders with audio"),
        (different_rates, "valid", "no rate at which"),
    ],
)
def test_what_is_wrong_is_named(root: Path, spoil: Callable[[Path], object], split: str, words: str) -> None:
    spoil(root)
    with pytest.raises(AuralflowError, match=words) as caught:
        dataset(root).songs(split)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(AuralflowError, match="no such folder"):
        dataset(tmp_path / "nowhere")


def test_the_type_is_registered(root: Path) -> None:
    from auralflow_core.build import open_dataset

    config = validate(Config, {"model": {"type": "any"}})
    assert isinstance(open_dataset(root, config), StemFoldersDataset)
