"""Reading, writing, resampling and finding audio, against libsndfile's whole-file decode and soxr."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import textwrap
import wave
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from auralflow_core.audio import (
    AUDIO_SUFFIXES,
    AudioReader,
    AudioWriter,
    StreamResampler,
    audio_info,
    find_audio,
    match_channels,
    read_audio,
    resample,
    resampled_length,
    subtype_for,
    wav,
)
from auralflow_core.errors import AudioError, AuralflowError

Signal = NDArray[np.float32]
RATE = 44100


def music(frames: int, channels: int = 2, seed: int = 0) -> Signal:
    """Return decaying notes and noise bursts, so that a variable bit rate varies: `(channel, frames)`."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames) / RATE
    tone = sum(np.sin(2 * np.pi * f * time) for f in (110, 440, 1760)) * np.exp(-3 * (time % 0.7))
    noise = rng.standard_normal((channels, frames)) * ((time % 1.1) < 0.3)
    return (0.15 * tone + 0.1 * noise).astype(np.float32)


def without_xing(mp3: bytes) -> bytes:
    """Cut the first frame of an MP3, which holds no sound but the Xing header."""
    assert mp3[:2] == b"\xff\xfb" and (b"Xing" in mp3[:200] or b"Info" in mp3[:200])
    second = mp3.index(b"\xff\xfb", 4)
    return mp3[second:]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same four seconds and a bit in many containers."""
    folder = tmp_path_factory.mktemp("audio")
    sound = music(4 * RATE + 321).T
    made = {name: folder / name for name in ("pcm16.wav", "float.wav", "a.flac", "a.aiff", "a.ogg", "cbr.mp3")}
    for path in made.values():
        subtype = "FLOAT" if path.name == "float.wav" else None
        soundfile.write(path, sound, RATE, subtype=subtype)
    made["vbr.mp3"] = folder / "vbr.mp3"
    soundfile.write(made["vbr.mp3"], sound, RATE, bitrate_mode="VARIABLE", compression_level=0.2)
    made["a.opus"] = folder / "a.opus"
    soundfile.write(made["a.opus"], sound, 48000, format="OGG", subtype="OPUS")
    return made


READ = ["pcm16.wav", "float.wav", "a.flac", "a.aiff", "a.ogg", "a.opus", "cbr.mp3", "vbr.mp3"]


# ---- reading


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("block", [1013, 8192, 10**6])
def test_blocks_are_the_whole_file_decode(files: dict[str, Path], name: str, block: int) -> None:
    expected, rate = soundfile.read(files[name], dtype="float32", always_2d=True)
    with AudioReader(files[name]) as reader:
        blocks = list(reader.blocks(block))
        assert (reader.info.sample_rate, reader.info.channels) == (rate, 2) == (reader.sample_rate, reader.channels)
        assert reader.info.frames == len(expected)
        assert reader.info.duration == len(expected) / rate
        again = next(reader.blocks(block))
    assert [b.shape[1] for b in blocks[:-1]] == [block] * (len(blocks) - 1)
    assert all(b.dtype == np.float32 and b.flags.c_contiguous for b in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), expected.T)
    np.testing.assert_array_equal(again, blocks[0])


def test_the_variable_bit_rate_trap_is_still_there(files: dict[str, Path]) -> None:
    # If this fails, libsndfile reads VBR MP3 in blocks rightly, and the reader can be simpler.
    whole, _ = soundfile.read(files["vbr.mp3"], dtype="float32")
    naive = np.concatenate(list(soundfile.blocks(files["vbr.mp3"], 1013, dtype="float32")))
    assert naive.shape != whole.shape or not np.array_equal(naive, whole)


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize(("start", "frames"), [(0, 10), (70_001, 4097), (100_000, None), (4 * RATE, 0)])
def test_parts_are_slices_of_the_whole(files: dict[str, Path], name: str, start: int, frames: int | None) -> None:
    expected, rate = soundfile.read(files[name], dtype="float32", always_2d=True)
    part, part_rate = read_audio(files[name], start, frames)
    stop = None if frames is None else start + frames
    assert part_rate == rate
    assert part.flags.c_contiguous
    np.testing.assert_array_equal(part, expected[start:stop].T)


@pytest.mark.parametrize("name", ["a.flac", "vbr.mp3"])
def test_frames_beyond_the_end_are_refused(files: dict[str, Path], name: str) -> None:
    frames = audio_info(files[name]).frames
    for start, count in [(frames - 5, 6), (frames + 1, None), (0, 10**15), (-1, 5), (0, -1)]:
        with pytest.raises(AudioError, match=r"frame"):
            read_audio(files[name], start, count)
    assert read_audio(files[name], frames)[0].shape == (2, 0)


def test_mp3_without_xing_header_is_read_to_its_end(files: dict[str, Path], tmp_path: Path) -> None:
    # Without the header libsndfile guesses the length from the first frame; which may be short.
    path = tmp_path / "unmarked.mp3"
    path.write_bytes(without_xing(files["vbr.mp3"].read_bytes()))
    with AudioReader(path) as reader:
        audio = np.concatenate(list(reader.blocks(5000)), axis=1)
        assert reader.info.frames == audio.shape[1]
    # Every MPEG-1 frame holds 1152 samples; of the delays only the decoder's is cut.
    original = audio_info(files["vbr.mp3"]).frames
    assert original <= audio.shape[1] <= original + 3 * 1152
    part, _ = read_audio(path, 100_000, 3000)
    np.testing.assert_array_equal(part, audio[:, 100_000:103_000])
    with pytest.raises(AudioError, match="frames"):
        read_audio(path, audio.shape[1] - 5, 6)


def test_mp3_with_a_large_tag_reads_like_one_without(files: dict[str, Path], tmp_path: Path) -> None:
    size = 300_001
    digits = bytes((size >> shift) & 127 for shift in (21, 14, 7, 0))
    tagged = tmp_path / "cover.mp3"
    body = files["vbr.mp3"].read_bytes()
    tagged.write_bytes(b"ID3\x03\0\0" + digits + b"\xff" * size + body)
    np.testing.assert_array_equal(read_audio(tagged)[0], read_audio(files["vbr.mp3"])[0])


def test_lengths_that_a_header_does_not_know_are_counted(tmp_path: Path) -> None:
    sound = music(50_000)
    flac, streamed = tmp_path / "streamed.flac", tmp_path / "streamed.wav"
    soundfile.write(flac, sound.T, RATE)
    content = bytearray(flac.read_bytes())
    # STREAMINFO: the low 36 bits of bytes 21 to 25 are the total; zero means unknown.
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    flac.write_bytes(content)
    soundfile.write(streamed, sound.T, RATE)
    content = bytearray(streamed.read_bytes())
    content[40:44] = b"\xff" * 4
    streamed.write_bytes(content)
    for path in (flac, streamed):
        assert audio_info(path).frames == 50_000
        assert read_audio(path, 49_000, 1000)[0].shape == (2, 1000)
        with pytest.raises(AudioError, match="only 50000 frames"):
            read_audio(path, 50_001)
        np.testing.assert_allclose(read_audio(path)[0], sound, atol=2**-15)


def encode_with_pyav(path: Path, sound: Signal, codec: str) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, layout="stereo")
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = RATE, 0
        fifo = av.AudioFifo()
        fifo.write(frame)
        while (piece := fifo.read(1024, partial=True)) is not None:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("suffix", [".m4a", ".mp4", ".aac", ".mka"])
def test_pyav_reads_what_libsndfile_cannot(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"song{suffix}"
    sound = music(60_000)
    encode_with_pyav(path, sound, "aac")
    info = audio_info(path)
    assert (info.sample_rate, info.channels, info.subtype) == (RATE, 2, "AAC")
    # The encoder's delay of 1024 samples stays; MPEG-4 names a length within the last frame of 1024.
    expected = 61_024 if suffix in (".m4a", ".mp4") else 61_440
    assert info.frames in (expected, expected - 1024)
    with AudioReader(path) as reader:
        audio = np.concatenate(list(reader.blocks(777)), axis=1)
    assert audio.shape == (2, info.frames)
    np.testing.assert_array_equal(read_audio(path)[0], audio)
    np.testing.assert_array_equal(read_audio(path, 12_345, 6789)[0], audio[:, 12_345 : 12_345 + 6789])
    delay = info.frames - expected + 1024
    assert np.corrcoef(audio[0, delay:59_000], sound[0, : 59_000 - delay])[0, 1] > 0.8


def test_lossless_mpeg4_is_exact_and_known_by_content(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    sound = np.round(music(30_000) * 32768).clip(-32768, 32767).astype(np.int16)
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("alac", rate=RATE, layout="stereo")
        stream.format = "s16p"
        for start in range(0, 30_000, 4096):
            piece = np.ascontiguousarray(sound[:, start : start + 4096])
            frame = av.AudioFrame.from_ndarray(piece, format="s16p", layout="stereo")
            frame.sample_rate, frame.pts = RATE, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    expected = sound.astype(np.float32) / 32768
    misnamed = tmp_path / "song.mp3"
    misnamed.write_bytes(path.read_bytes())
    np.testing.assert_array_equal(read_audio(path)[0], expected)
    np.testing.assert_array_equal(read_audio(misnamed)[0], expected)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(AudioError, match=r"song\.m4a"):
        read_audio(path)


def test_without_pyav_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "song.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"song\.m4a.*pip install auralflow\[av\]"):
        audio_info(path)


# ---- bad input


def test_bad_files_say_in_one_line_what_and_why(tmp_path: Path, files: dict[str, Path]) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("This is not a song.\n" * 50)
    (tmp_path / "text.mp3").write_text("Nor is this one.\n" * 50)
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "header.wav").write_bytes(files["pcm16.wav"].read_bytes()[:20])
    reasons = {
        "empty.wav": "empty",
        "text.wav": "not audio",
        "text.mp3": "not audio",
        "folder.wav": "folder",
        "header.wav": "not audio",
        "txt.wav": r"did you mean text\.wav",
        "gone/a.wav": "no folder",
    }
    for name, reason in reasons.items():
        for use in (audio_info, AudioReader, read_audio):
            with pytest.raises(AudioError, match=reason) as caught:
                use(tmp_path / name)
            assert str(tmp_path / name) in str(caught.value)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", READ)
def test_a_truncated_file_is_refused(files: dict[str, Path], tmp_path: Path, name: str) -> None:
    content = files[name].read_bytes()
    path = tmp_path / f"half {name}"
    path.write_bytes(content[: len(content) * 3 // 5 + 1])
    with pytest.raises(AudioError, match=r"truncated.*again$") as caught:
        read_audio(path)
    assert str(path) in str(caught.value)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_random_bytes_never_raise_anything_but_an_audio_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    head = data.draw(
        st.sampled_from([b"RIFF\0\1\0\0WAVEfmt ", b"RF64", b"OggS", b"ID3\4", b"\xff\xfb\x90", b"fLaC", b""])
    )
    path = tmp_path_factory.mktemp("noise") / "noise.wav"
    path.write_bytes(head + data.draw(st.binary(max_size=300)))
    try:
        audio, rate = read_audio(path)
    except AudioError as error:
        assert "noise.wav" in str(error)
    else:
        assert rate > 0 and audio.ndim == 2


def test_unicode_and_very_long_names(tmp_path: Path) -> None:
    sound = music(1000)
    for name in (
        "Ünïcödé 音楽 🎵.wav",
        "l" * 251 + ".wav",
        "é" * 125 + ".flac",
        os.fsdecode(b"latin-\xe9.wav"),
    ):
        path = tmp_path / name
        with AudioWriter(path, RATE, 2, subtype="PCM_24") as writer:
            writer.write(sound)
        np.testing.assert_allclose(read_audio(path)[0], sound, atol=2**-24)
    assert len(list(tmp_path.iterdir())) == 4
    with pytest.raises(AudioError):
        audio_info(tmp_path / ("n" * 300 + ".wav"))


# ---- writing


@pytest.mark.parametrize(
    ("name", "depth", "step"),
    [
        ("a.wav", "16", 2**-15),
        ("a.wav", "24", 2**-23),
        ("a.wav", "32", 2**-31),
        ("a.wav", "32f", 0),
        ("a.flac", "16", 2**-15),
        ("a.flac", "24", 2**-23),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_integers_are_rounded_and_cut(tmp_path: Path, name: str, depth: str, step: float, channels: int) -> None:
    path = tmp_path / name
    sound = music(9001, channels)
    sound[0, :6] = [1.0, -1.0, 1.5, -7.0, 0.99999, 0.4 * step]
    with AudioWriter(path, 48000, channels, subtype=subtype_for(depth, path.suffix[1:])) as writer:
        for start in range(0, 9001, 1000):
            writer.write(sound[:, start : start + 1000])
    beyond = int(np.sum(np.abs(sound) > 1))
    assert (writer.frames, writer.clipped) == (9001, 0 if depth == "32f" else beyond)
    stored, rate = soundfile.read(path, dtype="float64", always_2d=True)
    assert rate == 48000
    expected = sound.astype(np.float64).T
    if step:
        expected = np.clip(np.rint(expected / step), -1 / step, 1 / step - 1) * step
    np.testing.assert_array_equal(stored, expected)
    info = audio_info(path)
    assert (info.frames, info.channels, info.format) == (9001, channels, name[2:].upper())
    assert info.subtype == writer.subtype


def test_other_programs_read_the_wav(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with AudioWriter(path, RATE, 1, subtype="PCM_24") as writer:
        writer.write(music(33, 1))
    with wave.open(str(path)) as file:
        assert (file.getnframes(), file.getsampwidth(), file.getframerate()) == (33, 3, RATE)
    content = path.read_bytes()
    assert len(content) % 2 == 0
    assert struct.unpack_from("<I", content, 4)[0] == len(content) - 8


@pytest.mark.parametrize("name", ["a.wav", "f.wav", "a.flac", "a.ogg", "a.opus", "a.mp3"])
def test_the_same_samples_give_the_same_bytes_in_any_blocks(tmp_path: Path, name: str) -> None:
    rate = 48000
    sound = music(40_000)
    contents = set()
    for block in (40_000, 4096, 777):
        path = tmp_path / str(block) / name
        with AudioWriter(path, rate, 2, subtype="FLOAT" if name == "f.wav" else None) as writer:
            for start in range(0, 40_000, block):
                writer.write(sound[:, start : start + block])
        contents.add(path.read_bytes())
    assert len(contents) == 1
    stored, _ = soundfile.read(io.BytesIO(contents.pop()), dtype="float32")
    assert stored.shape == (40_000, 2)
    assert np.corrcoef(stored[:, 0], sound[0])[0, 1] > 0.9


def test_encoders_do_not_depend_on_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # libsndfile draws an Ogg serial number for each file: it must have been replaced, checksums included.
    path = tmp_path / "a.ogg"
    with AudioWriter(path, RATE, 2) as writer:
        writer.write(music(5000))
    content = path.read_bytes()
    pages = [i for i in range(len(content)) if content[i : i + 4] == b"OggS"]
    assert len(pages) >= 2
    assert {content[page + 14 : page + 18] for page in pages} == {b"\1\0\0\0"}


def test_a_wav_beyond_four_gigabytes_is_rf64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wav, "RIFF_LIMIT", 10_000)
    sound = music(5000)
    for subtype in ("PCM_16", "FLOAT"):
        path = tmp_path / f"{subtype}.wav"
        with AudioWriter(path, RATE, 2, subtype=subtype) as writer:
            writer.write(sound)
        assert path.read_bytes()[:4] == b"RF64"
        assert soundfile.info(path).format == "RF64"
        assert audio_info(path).frames == 5000
        np.testing.assert_allclose(read_audio(path)[0], sound, atol=2**-15)
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(AudioError, match="truncated"):
            audio_info(path)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_an_exception_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"old")
    with pytest.raises(FileNotFoundError, match="another file"), AudioWriter(path, RATE, 2) as writer:
        writer.write(music(5000))
        assert path.read_bytes() == b"old"
        raise FileNotFoundError("another file")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    script = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        import numpy as np
        from auralflow_core.audio import AudioWriter
        from auralflow_core.errors import AuralflowError

        sound = np.random.default_rng(0).uniform(-1, 1, (2, 40_000)).astype(np.float32)
        for limit in (0, 1, 10_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            for name in ("a.wav", "f.flac", "v.ogg", "o.opus", "m.mp3", *sys.argv[2:]):
                for frames in (100, 40_000):
                    if limit == 10_000 and frames == 100:
                        continue
                    try:
                        with AudioWriter(Path(sys.argv[1], name), 48000, 2) as writer:
                            for start in range(0, frames, 5000):
                                writer.write(sound[:, start : min(frames, start + 5000)])
                    except AuralflowError as error:
                        assert str(error).startswith(f"cannot write {sys.argv[1]}/{name}: "), error
                    else:
                        raise SystemExit(f"{name} of {frames} frames within {limit} bytes")
        print("all refused")
    """)
    with_pyav = ["a.m4a"] if find_spec("av") else []
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path), *with_pyav]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("all refused\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(AuralflowError, match="cannot write"),
        AudioWriter(tmp_path / "file" / "a.wav", RATE, 1),
    ):
        pass


