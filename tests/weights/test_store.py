"""The store: what is in it is whole and the registered file, whatever happens on the way."""

from __future__ import annotations

import hashlib
import io
import json
import random
import select
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auralflow_core.errors import CheckpointError
from auralflow_core.weights import LogListener, WeightsStore, cache_folder

CONTENT = random.Random(1).randbytes(50_000)
OTHER = random.Random(2).randbytes(50_000)


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files_in(store: WeightsStore) -> set[str]:
    return {path.name for path in store.folder.rglob("*") if path.is_file()} if store.folder.exists() else set()


@pytest.mark.parametrize("digits", [8, 64])
def test_first_fetch_downloads_and_later_ones_do_not(
    digits: int, server: Any, make_entry: Any, make_store: Any, heard: Any
) -> None:
    entry, store = make_entry(a__th=CONTENT, b__th=OTHER, digits=digits), make_store()
    assert store.missing(entry) == ["a.th", "b.th"] and store.size(entry) is None
    paths = store.fetch(entry)
    assert [path.read_bytes() for path in paths.values()] == [CONTENT, OTHER]
    assert list(paths) == ["a.th", "b.th"] and paths["a.th"].name == "a.th"
    assert store.missing(entry) == [] and store.size(entry) == 100_000
    assert heard.started == [("tone-v1", ["a.th", "b.th"])]
    assert ("b.th", 50_000, 50_000) in heard.progress
    assert store.digests(entry) == {"a.th": digest_of(CONTENT), "b.th": digest_of(OTHER)}
    assert make_store().fetch(entry) == paths
    assert len(server.requests) == 2 and len(heard.started) == 1
    assert not {name for name in files_in(store) if name.endswith((".part", ".json"))}


def test_a_file_that_two_weights_share_is_downloaded_once(server: Any, make_entry: Any, make_store: Any) -> None:
    store = make_store()
    store.fetch(make_entry(a__th=CONTENT))
    store.fetch(make_entry("other", a__th=CONTENT, b__th=OTHER))
    assert [name for name, _ in server.requests] == ["a.th", "b.th"]


def test_files_of_one_name_do_not_meet(make_entry: Any, make_store: Any) -> None:
    store = make_store()
    paths = store.fetch(make_entry(a__th=CONTENT))
    assert store.fetch(make_entry("other", a__th=OTHER))["a.th"].read_bytes() == OTHER
    assert paths["a.th"].read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("served", "words"),
    [
        (OTHER, "try again"),
        (CONTENT[:-1], "try again"),
        (CONTENT + b"x", "try again"),
        (b"", "try again"),
        (b"\n<!DOCTYPE html><html>Please log in</html>", "web page"),
    ],
)
def test_a_wrong_file_is_refused_and_nothing_of_it_kept(
    served: bytes, words: str, server: Any, make_entry: Any, make_store: Any
) -> None:
    entry, store = make_entry(a__th=CONTENT), make_store()
    server.files["a.th"] = served
    with pytest.raises(CheckpointError, match=rf"a\.th: is not the registered file .*{words}.*nothing of it was kept"):
        store.fetch(entry)
    assert files_in(store) <= {"a.th.lock"} and store.missing(entry) == ["a.th"]
    server.files["a.th"] = CONTENT
    assert store.fetch(entry)["a.th"].read_bytes() == CONTENT


def test_the_good_copy_outlives_a_wrong_download(server: Any, make_entry: Any, make_store: Any) -> None:
    entry, store = make_entry(a__th=CONTENT), make_store()
    [path] = store.fetch(entry).values()
    server.files["a.th"] = OTHER
    with pytest.raises(CheckpointError, match="not the registered file"):
        store.fetch(entry, force=True)
    assert path.read_bytes() == CONTENT and store.fetch(entry) == {"a.th": path}
    server.faults = [("cut", 10_000)] + [("status", 500)] * 9
    with pytest.raises(CheckpointError, match="cannot be downloaded"):
        store.fetch(entry, force=True)
    assert store.fetch(entry)["a.th"].read_bytes() == CONTENT


def test_the_full_digest_is_pinned_on_first_sight(server: Any, make_entry: Any, make_store: Any) -> None:
    """Two files whose digests begin alike: the one that came first stays the right one."""
    first, second = same_beginning()
    entry = make_entry(a=first)
    # Four digits are too few to be registered, but eight would take a day to find twice.
    object.__setattr__(entry, "sha256", {"a": digest_of(first)[:4]})
    store = make_store()
    server.files["a"] = first
    [path] = store.fetch(entry).values()
    pin = path.with_name("a.sha256")
    assert pin.read_text() == f"{digest_of(first)}  a\n"
    server.files["a"] = second
    with pytest.raises(CheckpointError, match=digest_of(first)):
        store.fetch(entry, force=True)
    path.write_bytes(second)
    with pytest.raises(CheckpointError, match="is damaged or not the registered file"):
        store.fetch(entry)
    path.unlink()
    with pytest.raises(CheckpointError, match=digest_of(first)):
        store.fetch(entry)


