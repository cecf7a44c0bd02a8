"""MUSDB18 in both forms: songs in the layout of the real one, made here."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from auralflow_core.config import DatasetConfig
from auralflow_core.data import musdb as musdb_module
from auralflow_core.data.cache import SongCache
from auralflow_core.data.chunks import ChunkDataset, ChunkKey
from auralflow_core.data.musdb import MusdbDataset
from auralflow_core.data.song import Song
from auralflow_core.errors import AuralflowError, DataError

SongWriter = Callable[..., Path]

STEMS = ("drums", "bass", "other", "vocals")
# Three of the fourteen songs that MUSDB18 keeps for validation.
OFFICIAL = ("Actions - One Minute Smile", "Skelpolu - Human Mistakes", "Triviul - Angelsaint")
OTHERS = ("A Classic Education - NightOwl", "ANiMAL - Clinic A", "Zeno - Signs")
RATE = 44100
FRAMES = 2 * RATE
TONES = {"mixture": 300.0, "drums": 440.0, "bass": 110.0, "other": 1000.0, "vocals": 2500.0}

needs_ffmpeg = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="ffmpeg is not installed"
)


def dataset(root: Path, **settings: object) -> MusdbDataset:
    return MusdbDataset(root, DatasetConfig.model_validate(settings))


def names(songs: list[Song]) -> list[str]:
    return [song.name for song in songs]


def pitch(audio: np.ndarray) -> float:
    """The loudest frequency in Hz."""
    spectrum = np.abs(np.fft.rfft(audio.mean(axis=0) * np.hanning(audio.shape[1])))
    return float(np.argmax(spectrum) * RATE / audio.shape[1])


@pytest.fixture
def wav_folder(write_song: SongWriter, tmp_path: Path) -> Path:
    """MUSDB18-HQ: train/ with validation songs among it, and test/."""
    for song in (*OFFICIAL, *OTHERS):
        write_song(tmp_path / "hq" / "train" / song, " ".join(STEMS), frames=200, channels=2)
    write_song(tmp_path / "hq" / "test" / "AM Contra - Heart Peripheral", " ".join(STEMS), frames=200, channels=2)
    return tmp_path / "hq"


class TestWav:
    def test_is_recognised(self, wav_folder: Path, write_song: SongWriter, tmp_path: Path) -> None:
        assert MusdbDataset.detects(wav_folder)
        write_song(tmp_path / "own" / "train" / "My Song", frames=10)
        assert not MusdbDataset.detects(tmp_path / "own")
        assert not MusdbDataset.detects(tmp_path / "nowhere")

    def test_the_official_songs_are_for_validation(self, wav_folder: Path) -> None:
        data = dataset(wav_folder)
        assert names(data.songs("valid")) == sorted(OFFICIAL)
        assert names(data.songs("train")) == sorted(OTHERS)
        assert names(data.songs("test")) == ["AM Contra - Heart Peripheral"]

    def test_the_list_has_fourteen_songs(self) -> None:
        assert len(musdb_module._validation_names()) == 14
        assert set(OFFICIAL) < musdb_module._validation_names()

    def test_works_without_ffmpeg(self, wav_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        song = dataset(wav_folder).songs("valid")[0]
        assert song.read_mixture(10, 20).shape == (2, 20)
        assert set(song.stems) == set(STEMS)

    def test_missing_stem_is_told(self, wav_folder: Path) -> None:
        (wav_folder / "train" / OTHERS[0] / "vocals.wav").unlink()
        songs = dataset(wav_folder).songs("train")
        with pytest.raises(DataError, match=f"{OTHERS[0]}.* no stem 'vocals'"):
            ChunkDataset(songs, DatasetConfig())

    def test_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no such folder"):
            dataset(tmp_path / "nowhere")


def write_stem_file(path: Path, scratch: Path) -> None:
    """Write five AAC streams: the mixture, then the stems in MUSDB18's order, each a tone of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(FRAMES) / RATE
    inputs: list[str] = []
    for name, frequency in TONES.items():
        wav = scratch / f"{name}.wav"
        # The slow swell makes every place in the song different.
        tone = 0.4 * (0.3 + 0.6 * time / 2) * np.sin(2 * np.pi * frequency * time)
        soundfile.write(wav, np.stack([tone, 0.5 * tone], axis=1), RATE)
        inputs += ["-i", str(wav)]
    maps = [word for number in range(5) for word in ("-map", str(number))]
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y", *inputs, *maps, "-c:a", "aac", "-b:a", "256k"]
    subprocess.run([*command, "-f", "mp4", str(path)], check=True)


@pytest.fixture(scope="module")
def stem_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("musdb18")
    scratch = tmp_path_factory.mktemp("wav")
    first = root / "train" / f"{OFFICIAL[0]}.stem.mp4"
    write_stem_file(first, scratch)
    (root / "test").mkdir()
    for other in (root / "train" / f"{OTHERS[0]}.stem.mp4", root / "test" / "AM Contra - Heart Peripheral.stem.mp4"):
        shutil.copyfile(first, other)
    return root