@pytest.mark.parametrize(
    ("arguments", "limits"),
    [
        (("a.flac", RATE, 9, None), "1 to 8"),
        (("a.flac", 700_000, 2, None), "655350 Hz"),
        (("a.flac", 96_001, 2, None), "steps of 10 Hz"),
        (("a.flac", RATE, 2, "FLOAT"), "PCM_16, PCM_24"),
        (("a.mp3", 96_000, 2, None), "44100 Hz, 48000 Hz"),
        (("a.mp3", RATE, 6, None), "1 to 2"),
        (("a.ogg", RATE, 256, None), "1 to 255"),
        (("a.ogg", 7999, 1, None), "8000 Hz to"),
        (("a.opus", RATE, 2, None), "48000 Hz"),
        (("a.wav", 0, 2, None), "1 Hz to"),
        (("a.wav", RATE, 0, None), "1 to 1024"),
        (("a.xyz", RATE, 2, None), r"\.flac"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_with_the_limit(
    tmp_path: Path, arguments: tuple[str, int, int, str | None], limits: str
) -> None:
    name, rate, channels, subtype = arguments
    with pytest.raises(AudioError, match=limits):
        AudioWriter(tmp_path / name, rate, channels, subtype=subtype)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [
        ("a.flac", 655_350, 1),
        ("a.flac", 65_535, 8),
        ("a.flac", 96_010, 2),
        ("a.ogg", 192_000, 2),
        ("a.ogg", 8000, 1),
        ("a.ogg", 44100, 8),
        ("a.mp3", 8000, 1),
        ("a.mp3", 48000, 2),
        ("a.opus", 8000, 2),
        ("a.wav", 768_000, 6),
        ("a.wav", 8000, 1024),
        ("a.wav", 1, 1),
    ],
)
def test_formats_hold_what_they_claim(tmp_path: Path, name: str, rate: int, channels: int) -> None:
    with AudioWriter(tmp_path / name, rate, channels) as writer:
        writer.write(music(3000, channels))
    info = audio_info(tmp_path / name)
    assert (info.sample_rate, info.channels, info.frames) == (rate, channels, 3000)


def test_a_wrong_block_is_refused(tmp_path: Path) -> None:
    for block in (np.zeros((1, 5)), np.zeros(5), np.full((2, 5), np.nan), np.full((2, 5), -np.inf)):
        with (
            pytest.raises(AudioError, match="cannot write"),
            AudioWriter(tmp_path / "a.wav", RATE, 2) as writer,
        ):
            writer.write(block.astype(np.float32))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_a_file_without_frames(tmp_path: Path, name: str) -> None:
    def write_nothing() -> None:
        with AudioWriter(tmp_path / name, RATE, 2) as writer:
            writer.write(np.zeros((2, 0), np.float32))

    if name == "a.wav":
        write_nothing()
        assert read_audio(tmp_path / name)[0].shape == (2, 0)
    else:
        with pytest.raises(AudioError, match="no frames"):
            write_nothing()
        assert list(tmp_path.iterdir()) == []


def test_bit_depths() -> None:
    assert [subtype_for(d, "wav") for d in ("16", "24", "32f", None)] == [
        "PCM_16",
        "PCM_24",
        "FLOAT",
        "PCM_16",
    ]
    assert subtype_for("24", "FLAC") == "PCM_24"
    assert subtype_for(None, "ogg") == "VORBIS"
    for depth, format_, reason in [
        ("32f", "flac", "16, 24"),
        ("16", "mp3", "no bit depth"),
        ("12", "wav", "16, 24, 32, 32f"),
        ("16", "flacc", "did you mean FLAC"),
    ]:
        with pytest.raises(AudioError, match=reason):
            subtype_for(depth, format_)


# ---- resampling and channels

rates = st.sampled_from([8000, 11025, 16000, 22050, 32000, 44100, 44101, 48000, 96000])


@given(
    source=rates,
    target=rates,
    frames=st.integers(0, 6000),
    channels=st.integers(1, 3),
    cuts=st.lists(st.integers(0, 6000), max_size=8),
)
@settings(max_examples=60, deadline=None)
@example(source=8000, target=44100, frames=1000, channels=1, cuts=[])
@example(source=96000, target=8000, frames=5, channels=2, cuts=[1, 2, 3, 4])
def test_a_stream_is_the_one_shot_result(source: int, target: int, frames: int, channels: int, cuts: list[int]) -> None:
    sound = music(frames, channels)
    expected = sound if source == target else soxr.resample(sound.T.copy(), source, target, quality="HQ").T
    resampler = StreamResampler(channels, source, target)
    edges = [0, *sorted(min(cut, frames) for cut in cuts), frames]
    for _ in range(2):  # the end of a signal makes the resampler ready for another
        parts = [resampler.process(sound[:, a:b], last=i == len(edges) - 2) for i, (a, b) in enumerate(pairwise(edges))]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), expected)
    np.testing.assert_array_equal(resample(sound, source, target), expected)
    assert expected.shape[1] == resampled_length(frames, source, target)


