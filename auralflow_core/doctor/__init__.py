"""What is wrong with songs, a model or a machine, found before training does."""

from __future__ import annotations

from auralflow_core.doctor.finding import CHECKS, Finding
from auralflow_core.doctor.run import Report, examine

__all__ = ["CHECKS", "Finding", "Report", "examine"]
