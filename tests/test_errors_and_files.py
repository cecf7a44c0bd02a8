"""Near names; files and folders that are whole or not there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auralflow_core import errors
from auralflow_core.errors import AuralflowError, did_you_mean
from auralflow_core.files import atomic_file, atomic_folder, explain_os_errors, write_text


def names_in(folder: Path | str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def failing(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


class TestNearNames:
    @pytest.mark.parametrize(
        ("word", "expected"),
        [
            ("hiden_channels", "; did you mean hidden_channels?"),
            ("HIDDEN_CHANNELS", "; did you mean hidden_channels?"),
            ("batchsize", "; did you mean batch_size?"),
            ("xyz", ""),
            ("", ""),
        ],
    )
    def test_nearest(self, word: str, expected: str) -> None:
        assert did_you_mean(word, ["hidden_channels", "batch_size", "lr"]) == expected

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4, unique_by=str.casefold), st.data())
    def test_a_known_word_is_nearest_to_itself(self, known: list[str], data: st.DataObject) -> None:
        word = data.draw(st.sampled_from(known))
        assert did_you_mean(word, known).startswith(f"; did you mean {word}")

    def test_every_error_of_a_user_has_one_base(self) -> None:
        kinds = [kind for kind in vars(errors).values() if getattr(kind, "__module__", "") == errors.__name__]
        kinds.remove(did_you_mean)
        assert len(kinds) > 5
        assert all(issubclass(kind, AuralflowError) and kind.__doc__ for kind in kinds)


class TestAtomicFile:
    def test_appears_when_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "file.txt"
        with atomic_file(path) as scratch:
            scratch.write_text("new")
            assert not path.exists()
        assert path.read_text() == "new"
        assert names_in(path.parent) == ["file.txt"]

    def test_error_in_the_body_leaves_what_was_there(self, tmp_path: Path) -> None:
        path = tmp_path / "file.txt"
        path.write_text("old")
        with pytest.raises(KeyError), atomic_file(path) as scratch:
            scratch.write_text("new")
            raise KeyError
        assert path.read_text() == "old" and names_in(tmp_path) == ["file.txt"]

    @pytest.mark.parametrize("call", ["fsync", "replace"])
    @pytest.mark.parametrize(
        ("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "quota"), (errno.EIO, "error")]
    )
    def test_failing_disk_leaves_what_was_there(
        self, call: str, number: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "file.txt"
        path.write_text("old")
        monkeypatch.setattr(os, call, failing(number))
        with pytest.raises(AuralflowError, match=words) as caught:
            write_text(path, "new")
        assert str(path) in str(caught.value)
        assert path.read_text() == "old" and names_in(tmp_path) == ["file.txt"]

    def test_part_of_the_path_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(AuralflowError, match="file"):
            write_text(tmp_path / "file" / "inner.txt", "new")

    def test_name_too_long(self, tmp_path: Path) -> None:
        with pytest.raises(AuralflowError, match="too long"):
            write_text(tmp_path / ("x" * 300), "new")
        assert not names_in(tmp_path)

    def test_long_name_with_wide_letters(self, tmp_path: Path) -> None:
        path = tmp_path / ("ü" * 120 + ".json")
        write_text(path, "new")
        assert path.read_text() == "new"

    def test_text_is_utf8(self, tmp_path: Path) -> None:
        write_text(tmp_path / "a", "grün")
        assert (tmp_path / "a").read_bytes() == "grün".encode()


class TestAtomicFolder:
    def test_appears_when_whole_and_replaces(self, tmp_path: Path) -> None:
        path = tmp_path / "step"
        for text in ("old", "new"):
            with atomic_folder(path) as scratch:
                (scratch / f"{text}.txt").write_text(text)
        assert names_in(path) == ["new.txt"] and names_in(tmp_path) == ["step"]

    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_failing_disk_leaves_what_was_there(
        self, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "step"
        path.mkdir()
        (path / "old.txt").write_text("old")
        monkeypatch.setattr(os, call, failing(errno.ENOSPC))
        with pytest.raises(AuralflowError, match="disk is full"), atomic_folder(path) as scratch:
            (scratch / "new.txt").write_text("new")
        assert names_in(path) == ["old.txt"] and names_in(tmp_path) == ["step"]

    def test_second_rename_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "step"
        path.mkdir()
        (path / "old.txt").write_text("old")
        rename, calls = os.replace, []

        def replace(source: Path, target: Path) -> None:
            calls.append(source)
            if len(calls) == 2:
                raise OSError(errno.EIO, "input/output error")
            rename(source, target)

        monkeypatch.setattr(os, "replace", replace)
        with pytest.raises(AuralflowError), atomic_folder(path) as scratch:
            (scratch / "new.txt").write_text("new")
        assert names_in(path) == ["old.txt"] and names_in(tmp_path) == ["step"]


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), explain_os_errors(tmp_path):
        raise ZeroDivisionError
