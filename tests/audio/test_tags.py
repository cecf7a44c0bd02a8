"""Tags and cover, written by ours and read by FFmpeg, and the other way round."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from auralflow_core.audio import AudioWriter, Cover, Tags, audio_info, read_audio, read_tags

Signal = NDArray[np.float32]
Music = Callable[..., Signal]

FORMATS = ["wav", "flac", "ogg", "opus", "mp3", "m4a"]
TAGS = Tags(
    title="Für Élise 音楽",
    artist="Somebody",
    album="An album",
    album_artist="All of them",
    composer="L. v. B.",
    genre="Classical",
    date="2019",
    comment="A comment; with = and \u2028 signs",
    track=3,
    track_total=12,
    disc=1,
    disc_total=2,
)


def write(path: Path, sound: Signal, tags: Tags | None) -> Path:
    with AudioWriter(path, 48000, len(sound), tags=tags) as writer:
        for start in range(0, sound.shape[1], 5000):
            writer.write(sound[:, start : start + 5000])
    return path


def facts_by_ffmpeg(path: Path) -> tuple[dict[str, str], list[bytes]]:
    """Return what FFmpeg reads: the tags, and the pictures."""
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        tags: dict[str, Any] = {**container.metadata, **container.streams.audio[0].metadata}
        videos = list(container.streams.video)
        packets = [bytes(packet) for packet in container.demux(videos) if packet.size] if videos else []
    return {name.lower(): value for name, value in tags.items()}, packets


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("padding", [0, 200_000])
def test_other_programs_read_the_tags_and_the_sound(
    tmp_path: Path, music: Music, picture: bytes, format_: str, padding: int
) -> None:
    pytest.importorskip("av")
    sound = music(20_000, 2, 48000)
    # A picture may be followed by anything; a long one takes several pages of Ogg.
    cover = Cover(picture + bytes(padding), "image/png")
    tagged = write(tmp_path / f"tagged.{format_}", sound, replace(TAGS, cover=cover))
    plain = write(tmp_path / f"plain.{format_}", sound, None)
    np.testing.assert_array_equal(read_audio(tagged)[0], read_audio(plain)[0])
    assert replace(audio_info(tagged), path=plain) == audio_info(plain)
    said, pictures = facts_by_ffmpeg(tagged)
    assert said["title"] == TAGS.title and said["artist"] == TAGS.artist and said["album"] == TAGS.album
    assert said["album_artist" if "album_artist" in said else "albumartist"] == TAGS.album_artist
    assert said["composer"] == TAGS.composer and said["genre"] == TAGS.genre and said["date"] == TAGS.date
    assert said["comment"] == TAGS.comment
    assert said["track"].split("/")[0] == "3" and said["disc"].split("/")[0] == "1"
    if format_ != "m4a":
        assert pictures == [cover.data]


@pytest.mark.parametrize("format_", FORMATS)
def test_what_is_written_is_read(tmp_path: Path, music: Music, picture: bytes, format_: str) -> None:
    pytest.importorskip("av")
    cover = Cover(picture, "image/png")
    for tags in (replace(TAGS, cover=cover), Tags(title="Only this"), Tags(cover=cover), TAGS, Tags()):
        path = write(tmp_path / f"a.{format_}", music(3000, 1, 48000), tags)
        expected = replace(tags, cover=None) if format_ == "m4a" else tags
        assert read_tags(path) == expected


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1).map(str.strip).filter(bool)
    tags = Tags(
        title=data.draw(texts), artist=data.draw(texts), comment=data.draw(texts), track=data.draw(st.integers(1, 999))
    )
    format_ = data.draw(st.sampled_from(FORMATS[:-1]))
    path = tmp_path_factory.mktemp("text") / f"a.{format_}"
    write(path, np.zeros((1, 960), np.float32), tags)
    assert read_tags(path) == tags
    assert audio_info(path).frames == 960


def test_files_of_other_programs_are_read(tmp_path: Path, picture: bytes) -> None:
    av = pytest.importorskip("av")
    for name, codec in (("a.mp3", "libmp3lame"), ("a.m4a", "aac"), ("a.flac", "flac"), ("a.opus", "libopus")):
        with av.open(str(tmp_path / name), "w") as container:
            container.metadata.update({"title": "Ti", "artist": "Ar", "track": "4/9", "date": "1999-05-01"})
            stream = container.add_stream(codec, rate=48000, layout="mono")
            resampler = av.AudioResampler(format=stream.format, frame_size=stream.codec_context.frame_size or 960)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 48000
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(piece))
            container.mux(stream.encode(None))
        tags = read_tags(tmp_path / name)
        assert (tags.title, tags.artist, tags.track, tags.year) == ("Ti", "Ar", 4, "1999")


def test_damaged_and_missing_tags_are_none(tmp_path: Path, music: Music, picture: bytes) -> None:
    whole = write(tmp_path / "a.mp3", music(3000, 1, 48000), replace(TAGS, cover=Cover(picture, "image/png")))
    content = bytearray(whole.read_bytes())
    for place in range(0, 300, 7):
        spoilt = tmp_path / "b.mp3"
        spoilt.write_bytes(content[:place] + b"\xff\x00\x80" + content[place + 3 :])
        assert isinstance(read_tags(spoilt), Tags)
    (tmp_path / "text.mp3").write_text("no music")
    (tmp_path / "empty.flac").touch()
    assert not read_tags(tmp_path / "text.mp3") and not read_tags(tmp_path / "empty.flac")
    with pytest.raises(FileNotFoundError):
        read_tags(tmp_path / "gone.mp3")


def test_a_stem_is_called_after_its_song(picture: bytes) -> None:
    tags = replace(TAGS, cover=Cover(picture, "image/png"))
    assert tags.for_stem("vocals") == replace(tags, title="Für Élise 音楽 (vocals)")
    assert Tags(artist="A").for_stem("vocals") == Tags(artist="A")
    assert not Tags() and Tags(track=1) and Tags(date="12 May 2001").year is None


def test_a_cover_in_ogg_is_a_flac_picture(tmp_path: Path, music: Music, picture: bytes) -> None:
    path = write(tmp_path / "a.ogg", music(3000, 1, 48000), Tags(cover=Cover(picture, "image/png")))
    content = path.read_bytes()
    start = content.index(b"METADATA_BLOCK_PICTURE=") + 23
    block = base64.b64decode(content[start : start + 4 * ((32 + 9 + len(picture) + 2) // 3)])
    assert block == b"\0\0\0\3" + b"\0\0\0\x09image/png" + bytes(20) + len(picture).to_bytes(4, "big") + picture
