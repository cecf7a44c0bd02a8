"""The scores of each song in files of museval's layout, from which a run that was stopped goes on."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from auralflow_core.evaluate.song import BSS_METRICS, MODEL, SongScores
from auralflow_core.files import write_text
from auralflow_core.metrics import BSSScores, museval_json

FORMAT_VERSION = 1
OWN = "auralflow"
"""The key of what museval's layout has no place for."""


class ScoreStore:
    """The files `SPLIT/SONG.json` of the model's scores, and `ESTIMATE/SPLIT/SONG.json` of those of other estimates.

    Each such folder is one that museval's `EvalStore.add_eval_dir` reads, if the split is `test`.

    Args:
        folder: The folder `evaluation/` of a model folder.
        split: The split that the songs are of.
        names: Names of all songs of the split.
        runs: What the scores of each estimate depend on besides the song, as data for JSON.
    """

    def __init__(self, folder: Path, split: str, names: Sequence[str], runs: Mapping[str, Any]) -> None:
        self.folder, self._split = folder, split
        self._files = _file_names(names)
        self._runs = {estimate: digest({"format": FORMAT_VERSION, **facts}) for estimate, facts in runs.items()}

    def path(self, estimate: str, song: str) -> Path:
        """Return the file of one estimate of a song."""
        folder = self.folder if estimate == MODEL else self.folder / estimate
        return folder / self._split / self._files[song]

    def load(self, estimate: str, song: str, audio: str) -> SongScores | None:
        """Return the scores that are there of the same run and the same audio, or none."""
        data = _read(self.path(estimate, song))
        if data is None:
            return None
        own = data[OWN]
        if (own.get("run"), own.get("song"), own.get("audio")) != (self._runs[estimate], song, audio):
            return None
        try:
            return _from_json(data)
        except (KeyError, TypeError, ValueError):
            return None

    def save(self, estimate: str, song: str, audio: str, scores: SongScores) -> None:
        """Write the scores of one estimate of a song."""
        facts = {"song": song, "audio": audio, "estimate": estimate, "run": self._runs[estimate]}
        write_text(self.path(estimate, song), json.dumps(_to_json(scores, facts), indent=1) + "\n")

    def drop_outdated(self) -> None:
        """Remove the files of other runs, so that no folder holds the scores of two models side by side."""
        for estimate, run in self._runs.items():
            for path in self.path(estimate, next(iter(self._files))).parent.glob("*.json"):
                data = _read(path)
                if data is not None and data[OWN].get("run") != run:
                    path.unlink()


def digest(data: Any) -> str:
    """Return 32 hexadecimal digits of data that JSON can hold."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:32]


def _to_json(scores: SongScores, facts: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: dict(zip(scores.targets, column.tolist(), strict=True)) for name, column in scores.values.items()}
    own = {**facts, "reason": scores.reason, "scores": values}
    return {**museval_json(scores.frames, scores.targets), OWN: own}


def _from_json(data: Mapping[str, Any]) -> SongScores:
    targets = tuple(target["name"] for target in data["targets"])
    frames = [
        [[frame["metrics"][metric] for frame in target["frames"]] for target in data["targets"]]
        for metric in BSS_METRICS
    ]
    values = {
        name: np.array([column[target] for target in targets], dtype=np.float64)
        for name, column in data[OWN]["scores"].items()
    }
    return SongScores(targets, BSSScores(*np.array(frames, dtype=np.float64)), values, str(data[OWN]["reason"]))


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a file of ours holds; none where it is missing, damaged or somebody else's."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) and isinstance(data.get(OWN), dict) else None


def _file_names(songs: Sequence[str]) -> dict[str, str]:
    """Return a file name for each song: its own, as far as file systems allow it and no other song has it."""
    # museval takes what stands before `.json` for the name of the song; a name has at most 255 bytes.
    safe = {song: re.sub(r'[/\\:*?"<>|\x00-\x1f]', "_", song) for song in songs}
    short = {song: name.encode(errors="ignore")[:200].decode(errors="ignore") for song, name in safe.items()}
    taken = Counter(name.casefold() for name in short.values())
    return {
        song: f"{name}.json" if taken[name.casefold()] == 1 else f"{name} {digest(song)[:8]}.json"
        for song, name in short.items()
    }
