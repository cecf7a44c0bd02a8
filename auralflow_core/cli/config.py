"""`auralflow config`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from auralflow_core.cli.arguments import SETTINGS_CONTEXT, split_settings

if TYPE_CHECKING:
    from auralflow_core.config import Config, Conversion, Setting


@click.command("config", context_settings=SETTINGS_CONTEXT)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="NAME [TYPE] [--SETTING VALUE]...")
@click.option("--model", "model_type", metavar="TYPE", help="Base model architecture (instead of TYPE).")
@click.option("--name", "model_name", metavar="NAME", help="Model name (instead of NAME).")
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Folder that holds the model folder (default: here).",
)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    metavar="SOURCE",
    help="Take settings from a JSON or YAML file, ours or one of a format that a plugin reads; from a model folder; or "
    "from public weights, by name.",
)
@click.option("--format", "format_", type=click.Choice(["json", "yaml"]), help="Format of the file (default: json).")
@click.option("--display", is_flag=True, help="Show all settings afterwards.")
@click.option("--force", is_flag=True, help="Replace the configuration of a model folder that exists.")
def config(
    arguments: tuple[str, ...],
    model_type: str | None,
    model_name: str | None,
    save: Path,
    source: Path | None,
    format_: str | None,
    display: bool,
    force: bool,
) -> None:
    """Make a model folder, or change its settings.

    \b
    auralflow config my_model SpectrogramNetSimple --save to/this/directory
    auralflow config my_model --mask_activation relu --dropout_p 0.4 --display

    Settings are written by name (--lr 1e-4) or path (--training.lr 1e-4), with _ or -. A change that is not
    valid leaves the file as it was.
    """  # noqa: D301 - click takes the character for an end of wrapping
    from auralflow_core.config import Setting, config_path, read_mapping
    from auralflow_core.config.settings import grouped
    from auralflow_core.errors import ConfigError

    positional, settings = split_settings(arguments, 2)
    name, type_ = _names(positional, model_name, model_type)
    folder = save / name
    is_new = type_ is not None or source is not None
    if is_new and _exists(folder) and not force:
        wish = (
            f"--model_type {type_} instead of TYPE changes its architecture"
            if type_
            else "--from starts a configuration; choose another NAME"
        )
        raise ConfigError(f"{folder}: exists already; {wish}, and --force starts its configuration anew")
    if not is_new and not _exists(folder):
        raise ConfigError(
            f"{folder}: no such model folder; make it with `auralflow config {name} TYPE` (`auralflow list-models` "
            "shows the types), or check the path"
        )
    path = folder / "config.json" if is_new else config_path(folder)
    given, conversion = _read(source) if source else ({}, None)
    before = _start(folder, type_, given, source) if is_new else grouped(read_mapping(path))
    if type_ is not None and source is not None:
        settings = [Setting("model.type", type_), *settings]
    after = change(before, settings, source=source if is_new else path, is_new=is_new, remark=click.echo)
    path = path.with_suffix(f".{format_}") if format_ else path
    if is_new or settings or format_:
        _write(after, path)
        click.echo(f"{'Created' if is_new else 'Changed'} {path}")
    if conversion:
        _show_conversion(conversion)
    if display:
        show(after, None if is_new else before)


def change(
    data: Mapping[str, Any],
    settings: list[Setting],
    *,
    source: Path | None = None,
    is_new: bool = False,
    remark: Callable[[str], None] = lambda line: None,
) -> Config:
    """Return the valid configuration that the settings make of the data.

    A change of `model.type` comes first: parameters that the new architecture does not have give way to its own.

    Args:
        data: The configuration as grouped mappings.
        settings: The changes.
        source: The file that the data was read from, named where the data itself is at fault.
        is_new: Whether a configuration starts, with the architecture's own defaults where the data says nothing.
        remark: Told which parameters gave way.

    Raises:
        ConfigError: A setting is unknown or out of range.
    """
    from auralflow_core.errors import AuralflowError, ConfigError, RegistryError

    try:
        changed, dropped = _changed(data, settings, is_new)
    except ConfigError as error:
        try:
            _changed(data, [], is_new)
        except RegistryError:  # The model type that was changed is not there any more.
            raise error from None
        except AuralflowError as fault:
            raise type(fault)(f"{source}: {fault}" if source else str(fault)) from None
        raise error
    if dropped:
        old = data["model"]["type"]
        remark(f"Left out, as {changed.model.type} does not have these parameters of {old}: {', '.join(dropped)}")
    return changed


def _changed(data: Mapping[str, Any], settings: list[Setting], is_new: bool) -> tuple[Config, list[str]]:
    """Return the changed configuration, and the parameters that a new model type does not have."""
    from auralflow_core.build import check_names, resolve
    from auralflow_core.config import Config, ModelConfig, apply_settings, validate
    from auralflow_core.config.settings import with_defaults
    from auralflow_core.registry import default_registry

    type_names = ("model_type", "model.type", "base", "base_model")
    types = [setting for setting in settings if setting.name.replace("-", "_") in type_names]
    others = [setting for setting in settings if setting not in types]
    before = (data.get("model") or {}).get("type")
    data = apply_settings(data, types, None)
    model = validate(ModelConfig, data.get("model", {}), prefix="model")
    params = default_registry().models.get(model.type).load_params()
    dropped: list[str] = []
    if before is not None and _is_other(before, model.type):
        dropped = [name for name in model.params if name not in params.model_fields]
        kept = {name: value for name, value in model.params.items() if name not in dropped}
        data = {**data, "model": {**data["model"], "params": kept}}
    if is_new:
        data = with_defaults(data, params.defaults)
    changed = resolve(validate(Config, apply_settings(data, others, params)))
    check_names(changed)
    return changed, dropped


def _is_other(before: str, now: str) -> bool:
    """Return whether two names of model types stand for two architectures; one may not be installed any more."""
    from auralflow_core.errors import RegistryError
    from auralflow_core.registry import default_registry

    models = default_registry().models
    try:
        return models.get(before) is not models.get(now)
    except RegistryError:
        return before != now


def show(after: Config, before: Mapping[str, Any] | None = None) -> None:
    """Print all settings; those that differ from before are marked."""
    from auralflow_core.cli.output import print_table
    from auralflow_core.config import by_path

    old = by_path(before) if before is not None else None
    rows = []
    for path, value in by_path(after.model_dump(mode="json")).items():
        is_changed = old is not None and old.get(path) != value
        rows.append((f"* {path}" if is_changed else f"  {path}", value if value is not None else "null"))
    print_table("", ("  setting", "value"), [(path, str(value)) for path, value in rows])


def _names(positional: list[str], name: str | None, type_: str | None) -> tuple[str, str | None]:
    words = list(positional)
    if name is None:
        if not words:
            raise click.UsageError("Missing argument NAME.")
        name = words.pop(0)
    if not name:
        raise click.UsageError("NAME is empty.")
    if words and type_ is not None:
        raise click.UsageError(f"TYPE is given twice: {words[0]} and --model {type_}.")
    return name, words[0] if words else type_


def _exists(folder: Path) -> bool:
    from auralflow_core.config.files import CONFIG_NAMES

    return any((folder / name).exists() for name in CONFIG_NAMES)


def _read(source: Path) -> tuple[Mapping[str, Any], Conversion | None]:
    """Return the settings in a file, and what was made of its keys if it is another project's."""
    from auralflow_core.build import convert_config
    from auralflow_core.config import config_path, read_mapping
    from auralflow_core.config.settings import grouped
    from auralflow_core.errors import ConfigError

    if _names_weights(source):
        return _weights_groups(str(source)), None
    data = read_mapping(config_path(source) if _exists(source) else source)
    try:
        conversion = convert_config(data)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    return (conversion.data if conversion else grouped(data)), conversion


