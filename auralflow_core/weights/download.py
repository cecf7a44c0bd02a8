"""One file over HTTP: goes on where it broke off, tries again, and says what went wrong.

Proxies are those of the environment (`HTTPS_PROXY`, `NO_PROXY`) or of the system, as urllib finds them.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, build_opener

from auralflow_core.errors import CheckpointError
from auralflow_core.registry import core_version

_BLOCK = 1 << 18
_PASSING = {408, 425, 429}

Progress = Callable[[int, int | None], None]
Retry = Callable[[str, float], None]


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, and how often it is asked.

    Args:
        attempts: Attempts in a row that bring nothing new.
        wait: Seconds before the second attempt; doubled for each further one.
        timeout: Seconds without a byte after which a connection counts as broken.
    """

    attempts: int = 6
    wait: float = 1.0
    timeout: float = 30.0


class _BrokenError(Exception):
    """The transfer failed in a way that may pass."""


def download(url: str, part: Path, *, patience: Patience, progress: Progress, retry: Retry) -> None:
    """Bring what lies at a URL into the file `part`, going on from what is there of it.

    Args:
        url: Where it lies.
        part: The file; what has arrived stays there when it fails, so that the next call goes on.
        patience: How long and how often to try.
        progress: Called with the bytes that are there and their total, if known.
        retry: Called with the reason and the seconds before the next attempt.

    Raises:
        CheckpointError: The server refuses, or cannot be reached after all attempts; or the disk is full.
    """
    failures = 0
    while True:
        before = size_of(part)
        try:
            _transfer(url, part, patience.timeout, progress)
            return
        except _BrokenError as error:
            failures = 1 if size_of(part) > before else failures + 1
            if failures >= patience.attempts:
                raise CheckpointError(_gave_up(url, part, error, failures)) from error
            seconds = patience.wait * 2 ** (failures - 1)
            retry(str(error), seconds)
            time.sleep(seconds)
        except OSError as error:
            # Faults of the network are `_BrokenError`; what is left is the disk.
            raise cannot_write(part, error) from error


def cannot_write(path: Path, error: OSError) -> CheckpointError:
    """Return the error for a file of the cache that cannot be written."""
    return CheckpointError(
        f"cannot write {path}: {error.strerror or error}; make room, or let the environment variable AURALFLOW_CACHE "
        "name a folder that can be written"
    )


def size_of(path: Path) -> int:
    """Return the size of a file in bytes, 0 if there is none."""
    return path.stat().st_size if path.is_file() else 0


def discard(part: Path) -> None:
    """Remove a file that was begun, and what is known about its source."""
    for path in (part, _notes(part)):
        path.unlink(missing_ok=True)


def _transfer(url: str, part: Path, timeout: float, progress: Progress) -> None:
    have = size_of(part)
    validator = _read_validator(part, url) if have else None
    headers = {"User-Agent": f"auralflow/{core_version()}", "Accept-Encoding": "identity"}
    if validator:
        # A server whose file has changed answers with all of it.
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    with _opened(Request(url, headers=headers), timeout, part) as response:
        done, total = _place(response, have if validator else 0, part)
        _write_validator(part, url, response)
        progress(done, total)
        with part.open("ab" if done else "wb") as file:
            while block := _read(response):
                file.write(block)
                done += len(block)
                progress(done, total)
    if total is not None and done < total:
        raise _BrokenError(f"the connection was cut after {done:,} of {total:,} bytes")


def _place(response: HTTPResponse, have: int, part: Path) -> tuple[int, int | None]:
    """Return where the response begins in the file, and the file's total size if the server tells it."""
    if response.status != 206:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    span, _, total = rest.partition("/")
    if unit != "bytes" or span.split("-")[0] != str(have):
        discard(part)
        raise _BrokenError("the server sent another part of the file than it was asked for")
    return have, int(total) if total.isdecimal() else None


@contextmanager
def _opened(request: Request, timeout: float, part: Path) -> Iterator[HTTPResponse]:
    try:
        # An opener of its own: the shared one keeps the proxies that it found first.
        response = build_opener().open(request, timeout=timeout)
    except HTTPError as error:
        error.close()
        raise _refusal(request.full_url, error, part) from error
    except (URLError, OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise CheckpointError(
                f"{request.full_url}: the server's certificate is not trusted ({reason.verify_message}); check the "
                "clock, or let SSL_CERT_FILE name your proxy's certificate"
            ) from error
        raise _BrokenError(str(reason) or type(reason).__name__) from error
    with response:
        yield response


def _refusal(url: str, error: HTTPError, part: Path) -> Exception:
    if error.code >= 500 or error.code in _PASSING:
        return _BrokenError(f"the server answered {error.code} {error.reason}")
    if error.code == 416:
        discard(part)
        return _BrokenError("the server has less of the file than was already here")
    return CheckpointError(
        f"{url}: the server answered {error.code} {error.reason}; the file may have moved: update the plugin, or take "
        "it from another place with `auralflow download NAME --from DIR|URL`"
    )


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read(_BLOCK)
    except (OSError, HTTPException) as error:
        raise _BrokenError(str(error) or type(error).__name__) from error


def _notes(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_validator(part: Path, url: str) -> str | None:
    """Return what identifies the version of the file at the URL that `part` is the beginning of."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        notes: dict[str, Any] = json.loads(_notes(part).read_text(encoding="utf-8"))
        if notes["url"] == url and isinstance(notes["validator"], str):
            return str(notes["validator"])
    return None


def _write_validator(part: Path, url: str, response: HTTPResponse) -> None:
    tag = response.headers.get("ETag", "")
    # A weak tag promises the same meaning, not the same bytes (RFC 9110, 13.1.5).
    validator = tag if tag.startswith('"') else response.headers.get("Last-Modified")
    _notes(part).write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")


def _gave_up(url: str, part: Path, error: Exception, attempts: int) -> str:
    here = f"; the {size_of(part):,} bytes that have arrived are kept, so try again later" if size_of(part) else ""
    return (
        f"{url}: cannot be downloaded ({error}; given up after {attempts} attempt{'s' if attempts > 1 else ''}){here}; "
        "check the connection (a proxy is named by HTTPS_PROXY), or bring the files from another machine and name "
        "their folder with `auralflow download NAME --from DIR`"
    )
