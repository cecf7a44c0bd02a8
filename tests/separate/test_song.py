"""Files in, files out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from auralflow_core.errors import AudioError, AuralflowError
from auralflow_core.model import SeparationModel
from auralflow_core.separate import Options, Separator, SongReport, StemFormat, separate_song, wanted_stems

ModelMaker = Callable[..., SeparationModel]
Writer = Callable[..., Path]

FLOAT = StemFormat(bit_depth="32f")


def separated(
    separator: Separator,
    source: Path,
    folder: Path,
    options: Options | None = None,
    progress: Callable[[float], None] | None = None,
) -> SongReport:
    """Separate a song into `folder/<stem>.<format>`."""
    options = options or Options()
    names = wanted_stems(separator.targets, options)
    outputs = {name: folder / f"{name}.{options.format.format}" for name in names}
    return separate_song(separator, source, outputs, options, progress)


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
        report = separated(Separator(make_model((1.0, 0.5))), source, tmp_path / "out")
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
        separated(Separator(make_model()), source, tmp_path / "out", Options(format=FLOAT))
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
        options = Options(format=StemFormat(format_, depth))
        report = separated(Separator(make_model()), write_tone(), tmp_path / "out", options)
        info = soundfile.info(report.outputs[0])
        assert (info.format, info.subtype) == (format_.upper(), subtype)

    @pytest.mark.parametrize("rate", [8000, 11025])
    def test_residual_and_stems_add_up_to_the_mixture(
        self, make_model: ModelMaker, write_tone: Writer, tmp_path: Path, rate: int
    ) -> None:
        source = write_tone(frames=9000, rate=rate)
        options = Options(residual=True, format=FLOAT)
        separator = Separator(make_model(None))
        report = separated(separator, source, tmp_path / "out", options)
        assert [path.name for path in report.outputs] == ["target0.wav", "target1.wav", "residual.wav"]
        assert np.abs(sum(read(path) for path in report.outputs) - read(source)).max() < 1e-6

    def test_the_residual_lacks_all_targets_whichever_are_written(
        self, make_model: ModelMaker, write_tone: Writer, tmp_path: Path
    ) -> None:
        source = write_tone()
        options = Options(stems=("target1",), residual=True, format=FLOAT)
        report = separated(Separator(make_model((0.5, 0.2))), source, tmp_path / "out", options)
        assert [path.stem for path in report.outputs] == ["target1", "residual"]
        assert np.abs(read(report.outputs[1]) - 0.3 * read(source)).max() < 1e-6

    def test_karaoke_is_a_target_and_the_mixture_without_it(
        self, make_model: ModelMaker, write_tone: Writer, tmp_path: Path
    ) -> None:
        source = write_tone(rate=11025)
        options = Options(karaoke="target1", residual=True, format=FLOAT)
        report = separated(Separator(make_model((0.5, 0.2))), source, tmp_path / "out", options)
        assert [path.stem for path in report.outputs] == ["target1", "no_target1", "residual"]
        target, rest, residual = map(read, report.outputs)
        assert np.abs(target + rest - read(source)).max() < 1e-6
        assert np.abs(target).max() > 0.05 and np.abs(rest - residual).max() > 0.05

    @pytest.mark.parametrize(
        ("start", "duration", "frames"),
        [(0, 0.1, 800), (0, 0.5, 4000), (0, 100, 5000), (0.1, None, 4200), (0.25, 0.25, 2000), (0.5, 100, 1000)],
    )
    @pytest.mark.parametrize("suffix", ["wav", "ogg"])
    def test_a_part(
        self,
        make_model: ModelMaker,
        write_tone: Writer,
        tmp_path: Path,
        start: float,
        duration: float | None,
        frames: int,
        suffix: str,
    ) -> None:
        source = write_tone(f"song.{suffix}")
        told: list[float] = []
        options = Options(start=start, duration=duration, residual=True, format=FLOAT)
        report = separated(Separator(make_model((0.5,))), source, tmp_path / "out", options, told.append)
        first = round(start * 8000)
        for path in report.outputs:
            assert np.abs(read(path) - 0.5 * read(source)[:, first : first + frames]).max() < 1e-5
        assert report.seconds == frames / 8000
        assert told == sorted(told) and told[-1] == frames / 8000

    def test_what_happens_on_the_way_is_noted(self, make_model: ModelMaker, write_tone: Writer, tmp_path: Path) -> None:
        class Falling(Separator):
            def stream(self, *words: Any, on_fallback: Any = None, **more: Any) -> Any:
                on_fallback("went on on the CPU")
                return super().stream(*words, on_fallback=on_fallback, **more)

        assert separated(Falling(make_model()), write_tone(), tmp_path / "out").notes == ("went on on the CPU",)


class TestClipping:
    """A model that doubles and one that halves, of tones that peak near 0.45 before."""

    @pytest.fixture
    def loud(self, make_model: ModelMaker) -> Separator:
        return Separator(make_model((4.0, 0.5)))

    def run(self, loud: Separator, source: Path, folder: Path, **stored: Any) -> tuple[SongReport, list[Any]]:
        report = separated(loud, source, folder, Options(residual=True, format=StemFormat(**stored)))
        return report, [read(path) for path in report.outputs]

    @pytest.mark.parametrize("stored", [{"bit_depth": "16"}, {"format": "flac", "bit_depth": "24"}])
    def test_rescale_turns_all_stems_down_alike(
        self, loud: Separator, write_tone: Writer, tmp_path: Path, stored: dict[str, str]
    ) -> None:
        source = write_tone(frames=200_000)
        _, exact = self.run(loud, source, tmp_path / "exact", bit_depth="32f")
        report, stems = self.run(loud, source, tmp_path / "out", **stored)
        peak = max(np.abs(stem).max() for stem in exact)
        assert peak > 1.5 and report.gain == pytest.approx(1 / peak) and report.clipped == 0
        for stem, wanted in zip(stems, exact, strict=True):
            assert np.abs(stem - wanted * report.gain).max() < 1.1 / 2**15
        assert max(np.abs(stem).max() for stem in stems) == pytest.approx(1, abs=1e-4)

    def test_nothing_is_rescaled_that_does_not_clip(
        self, make_model: ModelMaker, write_tone: Writer, tmp_path: Path
    ) -> None:
        separator = Separator(make_model((1.0, 0.5)))
        report, stems = self.run(separator, write_tone(), tmp_path / "out", bit_depth="24")
        _, clamped = self.run(separator, write_tone(), tmp_path / "clamped", bit_depth="24", clip="clamp")
        assert report.gain == 1
        assert all(np.array_equal(one, other) for one, other in zip(stems, clamped, strict=True))

    def test_clamp_counts_what_it_cuts(self, loud: Separator, write_tone: Writer, tmp_path: Path) -> None:
        _, exact = self.run(loud, write_tone(), tmp_path / "exact", bit_depth="32f")
        report, stems = self.run(loud, write_tone(), tmp_path / "out", clip="clamp")
        assert report.gain == 1
        assert report.clipped == sum(int((np.abs(stem) > 1).sum()) for stem in exact) > 100
        assert np.abs(stems[0] - exact[0].clip(-1, 1)).max() < 1.1 / 2**15

    def test_floating_point_keeps_everything(self, loud: Separator, write_tone: Writer, tmp_path: Path) -> None:
        report, stems = self.run(loud, write_tone(), tmp_path / "out", bit_depth="32f")
        assert (report.gain, report.clipped) == (1, 0)
        assert np.abs(stems[0]).max() > 1.5
        assert np.abs(sum(stems) - read(write_tone())).max() < 1e-6

    @pytest.mark.parametrize("clip", ["rescale", "clamp"])
    def test_nothing_but_the_stems_is_left(
        self, loud: Separator, write_tone: Writer, tmp_path: Path, clip: str
    ) -> None:
        self.run(loud, write_tone(), tmp_path / "out", clip=clip)
        names = {"target0.wav", "target1.wav", "residual.wav"}
        assert {path.name for path in (tmp_path / "out").iterdir()} == names
        assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


class TestWantedStems:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (Options(stems=("bas",)), "'bas'; did you mean bass"),
            (Options(karaoke="vocal"), "did you mean vocals"),
            (Options(karaoke="vocals", stems=("bass",)), "leave out --stems"),
            (Options(stems=("bass", "bass")), "two stems would be called 'bass'"),
        ],
    )
    def test_refusals(self, options: Options, words: str) -> None:
        with pytest.raises(AudioError, match=words):
            wanted_stems(["vocals", "bass"], options)

    def test_a_target_that_is_called_residual(self) -> None:
        assert wanted_stems(["residual"], Options()) == ["residual"]
        with pytest.raises(AudioError, match="'residual'"):
            wanted_stems(["residual"], Options(residual=True))


class TestFaults:
    def check(self, separator: Separator, source: Path, out: Path, words: str, options: Options = Options()) -> None:  # noqa: B008
        with pytest.raises(AuralflowError, match=words) as caught:
            separated(separator, source, out, options)
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
            separated(Separator(make_model()), write_tone(), tmp_path / "out", Options(stems=("target9",)))
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
        good = separated(separator, write_tone(), tmp_path / "out")
        before = good.outputs[0].read_bytes()
        source = write_tone("bad.flac", frames=400_000)
        source.write_bytes(source.read_bytes()[:-20_000])
        with pytest.raises(AuralflowError):
            separated(separator, source, tmp_path / "out")
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["target0.wav"]
        assert good.outputs[0].read_bytes() == before
