"""The plugin under test, through the real registry. Imports no torch: run as a module it proves that of the plugin.

python -m auralflow_core.testing.plugin PLUGIN TYPE
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from auralflow_core.registry import PluginSource, Registry, installed_sources


@cache
def plugin_registry(plugin: str) -> Registry:
    """Return a registry of the core's own names and one plugin.

    Args:
        plugin: An installed distribution (`auralflow-gain`), or the module that implements the hooks.
    """
    core = PluginSource("auralflow", lambda: importlib.import_module("auralflow_core.builtin"))
    return Registry([core, *_sources(plugin)])


def _sources(plugin: str) -> list[PluginSource]:
    """Return the entry points of a distribution, or the module as if it were one."""
    distribution = plugin.lower().replace("_", "-")
    found = [source for source in installed_sources() if source.name.partition(":")[0] == distribution]
    return found or [PluginSource(distribution, lambda: importlib.import_module(plugin))]


class TorchImportedError(BaseException):
    """Torch was imported; not an `Exception`, so that no plugin swallows it."""


class TorchTrap(Loader, MetaPathFinder):
    """Stands where torch would be found: whether it is installed may be asked, importing it ends the process."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Claim torch, and nothing else."""
        return ModuleSpec(name, self) if name == "torch" else None

    def exec_module(self, module: ModuleType) -> None:
        """Raise with the file and line that imports torch."""
        frames = [frame for frame in traceback.extract_stack()[:-1] if "importlib" not in frame.filename]
        raise TorchImportedError(f"{frames[-1].filename}:{frames[-1].lineno}")


def main(plugin: str, model_type: str) -> None:
    """Register a plugin and load its params schema; print where torch was imported on the way, or nothing."""
    sys.meta_path.insert(0, TorchTrap())
    try:
        plugin_registry(plugin).models.get(model_type).load_params()
    except TorchImportedError as place:
        print(place)


if __name__ == "__main__":
    main(*sys.argv[1:])
