"""Checkpoints: one folder a step, whole or absent, and nothing in them can execute code.

checkpoint/
  step-00000140/
    model.safetensors     the network's weights
    optimizer.pt, scheduler.pt, grad_scaler.pt, trainer.pt     torch.load(weights_only=True)
    meta.json             format version, model type, plugin, params, step, config, data fingerprint
  best.json               {"step": 140, "loss": 0.0123}
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from auralflow_core.errors import CheckpointError
from auralflow_core.files import atomic_file, atomic_folder, write_text

FORMAT_VERSION = 1
_STEP_FOLDER = re.compile(r"step-(\d+)")


class CheckpointStore:
    """The checkpoints of a model folder.

    Args:
        folder: The folder `checkpoint/`; made when something is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, in order."""
        if not self.folder.is_dir():
            return []
        found = [_STEP_FOLDER.fullmatch(path.name) for path in self.folder.iterdir() if (path / "meta.json").is_file()]
        return sorted(int(match[1]) for match in found if match)

    def latest(self) -> int:
        """Return the newest step.

        Raises:
            CheckpointError: There is no checkpoint.
        """
        steps = self.steps()
        if not steps:
            raise CheckpointError(
                f"{self.folder}: holds no checkpoint; train the model first with `auralflow train "
                f"{self.folder.parent} DATA`"
            )
        return steps[-1]

    def best(self) -> int:
        """Return the step with the lowest validation loss, or the newest where none is marked."""
        try:
            step = int(json.loads((self.folder / "best.json").read_text(encoding="utf-8"))["step"])
        except (OSError, ValueError, KeyError, TypeError):
            return self.latest()
        return step if step in self.steps() else self.latest()

    def mark_best(self, step: int, loss: float) -> None:
        """Remember the best step."""
        write_text(self.folder / "best.json", json.dumps({"step": step, "loss": loss}) + "\n")

    def keep_only(self, steps: set[int]) -> None:
        """Remove the checkpoints of all other steps, and what a killed process left half written or half removed."""
        for step in self.steps():
            if step not in steps:
                # Renamed first, so that a kill leaves no half of a checkpoint that looks whole.
                self.path(step).rename(self.folder / f".step-{step:08d}.part")
        for rest in self.folder.glob(".step-*.part"):
            shutil.rmtree(rest, ignore_errors=True)

    def path(self, step: int) -> Path:
        """Return the folder of a step."""
        return self.folder / f"step-{step:08d}"

    def save(self, step: int, meta: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> Path:
        """Write a whole checkpoint; it appears when everything is on disk.

        Args:
            step: The global step.
            meta: Facts about the model, for `meta.json`.
            parts: State dicts by name. `model` holds tensors and becomes safetensors, the others may hold tensors,
                numbers, text, lists and dicts.
        """
        path = self.path(step)
        with atomic_folder(path) as scratch:
            for name, state in parts.items():
                _save_state(scratch / _part_file(name), name, state)
            _write_meta(scratch / "meta.json", step, meta)
        return path

    def save_part(self, step: int, meta: Mapping[str, Any], name: str, state: Mapping[str, Any]) -> Path:
        """Write one part into the checkpoint of a step; it is made if it is not there."""
        path = self.path(step)
        if not path.is_dir():
            return self.save(step, meta, {name: state})
        with atomic_file(path / _part_file(name)) as scratch:
            _save_state(scratch, name, state)
        return path

    def load(self, step: int, name: str) -> dict[str, Any]:
        """Return the state dict of one part, on the CPU.

        Raises:
            CheckpointError: The step or the part is missing, or the file is damaged.
        """
        path = self.path(step) / _part_file(name)
        if not path.is_file():
            known = ", ".join(str(step) for step in self.steps()) or "none"
            raise CheckpointError(f"{path}: no such file; steps that have a checkpoint: {known}")
        try:
            state = load_file(path) if path.suffix == ".safetensors" else _load_safely(path)
        # The unpickler stumbles over damage in any way, from IndexError to UnicodeDecodeError.
        except Exception as error:
            raise _damaged(path, _first_line(error)) from error
        if not isinstance(state, dict):
            raise _damaged(path, f"holds a {type(state).__name__}")
        return state

    def parts(self, step: int) -> list[str]:
        """Return the names of the parts that the checkpoint of a step has."""
        return sorted(path.stem for path in self.path(step).glob("*") if path.suffix in (".safetensors", ".pt"))

    def meta(self, step: int) -> dict[str, Any]:
        """Return the facts in `meta.json`.

        Raises:
            CheckpointError: The file is missing, damaged, or written by a newer auralflow.
        """
        path = self.path(step) / "meta.json"
        try:
            meta = json.loads(path.read_text(encoding="utf-8"))
            version = int(meta.get("format_version", 0))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path}: missing or damaged ({error}); go on from another step") from None
        if version > FORMAT_VERSION:
            raise CheckpointError(
                f"{path}: has format version {version}, above {FORMAT_VERSION}, the newest this auralflow reads; "
                "`pip install --upgrade auralflow`"
            )
        return dict(meta)


def _part_file(name: str) -> str:
    return "model.safetensors" if name == "model" else f"{name}.pt"


def _save_state(path: Path, name: str, state: Mapping[str, Any]) -> None:
    try:
        if name == "model":
            save_file(_separate_tensors(state), path)
        else:
            torch.save(dict(state), path)
    except (RuntimeError, SafetensorError) as error:
        # torch and safetensors report a failed write (a full disk, above all) as an error of their own.
        raise OSError(f"{_first_line(error)}; is the disk full?") from error


def _separate_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors so that none shares memory with another, which safetensors refuses."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}


def _write_meta(path: Path, step: int, meta: Mapping[str, Any]) -> None:
    facts = {"format_version": FORMAT_VERSION, "step": step, **meta}
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _load_safely(path: Path) -> Any:
    with warnings.catch_warnings():
        # torch warns of pickles that it did not write itself; what it cannot read safely it refuses anyway.
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: damaged or not a checkpoint ({reason}); go on from another step or train again")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
