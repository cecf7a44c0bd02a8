"""Files, folders, patterns, playlists and standard input."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from auralflow_core.audio import STDIN, find_audio
from auralflow_core.errors import AudioError


@pytest.fixture
def library(tmp_path: Path) -> Path:
    names = ("a/1.mp3", "a/2 [live].flac", "a/cover.jpg", "a/b/3.wav", "a/.hidden/4.wav", "stems/5/vocals.wav", "c.wav")
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def found(root: Path, *inputs: object, **options: object) -> list[str]:
    return [path.relative_to(root).as_posix() for path in find_audio(map(str, inputs), **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*/1.*", ["a/1.mp3"]),
        ("a/*", ["a/1.mp3", "a/2 [live].flac", "a/b/3.wav"]),
        ("**/*.wav", ["a/b/3.wav", "c.wav", "stems/5/vocals.wav"]),
        ("a/**", ["a/1.mp3", "a/2 [live].flac", "a/b/3.wav"]),
        ("[bc].wav", ["c.wav"]),
        ("a/2 [live].flac", ["a/2 [live].flac"]),
    ],
)
def test_patterns(library: Path, pattern: str, expected: list[str]) -> None:
    assert sorted(found(library, library / pattern)) == expected


@pytest.mark.parametrize("pattern", ["x*", "a/*.jpg", "**/*.m4a", "nowhere/*.wav"])
def test_a_pattern_that_fits_nothing_is_an_error(library: Path, pattern: str) -> None:
    with pytest.raises(AudioError, match="no audio file fits the pattern"):
        find_audio([library / pattern])


def test_folders_can_be_left_out_unless_they_are_named(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_output(folder: Path) -> bool:
        return folder.name == "stems"

    others = ["a/1.mp3", "a/2 [live].flac", "a/b/3.wav", "c.wav"]
    assert found(library, library, leave_out=is_output) == others
    assert sorted(found(library, library / "**", leave_out=is_output)) == others
    assert found(library, library / "**" / "vocals.*") == ["stems/5/vocals.wav"]
    assert found(library, library / "stems", leave_out=is_output) == ["stems/5/vocals.wav"]
    assert found(library, library / "stems" / "*" / "*", leave_out=is_output) == ["stems/5/vocals.wav"]
    monkeypatch.chdir(library)
    assert [str(path) for path in find_audio(["*/*/*.wav"], leave_out=is_output)] == [str(Path("a/b/3.wav"))]


def test_m3u_playlists(library: Path) -> None:
    playlist = library / "a" / "list.m3u8"
    lines = [
        "\ufeff#EXTM3U",
        "#EXTINF:12,Somebody - Something",
        "1.mp3",
        "../c.wav",
        "b\\3.wav",
        "2%20[live].flac",
        "",
        "1.mp3",
        (library / "a" / "b").as_posix(),
        (library / "c.wav").as_uri(),
        "gone.mp3",
        "list.m3u8",
    ]
    playlist.write_text("\r\n".join(lines), encoding="utf-8")
    assert [path.resolve() for path in find_audio([playlist])] == [
        library / name for name in ("a/1.mp3", "c.wav", "a/b/3.wav", "a/2 [live].flac", "a/gone.mp3")
    ]
    # In a folder a playlist adds nothing.
    assert found(library, library / "a") == ["a/1.mp3", "a/2 [live].flac", "a/b/3.wav"]


def test_other_playlists(library: Path) -> None:
    old = library / "old.M3U"
    (library / "é.wav").touch()
    old.write_bytes("é.wav\n".encode("latin-1"))
    pls = library / "list.pls"
    pls.write_text("[playlist]\nFile1=a/1.mp3\nTitle1=One\nfile2 = old.M3U\nNumberOfEntries=2\n", encoding="utf-8")
    assert found(library, pls) == ["a/1.mp3", "é.wav"]
    pls.write_text("[playlist]\nFile1=https://radio.example/stream.mp3\n", encoding="utf-8")
    with pytest.raises(AudioError, match=r"stream\.mp3.*download"):
        find_audio([pls])


def test_accents_in_either_form(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Café.wav") for form in ("NFC", "NFD"))
    (tmp_path / decomposed).touch()
    assert len(list(find_audio([tmp_path / composed]))) == 1
    playlist = tmp_path / "list.m3u"
    playlist.write_text(composed, encoding="utf-8")
    assert all(path.exists() for path in find_audio([playlist]))


def test_standard_input_stands_among_the_files(library: Path) -> None:
    assert list(find_audio(["-", library / "c.wav", "-"])) == [STDIN, library / "c.wav"]
