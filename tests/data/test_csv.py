"""Tables of songs: read, divided, converted, and what is wrong in them named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from auralflow_core.config import Config, DatasetConfig, validate
from auralflow_core.data.chunks import ChunkDataset, ChunkKey
from auralflow_core.data.csv import CsvDataset
from auralflow_core.errors import ConfigError, DataError

RATE = 8000
HEADER = "mix_path,vocals_path,drums_path,duration"


def config(**settings: Any) -> DatasetConfig:
    small = {"sample_rate": RATE, "num_fft": 64, "window_size": 64, "hop_length": 32, "sample_length": 0.25}
    return DatasetConfig(**{"targets": ["vocals", "drums"], **small, **settings})


def write_song(folder: Path, *, seconds: float = 1, channels: int = 1, rate: int = RATE, suffix: str = "wav") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(len(folder.name))
    stems = {name: generator.uniform(-0.2, 0.2, (round(seconds * rate), channels)) for name in ("vocals", "drums")}
    for name, audio in {**stems, "mix": sum(stems.values())}.items():
        soundfile.write(folder / f"{name}.{suffix}", audio, rate)


def row(folder: str, duration: object = "1.0", suffix: str = "wav") -> str:
    return ",".join([*(f"{folder}/{name}.{suffix}" for name in ("mix", "vocals", "drums")), str(duration)])


def write_table(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four songs for training, one for validation, one for test."""
    for name in ("one", "two", "three", "four", "five", "six"):
        write_song(tmp_path / "songs" / name)
    write_table(tmp_path / "train.csv", *(row(f"songs/{name}") for name in ("one", "two", "three", "four")))
    write_table(tmp_path / "validation.csv", row("songs/five"))
    write_table(tmp_path / "test.csv", row("songs/six"))
    return tmp_path


def names(dataset: CsvDataset, split: Any) -> list[str]:
    return [song.name for song in dataset.songs(split)]


def refusal(root: Path, *rows: str, header: str = HEADER, **settings: Any) -> str:
    write_table(root / "train.csv", *rows, header=header)
    with pytest.raises(DataError) as caught:
        CsvDataset(root, config(**settings)).songs("train")
    assert "\n" not in str(caught.value) and "train.csv" in str(caught.value)
    return str(caught.value)


def test_splits_are_tables(root: Path) -> None:
    dataset = CsvDataset(root, config())
    assert CsvDataset.detects(root) and not CsvDataset.detects(root / "songs")
    assert names(dataset, "train") == ["four - mix", "one - mix", "three - mix", "two - mix"]
    assert names(dataset, "valid") == ["mix"] and names(dataset, "test") == ["mix"]
    song = dataset.songs("train")[1]
    assert set(song.stems) == {"vocals", "drums"} and song.mixture is not None
    expected, _ = soundfile.read(root / "songs/one/vocals.wav", dtype="float32")
    assert (song.read_stems(["vocals"])[0, 0] == expected).all()


def test_without_a_table_for_validation_songs_are_divided(root: Path) -> None:
    (root / "validation.csv").unlink()
    dataset = CsvDataset(root, config(validation_split=0.5))
    training, validation = names(dataset, "train"), names(dataset, "valid")
    assert len(training) == len(validation) == 2 and not set(training) & set(validation)


