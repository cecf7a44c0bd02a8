"""What is wrong with songs, a model or a machine, found before training does; and what a folder's files could be."""

from __future__ import annotations

from auralflow_core.doctor.finding import CHECKS, Finding
from auralflow_core.doctor.run import Report, examine

__all__ = ["CHECKS", "Finding", "Report", "examine"]
