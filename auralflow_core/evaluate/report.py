"""`evaluation.json`: what was tested, how, on what, and what came out."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from auralflow_core.evaluate.oracles import WINDOW_SECONDS
from auralflow_core.evaluate.run import Outcome
from auralflow_core.evaluate.seen import SeenSong
from auralflow_core.evaluate.song import MODEL, Backend
from auralflow_core.evaluate.store import digest
from auralflow_core.evaluate.table import summarize
from auralflow_core.files import json_text, write_text
from auralflow_core.metrics import LOWER_IS_BETTER
from auralflow_core.model import SeparationModel

KIND = "auralflow evaluation"
FORMAT_VERSION = 1
# Settings of `dataset` that say what a model makes of a song; the others are about training.
_AUDIO = {
    "targets",
    "num_channels",
    "sample_rate",
    "sample_length",
    "num_fft",
    "window_size",
    "hop_length",
    "stft_padding",
}


@dataclass(frozen=True)
class Description:
    """What is tested and how, as data for JSON.

    Attributes:
        model: Folder, name, type, plugin, targets, step, and the SHA-256 of the weights.
        settings: What the numbers depend on besides the weights and the songs.
        versions: The versions of what makes the numbers.
    """

    model: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, Any]

    def runs(self, estimates: Sequence[str]) -> dict[str, Any]:
        """Return what the scores of each estimate depend on; those of oracles do not on the weights."""
        common = {"settings": self.settings, "versions": self.versions, "targets": self.model["targets"]}
        weights = {name: self.model[name] for name in ("type", "plugin", "sha256")}
        return {name: {**common, **(weights if name == MODEL else {})} for name in estimates}


def describe(model: SeparationModel, step: int, weights: Path, backend: Backend) -> Description:
    """Describe a test.

    Args:
        model: A trained model.
        step: The step of its checkpoint.
        weights: The file of its weights.
        backend: Who computes BSSEval.
    """
    total = hashlib.sha256()
    with weights.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    facts = {
        "folder": str(model.folder),
        "name": model.config.model.name,
        "type": model.config.model.type,
        "plugin": model.origin.get("plugin"),
        "targets": list(model.targets),
        "step": step,
        "sha256": total.hexdigest(),
    }
    packages = {name: version(name) for name in ("auralflow", "museval", "scipy")}
    plugin = {str(model.origin.get("plugin")): model.origin.get("plugin_version")}
    others = {"torch": str(torch.__version__), "numpy": np.__version__, "python": platform.python_version()}
    return Description(facts, _settings(model, backend), {**packages, **plugin, **others})


def _settings(model: SeparationModel, backend: Backend) -> dict[str, Any]:
    config = model.config
    return {
        "backend": backend,
        "metric": "BSSEval v4",
        "window_seconds": 1.0,
        "hop_seconds": 1.0,
        "filter_length": 512,
        "oracle_window_seconds": WINDOW_SECONDS,
        "device": model.device.type,
        "mixed_precision": str(model.amp_dtype) if config.training.use_mixed_precision else None,
        "separation": config.separation.model_dump(mode="json"),
        "params": dict(config.model.params),
        "dataset": config.dataset.model_dump(mode="json", include=_AUDIO),
    }


def evaluation_document(
    outcome: Outcome,
    description: Description,
    data: Mapping[str, Any],
    seen: Sequence[SeenSong],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """Return the content of `evaluation.json`; docs/evaluation.md describes it.

    Args:
        outcome: The scores.
        description: What was tested and how.
        data: The data set's path and the split.
        seen: The songs that the model knows.
        warnings: What was said of them.
    """
    rows = outcome.rows()
    reasons = {song: estimates[MODEL].reason for song, estimates in outcome.scores.items()}
    tested = len(outcome.scores)
    return {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "model": dict(description.model),
        "data": {**data, "songs": tested, "sha256": digest(sorted(outcome.audio[song] for song in outcome.scores))},
        "settings": dict(description.settings),
        "versions": dict(description.versions),
        "warnings": list(warnings),
        "seen": [asdict(song) for song in seen],
        "failed": outcome.failed,
        "unscored": {song: reason for song, reason in reasons.items() if reason},
        "lower_is_better": sorted(LOWER_IS_BETTER),
        "summary": summarize(rows),
        "songs": {song: outcome.audio[song] for song in outcome.scores},
        "scores": [{"song": row.song, "target": row.target, **row.values} for row in rows],
    }


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document as strict JSON: what is no number becomes null."""
    write_text(path, json_text(document) + "\n")
