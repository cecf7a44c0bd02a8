"""Files in, files out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from auralflow_core.errors import AudioError, AuralflowError
from auralflow_core.model import SeparationModel
from auralflow_core.separate import Options, Separator, plan_outputs, separate_song

ModelMaker = Callable[..., SeparationModel]
Writer = Callable[..., Path]


def read(path: Path) -> np.ndarray:
    audio, _ = soundfile.read(path, dtype="float32", always_2d=True)
    return np.asarray(audio.T)


class TestSeparateSong:
    @pytest.mark.parametrize("rate", [8000, 22050, 48000])
    @pytest.mark.parametrize("channels", [1, 2, 6])
    @pytest.mark.parametrize("suffix", ["wav", "flac"])
    def test_same_rate_channels_and_length(
        self, make_model: ModelMaker, write_tone: Writer, tmp_path: Path, rate: int, channels: int, suffix: str
    ) -> None:
        source = write_tone(f"song.{suffix}", frames=5003, channels=channels, rate=rate)
        report = separate_song(Separator(make_model((1.0, 0.5))), source, tmp_path / "out", Options())
        assert report.outputs == (tmp_path / "out" / "target0.wav", tmp_path / "out" / "target1.wav")
        for path, gain in zip(report.outputs, (1.0, 0.5), strict=True):
            info = soundfile.info(path)
            assert (info.samplerate, info.channels, info.frames) == (rate, channels, 5003)
            error = read(path) - gain * read(source)
            # At the ends, where the tones break off, a change of rate rings.
            assert np.abs(error[:, 500:-500]).max() < 1e-4
        assert report.seconds == pytest.approx(5003 / rate)
        assert report.clipped == 0
        assert {path.name for path in (tmp_path / "out").iterdir()} == {"target0.wav", "target1.wav"}

    @pytest.mark.parametrize("suffix", ["ogg", "mp3"])
    def test_lossy_files_keep_their_length(
        self, make_model: ModelMaker, write_tone: Writer, tmp_path: Path, suffix: str
    ) -> None:
        source = write_tone(f"song.{suffix}", frames=44_100, rate=44_100)
        separate_song(Separator(make_model()), source, tmp_path / "out", Options(bit_depth="32f"))
        found, expected = read(tmp_path / "out" / "target0.wav"), read(source)
        assert found.shape == expected.shape
        assert np.abs(found - expected)[:, 4000:-4000].max() < 0.02

    @pytest.mark.parametrize(
        ("format_", "depth", "subtype"),
        [("wav", "16", "PCM_16"), ("wav", "24", "PCM_24"), ("wav", "32f", "FLOAT"), ("flac", "16", "PCM_16")],
    )
    def test_formats(
        self, make_model: ModelMaker, write_tone: Writer, tmp_path: Path, format_: str, depth: str, subtype: str
    ) -> None:
        options = Options(format=format_, bit_depth=depth)
        report = separate_song(Separator(make_model()), write_tone(), tmp_path / "out", options)
        info = soundfile.info(report.outputs[0])
        assert (info.format, info.subtype) == (format_.upper(), subtype)

    @pytest.mark.parametrize("rate", [8000, 11025])
    def test_residual_and_stems_add_up_to_the_mixture(
        self, make_model: ModelMaker, write_tone: Writer, tmp_path: Path, rate: int
    ) -> None:
        source = write_tone(frames=9000, rate=rate)
        options = Options(residual=True, bit_depth="32f")
        separator = Separator(make_model(None))
        report = separate_song(separator, source, tmp_path / "out", options)
        assert [path.name for path in report.outputs] == ["target0.wav", "target1.wav", "residual.wav"]
        assert np.abs(sum(read(path) for path in report.outputs) - read(source)).max() < 1e-6

    def test_the_residual_lacks_all_targets_whichever_are_written(
        self, make_model: ModelMaker, write_tone: Writer, tmp_path: Path
    ) -> None:
        source = write_tone()
        options = Options(stems=("target1",), residual=True, bit_depth="32f")
        report = separate_song(Separator(make_model((0.5, 0.2))), source, tmp_path / "out", options)
        assert [path.stem for path in report.outputs] == ["target1", "residual"]
        assert np.abs(read(report.outputs[1]) - 0.3 * read(source)).max() < 1e-6

    @pytest.mark.parametrize(("duration", "frames"), [(0.1, 800), (0.5, 4000), (100, 5000)])
    def test_duration(
        self, make_model: ModelMaker, write_tone: Writer, tmp_path: Path, duration: float, frames: int
    ) -> None:
        source = write_tone()
        told: list[float] = []
        options = Options(duration=duration, residual=True, bit_depth="32f")
        report = separate_song(Separator(make_model((0.5,))), source, tmp_path / "out", options, told.append)
        for path in report.outputs:
            assert np.abs(read(path) - 0.5 * read(source)[:, :frames]).max() < 1e-5
        assert report.seconds == frames / 8000
        assert told == sorted(told) and told[-1] == frames / 8000

    def test_clipped_samples_are_counted(self, make_model: ModelMaker, write_tone: Writer, tmp_path: Path) -> None:
        separator = Separator(make_model((4.0,)))
        report = separate_song(separator, write_tone(), tmp_path / "out", Options())
        assert report.clipped > 100
        report = separate_song(separator, write_tone(), tmp_path / "out", Options(bit_depth="32f"))
        assert report.clipped == 0
        assert np.abs(read(report.outputs[0])).max() > 1.5


class TestFaults:
    def check(self, separator: Separator, source: Path, out: Path, words: str, options: Options = Options()) -> None:  # noqa: B008
        with pytest.raises(AuralflowError, match=words) as caught:
            separate_song(separator, source, out, options)
        assert "\n" not in str(caught.value)
        assert not out.exists()

    @pytest.mark.parametrize("content", [b"", b"no audio", b"RIFF\x10\x00\x00\x00WAVEfmt "])
    def test_no_audio(self, make_model: ModelMaker, tmp_path: Path, content: bytes) -> None:
        source = tmp_path / "song.wav"
        source.write_bytes(content)
        self.check(Separator(make_model()), source, tmp_path / "out", r"song\.wav")

    def test_no_samples(self, make_model: ModelMaker, write_tone: Writer, tmp_path: Path) -> None:
        self.check(Separator(make_model()), write_tone(frames=0), tmp_path / "out", "no samples")

    def test_a_duration_below_a_sample(self, make_model: ModelMaker, write_tone: Writer, tmp_path: Path) -> None:
        self.check(Separator(make_model()), write_tone(), tmp_path / "out", "no samples", Options(duration=1e-5))

    def test_an_unknown_stem(self, make_model: ModelMaker, write_tone: Writer, tmp_path: Path) -> None:
        with pytest.raises(AudioError, match="no target 'target9'; did you mean target0") as caught:
            separate_song(Separator(make_model()), write_tone(), tmp_path / "out", Options(stems=("target9",)))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("suffix", ["wav", "flac"])
    def test_a_file_that_breaks_off(
        self, make_model: ModelMaker, write_tone: Writer, tmp_path: Path, suffix: str
    ) -> None:
        source = write_tone(f"song.{suffix}", frames=400_000)
        source.write_bytes(source.read_bytes()[: source.stat().st_size * 3 // 4])
        self.check(Separator(make_model(), segment=2), source, tmp_path / "out", rf"song\.{suffix}")

    def test_a_file_with_a_damaged_middle(self, make_model: ModelMaker, write_tone: Writer, tmp_path: Path) -> None:
        source = write_tone("song.flac", frames=400_000)
        content = bytearray(source.read_bytes())
        content[len(content) // 2 : len(content) // 2 + 30_000] = bytes(30_000)
        source.write_bytes(content)
        self.check(Separator(make_model(), segment=2), source, tmp_path / "out", r"song\.flac")

    def test_a_model_that_diverged(self, make_model: ModelMaker, write_tone: Writer, tmp_path: Path) -> None:
        self.check(Separator(make_model((float("nan"),))), write_tone(), tmp_path / "out", "NaN")

    def test_older_stems_stay_when_the_new_ones_fail(
        self, make_model: ModelMaker, write_tone: Writer, tmp_path: Path
    ) -> None:
        separator = Separator(make_model(), segment=2)
        good = separate_song(separator, write_tone(), tmp_path / "out", Options())
        before = good.outputs[0].read_bytes()
        source = write_tone("bad.flac", frames=400_000)
        source.write_bytes(source.read_bytes()[:-20_000])
        with pytest.raises(AuralflowError):
            separate_song(separator, source, tmp_path / "out", Options())
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["target0.wav"]
        assert good.outputs[0].read_bytes() == before


def plan(tmp_path: Path, *songs: str, roots: tuple[str, ...] = ()) -> dict[str, str]:
    """Plan the outputs of songs below `in`, walked folders being `roots`; return what goes where."""
    places = {name: tmp_path / "in" / name for name in songs}
    for path in places.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    found = plan_outputs(places.values(), tmp_path / "out", [tmp_path / "in" / root for root in roots])
    return {name: found[path].relative_to(tmp_path / "out").as_posix() for name, path in places.items()}


class TestPlanOutputs:
    def test_a_file_gets_a_folder_of_its_name(self, tmp_path: Path) -> None:
        assert plan(tmp_path, "a/My Song.wav", "b.flac") == {"a/My Song.wav": "My Song", "b.flac": "b"}

    def test_walked_folders_keep_their_inside(self, tmp_path: Path) -> None:
        found = plan(tmp_path, "x/one.wav", "x/deep/er/two.mp3", roots=("x",))
        assert found == {"x/one.wav": "one", "x/deep/er/two.mp3": "deep/er/two"}

    def test_dots_in_names_stay(self, tmp_path: Path) -> None:
        assert plan(tmp_path, "Mr. Big - No. 1.wav") == {"Mr. Big - No. 1.wav": "Mr. Big - No. 1"}

    def test_songs_that_differ_in_suffix_keep_it(self, tmp_path: Path) -> None:
        found = plan(tmp_path, "x/a.wav", "x/a.flac", "x/b.wav", roots=("x",))
        assert found == {"x/a.wav": "a.wav", "x/a.flac": "a.flac", "x/b.wav": "b"}

    @pytest.mark.parametrize(
        ("songs", "roots"),
        [
            (("x/song.wav", "y/song.wav"), ()),
            (("x/song.wav", "y/song.wav"), ("x", "y")),
            (("x/a.wav", "x/a.flac", "x/a.wav.mp3"), ("x",)),
            (("x/song.wav", "x/Song.wav"), ("x",)),
        ],
    )
    def test_no_two_songs_share_a_folder(self, tmp_path: Path, songs: tuple[str, ...], roots: tuple[str, ...]) -> None:
        found = plan(tmp_path, *songs, roots=roots)
        # Some file systems take upper and lower case for the same.
        assert len({folder.casefold() for folder in found.values()}) == len(songs)

    @given(
        names=st.lists(st.sampled_from("ab"), min_size=1, max_size=3), suffixes=st.sets(st.sampled_from(["wav", "mp3"]))
    )
    def test_every_song_gets_its_own_folder(self, names: list[str], suffixes: set[str]) -> None:
        songs = [Path("in", *names).with_suffix(f".{suffix}") for suffix in suffixes]
        found = plan_outputs(songs, Path("out"))
        assert list(found) == songs
        assert len(set(found.values())) == len(songs)
        assert all(folder.parent == Path("out") for folder in found.values())
