"""Which song becomes which files, and what that takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auralflow_core.errors import AuralflowError
from auralflow_core.separate import Options, Plan, SongRecord, StemFormat, make_plan, plan_outputs
from auralflow_core.separate.plan import in_bytes
from auralflow_core.separate.report import DONE, Input, Report, song_key

Writer = Callable[..., Path]
SETTINGS = {"overlap": 0.25}


def planned(folder: Path, *songs: Path, options: Options | None = None, **more: Any) -> Plan:
    settings = more.pop("settings", SETTINGS)
    roots = more.pop("roots", ())
    return make_plan(songs, roots, folder, ["vocals", "bass"], options or Options(), settings, **more)


def do(plan: Plan) -> Report:
    """Pretend to do what is planned."""
    report = plan.report
    report.recipes[plan.key] = {"models": ["m"], "settings": dict(plan.settings)}
    for job in plan.todo:
        for path in job.outputs.values():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"stem")
        key = song_key(job.source)
        report.songs[key] = SongRecord(key, DONE, plan.key, job.written(), Input.of(job.source))
    report.write()
    return report


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


class TestTodo:
    def test_what_is_done_is_left_out(self, write_tone: Writer, tmp_path: Path) -> None:
        one, two = write_tone("one.wav"), write_tone("two.wav")
        assert [job.source for job in planned(tmp_path / "out", one).todo] == [one]
        do(planned(tmp_path / "out", one))
        plan = planned(tmp_path / "out", one, two)
        assert [job.source for job in plan.songs] == [one, two] and [job.source for job in plan.todo] == [two]
        assert len(planned(tmp_path / "out", one, two, overwrite=True).todo) == 2

    def test_a_touched_song_is_still_done(self, write_tone: Writer, tmp_path: Path) -> None:
        song = write_tone()
        do(planned(tmp_path / "out", song))
        song.touch()
        assert not planned(tmp_path / "out", song).todo

    @pytest.mark.parametrize("change", ["song", "length", "stem gone", "stem cut", "settings", "stems", "format"])
    def test_what_changed_is_done_anew(self, write_tone: Writer, tmp_path: Path, change: str) -> None:
        song, out = write_tone(), tmp_path / "out"
        do(planned(out, song))
        more: dict[str, Any] = {}
        if change == "song":
            song.write_bytes(song.read_bytes()[:-1] + b"x")
            song.touch()
        elif change == "length":
            write_tone(frames=4000)
        elif change == "stem gone":
            (out / "song" / "bass.wav").unlink()
        elif change == "stem cut":
            (out / "song" / "bass.wav").write_bytes(b"ste")
        elif change == "settings":
            more["settings"] = {"overlap": 0.5}
        elif change == "stems":
            more["options"] = Options(stems=("vocals",))
        else:
            more["options"] = Options(format=StemFormat("flac"))
        assert len(planned(out, song, **more).todo) == 1

    def test_changed_settings_are_told(self, write_tone: Writer, tmp_path: Path) -> None:
        songs = [write_tone("one.wav"), write_tone("two.wav")]
        do(planned(tmp_path / "out", *songs))
        assert planned(tmp_path / "out", *songs).changes() == {}
        changed = planned(tmp_path / "out", *songs, settings={"overlap": 0.5, "shifts": {"count": 1}})
        assert changed.changes() == {"overlap: 0.25 -> 0.5, shifts.count: None -> 1": songs}


class TestPlaces:
    def test_a_song_keeps_its_place(self, write_tone: Writer, tmp_path: Path) -> None:
        song, out = write_tone("album/song.wav"), tmp_path / "out"
        do(planned(out, song))
        # Found from further up, it would be put deeper down.
        assert planned(out, song, roots=[tmp_path / "in"]).todo == ()

    def test_songs_of_other_runs_keep_theirs(self, write_tone: Writer, tmp_path: Path) -> None:
        first, second = write_tone("x/song.wav"), write_tone("y/song.wav", frames=6000)
        do(planned(tmp_path / "out", first))
        [job] = planned(tmp_path / "out", second).todo
        assert job.outputs["bass"] == tmp_path / "out" / "song (2)" / "bass.wav"
        do(planned(tmp_path / "out", second))
        assert not planned(tmp_path / "out", second, first).todo

    def test_files_of_someone_else_are_not_replaced(self, write_tone: Writer, tmp_path: Path) -> None:
        song = write_tone()
        strange = tmp_path / "out" / "song" / "bass.wav"
        strange.parent.mkdir(parents=True)
        strange.write_text("my own")
        with pytest.raises(AuralflowError, match=r"bass\.wav: is there already.*--overwrite"):
            planned(tmp_path / "out", song)
        assert len(planned(tmp_path / "out", song, overwrite=True).todo) == 1

    def test_stems_of_earlier_settings_may_be_replaced(self, write_tone: Writer, tmp_path: Path) -> None:
        song, out = write_tone(), tmp_path / "out"
        do(planned(out, song))
        flac = Options(format=StemFormat("flac"))
        plan = planned(out, song, options=flac)
        plan.report.begin(job.waiting() for job in plan.todo)
        plan.report.write()
        do(planned(out, song, options=flac))
        assert len(planned(out, song).todo) == 1

    def test_a_song_is_never_replaced(self, write_tone: Writer, tmp_path: Path) -> None:
        song = write_tone("vocals/vocals.wav")
        with pytest.raises(AuralflowError, match="a stem would replace it"):
            planned(tmp_path / "in", song, overwrite=True)


class TestRoom:
    @pytest.mark.parametrize(
        ("stored", "stem", "scratch"),
        [
            (StemFormat(), 4000 * 2 * 2, 4000 * 2 * 4),
            (StemFormat(clip="clamp"), 4000 * 2 * 2, 0),
            (StemFormat(bit_depth="24", clip="clamp"), 4000 * 2 * 3, 0),
            (StemFormat(bit_depth="32f"), 4000 * 2 * 4, 0),
            (StemFormat("flac", clip="clamp"), 12000, 0),
            (StemFormat("mp3", bitrate=64, clip="clamp"), 4000, 0),
        ],
    )
    def test_what_stems_take(
        self, write_tone: Writer, tmp_path: Path, stored: StemFormat, stem: int, scratch: int
    ) -> None:
        songs = [write_tone(f"{number}.wav", frames=4000) for number in range(3)]
        plan = planned(tmp_path, *songs, options=Options(format=stored))
        assert plan.bytes_needed(2) == 3 * 2 * stem + 2 * 2 * scratch
        assert plan.seconds == 1.5

    def test_only_the_part_counts(self, write_tone: Writer, tmp_path: Path) -> None:
        plan = planned(tmp_path, write_tone(frames=4000), options=Options(start=0.1, duration=0.3))
        assert plan.seconds == pytest.approx(0.3)
        assert planned(tmp_path, write_tone(), options=Options(start=9)).seconds == 0

    def test_what_cannot_fit_is_refused(
        self, write_tone: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plan = planned(tmp_path / "out", write_tone())
        plan.check_room(1)
        monkeypatch.setattr(Plan, "bytes_free", 1000)
        with pytest.raises(AuralflowError, match=r"need about 120 kB, and only 1\.0 kB are free"):
            plan.check_room(1)

    def test_a_broken_song_is_planned_too(self, tmp_path: Path) -> None:
        song = tmp_path / "song.mp3"
        song.write_text("no audio")
        plan = planned(tmp_path / "out", song)
        assert len(plan.todo) == 1 and plan.bytes_needed() == plan.seconds == 0
        assert "cannot read" in str(plan.todo[0].fault)

    def test_what_a_format_cannot_hold_is_planned_to_fail(self, write_tone: Writer, tmp_path: Path) -> None:
        songs = [write_tone("6.wav", channels=6), write_tone("2.wav", frames=4000)]
        plan = planned(tmp_path / "out", *songs, options=Options(format=StemFormat("mp3")))
        assert "MP3 cannot hold 6 channels" in str(plan.todo[0].fault) and plan.todo[1].fault is None
        assert plan.seconds == 0.5

    @pytest.mark.parametrize(
        ("count", "text"), [(999, "999 bytes"), (1000, "1.0 kB"), (123_456, "123 kB"), (2_340_000_000, "2.3 GB")]
    )
    def test_numbers_of_bytes(self, count: int, text: str) -> None:
        assert in_bytes(count) == text
