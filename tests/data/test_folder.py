from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from auralflow_core.config import DatasetConfig
from auralflow_core.data.csv import CsvDataset
from auralflow_core.data.described import DescribedDataset, SongFiles, write_description
from auralflow_core.data.folder import FolderDataset
from auralflow_core.data.mix import MixDataset
from auralflow_core.data.open import detect, fingerprint, pool
from auralflow_core.data.song import Song
from auralflow_core.errors import AuralflowError, DataError

SongWriter = Callable[..., Path]


def names(songs: list[Song]) -> list[str]:
    return [song.name for song in songs]


def dataset(root: Path, **settings: object) -> FolderDataset:
    return FolderDataset(root, DatasetConfig.model_validate(settings))


@pytest.fixture
def fill(write_song: SongWriter, tmp_path: Path) -> Callable[..., Path]:
    """Write songs: `fill("train/a", "train/b", "test/c")`; return the data set's folder."""

    def write(*songs: str, **settings: object) -> Path:
        for song in songs:
            write_song(tmp_path / "data" / song, **{"frames": 100, **settings})
        return tmp_path / "data"

    return write


class TestLayouts:
    @pytest.mark.parametrize(
        ("train", "valid"), [("train", "valid"), ("training", "validation"), ("train", "val"), ("train", "dev")]
    )
    def test_three_folders(self, fill: Callable[..., Path], train: str, valid: str) -> None:
        data = dataset(fill(f"{train}/b", f"{train}/a", f"{valid}/c", "test/d"))
        assert [names(data.songs(split)) for split in ("train", "valid", "test")] == [["a", "b"], ["c"], ["d"]]

    def test_without_valid_some_training_songs_are_kept_for_it(self, fill: Callable[..., Path]) -> None:
        root = fill(*(f"train/song {number}" for number in range(10)), "test/d")
        data = dataset(root, validation_split=0.3)
        train, valid = names(data.songs("train")), names(data.songs("valid"))
        assert (len(train), len(valid)) == (7, 3)
        assert not set(train) & set(valid)
        assert (names(dataset(root, validation_split=0.3).songs("train"))) == train

    def test_song_folders_alone(self, fill: Callable[..., Path]) -> None:
        data = dataset(fill("a", "b", "c", "d", "e"))
        assert sorted(names(data.songs("train")) + names(data.songs("valid"))) == list("abcde")
        assert names(data.songs("test")) == list("abcde")

    def test_stray_and_hidden_files_are_passed_over(self, fill: Callable[..., Path]) -> None:
        root = fill("train/a", "train/b", "valid/c")
        (root / "train" / "notes").mkdir()
        (root / "train" / "notes" / "readme.txt").write_text("x")
        (root / "train" / "a" / "._vocals.wav").write_bytes(b"junk of another system")
        (root / "train" / "a" / "cover.jpg").write_bytes(b"x")
        assert names(dataset(root).songs("train")) == ["a", "b"]
        assert set(dataset(root).songs("train")[0].stems) == {"vocals", "drums"}

    @pytest.mark.parametrize("suffix", ["wav", "flac", "WAV"])
    def test_formats(self, fill: Callable[..., Path], suffix: str) -> None:
        root = fill("train/a", "valid/b", suffix=suffix.lower())
        for path in list(root.rglob(f"*.{suffix.lower()}")):
            path.rename(path.with_suffix(f".{suffix}"))
        song = dataset(root).songs("train")[0]
        assert np.abs(song.read_mixture() - song.read_stems(["vocals", "drums"]).sum(0)).max() < 1e-6

    @pytest.mark.parametrize("name", ["mixture", "mix", "Mixture", "MIX"])
    def test_names_of_the_mixture(self, fill: Callable[..., Path], name: str) -> None:
        root = fill("train/a", "valid/b")
        (root / "train/a/mixture.wav").rename(root / f"train/a/{name}.wav")
        song = dataset(root).songs("train")[0]
        assert song.mixture is not None
        assert set(song.stems) == {"vocals", "drums"}

    def test_the_mixture_may_be_missing(self, fill: Callable[..., Path]) -> None:
        song = dataset(fill("train/a", "valid/b", mixture=False)).songs("train")[0]
        assert song.mixture is None
        assert np.allclose(song.read_mixture(), song.read_stems(["vocals", "drums"]).sum(0), atol=1e-7)


