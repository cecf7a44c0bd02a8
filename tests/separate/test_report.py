"""What `report.json` says, when it cannot be read, and the lock of the folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auralflow_core.errors import AuralflowError
from auralflow_core.separate.report import (
    DONE,
    FAILED,
    LOCK_NAME,
    Input,
    Output,
    Report,
    SongRecord,
    locked,
    recipe_key,
    sha256_of,
    song_key,
)

HOLD = """
import sys, time
from pathlib import Path
from auralflow_core.separate.report import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def record(path: str = "/songs/one.wav", output: str = "one/vocals.wav") -> SongRecord:
    outputs = (Output("vocals", output, 12, "ab"),)
    return SongRecord(path, DONE, "key", outputs, Input(10, 5, "cd"), 8000, 2, 1.5, 0.5, 3.0, 0.9, 4, ("a note",))


class TestReport:
    def test_comes_back_as_it_was(self, tmp_path: Path) -> None:
        failed = SongRecord("/songs/two.wav", FAILED, "key", error="it is broken", traceback="line 1")
        report = Report(tmp_path, {"key": {"overlap": 0.5}}, {song.path: song for song in (failed, record())}, {"old"})
        report.write()
        assert Report.read(tmp_path) == report
        data = json.loads((tmp_path / "report.json").read_text())
        assert [song["path"] for song in data["songs"]] == ["/songs/one.wav", "/songs/two.wav"]
        assert data["songs"][1] == {
            "path": "/songs/two.wav", "state": "failed", "recipe": "key", "error": "it is broken",
            "traceback": "line 1",
        }  # fmt: skip

    @given(name=st.text(st.characters(exclude_characters="\0/"), min_size=1))
    def test_any_name_comes_back(self, tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
        folder = tmp_path_factory.mktemp("report")
        report = Report(folder, {"key": {}}, {name: record(name, f"{name}/vocals.wav")})
        report.write()
        assert Report.read(folder) == report

    def test_a_name_that_is_not_unicode(self, tmp_path: Path) -> None:
        name = b"/songs/\xff\xe9.wav".decode(errors="surrogateescape")
        report = Report(tmp_path, {"key": {}}, {name: record(name)})
        report.write()
        assert list(Report.read(tmp_path).songs) == [name]

    def test_none_is_empty(self, tmp_path: Path) -> None:
        assert Report.read(tmp_path / "nowhere") == Report(tmp_path / "nowhere")

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"format_version": "x"}', '{"format_version": 1, "songs": [1]}'])
    def test_another_file_of_that_name_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(AuralflowError, match="not a report of `auralflow separate`, or damaged") as caught:
            Report.read(tmp_path)
        assert "\n" not in str(caught.value)
        assert (tmp_path / "report.json").read_text() == text

    def test_a_newer_one_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "report.json").write_text('{"format_version": 99}')
        with pytest.raises(AuralflowError, match="pip install --upgrade auralflow"):
            Report.read(tmp_path)

    def test_settings_that_no_song_has_are_dropped(self, tmp_path: Path) -> None:
        Report(tmp_path, {"key": {}, "other": {}}, {"a": record("a")}).write()
        assert list(Report.read(tmp_path).recipes) == ["key"]

    def test_scratch_of_killed_runs_goes_and_nothing_else(self, tmp_path: Path) -> None:
        report = Report(tmp_path, {}, {"a": record("a")})
        folder = tmp_path / "one"
        folder.mkdir()
        ours = [folder / ".vocals.wav.0123456789ab.part", tmp_path / ".report.json.abcdefabcdef.part"]
        others = [
            folder / ".other.wav.0123456789ab.part",
            folder / ".vocals.wav.part",
            folder / "vocals.wav.0123456789ab.part",
            folder / "vocals.wav",
        ]
        for path in (*ours, *others):
            path.write_text("x")
        report.remove_scratch([tmp_path / "not there" / "bass.wav"])
        assert [path.exists() for path in (*ours, *others)] == [False, False, True, True, True, True]

    def test_a_key_changes_with_any_setting(self) -> None:
        assert recipe_key({"a": {"b": 1}, "c": None}) == recipe_key({"c": None, "a": {"b": 1}})
        assert recipe_key({"a": {"b": 1}}) != recipe_key({"a": {"b": 2}})

    def test_a_song_is_known_by_its_absolute_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert song_key(Path("a.wav")) == song_key(tmp_path / "x" / ".." / "a.wav") == str(tmp_path / "a.wav")
        assert song_key(Path("-")) == "-"

    def test_sha256(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"abc" * 1_000_000)
        known = subprocess.run(["sha256sum", tmp_path / "x"], capture_output=True, text=True, check=True).stdout
        assert sha256_of(tmp_path / "x") == known.split()[0]


class TestLock:
    def test_one_run_at_a_time(self, tmp_path: Path) -> None:
        with locked(tmp_path), pytest.raises(AuralflowError, match="another `auralflow separate`"), locked(tmp_path):
            pytest.fail("two runs hold one folder")
        with locked(tmp_path):
            assert (tmp_path / LOCK_NAME).is_file()
        assert not list(tmp_path.iterdir())

    def test_folders_that_nothing_came_into_go(self, tmp_path: Path) -> None:
        with locked(tmp_path / "a" / "b"):
            assert (tmp_path / "a" / "b").is_dir()
        assert not list(tmp_path.iterdir())
        with locked(tmp_path / "a" / "b"):
            (tmp_path / "a" / "stem.wav").touch()
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["stem.wav"]

    @pytest.mark.slow
    def test_a_killed_process_leaves_none(self, tmp_path: Path) -> None:
        holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
        assert holder.stdout is not None
        with holder:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(AuralflowError, match="another"), locked(tmp_path):
                pytest.fail("two processes hold one folder")
            holder.kill()
        assert (tmp_path / LOCK_NAME).is_file()
        with locked(tmp_path):
            pass
        assert not list(tmp_path.iterdir())
