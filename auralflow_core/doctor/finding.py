"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from auralflow_core.errors import AuralflowError

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")

SONG_CHECKS = ("files", "format", "stems", "opening", "sums", "silence", "clipping", "offset", "mono", "duplicates")
MODEL_CHECKS = ("targets", "rate", "disk", "memory", "overfit", "loader")
MACHINE_CHECKS = ("torch", "plugins")
CHECKS = (*SONG_CHECKS, *MODEL_CHECKS, *MACHINE_CHECKS)
"""Names of all checks, in the order of the report."""


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        check: The check's name, one of `CHECKS`.
        severity: `error`: training fails or learns something wrong; `warning`: it probably suffers; `info`: a fact.
        what: What was found.
        where: Split and song, a file, or a part of the machine.
        value: What was measured.
        limit: What it should be.
        cause: The likely cause.
        next_step: What to do.
    """

    check: str
    severity: Severity
    what: str
    where: str = ""
    value: str = ""
    limit: str = ""
    cause: str = ""
    next_step: str = ""

    @classmethod
    def of_error(cls, check: str, where: str, error: AuralflowError, *, said: str = "", cause: str = "") -> Finding:
        """Return an error whose words are those of an exception; what stands last in these is what to do.

        Args:
            check: The check's name.
            where: Split and song, a file, or a part of the machine.
            error: The exception.
            said: What stands before its words.
            cause: The likely cause.
        """
        what, _, next_step = str(error).rpartition("; ")
        if not what:
            what, next_step = next_step, "mend it and run doctor again"
        return cls(check, "error", said + what, where, cause=cause, next_step=next_step)