def same_beginning() -> tuple[bytes, bytes]:
    """Return two contents whose digests agree in four digits, which takes a moment to find."""
    wanted = digest_of(b"0")[:4]
    return b"0", next(str(n).encode() for n in range(1, 10**7) if digest_of(str(n).encode()).startswith(wanted))


def test_a_damaged_copy_is_refused_and_can_be_replaced(make_entry: Any, make_store: Any) -> None:
    entry, store = make_entry(a__th=CONTENT), make_store()
    [path] = store.fetch(entry).values()
    for damaged in (CONTENT[:-1], CONTENT[:100] + b"!" + CONTENT[101:], b""):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"damaged.*auralflow download tone-v1 --force"):
            store.fetch(entry)
    store.fetch(entry, force=True)
    assert path.read_bytes() == CONTENT


def test_a_copy_put_there_by_hand_is_checked_and_pinned(server: Any, make_entry: Any, make_store: Any) -> None:
    entry, store = make_entry(a__th=CONTENT), make_store()
    path = store.path(entry, "a.th")
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    store.fetch(entry)
    assert server.requests == [] and path.with_name("a.th.sha256").is_file()


def test_damaged_pin_counts_for_nothing(make_entry: Any, make_store: Any) -> None:
    entry, store = make_entry(a__th=CONTENT), make_store()
    [path] = store.fetch(entry).values()
    for text in ("", "x", "0" * 64 + "  a.th\n", "\udcff"):
        path.with_name("a.th.sha256").write_text(text, errors="surrogateescape")
        assert store.fetch(entry) == {"a.th": path}


def test_a_bad_beginning_is_replaced_by_a_whole_download(server: Any, make_entry: Any, make_store: Any) -> None:
    entry, store = make_entry(a__th=CONTENT), make_store()
    server.faults = [("cut", 20_000), ("status", 404)]
    with pytest.raises(CheckpointError):
        store.fetch(entry)
    part = store.path(entry, "a.th").with_name("a.th.part")
    part.write_bytes(b"x" * 20_000)
    assert store.fetch(entry)["a.th"].read_bytes() == CONTENT
    assert [headers.get("Range") for _, headers in server.requests][-2:] == ["bytes=20000-", None]


