"""One file over HTTP, from a server with the faults of real ones."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auralflow_core.errors import CheckpointError
from auralflow_core.weights.download import Patience, download

CONTENT = random.Random(0).randbytes(700_000)


def fetch(server: Any, part: Path, *, attempts: int = 3, timeout: float = 5) -> list[str]:
    """Download `file` and return the reasons for which it was tried again."""
    reasons: list[str] = []
    patience = Patience(attempts=attempts, wait=0.001, timeout=timeout)
    seen: list[tuple[int, int | None]] = []
    download(
        f"{server.url}/file",
        part,
        patience=patience,
        progress=lambda done, total: seen.append((done, total)),
        retry=lambda reason, _: reasons.append(reason),
    )
    assert seen[-1][0] == part.stat().st_size and seen[-1][1] in (None, seen[-1][0])
    return reasons


@pytest.fixture
def part(tmp_path: Path, server: Any) -> Path:
    server.files["file"] = CONTENT
    return tmp_path / "file.part"


def test_whole(server: Any, part: Path) -> None:
    assert fetch(server, part) == []
    assert part.read_bytes() == CONTENT
    [(_, headers)] = server.requests
    assert "Range" not in headers and headers["User-Agent"].startswith("auralflow/")


def test_empty_file(server: Any, part: Path) -> None:
    server.files["file"] = b""
    assert fetch(server, part) == []
    assert part.read_bytes() == b""


def test_goes_on_where_the_connection_was_cut(server: Any, part: Path) -> None:
    server.faults = [("cut", 300_000), ("cut", 100_000)]
    reasons = fetch(server, part)
    assert part.read_bytes() == CONTENT
    assert reasons == [f"the connection was cut after {n:,} of 700,000 bytes" for n in (300_000, 400_000)]
    assert [headers.get("Range") for _, headers in server.requests] == [None, "bytes=300000-", "bytes=400000-"]
    assert server.requests[1][1]["If-Range"] == '"version-1"'


def test_goes_on_in_a_later_run(server: Any, part: Path) -> None:
    server.faults = [("cut", 300_000)]
    with pytest.raises(CheckpointError, match=r"300,000 bytes that have arrived are kept"):
        fetch(server, part, attempts=1)
    assert part.read_bytes() == CONTENT[:300_000]
    assert fetch(server, part) == []
    assert part.read_bytes() == CONTENT
    assert server.requests[-1][1]["Range"] == "bytes=300000-"


def test_any_number_of_cuts_that_bring_something(server: Any, part: Path) -> None:
    server.faults = [("cut", 70_000)] * 9
    assert len(fetch(server, part, attempts=2)) == 9
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("way", ["changed", "no ranges", "no tag", "weak tag"])
def test_starts_over_where_going_on_is_not_safe(way: str, server: Any, part: Path) -> None:
    server.faults = [("cut", 300_000)]
    server.tag = {"no tag": None, "weak tag": 'W/"1"'}.get(way, '"version-1"')
    with pytest.raises(CheckpointError):
        fetch(server, part, attempts=1)
    if way == "changed":
        server.tag, server.files["file"] = '"version-2"', CONTENT[::-1]
    server.ranges = way != "no ranges"
    fetch(server, part)
    assert part.read_bytes() == server.files["file"]


def test_starts_over_if_the_url_is_another(server: Any, part: Path) -> None:
    server.faults = [("cut", 300_000)]
    with pytest.raises(CheckpointError):
        fetch(server, part, attempts=1)
    server.files["other"] = CONTENT[::-1]
    download(
        f"{server.url}/other", part, patience=Patience(1), progress=lambda *_: None, retry=lambda *_: pytest.fail()
    )
    assert part.read_bytes() == CONTENT[::-1]
    assert "Range" not in server.requests[-1][1]


def test_starts_over_if_the_server_has_less(server: Any, part: Path) -> None:
    server.faults = [("cut", 300_000)]
    with pytest.raises(CheckpointError):
        fetch(server, part, attempts=1)
    server.files["file"] = CONTENT[:1000]
    fetch(server, part)
    assert part.read_bytes() == CONTENT[:1000]


@pytest.mark.parametrize("status", [500, 502, 503, 408, 429])
def test_tries_again_after_a_passing_fault(status: int, server: Any, part: Path) -> None:
    server.faults = [("status", status)] * 2
    assert [f"{status}" in reason for reason in fetch(server, part)] == [True, True]
    assert part.read_bytes() == CONTENT


def test_gives_up_after_all_attempts(server: Any, part: Path) -> None:
    server.faults = [("status", 500)] * 9
    with pytest.raises(CheckpointError, match=r"500 .*given up after 3 attempts.*--from DIR"):
        fetch(server, part)
    assert len(server.requests) == 3 and not part.exists()


@pytest.mark.parametrize("status", [403, 404, 410])
def test_does_not_ask_twice_for_what_is_not_there(status: int, server: Any, part: Path) -> None:
    server.faults = [("status", status)]
    with pytest.raises(CheckpointError, match=rf"/file: the server answered {status} .*--from DIR\|URL"):
        fetch(server, part)
    assert len(server.requests) == 1


def test_silent_server_is_given_up(server: Any, part: Path) -> None:
    server.gate.clear()
    with pytest.raises(CheckpointError, match="timed out"):
        fetch(server, part, attempts=2, timeout=0.1)


def test_nobody_listens(part: Path) -> None:
    with pytest.raises(CheckpointError, match=r"refused.*HTTPS_PROXY"):
        download(
            "http://127.0.0.1:9/file",
            part,
            patience=Patience(2, 0.001),
            progress=lambda *_: None,
            retry=lambda *_: None,
        )


def test_proxy_of_the_environment_is_asked(server: Any, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server.files["http://weights.invalid/file"] = CONTENT
    download("http://weights.invalid/file", part, patience=Patience(1), progress=lambda *_: None, retry=lambda *_: None)
    assert part.read_bytes() == CONTENT


def test_place_that_cannot_be_written(server: Any, part: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot write .*No such file.*AURALFLOW_CACHE"):
        fetch(server, part.parent / "missing" / "file.part")


def test_full_disk_is_said(server: Any, part: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this platform has no full device")
    part.symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match=r"cannot write .*No space left.*AURALFLOW_CACHE"):
        fetch(server, part)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=st.lists(
        st.one_of(
            st.tuples(st.just("cut"), st.integers(0, 5000)),
            st.tuples(st.just("status"), st.sampled_from([500, 503, 429])),
        ),
        max_size=6,
    ),
    ranges=st.booleans(),
    tag=st.sampled_from([None, '"a"', 'W/"a"']),
    size=st.integers(1, 5000),
)
def test_whatever_happens_the_file_is_whole_or_an_error_is_raised(
    faults: list[tuple[str, int]], ranges: bool, tag: str | None, size: int, server: Any, part: Path
) -> None:
    server.files["file"] = content = CONTENT[:size]
    server.faults, server.ranges, server.tag = list(faults), ranges, tag
    part.unlink(missing_ok=True)
    try:
        fetch(server, part)
    except CheckpointError:
        assert len(faults) >= 3
    else:
        assert part.read_bytes() == content
