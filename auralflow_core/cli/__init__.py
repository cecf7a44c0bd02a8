"""The command line: one short module a command. Only click is imported here; the rest when a command runs."""

from __future__ import annotations

from auralflow_core.cli.main import main

__all__ = ["main"]
