"""What the files of an unknown folder could be: songs, stems and splits, as a data set's description."""

from __future__ import annotations

from auralflow_core.init_data.proposal import Proposal, propose, read_stems

__all__ = ["Proposal", "propose", "read_stems"]
