"""Settings by name or path, and what is said about those that do not fit."""

from __future__ import annotations

import copy
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from auralflow_core.config.params import ModelParams
from auralflow_core.config.schema import Config, ModelConfig
from auralflow_core.config.setting import Setting
from auralflow_core.config.yaml import parse_yaml
from auralflow_core.errors import ConfigError, did_you_mean

Schema = TypeVar("Schema", bound=BaseModel)

GROUPS = tuple(Config.model_fields)

OLDER_NAMES = {
    "backwards_every": "backprop_every",
    "base": "model_type",
    "base_model": "model_type",
    "chunk_size": "sample_length",
    "dropout": "dropout_p",
    "epochs": "max_epochs",
    "init_features": "hidden_channels",
    "input_norm": "normalize_input",
    "leak": "leak_factor",
    "learning_rate": "lr",
    "load_size": "max_num_samples",
    "loss": "criterion",
    "mask_act_fn": "mask_activation",
    "name": "model_name",
    "output_norm": "normalize_output",
    "patience": "stop_patience",
    "pin_mem": "pin_memory",
    "seed": "random_seed",
    "split": "validation_split",
    "train_max_steps": "max_steps",
    "workers": "num_workers",
}
"""Names that older documents use. A setting that really has such a name goes first."""


_ANYTHING = FieldInfo(annotation=typing.cast(Any, Any))


def setting_paths(params: type[ModelParams] | None) -> dict[str, list[str]]:
    """Return every setting's name with the paths that carry it, for an architecture's parameters."""
    names: dict[str, list[str]] = {"model_type": ["model.type"], "model_name": ["model.name"]}
    for group in ("dataset", "training", "separation", "visuals"):
        schema = typing.cast(type[BaseModel], Config.model_fields[group].annotation)
        for name, field in schema.model_fields.items():
            names.setdefault(name, []).append(f"{group}.{name}")
            for inner in _inner_paths(field):
                names.setdefault(f"{name}.{inner}", []).append(f"{group}.{name}.{inner}")
    if params:
        for name, field in params.model_fields.items():
            names.setdefault(name, []).append(f"model.params.{name}")
            for inner in _inner_paths(field):
                names.setdefault(f"{name}.{inner}", []).append(f"model.params.{name}.{inner}")
        for name, paths in params.synonyms.items():
            names.setdefault(name, [f"model.params.{path}" for path in paths.split()])
    return names


def apply_settings(
    data: Mapping[str, Any], settings: Iterable[Setting], params: type[ModelParams] | None
) -> dict[str, Any]:
    """Return a copy of a configuration's data in which the settings are changed.

    Values are text from the command line: they are read in the type of the setting. Nothing is validated
    against the other settings yet; `validate` does that for the whole.

    Args:
        data: The configuration as grouped mappings.
        settings: The changes, by name (`lr`, `ema.decay`) or path (`training.lr`), `-` and `_` alike. What a mapping
            holds is one level further down: `optimizer.args.weight_decay`.
        params: The schema of `model.params`.

    Raises:
        ConfigError: A name is unknown or stands for several settings.
    """
    names = setting_paths(params)
    changed = copy.deepcopy(dict(data))
    for setting in settings:
        path = _resolve(setting.name, names, params)
        inner = changed
        for depth, group in enumerate(path[:-1], start=1):
            if inner.get(group) is None:
                inner[group] = {}
            if depth > 1 and isinstance(inner[group], str) and "name" in _inner_fields(_field(path[:depth], params)):
                inner[group] = {"name": inner[group]}
            inner = inner[group]
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"{setting.name}: {group} is no group of settings here, but {inner!r}; change it as a whole"
                )
        inner[path[-1]] = _read_value(setting, _field(path, params))
    return changed


