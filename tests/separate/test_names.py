"""Name templates: always one path below the output folder, whatever the tags say."""

from __future__ import annotations

import unicodedata
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from auralflow_core.audio import Tags
from auralflow_core.errors import ConfigError
from auralflow_core.separate.names import FIELDS, check_template, inside, stem_path

TAGS = Tags(title="Song", artist="Band", album="Album", track=7, date="2001-02-03", genre="Jazz")


def path_of(template: str, name: str = "some song.mp3", tags: Tags = TAGS, stem: str = "vocals") -> str:
    return stem_path(template, Path("music", name), tags, stem=stem, ext="wav").as_posix()


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{artist}/{track}_{stem}.{ext}", "Band/some song_vocals.wav"),
        ("{album_artist}/{year} {album}/{number} {title} ({stem}).{ext}", "Band/2001 Album/07 Song (vocals).wav"),
        ("{genre}/{stem}.{ext}", "Jazz/vocals.wav"),
        ("{{{stem}}}.{ext}", "{vocals}.wav"),
        (".{stem}.{ext}", ".vocals.wav"),
    ],
)
def test_templates(template: str, expected: str) -> None:
    assert path_of(template) == expected


def test_what_the_tags_do_not_say() -> None:
    template = "{artist}/{album_artist}/{album}/{year}/{genre}/{number} {title} {stem}.{ext}"
    unknown = "unknown artist/unknown artist/unknown album/unknown year/unknown genre/00 some song vocals.wav"
    assert path_of(template, tags=Tags()) == unknown
    assert path_of(template, tags=Tags(artist=" .. ", album="...", title=".")) == unknown
    assert stem_path("{track} {stem}.{ext}", Path("-"), Tags(), stem="a", ext="wav") == Path("standard input a.wav")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{artits}/{stem}.{ext}", r"no field \{artits\}; did you mean artist\?.*track, stem, ext"),
        ("{stem.__class__}.{ext}", "no field"),
        ("{}{stem}.{ext}", r"no field \{\}"),
        ("{0}{stem}.{ext}", r"no field \{0\}"),
        ("{track}.{ext}", r"put \{stem\} into it"),
        ("{stem}.wav", r"end it with \.\{ext\}"),
        ("{ext}/{stem}", r"end it with \.\{ext\}"),
        ("/{stem}.{ext}", "empty name"),
        ("a//{stem}.{ext}", "empty name"),
        ("", "empty name"),
        ("../{stem}.{ext}", r"'\.\.' is not allowed"),
        ("{artist}/../../{stem}.{ext}", r"'\.\.' is not allowed"),
        ("./{stem}.{ext}", r"'\.' is not allowed"),
        ("C:/{stem}.{ext}", "no file name can have"),
        ("a\\{stem}.{ext}", "no file name can have"),
        ("a\n{stem}.{ext}", "no file name can have"),
        ("{stem", r"\{\{ and \}\}"),
        ("{stem!r}.{ext}", "takes no format"),
        ("{stem:>9}.{ext}", "takes no format"),
        ("x" * 300 + "{stem}.{ext}", "too long"),
    ],
)
def test_templates_that_are_refused(template: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        path_of(template)


def test_every_field_is_known_to_the_check() -> None:
    template = " ".join(f"{{{field}}}" for field in FIELDS)
    check_template(template)
    assert path_of(template) == "Band Band Album Song 07 2001 Jazz some song vocals wav"


def test_names_that_windows_keeps_for_itself() -> None:
    for artist in ("CON", "nul", "Com1.live", "LPT³", "aux .x"):
        assert path_of("{artist}/{stem}.{ext}", tags=Tags(artist=artist)).startswith(f"_{artist}/")
    assert path_of("{stem}.{ext}", stem="prn") == "_prn.wav"
    assert path_of("{artist}/{stem}.{ext}", tags=Tags(artist="Conny")) == "Conny/vocals.wav"
    assert path_of("{artist}. /{stem}.{ext}") == "Band/vocals.wav"


def test_long_names_stay_whole_letters_and_distinct() -> None:
    beginning = "音楽" * 100
    names = [path_of("{artist}/{track}_{stem}.{ext}", f"{beginning}{end}.mp3") for end in "abc"]
    assert len(set(names)) == 3
    for name in names:
        assert name.endswith("_vocals.wav") and len(name.split("/")[1].encode()) <= 240
        assert "\ufffd" not in name
    assert path_of("{artist}/{track}_{stem}.{ext}", "x" * 229 + ".mp3") == f"Band/{'x' * 229}_vocals.wav"


NASTY = st.one_of(
    st.text(max_size=400),
    st.text("./\\:~ \0\n\u202ea", max_size=12),
    st.sampled_from(["..", "/etc/passwd", "C:\\x", "\\\\host\\share", "nul", "~", "a/../../b", "\ud800"]),
)


@given(
    template=st.lists(st.sampled_from([f"{{{field}}}" for field in FIELDS] + ["/", ".", "..", "-", " "]), max_size=9),
    values=st.lists(NASTY, min_size=7, max_size=7),
    number=st.integers(0, 10**6),
)
@settings(max_examples=400, deadline=None)
@example(template=["{artist}", "/"], values=[".."] * 7, number=0)
@example(template=[".", "{title}", "/"], values=["."] * 7, number=0)
def test_no_path_leaves_the_folder(template: list[str], values: list[str], number: int) -> None:
    title, artist, album, genre, date, stem, name = values
    tags = Tags(title=title, artist=artist, album=album, genre=genre, date=date, track=number)
    source = Path("songs", name.replace("/", "").replace("\0", "") or "x")
    text = "".join([*template, "{stem}.{ext}"])
    try:
        path = stem_path(text, source, tags, stem=stem, ext="flac")
    except ConfigError:
        return
    assert not path.is_absolute() and not PureWindowsPath(str(path)).anchor
    assert len(path.parts) == text.count("/") + 1
    for part in path.parts:
        assert part not in ("", ".", "..") and part == part.rstrip(". ")
        assert len(part.encode()) <= 241
        assert not set(part) & set('\\/:*?"<>|')
        assert all(unicodedata.category(letter) not in ("Cc", "Cs") for letter in part)
    assert inside(Path("/out"), path) == Path("/out") / path


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "Band").symlink_to(elsewhere)
    (out / "Other").symlink_to(out)
    with pytest.raises(ConfigError, match="lies outside"):
        inside(out, Path("Band", "vocals.wav"))
    with pytest.raises(ConfigError, match="lies outside"):
        inside(out, Path("..", "vocals.wav"))
    assert inside(out, Path("Other", "vocals.wav")) == out / "Other" / "vocals.wav"


def test_the_docs_name_every_field() -> None:
    page = Path(__file__).parents[2] / "docs" / "formats.md"
    rows = [f"| `{{{field}}}` | {meaning} |" for field, meaning in FIELDS.items()]
    assert "\n".join(rows) in page.read_text(encoding="utf-8")
