"""Metrics of separation: BSSEval as museval computes it, simpler ratios, loudness, and their aggregation."""

from __future__ import annotations

from auralflow_core.metrics.aggregate import bootstrap_interval, median_over_frames, museval_json
from auralflow_core.metrics.bsseval import BSSEval, BSSScores, bss_eval, frame_sdr
from auralflow_core.metrics.signal import (
    LOWER_IS_BETTER,
    energy_at_silence,
    log_spectral_distance,
    loudness,
    si_sdr,
    snr,
    song_metrics,
    usdr,
)

__all__ = [
    "LOWER_IS_BETTER",
    "BSSEval",
    "BSSScores",
    "bootstrap_interval",
    "bss_eval",
    "energy_at_silence",
    "frame_sdr",
    "log_spectral_distance",
    "loudness",
    "median_over_frames",
    "museval_json",
    "si_sdr",
    "snr",
    "song_metrics",
    "usdr",
]