def with_defaults(data: Mapping[str, Any], defaults: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a new configuration's data in which an architecture's own defaults stand where it says nothing.

    Args:
        data: The configuration as grouped mappings.
        defaults: Settings by group, as `ModelParams.defaults` holds them. A setting that is given wins as a whole.
    """
    filled = dict(data)
    for group, settings in defaults.items():
        given = data.get(group, {})
        if isinstance(given, Mapping):
            known = {OLDER_NAMES.get(name, name) for name in given}
            filled[group] = {**{name: value for name, value in settings.items() if name not in known}, **given}
    return filled


def grouped(data: Mapping[Any, Any]) -> dict[str, Any]:
    """Sort a flat mapping (`{"lr": 0.001, "batch-size": 8}`) into groups; leave a grouped one as it is.

    In the group `model`, parameters may stand beside `type` and `name`. Names that no group knows are taken for
    parameters of the architecture, whose schema judges them.
    """
    is_grouped = any(isinstance(data.get(group), Mapping) for group in GROUPS if group != "model")
    result: dict[str, Any] = {}
    for key, value in data.items():
        if key == "model" and isinstance(value, Mapping):
            for name, inner in value.items():
                _place(result, name, inner, direct="model" if name in ModelConfig.model_fields else None)
        elif key in GROUPS or is_grouped:
            if value is not None:
                result[str(key)] = value
        else:
            _place(result, key, value)
    return result


def _place(result: dict[str, Any], key: Any, value: Any, direct: str | None = None) -> None:
    """Put a value where its name belongs."""
    if not isinstance(key, str):
        raise ConfigError(f"{key}: a {type(key).__name__} is no name of a setting; put it into quotes or remove it")
    name = key.replace("-", "_")
    names = setting_paths(None)
    if not direct and name not in names:
        name = OLDER_NAMES.get(name, name)
    path = f"{direct}.{name}" if direct else names.get(name, [f"model.params.{name}"])[0]
    *groups, last = path.split(".")
    for group in groups:
        result = result.setdefault(group, {})
    if last == "params" and isinstance(value, Mapping):
        value = {**value, **result.get("params", {})}
    result[last] = value


def validate(schema: type[Schema], data: Any, *, source: object = None, prefix: str = "") -> Schema:
    """Validate data against a schema.

    Raises:
        ConfigError: Names each bad setting's path, its value, the limit and the nearest known name.
    """
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_describe(dict(detail), schema, prefix) for detail in error.errors())
        raise ConfigError(f"{source}: {problems}" if source else problems) from None


def _resolve(name: str, names: Mapping[str, list[str]], params: type[ModelParams] | None) -> list[str]:
    """Return the path of a setting, or of what a mapping among the settings holds, in its parts."""
    wanted = name.replace("-", "_")
    paths = [path for found in names.values() for path in found]
    if wanted in paths:
        return wanted.split(".")
    if wanted not in names and wanted in OLDER_NAMES:
        wanted = OLDER_NAMES[wanted]
    if wanted not in names:
        for known in [*names, *paths]:
            if wanted.startswith(f"{known}."):
                path = _resolve(known, names, params)
                field = _field(path, params)
                if typing.get_origin(field.annotation) is dict:
                    return [*path, *_in_mapping(wanted.removeprefix(f"{known}."), _value_field(field))]
        near = did_you_mean(wanted, [*paths, *names] if "." in wanted else names)
        raise ConfigError(f"{name}: unknown setting{near or '; `auralflow config NAME --display` lists them'}")
    if len(names[wanted]) > 1:
        raise ConfigError(f"{name}: stands for {' and '.join(names[wanted])}; write the path")
    return names[wanted][0].split(".")


def _in_mapping(path: str, field: FieldInfo) -> list[str]:
    """Return a key of a mapping and, where its values are groups, the names inside; keys may hold dots."""
    inner = set(_inner_paths(field))
    if not inner:
        return [path]
    parts = path.split(".")
    ends = (end for end in range(1, len(parts)) if ".".join(parts[end:]) in inner)
    end = next(ends, 1)
    return [".".join(parts[:end]), *parts[end:]]


def _read_value(setting: Setting, field: FieldInfo) -> Any:
    """Read text in the type of its setting; what does not fit stays text, for `validate` to refuse."""
    if setting.value is None:
        if field.annotation is bool:
            return True
        raise ConfigError(f"{setting.name}: has no value; write --{setting.name} VALUE")
    if setting.value == "null" and _fits(None, field):
        return None
    is_plain = field.annotation is not Any and not setting.value.lstrip().startswith(("[", "{"))
    if is_plain and _fits(setting.value, field):
        return setting.value
    try:
        value = parse_yaml(setting.value)
        if isinstance(value, str) and "," in value and typing.get_origin(field.annotation) in (list, tuple):
            value = parse_yaml(f"[{value}]")
    except yaml.YAMLError:
        return setting.value
    # A list or mapping with a wrong part is kept, so that the message can name the part.
    return value if isinstance(value, (list, dict)) or _fits(value, field) else setting.value


def _field(path: list[str], params: type[ModelParams] | None) -> FieldInfo:
    """Return the field of a setting; what a mapping of anything holds may be anything."""
    field = FieldInfo(annotation=Config)
    if path[:2] == ["model", "params"] and path[2:]:
        field, path = FieldInfo(annotation=params), path[2:]
    for name in path:
        is_mapping = typing.get_origin(field.annotation) is dict
        field = _value_field(field) if is_mapping else _inner_fields(field).get(name, _ANYTHING)
    return field


def _value_field(field: FieldInfo) -> FieldInfo:
    """Return the field of what a mapping holds under each key."""
    return FieldInfo(annotation=typing.get_args(field.annotation)[1])


def _fits(value: Any, field: FieldInfo) -> bool:
    try:
        annotated: Any = typing.Annotated[(field.annotation, field, *field.metadata)]
        TypeAdapter(annotated).validate_python(value)
    except ValidationError:
        return False
    return True


def _describe(detail: dict[str, Any], schema: type[BaseModel], prefix: str) -> str:
    location = [str(part) for part in detail["loc"]]
    path = prefix
    for part in detail["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return f"{path}: unknown setting{did_you_mean(location[-1], _fields_at(schema, location[:-1]))}"
    if kind == "missing":
        return f"{path}: is missing"
    if kind == "value_error":
        message = str(detail["ctx"]["error"])
        return f"{path}: {message}" if path else message
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    near = ""
    if kind == "string_pattern_mismatch":
        message = f"must be {_field_at(schema, location).description}"
    if kind == "literal_error" and isinstance(value, str):
        near = did_you_mean(value, str(detail["ctx"]["expected"]).replace(" or ", ", ").replace("'", "").split(", "))
    place = f"{path}: " if path else ""
    return f"{place}{value!r} {message[0].lower()}{message[1:]}{near}"


def _fields_at(schema: type[BaseModel], location: list[str]) -> Iterable[str]:
    return _inner_fields(_field_at(schema, location))


def _field_at(schema: type[BaseModel], location: list[str]) -> FieldInfo:
    field = FieldInfo(annotation=schema)
    for part in location:
        is_mapping = typing.get_origin(field.annotation) is dict
        field = _value_field(field) if is_mapping else _inner_fields(field).get(part, _ANYTHING)
    return field


def _schemas_in(field: FieldInfo) -> list[type[BaseModel]]:
    """Return the schemas among the types that a field allows."""
    is_union = typing.get_origin(field.annotation) in (typing.Union, types.UnionType)
    choices = typing.get_args(field.annotation) if is_union else [field.annotation]
    # Python 3.10 takes `list[int]` for a type, which it is not when asked whether it is a subclass.
    classes = [choice for choice in choices if isinstance(choice, type) and typing.get_origin(choice) is None]
    return [choice for choice in classes if issubclass(choice, BaseModel)]


def _inner_paths(field: FieldInfo) -> Iterator[str]:
    for name, inner in _inner_fields(field).items():
        yield name
        yield from (f"{name}.{deeper}" for deeper in _inner_paths(inner))


def _inner_fields(field: FieldInfo) -> dict[str, FieldInfo]:
    return {name: inner for schema in _schemas_in(field) for name, inner in schema.model_fields.items()}
