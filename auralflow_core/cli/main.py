"""The command group, and the one place where an `AuralflowError` becomes a line on the terminal."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import click

from auralflow_core.cli.average import average
from auralflow_core.cli.cache import cache
from auralflow_core.cli.compare import compare
from auralflow_core.cli.config import config
from auralflow_core.cli.create import create
from auralflow_core.cli.demo import demo
from auralflow_core.cli.doctor import doctor
from auralflow_core.cli.download import download
from auralflow_core.cli.init_data import init_data
from auralflow_core.cli.list_models import list_models
from auralflow_core.cli.list_plugins import list_plugins
from auralflow_core.cli.list_weights import list_weights
from auralflow_core.cli.new_plugin import new_plugin
from auralflow_core.cli.replay import replay
from auralflow_core.cli.separate import separate
from auralflow_core.cli.show_model import show_model
from auralflow_core.cli.test import test
from auralflow_core.cli.train import train
from auralflow_core.errors import AuralflowError


class Group(click.Group):
    """A group that says what a user can mend in one line, with exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except AuralflowError as error:
            if ctx.params.get("debug"):
                raise
            raise click.ClickException(str(error)) from error


def _dashes(name: str) -> str:
    """Let `--save_to` and `--save-to` be one option."""
    return name.replace("_", "-")


@click.group(
    cls=Group,
    context_settings={
        "token_normalize_func": _dashes,
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
    },
)
@click.version_option(package_name="auralflow", prog_name="auralflow")
@click.option("--debug", is_flag=True, help="Show the traceback of errors.")
def main(debug: bool) -> None:
    """Train, evaluate and run music source separation models.

    Every architecture is a plugin: `auralflow list-models` shows those that are installed, and
    `pip install auralflow-vae` adds one.
    """
    from auralflow_core.processes import tune_memory

    # Before torch loads: threads of two pools that spin against each other make a step a hundred times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    tune_memory()
    for stream in (sys.stdout, sys.stderr):
        # File names may hold what the terminal's encoding does not.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


COMMANDS = (
    average,
    cache,
    compare,
    config,
    create,
    demo,
    doctor,
    download,
    init_data,
    list_models,
    list_plugins,
    list_weights,
    new_plugin,
    replay,
    separate,
    show_model,
    test,
    train,
)
for command in COMMANDS:
    main.add_command(command)
