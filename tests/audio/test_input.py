"""Reading: any rate, channel count, container and block size; pipes; files that are cut."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from auralflow_core.audio import AudioReader, AudioWriter, audio_info, on_disk, read_audio
from auralflow_core.errors import AudioError

Signal = NDArray[np.float32]
Music = Callable[..., Signal]

MPEG_RATES = (8000, 11025, 16000, 22050, 32000, 44100, 48000)
KINDS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "wav": ((8000, 44100, 96000), (1, 2, 6), {"subtype": "PCM_24"}),
    "flac": ((8000, 44100, 96000), (1, 2, 6), {}),
    "ogg": ((8000, 44100, 96000), (1, 2), {}),
    "cbr": (MPEG_RATES, (1, 2), {"format": "MP3", "bitrate_mode": "CONSTANT", "compression_level": 0.5}),
    "vbr": (MPEG_RATES, (1, 2), {"format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": 0.3}),
}


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory, music: Music) -> dict[tuple[str, int, int], Path]:
    """About a second of sound of each kind, rate and number of channels."""
    folder = tmp_path_factory.mktemp("songs")
    made = {}
    for kind, (rates, channels, options) in KINDS.items():
        for rate in rates:
            for count in channels:
                path = made[kind, rate, count] = folder / f"{kind} {rate} {count}.{kind}"
                with soundfile.SoundFile(path, "w", rate, count, **{"format": kind.upper(), **options}) as file:
                    # libsndfile's Vorbis encoder takes short pieces only.
                    sound = music(rate + 777, count, rate).T
                    for start in range(0, len(sound), 4096):
                        file.write(sound[start : start + 4096])
    return made


def whole(path: Path) -> Signal:
    """Return what the decoder gives in one piece, `(time, channel)`.

    `soundfile.read` seeks first, after which MP3 below 32 kHz comes out otherwise by one part in 2**25.
    """
    with soundfile.SoundFile(path) as file:
        sound: Signal = file.read(file.frames, dtype="float32", always_2d=True)
    return sound


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_any_blocks_and_parts_are_the_decoders_whole_result(
    songs: dict[tuple[str, int, int], Path], data: st.DataObject
) -> None:
    kind, rate, channels = data.draw(st.sampled_from(sorted(songs)))
    path = songs[kind, rate, channels]
    expected = whole(path)
    with AudioReader(path) as reader:
        assert (reader.sample_rate, reader.channels, reader.info.frames) == (rate, channels, rate + 777)
        blocks = list(reader.blocks(data.draw(st.integers(200, 20_000))))
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), expected.T)
    start = data.draw(st.integers(0, len(expected)))
    frames = data.draw(st.integers(0, len(expected) - start))
    np.testing.assert_array_equal(read_audio(path, start, frames)[0], expected[start : start + frames].T)


def decoded_by_ffmpeg(path: Path) -> Iterator[Signal]:
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            yield frame.to_ndarray().reshape(frame.layout.nb_channels, -1)


@pytest.mark.parametrize("name", ["a.ogg", "a.opus"])
@pytest.mark.parametrize("channels", [2, 3, 5, 6])
def test_loudspeakers_keep_their_places(tmp_path: Path, name: str, channels: int) -> None:
    # Each channel has a tone of its own, below what an encoder leaves of the bass channel.
    time = np.arange(48000) / 48000
    sound = np.array([0.2 * np.sin(2 * np.pi * (40 + 7 * c) * time) for c in range(channels)], np.float32)
    with AudioWriter(tmp_path / name, 48000, channels) as writer:
        writer.write(sound)
    ours, _ = read_audio(tmp_path / name)
    other = np.concatenate(list(decoded_by_ffmpeg(tmp_path / name)), axis=1)
    for decoded in (ours, other):
        peaks = np.abs(np.fft.rfft(decoded[:, :48000])).argmax(axis=1)
        np.testing.assert_array_equal(peaks, [40 + 7 * c for c in range(channels)])


def test_webm_and_matroska(tmp_path: Path, music: Music) -> None:
    av = pytest.importorskip("av")
    sound = music(60_000, 2, 48000)
    for name, codec in (("a.webm", "libopus"), ("a.mkv", "flac"), ("b.mka", "aac")):
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=48000, layout="stereo")
            integers = np.clip(np.rint(sound * 32768), -32768, 32767).astype(np.int16)
            frame = (
                av.AudioFrame.from_ndarray(integers.T.reshape(1, -1).copy(), format="s16", layout="stereo")
                if codec == "flac"
                else av.AudioFrame.from_ndarray(sound, format="fltp", layout="stereo")
            )
            frame.sample_rate, frame.pts = 48000, 0
            resampler = av.AudioResampler(format=stream.format, frame_size=stream.codec_context.frame_size or 960)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(piece))
            container.mux(stream.encode(None))
        audio, rate = read_audio(path)
        assert (rate, len(audio)) == (48000, 2)
        assert 60_000 <= audio.shape[1] <= 60_000 + 2048
        with AudioReader(path) as reader:
            np.testing.assert_array_equal(np.concatenate(list(reader.blocks(999)), axis=1), audio)
        if codec == "flac":
            np.testing.assert_allclose(audio[:, :60_000], sound, atol=2**-15)


# ---- files that are cut


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
def test_a_cut_file_is_never_a_shorter_song(
    songs: dict[tuple[str, int, int], Path], tmp_path: Path, kind: str, share: float
) -> None:
    whole = songs[kind, 44100, 2].read_bytes()
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(AudioError, match=r"cut\.") as caught:
        read_audio(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["cbr", "vbr"])
def test_mp3_without_a_header_of_its_own_that_breaks_off_inside_a_frame(
    songs: dict[tuple[str, int, int], Path], tmp_path: Path, kind: str
) -> None:
    for rate in MPEG_RATES:
        mp3 = songs[kind, rate, 2].read_bytes()
        second = mp3.index(mp3[:2], 4)
        path = tmp_path / "bare.mp3"
        path.write_bytes(mp3[second:])
        frames = audio_info(path).frames
        assert frames >= rate + 777
        # What players put at the end is no frame that breaks off.
        path.write_bytes(mp3[second:] + b"TAG" + bytes(125))
        assert audio_info(path).frames == frames
        path.write_bytes(mp3[second:-20])
        with pytest.raises(AudioError, match="truncated, 20 of"):
            read_audio(path)


def test_raw_aac_that_breaks_off_inside_a_frame(tmp_path: Path, music: Music) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "a.aac"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        for start in range(0, 40_960, 1024):
            frame = av.AudioFrame.from_ndarray(music(1024, 1, seed=start), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert audio_info(path).frames >= 40_960
    path.write_bytes(path.read_bytes()[:-11])
    with pytest.raises(AudioError, match="truncated, 11 of"):
        audio_info(path)


@pytest.mark.parametrize("kind", ["flac", "vbr", "ogg"])
def test_a_hole_in_the_middle_is_an_error_or_keeps_the_length(
    songs: dict[tuple[str, int, int], Path], tmp_path: Path, kind: str
) -> None:
    content = bytearray(songs[kind, 44100, 2].read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    path = tmp_path / f"hole.{kind}"
    path.write_bytes(content)
    try:
        audio, _ = read_audio(path)
    except AudioError as error:
        assert "hole" in str(error)
    else:
        assert audio.shape == (2, 44877)


# ---- pipes


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_pipe_is_read_like_the_file(
    songs: dict[tuple[str, int, int], Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = songs[kind, 44100, 2]
    expected, rate = read_audio(path)
    for source in ("-", Path("-"), io.BytesIO(path.read_bytes())):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
        with AudioReader(source) as reader:
            assert (reader.sample_rate, reader.info.frames, reader.info.path) == (rate, 44877, Path("-"))
            np.testing.assert_array_equal(np.concatenate(list(reader.blocks(3000)), axis=1), expected)


def test_a_real_pipe_with_a_wav_that_does_not_know_its_length(tmp_path: Path, music: Music) -> None:
    sound = music(9000, 1)
    content = io.BytesIO()
    soundfile.write(content, sound.T, 44100, format="WAV")
    streamed = bytearray(content.getvalue())
    streamed[4:8] = streamed[40:44] = b"\xff" * 4
    code = (
        "from auralflow_core.audio import AudioReader\n"
        "with AudioReader('-') as reader: print(reader.info.frames, sum(b.shape[1] for b in reader.blocks(1000)))"
    )
    run = [sys.executable, "-c", code]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(run, input=bytes(streamed), capture_output=True, env=environment)
    assert done.stdout.split() == [b"9000", b"9000"], done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_with_a_pipe_is_said_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for content, reason in ((b"", "empty"), (b"no music at all" * 9, "not audio")):
        with pytest.raises(AudioError, match=f"standard input: .*{reason}"):
            AudioReader(io.BytesIO(content))
    with on_disk(tmp_path) as path:
        assert path == tmp_path


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_not_waited_for() -> None:
    with pytest.raises(AudioError, match="terminal"):
        AudioReader(Terminal())


class Broken(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError(5, "Input/output error")


def test_a_pipe_that_breaks_is_an_error() -> None:
    with pytest.raises(AudioError, match=r"cannot copy standard input.*Input/output error"):
        AudioReader(Broken())
