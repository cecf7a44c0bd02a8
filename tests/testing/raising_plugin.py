"""A plugin whose hook raises."""

from __future__ import annotations

from auralflow_core import hookimpl
from auralflow_core.hookspecs import Register


@hookimpl
def register_models(register: Register) -> None:
    raise OSError("no codec")