def test_tables_elsewhere(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named tables go first: below the folder, in the working directory, or by their full path."""
    for place in (root / "tables", tmp_path / "cwd", tmp_path / "far"):
        write_table(place / "t.csv", row("songs/six"), row("songs/five"))
    monkeypatch.chdir(tmp_path / "cwd")
    for named in ("tables/t.csv", "t.csv", str(tmp_path / "far/t.csv")):
        dataset = CsvDataset(root, config(type="csv", train_csv=named))
        assert names(dataset, "train") == ["five - mix", "six - mix"]
        assert names(dataset, "valid") == ["mix"]


def test_paths_may_be_relative_to_the_table(root: Path) -> None:
    write_table(root / "songs/t.csv", row("six"), row(str(root / "songs/five")))
    assert names(CsvDataset(root, config(type="csv", train_csv="songs/t.csv")), "train") == ["five - mix", "six - mix"]


def test_named_tables_need_the_type() -> None:
    with pytest.raises(ConfigError, match=r"train_csv would not be read; set dataset\.type to csv"):
        validate(Config, {"model": {"type": "x"}, "dataset": {"train_csv": "t.csv"}})


def test_other_names_and_columns(root: Path) -> None:
    header = "id,mixture_path,vocals_path,choir_path"
    lines = [f"{n},songs/{name}/mix.wav,songs/{name}/vocals.wav," for n, name in enumerate(("one", "two"))]
    write_table(root / "train.csv", *lines, header=f"\ufeff{header}")
    songs = CsvDataset(root, config(mix_name="mixture", targets=["vocals"])).songs("train")
    assert [song.duration for song in songs] == [1.0, 1.0]


def test_duration_limits_a_song(root: Path) -> None:
    write_table(root / "train.csv", row("songs/one", 0.5), row("songs/two", ""), row("songs/three", 1.4))
    found = {song.name: song.duration for song in CsvDataset(root, config()).songs("train")}
    assert found == {"one - mix": 0.5, "two - mix": 1.0, "three - mix": 1.0}


def test_other_rates_channels_and_formats_are_converted(root: Path) -> None:
    write_song(root / "odd", rate=11025, channels=2, suffix="flac")
    write_table(root / "train.csv", row("odd", suffix="flac"), row("songs/one"))
    for num_channels in (1, 2):
        settings = config(num_channels=num_channels)
        chunks = ChunkDataset(CsvDataset(root, settings).songs("train"), settings)
        for number in range(len(chunks)):
            mixture, targets = chunks[ChunkKey(0, number)]
            assert mixture.shape == (num_channels, 2000) and targets.shape == (2, num_channels, 2000)


def test_a_column_has_the_songs_weights(root: Path) -> None:
    rows = [f"{row(f'songs/{name}')},{weight}" for name, weight in (("one", "2.5"), ("two", ""), ("three", "0"))]
    write_table(root / "train.csv", *rows, header=f"{HEADER},weight")
    weights = {song.name: song.weight for song in CsvDataset(root, config()).songs("train")}
    assert weights == {"one - mix": 2.5, "two - mix": 1, "three - mix": 0}
    for weight in ("-1", "nan", "inf", "2e6", "much"):
        text = refusal(root, f"{row('songs/one')},{weight}", header=f"{HEADER},weight")
        assert f"line 2: weight '{weight}' is no number from 0 to 1000000" in text


class TestFilesOfSingleStems:
    """The table that MSST's dataset_type 3 reads: `instrum,path`."""

    ROWS = tuple(f"{stem},songs/{song}/{stem}.wav" for song in ("one", "two", "three") for stem in ("vocals", "drums"))

    def test_training_has_the_files_and_validation_combines_some(self, root: Path) -> None:
        (root / "validation.csv").unlink()
        write_table(root / "train.csv", *self.ROWS, header="instrum,path")
        dataset = CsvDataset(root, config())
        train, valid = dataset.songs("train"), dataset.songs("valid")
        assert len(train) == 4 and all(len(song.stems) == 1 and song.mixture is None for song in train)
        assert [set(song.stems) for song in valid] == [{"vocals", "drums"}]
        mixture, targets = ChunkDataset(train, config(), seed=1)[ChunkKey(0, 0)]
        assert (mixture - targets.sum(0)).abs().max() < 1e-6 and targets.abs().amax((1, 2)).min() > 0.1

    def test_a_table_of_songs_may_validate_it(self, root: Path) -> None:
        write_table(root / "train.csv", *self.ROWS, header="instrum,path")
        assert len(CsvDataset(root, config()).songs("train")) == 6
        assert names(CsvDataset(root, config()), "valid") == ["mix"]

    def test_what_is_wrong_is_named(self, root: Path) -> None:
        text = refusal(root, "vocals,gone.wav", ",songs/one/drums.wav", header="instrum,path")
        assert "line 2: gone.wav: no such file; line 3: instrum is empty" in text


def test_what_is_wrong_in_a_table_is_named(root: Path) -> None:
    assert "no column 'drums_path'; did you mean drum_path" in refusal(root, header="mix_path,vocals_path,drum_path")
    assert "no column 'mixture_path'" in refusal(root, row("songs/one"), mix_name="mixture")
    assert "has no rows" in refusal(root)
    assert "line 3: vocals_path is empty" in refusal(root, row("songs/one"), "songs/one/mix.wav,,songs/one/drums.wav,1")
    assert "line 2: drums_path is empty" in refusal(root, "songs/one/mix.wav,songs/one/vocals.wav")
    for duration in ("long", "0", "-1", "nan", "inf"):
        assert f"line 2: duration {duration!r} is no number" in refusal(root, row("songs/one", duration))
    assert "no such file" in refusal(root, f"{'a' * 5000},b,c,1")
    missing = refusal(root, *(row(f"gone/{number}") for number in range(4)))
    assert "line 2: gone/0/mix.wav: no such file" in missing and "and 7 more" in missing
    assert "duration 90 s, but" in refusal(root, row("songs/one", 90))
    assert "cannot be read as a CSV table" in refusal(root, '"songs/one')
    (root / "train.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="export it as UTF-8"):
        CsvDataset(root, config()).songs("train")


def test_files_that_do_not_fit_together_are_named_with_their_line(root: Path) -> None:
    write_song(root / "songs/two", seconds=0.5)
    text = refusal(root, row("songs/one"), "songs/one/mix.wav,songs/two/vocals.wav,songs/one/drums.wav,")
    assert "line 3: " in text and "vocals.wav has 4000 samples" in text


def test_missing_tables_and_folders_are_named(root: Path) -> None:
    with pytest.raises(DataError, match=r"t\.csv: no such file"):
        CsvDataset(root, config(type="csv", train_csv="t.csv")).songs("train")
    with pytest.raises(DataError, match=r"no table train\.csv"):
        CsvDataset(root / "songs", config()).songs("train")
    with pytest.raises(DataError, match="no such folder"):
        CsvDataset(root / "gone", config())


def test_a_song_listed_twice_has_two_names(root: Path) -> None:
    write_table(root / "train.csv", row("songs/one", 0.25), row("songs/one", 1))
    songs = CsvDataset(root, config()).songs("train")
    assert len({song.name for song in songs}) == 2 and {song.duration for song in songs} == {0.25, 1.0}


@given(header=st.sampled_from(["", f"{HEADER}\n", "instrum,path\n"]), data=st.binary(max_size=120))
@example(header="", data=b"")
@settings(max_examples=100, deadline=None)
def test_any_file_is_read_or_refused(header: str, data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.getbasetemp() / "any"
    root.mkdir(exist_ok=True)
    (root / "train.csv").write_bytes(header.encode() + data)
    with pytest.raises(DataError):
        CsvDataset(root, config()).songs("train")


def test_training_by_a_table(root: Path, invoke: Any, tiny_settings: list[str], tmp_path: Path) -> None:
    words = ("--targets", "vocals,drums", "--save_images", "false", "--tensorboard", "false", "--sample_length", "0.25")
    invoke("config", "m", "SpectrogramNetSimple", "--save", tmp_path, *tiny_settings, *words)
    invoke("train", tmp_path / "m", root, "--quiet")
    assert "vocals" in invoke("test", tmp_path / "m", root, "--json").stdout
