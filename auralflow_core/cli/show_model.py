"""`auralflow show-model`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


@click.command("show-model")
@click.argument("type_", metavar="TYPE")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_model(type_: str, as_json: bool) -> None:
    """Show an architecture's parameters: name, type, default, range and meaning."""
    from auralflow_core.build import build_network, default_config
    from auralflow_core.cli.output import print_json, print_table
    from auralflow_core.registry import default_registry

    entry = default_registry().models.get(type_)
    rows = [setting_row(name, field) for name, field in entry.load_params().model_fields.items()]
    network = build_network(default_config(type_, "model"))
    count = sum(parameter.numel() for parameter in network.parameters())
    if as_json:
        keys = ("name", "type", "default", "range", "meaning")
        params = [dict(zip(keys, row, strict=True)) for row in rows]
        facts = {name: getattr(entry, name) for name in ("plugin", "version", "domain", "summary")}
        print_json({"type": entry.name, **facts, "parameters": count, "params": params})
        return
    click.echo(f"{entry.name}: {entry.summary}")
    click.echo(f"plugin {entry.plugin} {entry.version}, domain {entry.domain}")
    click.echo(f"{count:,} parameters with the default settings")
    print_table("", ("setting", "type", "default", "range", "meaning"), rows)


def setting_row(name: str, field: FieldInfo) -> tuple[str, str, str, str, str]:
    """Return a setting's name, type, default, range and meaning."""
    default = "" if field.is_required() else str(field.get_default(call_default_factory=True))
    return name, _type_name(field.annotation), default, _range(field), field.description or ""


def _type_name(annotation: Any) -> str:
    from typing import Literal, get_args, get_origin

    if get_origin(annotation) is Literal:
        return " | ".join(str(choice) for choice in get_args(annotation))
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _range(field: FieldInfo) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [
        f"{sign} {getattr(limit, name)}"
        for limit in field.metadata
        for name, sign in signs.items()
        if getattr(limit, name, None) is not None
    ]
    return ", ".join(limits)
