"""One setting as it stands on the command line."""

from __future__ import annotations

from typing import NamedTuple


class Setting(NamedTuple):
    """One `--name value` of the command line; the value is `None` where it stood alone."""

    name: str
    value: str | None
