"""Downloads on the terminal: the licence, a bar a file, and why it takes longer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from auralflow_core.cli.output import progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from auralflow_core.entries import WeightsEntry
    from auralflow_core.weights import WeightsStore


class TerminalListener:
    """Shows the licence and how far a download is; where there is no terminal, a line a file.

    Args:
        bar: Where the bars are drawn.
        quiet: Whether to say nothing but the licence.
        ask: Whether to ask before anything is downloaded.
    """

    def __init__(self, bar: Progress, *, quiet: bool, ask: bool) -> None:
        self._bar = bar
        self._quiet = quiet
        self._ask = ask
        self._tasks: dict[str, TaskID] = {}

    def on_start(self, entry: WeightsEntry, files: Sequence[str]) -> None:
        """Show the licence, and ask if asked to."""
        self._say(f"{entry.name}: {entry.summary}; {count_files(files)} to download. Licence: {entry.licence}")
        if self._ask:
            self._bar.stop()
            click.confirm("Download?", default=True, abort=True, err=True)
            self._bar.start()

    def on_progress(self, file: str, done: int, total: int | None) -> None:
        """Move the file's bar."""
        if file not in self._tasks:
            self._tasks[file] = self._bar.add_task(file, total=None, facts="")
            if not (self._quiet or self._bar.console.is_terminal):
                click.echo(f"  {file}{f' ({megabytes(total)})' if total else ''}", err=True)
        self._bar.update(self._tasks[file], completed=done, total=total, facts=megabytes(done))

    def on_retry(self, file: str, reason: str, seconds: float) -> None:
        """Say why, and when it goes on."""
        if not self._quiet:
            self._say(f"  {file}: {reason}; trying again in {seconds:.0f} s")

    def on_wait(self, file: str) -> None:
        """Say who is waited for."""
        if not self._quiet:
            self._say(f"  {file}: waiting for another process that downloads it")

    def _say(self, text: str) -> None:
        if self._bar.console.is_terminal:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            click.echo(text, err=True)


@contextmanager
def open_store(*, quiet: bool = False, mirror: str | None = None, ask: bool = False) -> Iterator[WeightsStore]:
    """Yield the store of downloaded weights; what it does is shown on the terminal."""
    from auralflow_core.weights import WeightsStore

    with progress_bar(quiet=quiet) as bar:
        yield WeightsStore(mirror=mirror, listener=TerminalListener(bar, quiet=quiet, ask=ask))


def fetch_weights(*sources: str | Path, quiet: bool = False) -> None:
    """Download what is missing of the models that a command is about to load, and show it.

    Args:
        sources: Model folders, for which nothing is done, and names of public weights.
        quiet: Whether to say nothing but the licence.

    Raises:
        AuralflowError: A source is unknown, or its files cannot be downloaded.
    """
    from auralflow_core.build import find_weights
    from auralflow_core.registry import default_registry

    plugins = {entry.name: entry.plugin for entry in default_registry().weights}
    with open_store(quiet=quiet) as store:
        for source in sources:
            entry = find_weights(source)
            if entry and store.missing(entry):
                store.fetch(entry)
            if entry is None and (plugin := plugins.get(str(source))) and not quiet:
                click.echo(f"{source}: taking the model folder; the public weights are {source}@{plugin}", err=True)


def count_files(files: Collection[str]) -> str:
    """Return how many files there are, in words."""
    return f"{len(files)} file{'s' if len(files) > 1 else ''}"


def megabytes(count: int) -> str:
    """Return a number of bytes as `12.3 MB`."""
    return f"{count / 1e6:.1f} MB"
