"""Separation of whole songs: cut into overlapping segments, separated, joined, written as they are made."""

from auralflow_core.separate.engine import Separator
from auralflow_core.separate.song import Options, SongReport, plan_outputs, separate_song, wanted_stems

__all__ = ["Options", "Separator", "SongReport", "plan_outputs", "separate_song", "wanted_stems"]
