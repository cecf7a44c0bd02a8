from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auralflow_core.data.cache import SongCache
from auralflow_core.data.song import Song, song_from_files
from auralflow_core.errors import AudioError, AuralflowError, DataError

SongWriter = Callable[..., Path]


def read(path: Path) -> np.ndarray:
    audio, _ = soundfile.read(path, dtype="float32", always_2d=True)
    return np.asarray(audio.T)


def open_song(folder: Path, *, mixture: bool = True) -> Song:
    files = {path.stem: path for path in sorted(folder.iterdir())}
    own = files.pop("mixture", None)
    return song_from_files(folder.name, files, own if mixture else None)


def bytes_read() -> int:
    """Return how many bytes this process has read from files."""
    return int(Path("/proc/self/io").read_text().split()[1])


class TestReading:
    def test_facts(self, write_song: SongWriter, tmp_path: Path) -> None:
        song = open_song(write_song(tmp_path / "a song", channels=2, frames=6000))
        assert (song.name, song.sample_rate, song.channels, song.frames) == ("a song", 8000, 2, 6000)
        assert song.duration == 0.75

    def test_stems_come_in_the_order_asked_for(self, write_song: SongWriter, tmp_path: Path) -> None:
        folder = write_song(tmp_path / "song", "vocals drums bass", channels=2)
        found = open_song(folder).read_stems(["drums", "vocals"], 100, 50)
        expected = [read(folder / f"{name}.wav")[:, 100:150] for name in ("drums", "vocals")]
        assert found.shape == (2, 2, 50)
        assert np.array_equal(found, np.stack(expected))

    def test_the_mixture_is_the_songs_own(self, write_song: SongWriter, tmp_path: Path) -> None:
        folder = write_song(tmp_path / "song")
        mastered = np.full((4000, 1), 0.125, np.float32)
        soundfile.write(folder / "mixture.wav", mastered, 8000, subtype="FLOAT")
        assert np.array_equal(open_song(folder).read_mixture(), mastered.T)

    def test_without_a_mixture_it_is_the_sum_of_all_stems(self, write_song: SongWriter, tmp_path: Path) -> None:
        folder = write_song(tmp_path / "song", "vocals drums bass", mixture=False)
        found = open_song(folder, mixture=False).read_mixture(7, 1000)
        expected = sum(read(path)[:, 7:1007] for path in folder.iterdir())
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() < 1e-6

    def test_the_rest_is_read_where_no_length_is_given(self, write_song: SongWriter, tmp_path: Path) -> None:
        folder = write_song(tmp_path / "song")
        song = open_song(folder)
        assert np.array_equal(song.read_mixture(3000), read(folder / "mixture.wav")[:, 3000:])
        assert song.read_stems(["vocals"], 3999).shape == (1, 1, 1)

    @pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the system does not count bytes")
    @pytest.mark.parametrize("suffix", ["wav", "flac"])
    def test_only_what_is_asked_for_is_read_from_disk(
        self, suffix: str, write_song: SongWriter, tmp_path: Path
    ) -> None:
        folder = write_song(tmp_path / "song", frames=800_000, suffix=suffix)
        song = open_song(folder)
        before = bytes_read()
        song.read_stems(["vocals"], 500_000, 400)
        song.read_mixture(600_000, 300)
        assert 700 < bytes_read() - before < 0.1 * (folder / f"vocals.{suffix}").stat().st_size

    def test_a_missing_target_names_song_stems_and_the_nearest(self, write_song: SongWriter, tmp_path: Path) -> None:
        song = open_song(write_song(tmp_path / "My Song"))
        song.require(["vocals", "drums"])
        with pytest.raises(DataError, match="'My Song' has no stem 'vocal'; did you mean vocals") as caught:
            song.require(["vocal"])
        assert "drums" in str(caught.value)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_mono_stem_of_a_stereo_song_is_in_both_channels(write_song: SongWriter, tmp_path: Path, suffix: str) -> None:
    folder = write_song(tmp_path / "song", channels=2, suffix=suffix)
    write_song(tmp_path / "mono", "drums", mixture=False, suffix=suffix)
    (tmp_path / "mono" / f"drums.{suffix}").replace(folder / f"drums.{suffix}")
    drums, _ = soundfile.read(folder / f"drums.{suffix}", dtype="float32")
    song = open_song(folder)
    (kept,) = SongCache(tmp_path / "cache").songs([song])
    for each in (song, kept):
        assert each.channels == 2
        np.testing.assert_array_equal(each.read_stems(["drums"], 100, 300)[0], [drums[100:400]] * 2)
        np.testing.assert_array_equal(each.read_stems(["vocals"]), song.read_stems(["vocals"]))


class TestFilesThatDoNotFit:
    @pytest.mark.parametrize(
        ("change", "words"),
        [({"frames": 3999}, "3999 samples"), ({"rate": 16000}, "16000 Hz"), ({"channels": 3}, "3 channels")],
    )
    @pytest.mark.parametrize("name", ["vocals", "drums", "mixture"])
    def test_stems_of_other_length_rate_or_channels(
        self, write_song: SongWriter, tmp_path: Path, change: dict[str, int], words: str, name: str
    ) -> None:
        folder = write_song(tmp_path / "odd song", channels=2)
        other = write_song(tmp_path / "other", **change)
        (other / f"{name}.wav").replace(folder / f"{name}.wav")
        with pytest.raises(DataError, match="'odd song'") as caught:
            open_song(folder)
        assert words in str(caught.value)
        assert f"{name}.wav" in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("content", [b"", b"not audio at all", b"RIFF\x00\x00\x00\x00WAVE"])
    def test_a_file_that_is_no_audio(self, write_song: SongWriter, tmp_path: Path, content: bytes) -> None:
        folder = write_song(tmp_path / "song")
        (folder / "drums.wav").write_bytes(content)
        with pytest.raises(AudioError, match=r"drums\.wav") as caught:
            open_song(folder)
        assert "\n" not in str(caught.value)

    def test_files_without_samples(self, write_song: SongWriter, tmp_path: Path) -> None:
        with pytest.raises(AuralflowError, match="no samples"):
            open_song(write_song(tmp_path / "song", frames=0))