class TestFaults:
    def check(self, root: Path, split: str, words: str) -> None:
        with pytest.raises(AuralflowError, match=words) as caught:
            dataset(root).songs(split)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)

    def test_missing_folder(self, tmp_path: Path) -> None:
        self.check(tmp_path / "nowhere", "train", "nowhere: no such folder")

    def test_a_file_in_place_of_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        self.check(tmp_path / "file", "train", "no such folder")

    def test_empty_folder(self, tmp_path: Path) -> None:
        self.check(tmp_path, "train", "holds no songs")

    def test_empty_split(self, fill: Callable[..., Path]) -> None:
        root = fill("train/a", "train/b")
        (root / "test").mkdir()
        self.check(root, "test", "no songs to test with")

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_missing_split(self, fill: Callable[..., Path], split: str) -> None:
        self.check(fill("train/a" if split == "test" else "test/a", "valid/b"), split, f"no folder {split}/")

    def test_one_training_song(self, fill: Callable[..., Path]) -> None:
        self.check(fill("train/a"), "valid", "cannot be divided")

    def test_a_stem_that_is_there_twice(self, fill: Callable[..., Path], write_song: SongWriter) -> None:
        root = fill("train/a", "valid/b")
        write_song(root / "train/a", "vocals", suffix="flac", mixture=False, frames=100)
        self.check(root, "train", "'vocals' is there twice")

    def test_a_mixture_that_is_there_twice(self, fill: Callable[..., Path], write_song: SongWriter) -> None:
        root = fill("train/a", "valid/b")
        (root / "train/a/mix.wav").write_bytes((root / "train/a/vocals.wav").read_bytes())
        self.check(root, "train", "twice")

    def test_a_mixture_without_stems(self, fill: Callable[..., Path]) -> None:
        root = fill("train/a", "valid/b")
        for name in ("vocals", "drums"):
            (root / f"train/a/{name}.wav").unlink()
        self.check(root, "train", "'a': has a mixture but no stems")

    def test_a_stem_of_another_length(self, fill: Callable[..., Path], write_song: SongWriter) -> None:
        root = fill("train/a", "valid/b")
        write_song(root / "train/a", "drums", mixture=False, frames=99)
        self.check(root, "train", "99 samples")


class TestDetectAndPool:
    def test_folder_takes_what_no_other_type_does(self, fill: Callable[..., Path], tmp_path: Path) -> None:
        class Never(FolderDataset):
            @classmethod
            def detects(cls, root: Path) -> bool:
                return False

        class Always(FolderDataset):
            pass

        root = fill("train/a")
        assert detect(root, {"folder": FolderDataset, "never": Never}) == "folder"
        assert detect(root, {"folder": FolderDataset, "never": Never, "always": Always}) == "always"

    def test_what_the_user_wrote_goes_before_what_a_folder_looks_like(self, fill: Callable[..., Path]) -> None:
        root = fill("a")
        (root / "train.csv").write_text("mix_path,vocals_path\na/mixture.wav,a/vocals.wav\n")
        types = {"folder": FolderDataset, "csv": CsvDataset, "described": DescribedDataset, "mix": MixDataset}
        assert detect(root, types) == "csv"
        write_description(root / "auralflow-data.json", [SongFiles("a", "train", {}, None)])
        assert detect(root, types) == "described"
        (root / "auralflow-mix.json").write_text("{}")
        assert detect(root, types) == "mix"

    def test_a_description_gives_songs_weights(self, fill: Callable[..., Path]) -> None:
        root = fill("a", "b", "c")
        stems: dict[str, dict[str, Path | tuple[Path, ...]]] = {
            name: {"vocals": root / name / "vocals.wav"} for name in "abc"
        }
        files = [
            SongFiles(name, "train", stems[name], None, weight) for name, weight in zip("ab", (2.5, 0), strict=True)
        ]
        write_description(root / "auralflow-data.json", [*files, SongFiles("c", "valid", stems["c"], None)])
        data = DescribedDataset(root, DatasetConfig())
        assert [song.weight for split in ("train", "valid") for song in data.songs(split)] == [2.5, 0, 1]
        for weight in ("-1", "true", '"much"', "NaN", "1e999", "1" + 400 * "0"):
            text = f'{{"songs": [{{"name": "a", "split": "train", "stems": {{"v": "a.wav"}}, "weight": {weight}}}]}}'
            (root / "auralflow-data.json").write_text(text)
            with pytest.raises(DataError, match=r"songs\[0\].weight: .* is no number from 0 to 1000000"):
                DescribedDataset(root, DatasetConfig())

    def test_pool_is_a_seeded_choice_in_order(self, fill: Callable[..., Path]) -> None:
        songs = dataset(fill(*"abcdefgh")).songs("test")
        chosen = names(pool(songs, 3, seed=1))
        assert len(chosen) == 3
        assert chosen == sorted(chosen) == names(pool(songs, 3, seed=1))
        assert len({tuple(names(pool(songs, 3, seed=seed))) for seed in range(10)}) > 1
        assert pool(songs, 8, 0) == pool(songs, 80, 0) == songs

    def test_fingerprint_tells_data_sets_apart(self, fill: Callable[..., Path], write_song: SongWriter) -> None:
        root = fill("a", "b")
        before = fingerprint(dataset(root).songs("test"))
        assert before["songs"] == ["a", "b"]
        assert fingerprint(dataset(root).songs("test")) == before
        write_song(root / "b", frames=101)
        assert fingerprint(dataset(root).songs("test"))["sha256"] != before["sha256"]

    def test_missing_target_is_told_when_training_is_prepared(self, fill: Callable[..., Path]) -> None:
        from auralflow_core.data.chunks import ChunkDataset

        songs = dataset(fill("a", "b")).songs("test")
        with pytest.raises(DataError, match="no stem 'bass'"):
            ChunkDataset(songs, DatasetConfig.model_validate({"targets": ["bass"]}))
