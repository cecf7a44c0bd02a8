"""Evaluation: songs scored against their true stems, oracles beside them, tables over songs, comparisons."""

from auralflow_core.evaluate.run import evaluate
from auralflow_core.evaluate.song import Backend, score_song
from auralflow_core.evaluate.table import MEDIAN, Score, medians, write_csv

__all__ = ["MEDIAN", "Backend", "Score", "evaluate", "medians", "score_song", "write_csv"]