def _names_weights(source: Path) -> bool:
    return not source.exists() and len(source.parts) == 1 and source.suffix not in (".json", ".yaml", ".yml")


def _weights_groups(name: str) -> dict[str, Any]:
    """Return the settings of public weights; what has to be downloaded for that is shown."""
    from auralflow_core.cli.weights import open_store
    from auralflow_core.errors import ConfigError, RegistryError
    from auralflow_core.registry import default_registry
    from auralflow_core.weights import weights_groups

    try:
        entry = default_registry().weights.get(name)
    except RegistryError as error:
        raise ConfigError(f"{name}: no such file or model folder; and {error}") from error
    with open_store() as store:
        return weights_groups(entry, store)


def _show_conversion(conversion: Conversion) -> None:
    """Print what became of each key of another project's configuration."""
    from auralflow_core.cli.output import print_table

    print_table("", ("key", "taken as"), list(conversion.taken.items()))
    if conversion.left:
        print_table("", ("key that is not taken", "instead"), list(conversion.left.items()))


def _start(folder: Path, type_: str | None, given: Mapping[str, Any], source: Path | None) -> dict[str, Any]:
    """Return the data of a new model folder's configuration."""
    from auralflow_core.errors import ConfigError

    model = dict(given.get("model") or {})
    model["type"] = model.get("type") or type_
    model["name"] = folder.resolve().name
    if not model["type"]:
        raise ConfigError(f"{source}: names no model type; add TYPE (`auralflow list-models` shows them)")
    return {**given, "model": model}


def _write(config: Config, path: Path) -> None:
    from auralflow_core.config import save_config
    from auralflow_core.config.files import CONFIG_NAMES

    save_config(config, path)
    for name in CONFIG_NAMES:
        if name != path.name:
            (path.parent / name).unlink(missing_ok=True)
