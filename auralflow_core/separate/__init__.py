"""Separation of whole songs: cut into overlapping segments, separated, joined, written as they are made."""

from auralflow_core.separate.base import BaseSeparator
from auralflow_core.separate.engine import Separator
from auralflow_core.separate.ensemble import Ensemble
from auralflow_core.separate.job import Job, Outcome
from auralflow_core.separate.jobs import run_here, run_in_processes
from auralflow_core.separate.plan import Plan, make_plan, plan_outputs
from auralflow_core.separate.report import Report, SongRecord, locked
from auralflow_core.separate.song import Options, SongReport, separate_song, wanted_stems
from auralflow_core.separate.stems import StemFormat

__all__ = [
    "BaseSeparator",
    "Ensemble",
    "Job",
    "Options",
    "Outcome",
    "Plan",
    "Report",
    "Separator",
    "SongRecord",
    "SongReport",
    "StemFormat",
    "locked",
    "make_plan",
    "plan_outputs",
    "run_here",
    "run_in_processes",
    "separate_song",
    "wanted_stems",
]