@given(source=rates, target=rates, frames=st.integers(0, 5000), block=st.integers(1, 2000))
@settings(max_examples=40, deadline=None)
def test_there_and_back_keeps_the_length(source: int, target: int, frames: int, block: int) -> None:
    there = resample(music(frames, 1), source, target)
    back = resample(there, target, source, frames)
    assert back.shape == (1, frames)
    resampler = StreamResampler(1, target, source, frames)
    stops = range(0, max(1, there.shape[1]), block)
    parts = [resampler.process(there[:, i : i + block], last=i == stops[-1]) for i in stops]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), back)


def test_there_and_back_keeps_sound_and_time() -> None:
    time = np.arange(RATE) / RATE
    tone = (0.5 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)[None]
    back = resample(resample(tone, RATE, 48000), 48000, RATE, RATE)
    middle = slice(2000, -2000)
    error = np.abs(back[:, middle] - tone[:, middle]).max()
    assert 20 * np.log10(error) < -90


def test_resampling_refuses_nonsense() -> None:
    with pytest.raises(AudioError, match="at least 1"):
        StreamResampler(2, 0, RATE)
    with pytest.raises(AudioError, match=r"\(2, time\)"):
        StreamResampler(2, 8000, RATE).process(np.zeros((1, 5), np.float32))


