"""Who is told how a download goes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from auralflow_core.entries import WeightsEntry

_log = logging.getLogger("auralflow.weights")


class Listener(Protocol):
    """Is told how a download goes."""

    def on_start(self, entry: WeightsEntry, files: Sequence[str]) -> None:
        """Before the first of the missing files is fetched; the licence is shown here."""

    def on_progress(self, file: str, done: int, total: int | None) -> None:
        """So many bytes of a file are there; the total is not always known."""

    def on_retry(self, file: str, reason: str, seconds: float) -> None:
        """The transfer broke off and goes on after a pause."""

    def on_wait(self, file: str) -> None:
        """Another process is fetching the same file; it is waited for."""


class LogListener:
    """Tells the log `auralflow.weights`, as warnings: a script that configures no logging sees those, too."""

    def on_start(self, entry: WeightsEntry, files: Sequence[str]) -> None:
        """Name the weights, their licence and the number of files."""
        count = f"{len(files)} file{'s' if len(files) > 1 else ''}"
        _log.warning("downloading the weights %s (%s); licence: %s", entry.name, count, entry.licence)

    def on_progress(self, file: str, done: int, total: int | None) -> None:
        """Say nothing: a log is no place for a bar."""

    def on_retry(self, file: str, reason: str, seconds: float) -> None:
        """Give the reason."""
        _log.warning("%s: %s; trying again in %.0f s", file, reason, seconds)

    def on_wait(self, file: str) -> None:
        """Say who is waited for."""
        _log.warning("%s: waiting for another process that downloads it", file)
