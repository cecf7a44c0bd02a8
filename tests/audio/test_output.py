"""Writing: exactness, bit rates, lengths and starts, and what a format refuses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from auralflow_core.audio import AudioReader, AudioWriter, audio_info, check_writable, read_audio
from auralflow_core.errors import AudioError

Signal = NDArray[np.float32]
Music = Callable[..., Signal]


@given(
    format_=st.sampled_from(["wav", "flac"]),
    depth=st.sampled_from(["16", "24"]),
    channels=st.integers(1, 3),
    frames=st.integers(1, 5000),
    block=st.integers(1, 3000),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_what_is_passed_through_is_the_same_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory,
    format_: str,
    depth: str,
    channels: int,
    frames: int,
    block: int,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("through")
    limit = 1 << (int(depth) - 1)
    shift = 32 - int(depth)
    samples = np.random.default_rng(seed).integers(-limit, limit, (frames, channels)).astype(np.int32) << shift
    samples[0] = -limit << shift
    soundfile.write(folder / f"in.{format_}", samples, 44100, subtype=f"PCM_{depth}")
    with (
        AudioReader(folder / f"in.{format_}") as reader,
        AudioWriter(folder / f"out.{format_}", 44100, channels, bit_depth=depth) as writer,
    ):
        for part in reader.blocks(block):
            writer.write(part)
    assert writer.clipped == 0
    stored, _ = soundfile.read(folder / f"out.{format_}", dtype="int32", always_2d=True)
    np.testing.assert_array_equal(stored, samples)


def lag(decoded: Signal, original: Signal) -> int:
    """Return by how many frames `decoded` is late."""
    size = 2 * len(original)
    spectrum = np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(original, size))
    peak = int(np.fft.irfft(spectrum, size).argmax())
    return peak if peak < size // 2 else peak - size


LOSSY = [
    ("mp3", 8000, 1, 24),
    ("mp3", 22050, 2, None),
    ("mp3", 44100, 2, 128),
    ("mp3", 48000, 1, 320),
    ("mp3", 44100, 2, None),
    ("ogg", 44100, 2, 192),
    ("ogg", 96000, 1, None),
    ("opus", 48000, 2, 96),
    ("opus", 24000, 1, None),
    ("m4a", 44100, 2, 192),
    ("m4a", 44100, 1, None),
    ("m4a", 96000, 6, None),
    ("m4a", 8000, 2, 24),
]


@pytest.mark.parametrize(("format_", "rate", "channels", "bitrate"), LOSSY)
@pytest.mark.parametrize("frames", [1, 1151, 30_000, 30_211])
def test_length_and_start_survive(
    tmp_path: Path, music: Music, format_: str, rate: int, channels: int, bitrate: int | None, frames: int
) -> None:
    if format_ == "m4a":
        pytest.importorskip("av")
    sound = music(frames, channels, rate)
    path = tmp_path / f"a.{format_}"
    with AudioWriter(path, rate, channels, bitrate=bitrate) as writer:
        for start in range(0, frames, 7000):
            writer.write(sound[:, start : start + 7000])
    decoded, decoded_rate = read_audio(path)
    assert (decoded.shape, decoded_rate) == (sound.shape, rate)
    if frames > 20_000:
        assert lag(decoded[0], sound[0]) == 0
        assert np.corrcoef(decoded[0], sound[0])[0, 1] > 0.8


@pytest.mark.parametrize(
    ("format_", "rate", "channels", "bitrate"),
    [
        *(("mp3", 44100, 2, rate) for rate in (64, 96, 128, 192, 256, 320)),
        ("mp3", 22050, 1, 56),
        ("mp3", 16000, 2, 160),
        ("mp3", 11025, 1, 64),
    ],
)
def test_mp3_has_exactly_the_bit_rate(
    tmp_path: Path, music: Music, format_: str, rate: int, channels: int, bitrate: int
) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "a.mp3"
    with AudioWriter(path, rate, channels, bitrate=bitrate) as writer:
        writer.write(music(2 * rate, channels, rate))
    with av.open(str(path)) as container:
        assert container.streams.audio[0].bit_rate == 1000 * bitrate
    # A frame holds a 38th of a second or more: the header and the delay are some of them.
    assert path.stat().st_size * 8 / 2000 == pytest.approx(bitrate, rel=0.15)


@pytest.mark.parametrize("channels", [1, 2])
def test_every_bit_rate_of_mp3_keeps_the_length(tmp_path: Path, music: Music, channels: int) -> None:
    kept = 0
    for rate in (8000, 16_000, 22_050, 32_000, 44_100, 48_000):
        sound = music(5001, channels, rate)
        for bitrate in (8, 16, 24, 32, 40, 48, 56, 64, 80, 144, 160, 224, 320):
            try:
                writer = AudioWriter(tmp_path / "a.mp3", rate, channels, bitrate=bitrate)
            except AudioError:
                continue
            with writer:
                writer.write(sound)
            assert audio_info(tmp_path / "a.mp3").frames == 5001, (rate, bitrate)
            kept += 1
    assert kept > 30


@pytest.mark.parametrize("format_", ["ogg", "opus", "m4a"])
def test_other_formats_come_near_the_bit_rate(tmp_path: Path, format_: str) -> None:
    if format_ == "m4a":
        pytest.importorskip("av")
    rate = 48000
    noise = np.random.default_rng(0).uniform(-0.2, 0.2, (2, 3 * rate)).astype(np.float32)
    sizes = []
    for bitrate in (96, 160, 256):
        path = tmp_path / f"{bitrate}.{format_}"
        with AudioWriter(path, rate, 2, bitrate=bitrate) as writer:
            writer.write(noise)
        sizes.append(path.stat().st_size * 8 / 3000)
        # Noise is dearer than music where a quality is kept.
        assert 0.75 * bitrate < sizes[-1] < 1.45 * bitrate
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("mp3", 96_000, 2), r"MP3 cannot hold 96000 Hz.*48000 Hz; choose WAV or resample"),
        (("mp3", 44_100, 6), r"MP3 cannot hold 6 channels.*1 to 2; choose WAV"),
        (("opus", 44_100, 2), "OPUS cannot hold 44100 Hz"),
        (("mp3", 44_100, 2, None, 200), r"no bit rate of 200 kbit/s.*192, 224"),
        (("mp3", 22_050, 2, None, 320), "no bit rate of 320"),
        (("mp3", 44_100, 2, None, 56), "exact length there: choose 64"),
        (("mp3", 44_100, 2, "16"), "no bit depth"),
        (("ogg", 44_100, 2, None, 900), "choose 64 to 500"),
        (("opus", 48_000, 2, None, 4), "choose 12 to 512"),
        (("m4a", 8_000, 1, None, 128), "choose 8 to 48"),
        (("m4a", 192_000, 2), "M4A cannot hold 192000 Hz"),
        (("flac", 44_100, 2, "16", 128), "has no bit rate"),
        (("flac", 44_100, 2, "32f"), "16, 24"),
        (("mp4", 44_100, 2), "unknown audio format.*MP3"),
    ],
)
def test_what_cannot_be_written_is_known_beforehand(arguments: tuple[object, ...], reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        check_writable(*arguments)  # type: ignore[arg-type]


def test_what_can_be_written() -> None:
    pytest.importorskip("av")
    check_writable("wav", 768_000, 64, "32f")
    check_writable("FLAC", 96_000, 6, "24")
    for name, rate, channels, bitrate in LOSSY:
        check_writable(name, rate, channels, None, bitrate)


def test_m4a_without_pyav_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"pip install auralflow\[av\]"):
        AudioWriter(tmp_path / "a.m4a", 44100, 2)


def test_an_m4a_is_the_same_in_any_blocks_and_nothing_is_left_of_half_a_one(tmp_path: Path, music: Music) -> None:
    pytest.importorskip("av")
    sound = music(20_000)
    contents = set()
    for block in (20_000, 1024, 777):
        path = tmp_path / f"{block}.m4a"
        with AudioWriter(path, 44100, 2) as writer:
            for start in range(0, 20_000, block):
                writer.write(sound[:, start : start + block])
        contents.add(path.read_bytes())
    assert len(contents) == 1
    with pytest.raises(ZeroDivisionError), AudioWriter(tmp_path / "half.m4a", 44100, 2) as writer:
        writer.write(sound)
        _ = 1 / 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1024.m4a", "20000.m4a", "777.m4a"]
    assert audio_info(tmp_path / "777.m4a").frames == 20_000