def test_a_whole_part_needs_no_further_request(server: Any, make_entry: Any, make_store: Any) -> None:
    entry, store = make_entry(a__th=CONTENT), make_store()
    part = store.path(entry, "a.th").with_name("a.th.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT)
    assert store.fetch(entry)["a.th"].read_bytes() == CONTENT and server.requests == []


class TestMirrors:
    def test_folder_of_files(self, server: Any, make_entry: Any, make_store: Any, tmp_path: Path) -> None:
        (tmp_path / "usb").mkdir()
        (tmp_path / "usb" / "a.th").write_bytes(CONTENT)
        entry = make_entry(a__th=CONTENT)
        assert make_store(mirror=str(tmp_path / "usb")).fetch(entry)["a.th"].read_bytes() == CONTENT
        assert server.requests == []

    def test_another_machines_store(self, server: Any, make_entry: Any, make_store: Any, tmp_path: Path) -> None:
        entry, store = make_entry(a__th=CONTENT), make_store()
        store.fetch(entry)
        usb = shutil.copytree(store.folder, tmp_path / "usb")
        shutil.rmtree(store.folder)
        assert make_store(mirror=str(usb)).fetch(entry)["a.th"].read_bytes() == CONTENT
        assert len(server.requests) == 1

    def test_url(self, server: Any, make_entry: Any, make_store: Any) -> None:
        entry = make_entry(a__th=CONTENT)
        server.files = {"mirror/a.th": CONTENT}
        make_store(mirror=f"{server.url}/mirror/").fetch(entry)
        assert [name for name, _ in server.requests] == ["mirror/a.th"]

    def test_environment(
        self, server: Any, make_entry: Any, make_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "a.th").write_bytes(CONTENT)
        monkeypatch.setenv("AURALFLOW_WEIGHTS_MIRROR", str(tmp_path))
        make_store().fetch(make_entry(a__th=CONTENT))
        assert server.requests == []

    def test_wrong_file_in_a_folder(self, make_entry: Any, make_store: Any, tmp_path: Path) -> None:
        (tmp_path / "a.th").write_bytes(OTHER)
        store = make_store(mirror=str(tmp_path))
        with pytest.raises(CheckpointError, match="not the registered file"):
            store.fetch(make_entry(a__th=CONTENT))
        assert files_in(store) <= {"a.th.lock"}

    def test_folder_without_the_file(self, server: Any, make_entry: Any, make_store: Any, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=rf"holds no a\.th.*{server.url}/a\.th"):
            make_store(mirror=str(tmp_path / "none")).fetch(make_entry(a__th=CONTENT))


FETCH = """
import sys, json
from pathlib import Path
from auralflow_core.entries import WeightsEntry
from auralflow_core.weights import WeightsStore
entry = WeightsEntry("w", "", **json.loads(sys.argv[2]))
[path] = WeightsStore(Path(sys.argv[1])).fetch(entry).values()
print(path)
"""


def test_two_processes_download_a_file_once(server: Any, make_store: Any, make_entry: Any) -> None:
    entry, store = make_entry(a__th=CONTENT), make_store()
    facts = {name: getattr(entry, name) for name in ("type", "files", "sha256", "licence", "convert")}
    command = [sys.executable, "-c", FETCH, str(store.folder), json.dumps(facts)]
    server.gate.clear()
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    # One is being served; the other says that it waits for it.
    while not any("waiting" in line for line in said(running)):
        pass
    server.gate.set()
    assert [process.wait() for process in running] == [0, 0]
    assert len(server.requests) == 1 and store.path(entry, "a.th").read_bytes() == CONTENT
    for process in running:
        for stream in (process.stdout, process.stderr):
            assert stream
            stream.close()


def said(processes: list[subprocess.Popen[str]]) -> list[str]:
    """Wait until a process writes to standard error; return a line of each that did."""
    ready = select.select([process.stderr for process in processes], [], [])[0]
    return [stream.readline() for stream in ready]


def test_store_that_may_only_be_read(make_entry: Any, make_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that an administrator has filled serves everyone."""
    entry, store = make_entry(a__th=CONTENT), make_store()
    [path] = store.fetch(entry).values()
    path.with_name("a.th.sha256").unlink()

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    # The tests may run as root, for whom nothing is read-only.
    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert store.fetch(entry) == {"a.th": path}


def test_store_that_cannot_be_made(make_entry: Any, heard: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = WeightsStore(tmp_path / "file" / "store", listener=heard)
    with pytest.raises(CheckpointError, match=r"cannot write .*AURALFLOW_CACHE"):
        store.fetch(make_entry(a__th=CONTENT))


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    assert WeightsStore().folder == tmp_path / "cache" / "weights"
    monkeypatch.delenv("AURALFLOW_CACHE")
    monkeypatch.setenv("HOME", "/home/u")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for platform, folder in {
        "linux": "/home/u/.cache/auralflow",
        "darwin": "/home/u/Library/Caches/auralflow",
        "win32": "/local/auralflow",
    }.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert cache_folder() == Path(folder)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/auralflow")


def test_without_a_listener_the_log_says_the_licence(make_entry: Any, tmp_path: Path, caplog: Any) -> None:
    WeightsStore(tmp_path / "s").fetch(make_entry(a__th=CONTENT))
    assert caplog.messages == ["downloading the weights tone-v1 (1 file); licence: CC BY 4.0"]
    LogListener().on_retry("a.th", "cut", 2.0)
    LogListener().on_wait("a.th")
    assert caplog.messages[1:] == [
        "a.th: cut; trying again in 2 s",
        "a.th: waiting for another process that downloads it",
    ]


def archive_of(members: dict[str, bytes | tuple[bytes, str]], mode: str = "w:gz") -> bytes:
    """Return a tar archive; a member given as a pair is of that type and links to that name."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                member.type, member.linkname = content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


class TestArchives:
    def fetch(self, content: bytes, make_entry: Any, store: WeightsStore, name: str = "stems__tar__gz") -> Path:
        [folder] = store.fetch(make_entry(**{name: content})).values()
        return folder

    @pytest.mark.parametrize(
        ("name", "mode"), [("stems__tar__gz", "w:gz"), ("stems__tgz", "w:gz"), ("stems__tar", "w:")]
    )
    def test_unpacked_once(self, name: str, mode: str, make_entry: Any, make_store: Any) -> None:
        content, store = archive_of({"./model.index": b"1", "sub/checkpoint": b"2"}, mode), make_store()
        folder = self.fetch(content, make_entry, store, name)
        assert folder.name == "stems" and (folder / "sub" / "checkpoint").read_bytes() == b"2"
        place = (folder / "model.index").stat().st_ino
        assert self.fetch(content, make_entry, store, name) == folder
        assert (folder / "model.index").stat().st_ino == place

    @pytest.mark.parametrize("fault", ["altered", "longer", "shorter", "missing", "more", "gone"])
    def test_what_was_unpacked_is_checked_at_each_use(self, fault: str, make_entry: Any, make_store: Any) -> None:
        content, store = archive_of({"./model.index": b"123", "sub/data": b"2"}), make_store()
        folder = self.fetch(content, make_entry, store)
        spoil: dict[str, Callable[[], object]] = {
            "altered": lambda: (folder / "model.index").write_bytes(b"124"),
            "longer": lambda: (folder / "model.index").write_bytes(b"1234"),
            "shorter": lambda: (folder / "model.index").write_bytes(b"12"),
            "missing": (folder / "sub" / "data").unlink,
            "more": lambda: (folder / "a.index").write_bytes(b"123"),
            "gone": lambda: shutil.rmtree(folder),
        }
        spoil[fault]()
        assert self.fetch(content, make_entry, store) == folder
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert files == {"model.index": b"123", "sub/data": b"2"}

    def test_force_unpacks_anew(self, make_entry: Any, make_store: Any) -> None:
        store, entry = make_store(), make_entry(stems__tar__gz=archive_of({"a": b"1"}))
        folder = store.fetch(entry)["stems.tar.gz"]
        (folder / "a").write_bytes(b"spoilt")
        assert (store.fetch(entry, force=True)["stems.tar.gz"] / "a").read_bytes() == b"1"

    @pytest.mark.parametrize(
        "members",
        [
            {"../outside": b"x"},
            {"sub/../../outside": b"x"},
            {"good": b"1", "../outside": b"x"},
            {"link": (tarfile.SYMTYPE, "/etc/passwd")},
            {"link": (tarfile.SYMTYPE, ".."), "link/outside": b"x"},
            {"link": (tarfile.LNKTYPE, "../../outside")},
            {"device": (tarfile.CHRTYPE, "")},
            {"pipe": (tarfile.FIFOTYPE, "")},
        ],
        ids=lambda members: " ".join(members),
    )
    def test_nothing_leads_out_of_the_folder(
        self, members: dict[str, Any], make_entry: Any, make_store: Any, tmp_path: Path
    ) -> None:
        store = make_store()
        with pytest.raises(CheckpointError):
            self.fetch(archive_of(members), make_entry, store)
        assert not list(tmp_path.rglob("outside")) and not list(store.folder.rglob("good"))
        assert not list(store.folder.rglob("stems"))

    def test_absolute_names_stay_inside(self, make_entry: Any, make_store: Any, tmp_path: Path) -> None:
        name = f"{tmp_path}/outside"
        folder = self.fetch(archive_of({name: b"x"}), make_entry, make_store())
        assert not Path(name).exists() and (folder / name.lstrip("/")).exists()

    def test_bomb(self, make_entry: Any, make_store: Any) -> None:
        store = make_store()
        with pytest.raises(CheckpointError, match="far more than its own size"):
            self.fetch(archive_of({"zeros": bytes(8 << 20)}), make_entry, store)
        assert not list(store.folder.rglob("zeros"))

    def test_bomb_in_a_header(self, make_entry: Any, make_store: Any) -> None:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
            member = tarfile.TarInfo("a")
            member.pax_headers = {"comment": "x" * (8 << 20)}
            tar.addfile(member)
        with pytest.raises(CheckpointError, match="far more than its own size"):
            self.fetch(stream.getvalue(), make_entry, make_store())

    @pytest.mark.parametrize("places", ["0,1", ""])
    def test_sparse_bomb(self, places: str, make_entry: Any, make_store: Any) -> None:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
            member = tarfile.TarInfo("a")
            member.pax_headers = {"GNU.sparse.size": str(1 << 40), "GNU.sparse.map": places}
            tar.addfile(member)
        with pytest.raises(CheckpointError, match=r"far more than its own size|cannot be unpacked"):
            self.fetch(stream.getvalue(), make_entry, make_store())

    @pytest.mark.parametrize("spoil", [lambda c: c[: len(c) // 2], lambda c: b"no archive", lambda c: b""])
    def test_damage(self, spoil: Any, make_entry: Any, make_store: Any) -> None:
        content = archive_of({"a": random.Random(3).randbytes(5000)})
        with pytest.raises(CheckpointError, match="cannot be unpacked"):
            self.fetch(spoil(content), make_entry, make_store())
