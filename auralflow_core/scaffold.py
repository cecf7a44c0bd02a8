"""A new plugin distribution, complete and tested, from templates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from auralflow_core.errors import ConfigError
from auralflow_core.files import atomic_folder
from auralflow_core.registry import core_version

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

PREFIX = "auralflow-"
_SUFFIX = ".template"


@dataclass(frozen=True)
class PluginNames:
    """The names that a plugin goes by, made of one word or several: `band-split` or `auralflow-band-split`."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, name: str) -> PluginNames:
        """Return the names made of a plugin's name.

        Raises:
            ConfigError: The name is not made of letters, digits and dashes, or does not begin with a letter.
        """
        words = tuple(re.split(r"[-_\s]+", name.removeprefix(PREFIX).strip()))
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", words[0]) or not all(word.isalnum() for word in words):
            raise ConfigError(
                f"plugin name {name!r}: use letters, digits and dashes, a letter first, such as `gain` or `band-split`"
            )
        return cls(words)

    @property
    def distribution(self) -> str:
        """What is pip-installed."""
        return PREFIX + "-".join(self.words).lower()

    @property
    def package(self) -> str:
        """What is imported."""
        return self.distribution.replace("-", "_")

    @property
    def entry_point(self) -> str:
        """The short name."""
        return "_".join(self.words).lower()

    @property
    def model(self) -> str:
        """The model type."""
        return "".join(word[0].upper() + word[1:] for word in self.words)


def write_plugin(names: PluginNames, folder: Path) -> None:
    """Write a plugin distribution into a folder that is not there yet.

    Raises:
        ConfigError: The folder exists.
    """
    if folder.exists():
        raise ConfigError(f"{folder}: exists already; choose another name or another folder with --save")
    major, minor = [*core_version().split("."), "0"][:2]
    values = {
        "distribution": names.distribution,
        "package": names.package,
        "entry_point": names.entry_point,
        "model": names.model,
        "core_range": f">={major}.{minor},<{major}.{int(minor) + 1}",
    }
    with atomic_folder(folder) as scratch:
        _fill(files("auralflow_core") / "templates" / "plugin", scratch, values)
        (scratch / names.package / "py.typed").touch()


def _fill(source: Traversable, target: Path, values: dict[str, str]) -> None:
    for item in source.iterdir():
        if item.is_dir():
            folder = target / (values["package"] if item.name == "package" else item.name)
            folder.mkdir()
            _fill(item, folder, values)
        elif item.name.endswith(_SUFFIX):
            name = item.name.removesuffix(_SUFFIX).replace("test_package", f"test_{values['entry_point']}")
            (target / name).write_text(Template(item.read_text("utf-8")).substitute(values), "utf-8")
