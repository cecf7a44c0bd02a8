"""What the commands print: tables, JSON, and progress for terminals and for logs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


# Where no terminal sets a width (a pipe, a log) rows are long enough not to be broken.
_FILE_WIDTH = 240


def console(*, quiet: bool = False) -> Console:
    """Return the console of standard output."""
    from rich.console import Console

    plain = Console(quiet=quiet, highlight=False)
    return plain if plain.is_terminal else Console(quiet=quiet, highlight=False, width=_FILE_WIDTH)


def print_json(data: Any) -> None:
    """Print data for a machine; what is not a number becomes null."""
    from auralflow_core.files import json_text

    click.echo(json_text(data))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, quiet: bool = False) -> None:
    """Print a table; numbers stand to the right."""
    if quiet:
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    cells = [list(row) for row in rows]
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        # Names and what is said last may be long; the numbers between them stay whole.
        is_outer = number in (0, len(columns) - 1)
        is_numeric = bool(cells) and all(isinstance(row[number], (int, float)) for row in cells)
        table.add_column(column, justify="right" if is_numeric else "left", no_wrap=not is_outer, overflow="fold")
    for row in cells:
        table.add_row(*(Text(_cell(value)) for value in row))
    console().print(table)


def duration(seconds: float) -> str:
    """Return a length of time as `1:02:03` or `2:03`."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Progress]:
    """Show live bars with rate and time left; on anything but a terminal nothing is shown."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    err = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeRemainingColumn(),
        console=err,
        disable=quiet or not err.is_terminal,
        transient=True,
    ) as progress:
        yield progress


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{round(value, 2) + 0.0:.2f}"  # and no -0.00
    return str(value)
