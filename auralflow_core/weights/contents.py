"""What registered weights are: their settings, and a state dict, made by the plugin of their files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auralflow_core.entries import WeightsEntry, load_target, reason_of
from auralflow_core.errors import AuralflowError, CheckpointError
from auralflow_core.weights.store import WeightsStore

if TYPE_CHECKING:
    from torch import Tensor


def weights_groups(entry: WeightsEntry, store: WeightsStore) -> dict[str, Any]:
    """Return the settings that weights were trained with, in the groups of `config.json`.

    Nothing is downloaded where the plugin states them; else the files say them.

    Raises:
        CheckpointError: The files cannot be downloaded or read.
    """
    config: Any = entry.config if isinstance(entry.config, Mapping) else load_target(entry.config, entry)
    if callable(config):
        paths = store.fetch(entry)
        with _reading(entry):
            config = config(paths)
    return {**config, "model": {"type": entry.type, "name": entry.name, **config.get("model", {})}}


def weights_state(entry: WeightsEntry, paths: Mapping[str, Path]) -> Mapping[str, Tensor]:
    """Return the state dict of the network.

    Args:
        entry: The registered weights.
        paths: Their files by name.

    Raises:
        CheckpointError: The files cannot be read.
    """
    with _reading(entry):
        if entry.convert is None:
            from safetensors.torch import load_file

            [path] = paths.values()
            return load_file(path)
        state: Mapping[str, Tensor] = load_target(entry.convert, entry)(paths)
        return state


@contextmanager
def _reading(entry: WeightsEntry) -> Iterator[None]:
    """Name the plugin whose code fails over its files."""
    try:
        yield
    except AuralflowError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{entry.name}: plugin {entry.plugin} {entry.version} cannot read its files ({reason_of(error)}); "
            f"`pip install --upgrade {entry.plugin}`, or tell its author"
        ) from error