@pytest.fixture(scope="module")
def stem_song(stem_folder: Path) -> Song:
    return dataset(stem_folder).songs("train")[0]


@needs_ffmpeg
# musdb and stempeg are loaded as they are; what they warn of is theirs.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning", "ignore::FutureWarning")
class TestStemFiles:
    def test_is_recognised_and_split(self, stem_folder: Path) -> None:
        assert MusdbDataset.detects(stem_folder)
        data = dataset(stem_folder)
        found = [names(data.songs(split)) for split in ("train", "valid", "test")]
        assert found == [[OTHERS[0]], [OFFICIAL[0]], ["AM Contra - Heart Peripheral"]]

    def test_facts(self, stem_song: Song) -> None:
        assert (stem_song.sample_rate, stem_song.channels) == (RATE, 2)
        assert abs(stem_song.frames - FRAMES) <= 2048
        assert set(stem_song.stems) == set(STEMS)

    @pytest.mark.parametrize("name", TONES)
    def test_each_stem_is_its_own_stream(self, stem_song: Song, name: str) -> None:
        source = stem_song.mixture if name == "mixture" else stem_song.stems[name]
        assert source is not None
        audio = source.read(0, stem_song.frames)
        assert audio.dtype == np.float32
        assert audio.shape == (2, stem_song.frames)
        assert pitch(audio) == pytest.approx(TONES[name], abs=2)
        assert 0.1 < np.abs(audio).max() < 0.45
        assert np.abs(audio[1] - 0.5 * audio[0]).max() < 0.02

    @pytest.mark.parametrize("start", [0, 1, 1000, 12_345, 44_100, 70_001])
    def test_a_part_is_the_same_as_in_the_whole(self, stem_song: Song, start: int) -> None:
        frames = 6000
        whole = stem_song.read_mixture()
        part = stem_song.read_mixture(start, frames)
        assert part.shape == (2, frames)
        error = part - whole[:, start : start + frames]
        # A tone that is off by one sample differs by 4 % of its amplitude.
        assert np.abs(error).max() < 2e-3

    def test_mixture_and_stems_lie_at_the_same_place(self, stem_song: Song) -> None:
        time = np.arange(stem_song.frames) / RATE
        for name, frequency in TONES.items():
            source = stem_song.mixture if name == "mixture" else stem_song.stems[name]
            assert source is not None
            found = source.read(0, stem_song.frames)[0]
            expected = 0.4 * (0.3 + 0.6 * time / 2) * np.sin(2 * np.pi * frequency * time)
            middle = slice(RATE // 2, RATE)
            assert np.abs(found[middle] - expected[middle]).max() < 0.01, name

    def test_chunks_are_cut_from_them(self, stem_folder: Path) -> None:
        config = DatasetConfig.model_validate({"sample_length": 0.5, "targets": ["vocals", "bass"], "num_channels": 2})
        songs = dataset(stem_folder).songs("train")
        mixture, targets = ChunkDataset(songs, config)[ChunkKey(0, 0)]
        assert mixture.shape == (2, RATE // 2) and targets.shape == (2, 2, RATE // 2)
        assert pitch(targets[0].numpy()) == pytest.approx(TONES["vocals"], abs=5)
        assert pitch(targets[1].numpy()) == pytest.approx(TONES["bass"], abs=5)

    def test_decoded_once_the_chunks_are_the_same(self, stem_song: Song, tmp_path: Path) -> None:
        (kept,) = SongCache(tmp_path).songs([stem_song])
        config = DatasetConfig.model_validate({"sample_length": 0.6, "targets": ["vocals", "bass"], "num_channels": 2})
        ours, theirs = (ChunkDataset([song], config, seed=1) for song in (kept, stem_song))
        for number in range(2):
            for one, other in zip(ours[ChunkKey(0, number)], theirs[ChunkKey(0, number)], strict=True):
                assert torch.equal(one, other)
        assert len(SongCache(tmp_path).entries()) == 5  # the mixture and four stems

    def test_a_file_that_is_no_stem_file_is_refused(self, stem_folder: Path, tmp_path: Path) -> None:
        (tmp_path / "train").mkdir()
        for name in ("a", "b"):
            (tmp_path / "train" / f"{name}.stem.mp4").write_bytes(b"not a movie")
        with pytest.raises(AuralflowError, match=r"a\.stem\.mp4"):
            dataset(tmp_path).songs("train")

    def test_empty_split(self, stem_folder: Path, tmp_path: Path) -> None:
        (tmp_path / "train").mkdir()
        shutil.copyfile(stem_folder / "train" / f"{OTHERS[0]}.stem.mp4", tmp_path / "train" / "a.stem.mp4")
        with pytest.raises(AuralflowError, match="test"):
            dataset(tmp_path).songs("test")


@pytest.mark.parametrize("missing", ["ffmpeg", "ffprobe"])
def test_without_ffmpeg_it_says_what_to_install(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.stem.mp4").write_bytes(b"")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in {"ffmpeg", "ffprobe"} - {missing}:
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(DataError, match=rf"{missing} is not on the PATH.*install ffmpeg") as caught:
        dataset(tmp_path).songs("train")
    assert "\n" not in str(caught.value)
