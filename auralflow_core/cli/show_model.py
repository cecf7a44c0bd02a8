"""`auralflow show-model`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from auralflow_core.config import Config


@click.command("show-model")
@click.argument("type_", metavar="[TYPE]", required=False)
@click.option(
    "--config", "folder", type=click.Path(path_type=Path), help="Show a model folder's own settings and sizes instead."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_model(type_: str | None, folder: Path | None, as_json: bool) -> None:
    """Show an architecture's parameters: name, type, default, range and meaning."""
    from auralflow_core.build import build_network, default_config, resolve
    from auralflow_core.cli.output import print_json, print_table
    from auralflow_core.config import by_path, load_config
    from auralflow_core.registry import default_registry

    if (type_ is None) == (folder is None):
        raise click.UsageError("Give either TYPE or --config FOLDER.")
    config = resolve(load_config(folder)) if folder else default_config(str(type_), "model")
    entry = default_registry().models.get(config.model.type)
    schema = entry.load_params()
    rows = [setting_row(name, field) for name, field in schema.model_fields.items()]
    if folder:
        rows = [(name, kind, str(config.model.params[name]), limits, text) for name, kind, _, limits, text in rows]
    sizes = size_rows(config)
    count = sum(parameter.numel() for parameter in build_network(config).parameters())
    columns = ("setting", "type", "value" if folder else "default", "range", "meaning")
    if as_json:
        values = config.model.params
        params = [{**dict(zip(columns, row, strict=True)), columns[2]: values[row[0]]} for row in rows]
        facts = {name: getattr(entry, name) for name in ("plugin", "version", "domain", "summary")}
        found = {"parameters": count, "params": params, "defaults": schema.defaults, "sizes": sizes}
        print_json({"type": entry.name, **facts, **found})
        return
    click.echo(f"{entry.name}: {entry.summary}")
    click.echo(f"plugin {entry.plugin} {entry.version}, domain {entry.domain}")
    click.echo(f"{count:,} parameters with {'these' if folder else 'the default'} settings")
    print_table("", columns, rows)
    if schema.defaults and not folder:
        others = [(path, str(value)) for path, value in by_path(schema.defaults).items()]
        print_table("A new model starts with", ("setting", "value"), others)
    if sizes:
        print_table("Sizes", ("layer", "size"), sizes)


def size_rows(config: Config) -> list[tuple[str, str]]:
    """Return the sizes level by level, where the architecture's parameters can tell them."""
    from auralflow_core.build import known_sizes
    from auralflow_core.config import validate
    from auralflow_core.registry import default_registry

    schema = default_registry().models.get(config.model.type).load_params()
    params = validate(schema, config.model.params, prefix="model.params")
    sizes = known_sizes(config)
    sizes.pop("sample_rate")
    return params.size_table(**sizes)


def setting_row(name: str, field: FieldInfo) -> tuple[str, str, str, str, str]:
    """Return a setting's name, type, default, range and meaning."""
    default = "" if field.is_required() else str(field.get_default(call_default_factory=True))
    return name, _type_name(field.annotation), default, _range(field), field.description or ""


def _type_name(annotation: Any) -> str:
    from types import NoneType, UnionType
    from typing import Annotated, Literal, Union, get_args, get_origin

    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(str(choice) for choice in arguments)
    if origin in (Union, UnionType):
        return " | ".join(_type_name(each) for each in arguments)
    if origin is Annotated:
        return _type_name(arguments[0])
    if arguments:
        return f"{origin.__name__}[{', '.join(_type_name(each) for each in arguments)}]"
    return "null" if annotation is NoneType else getattr(annotation, "__name__", str(annotation))


def _range(field: FieldInfo) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [
        f"{sign} {getattr(limit, name)}"
        for limit in field.metadata
        for name, sign in signs.items()
        if getattr(limit, name, None) is not None
    ]
    return ", ".join(limits)
