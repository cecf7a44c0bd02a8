"""The options of `auralflow separate`."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from pydantic.fields import FieldInfo

from auralflow_core.config import SeparationConfig

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

WHERE = (
    click.option(
        "--save",
        type=click.Path(path_type=Path),
        default=Path("separated"),
        show_default=True,
        help="Folder for the stems and report.json.",
    ),
    click.option(
        "--name-template",
        metavar="TEMPLATE",
        help="Paths of the stems below SAVE: '{artist}/{track}_{stem}.{ext}' (default: SONG/STEM.FORMAT).",
    ),
    click.option("--overwrite", is_flag=True, help="Separate again what is done, and replace files of other origin."),
    click.option("--dry-run", is_flag=True, help="Show what would be done, how long and how large; write nothing."),
)

WHAT = (
    click.option("--stems", metavar="A,B", help="Write only these of the model's targets: vocals,drums."),
    click.option(
        "--karaoke",
        "--two-stems",
        "karaoke",
        metavar="TARGET",
        help="Write this target and the mixture without it: vocals and no_vocals.",
    ),
    click.option(
        "--residual", is_flag=True, help="Also write what is left of the mixture without the model's targets."
    ),
    click.option(
        "--start",
        type=click.FloatRange(min=0),
        default=0.0,
        help="Leave out this many seconds at the start.",
    ),
    click.option(
        "--duration",
        type=click.FloatRange(min=0, min_open=True),
        help="Separate only this many seconds.",
    ),
)

HOW = (
    click.option("--step", type=int, help="Step of the checkpoint (default: the best one)."),
    click.option("--ensemble", metavar="A,B", help="Average with these models too: folders or names of weights."),
    click.option(
        "--ensemble-weights",
        metavar="X,Y",
        help="Weight of MODEL and of each of these (default: alike): a number, or one a target: 'vocals=3 drums=0.5'.",
    ),
    click.option(
        "--ensemble-mode",
        type=click.Choice(["waveform", "spectrum"]),
        default="waveform",
        show_default=True,
        help="What is averaged.",
    ),
)

FORMAT = (
    click.option(
        "--format",
        "format_",
        type=click.Choice(["wav", "flac", "ogg", "opus", "mp3", "m4a"]),
        default="wav",
        show_default=True,
        help="Format of the stems.",
    ),
    click.option(
        "--bit-depth",
        type=click.Choice(["16", "24", "32", "32f"]),
        help="Bits of a sample of wav and flac (default: 16); 32f, wav only: floating point, nothing is clipped.",
    ),
    click.option("--bitrate", type=click.IntRange(min=1), help="kbit/s of ogg, opus, mp3 and m4a."),
    click.option(
        "--clip",
        type=click.Choice(["rescale", "limit", "clamp"]),
        default="rescale",
        show_default=True,
        help="Where a stem goes beyond full scale: turn all stems of the song down alike, limit it there, or cut it.",
    ),
    click.option("--no-tags", is_flag=True, help="Do not copy the song's tags and cover."),
)

MACHINE = (
    click.option("--device", help="cpu, cuda, cuda:N, mps or auto (default: training.device)."),
    click.option(
        "--jobs",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Songs at once, each in a process of its own.",
    ),
    click.option(
        "--threads", type=click.IntRange(min=1), help="Segments at once on a CPU (default: one a core, at most 4)."
    ),
    click.option("--batch-size", type=click.IntRange(min=1), help="Segments at once on a GPU (default: 4)."),
    click.option("--quiet", is_flag=True, help="Print nothing but errors."),
    click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, and nothing else."),
)


def settings() -> tuple[Decorator, ...]:
    """Return an option for every setting of the group `separation`; left out, the model's own counts."""
    return tuple(_setting(name, field) for name, field in SeparationConfig.model_fields.items())


def apply(*groups: tuple[Decorator, ...]) -> Decorator:
    """Return a decorator that adds groups of options in their order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


def _setting(name: str, field: FieldInfo) -> Decorator:
    text = f"{(field.description or name)[:1].upper()}{(field.description or name)[1:]}."
    dashed = name.replace("_", "-")
    if field.annotation is bool:
        return click.option(f"--{dashed}/--no-{dashed}", name, default=None, help=text)
    return click.option(f"--{dashed}", name, type=_type(field.annotation), help=text)


def _type(annotation: Any) -> Any:
    """Return what click reads a value as; its limits are checked with the other settings."""
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return click.Choice(typing.get_args(annotation))
    if origin in (typing.Union, types.UnionType):
        return _type(next(part for part in typing.get_args(annotation) if part is not type(None)))
    return annotation
