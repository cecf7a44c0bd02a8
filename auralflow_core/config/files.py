"""Configuration files: JSON or YAML, read with the place of a syntax error, written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auralflow_core.config.schema import Config
from auralflow_core.config.settings import grouped, validate
from auralflow_core.config.yaml import dump_yaml, parse_yaml
from auralflow_core.errors import ConfigError
from auralflow_core.files import write_text

CONFIG_NAMES = ("config.json", "config.yaml", "config.yml")


def config_path(folder: Path) -> Path:
    """Return the configuration file of a model folder.

    Raises:
        ConfigError: `folder` is not a model folder.
    """
    for name in CONFIG_NAMES:
        if (folder / name).is_file():
            return folder / name
    if not folder.exists():
        raise ConfigError(
            f"{folder}: no such model folder; make one with `auralflow config {folder.name} TYPE`, or check the path"
        )
    raise ConfigError(
        f"{folder}: not a model folder, it holds no config.json; make one with `auralflow config NAME TYPE`"
    )


def load_config(path: str | Path) -> Config:
    """Read and validate a configuration file, or that of a model folder.

    Args:
        path: A `config.json`, `config.yaml`, or a folder that holds one.

    Raises:
        ConfigError: The file is missing, has a syntax error (line and column are named), or holds an unknown
            or out-of-range setting.
    """
    path = Path(path)
    file = config_path(path) if path.is_dir() or not path.suffix else path
    return validate(Config, grouped(read_mapping(file)), source=file).within(file.parent)


def save_config(config: Config, path: Path) -> None:
    """Write a configuration atomically; the suffix decides between JSON and YAML."""
    data = config.model_dump(mode="json")
    write_text(path, dump_yaml(data) if path.suffix in (".yaml", ".yml") else json.dumps(data, indent=2) + "\n")


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a JSON or YAML file whose top level is a mapping.

    Raises:
        ConfigError: The file is missing, unreadable, has a syntax error, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text ({error})") from error
    data = _parse_yaml(text, path) if path.suffix in (".yaml", ".yml") else _parse_json(text, path)
    if data is None:
        raise ConfigError(f"{path}: is empty; write settings into it, or make it anew with `auralflow config --force`")
    if not isinstance(data, Mapping):
        raise ConfigError(f"{path}: holds a {type(data).__name__} where a mapping of settings is expected")
    return dict(data)


def _parse_json(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path}: syntax error at line {error.lineno}, column {error.colno}: {error.msg}; mend it in a text editor"
        ) from None


def _parse_yaml(text: str, path: Path) -> Any:
    import yaml

    try:
        return parse_yaml(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}: syntax error{place}: {error.problem}; mend it in a text editor") from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"
        raise ConfigError(
            f"{path}: syntax error at {place}: character {error.character:#x} is not allowed; mend it in a text editor"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}; mend it in a text editor") from None
