"""The errors that a user of auralflow can cause.

Each message names the value, the limit, the likely cause and what to do next. The command line turns an
`AuralflowError` into one line and exit status 1; a fault of our own is an `assert` and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AuralflowError(Exception):
    """Base of everything that a user can cause and mend."""


class ConfigError(AuralflowError):
    """A setting, a configuration file or a model folder is not usable."""


class RegistryError(AuralflowError):
    """A registered name is unknown, ambiguous or cannot be loaded."""


class DataError(AuralflowError):
    """A data set is missing, incomplete or inconsistent."""


class AudioError(AuralflowError):
    """An audio file or stream cannot be read or written."""


class CheckpointError(AuralflowError):
    """A checkpoint is missing, damaged or belongs to another model."""


class TrainingError(AuralflowError):
    """Training cannot start or go on."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `"; did you mean x?"` for the nearest of the known words, or an empty string."""
    by_folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), by_folded, n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(by_folded[name] for name in near)}?" if near else ""