def test_channels_are_copied_or_averaged() -> None:
    one, two, six = music(10, 1), music(10, 2), music(10, 6)
    np.testing.assert_array_equal(match_channels(one, 2), np.concatenate([one, one]))
    np.testing.assert_array_equal(match_channels(one, 3), np.concatenate([one] * 3))
    np.testing.assert_allclose(match_channels(two, 1)[0], (two[0] + two[1]) / 2, rtol=1e-6)
    np.testing.assert_allclose(match_channels(six, 1)[0], six.sum(0) / 6, rtol=1e-5, atol=1e-7)
    assert match_channels(two, 1).dtype == np.float32
    assert match_channels(six, 6) is six
    for audio, channels in [(six, 2), (two, 6)]:
        with pytest.raises(AudioError, match="cannot turn"):
            match_channels(audio, channels)


# ---- finding


def test_find_audio_walks_in_order(tmp_path: Path) -> None:
    for name in (
        "b/2.WAV",
        "b/1.flac",
        "a.mp3",
        "b/.hidden.wav",
        ".git/x.wav",
        "notes.txt",
        "c/d/x.m4a",
        "z.odd",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "c" / "loop").symlink_to(tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in find_audio([tmp_path])]
    assert found == ["a.mp3", "b/1.flac", "b/2.WAV", "c/d/x.m4a"]
    named = list(find_audio([tmp_path / "z.odd", tmp_path / "b", str(tmp_path / "b" / "1.flac")]))
    assert named == [tmp_path / "z.odd", tmp_path / "b" / "1.flac", tmp_path / "b" / "2.WAV"]
    with pytest.raises(AudioError, match=r"did you mean a\.mp3"):
        find_audio([tmp_path / "a.mp4"])
    with pytest.raises(AudioError, match="no such file"):
        find_audio([tmp_path / ("long" * 100)])
    assert {".wav", ".flac", ".ogg", ".mp3", ".m4a"} <= AUDIO_SUFFIXES


def test_audio_does_not_import_torch() -> None:
    code = "import sys, auralflow_core.audio; sys.exit('torch' in sys.modules or 'av' in sys.modules)"
    done: subprocess.CompletedProcess[Any] = subprocess.run([sys.executable, "-c", code])
    assert done.returncode == 0
