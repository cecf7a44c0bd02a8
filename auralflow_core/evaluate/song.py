"""One song: what its estimates are scored against, and what each of them scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from auralflow_core.data.song import Audio, Song
from auralflow_core.evaluate.oracles import ORACLES, oracle_estimates
from auralflow_core.metrics import BSSEval, BSSScores, frame_sdr, median_over_frames, song_metrics
from auralflow_core.separate.base import BaseSeparator

Backend = Literal["auralflow", "museval"]
Scorer = Callable[[Audio], tuple[BSSScores, str]]
"""Returns the scores of estimates `(source, channel, time)`, and why there are none."""

MODEL, MIXTURE = "model", "mixture"
BSS_METRICS = ("SDR", "ISR", "SIR", "SAR")


@dataclass(frozen=True)
class SongScores:
    """What one estimate of a song's targets scores.

    Attributes:
        targets: Names of the targets, in the order of the numbers.
        frames: BSSEval in frames of one second.
        values: Of each metric one number a target, `(target,)`: medians over frames, or taken over the whole song.
        reason: Why BSSEval has no number for the song, where it has none.
    """

    targets: tuple[str, ...]
    frames: BSSScores
    values: Mapping[str, NDArray[np.float64]]
    reason: str = ""


@dataclass(frozen=True)
class SongAudio:
    """A song in memory.

    Attributes:
        mixture: `(channel, time)`.
        references: The targets and, as one further source, the sum of all other stems, `(source, channel, time)`.
        targets: Names of the targets.
        others: Names of the stems that are no targets.
        sample_rate: In Hz.
    """

    mixture: Audio
    references: Audio
    targets: tuple[str, ...]
    others: tuple[str, ...]
    sample_rate: int

    @classmethod
    def read(cls, song: Song, targets: Sequence[str]) -> SongAudio:
        """Read a song that has every target."""
        others = tuple(name for name in song.stems if name not in targets)
        references = song.read_stems(list(targets))
        if others:
            rest = song.read_stems(list(others)).sum(axis=0, keepdims=True, dtype=np.float32)
            references = np.concatenate([references, rest])
        return cls(song.read_mixture(), references, tuple(targets), others, song.sample_rate)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the references."""
        return (*self.targets, " + ".join(self.others)) if self.others else self.targets

    def complete(self, estimates: Audio) -> Audio:
        """Add what the targets' estimates leave of the mixture as the estimate of the rest, where there is one."""
        if not self.others:
            return estimates
        return np.concatenate([estimates, self.mixture[None] - estimates.sum(axis=0, keepdims=True)])


def score_song(
    separator: BaseSeparator, song: Song, estimates: Sequence[str] = (MODEL, MIXTURE), backend: Backend = "auralflow"
) -> dict[str, SongScores]:
    """Make estimates of a song's targets and score each.

    The stems that the model does not estimate are scored against as one: their sum is a further reference, and what
    the estimates leave of the mixture is its estimate.

    Args:
        separator: The separator.
        song: A song that has every target.
        estimates: `model`, `mixture` and the names of oracles.
        backend: `auralflow` computes BSSEval v4 itself, `museval` lets the museval package do it.

    Returns:
        The scores by estimate.

    Raises:
        AudioError: A file cannot be read.
    """
    audio = SongAudio.read(song, separator.targets)
    bss = _scorer(audio, backend)
    scores = {}
    for name in estimates:
        if name == MIXTURE:
            scores[name] = _mixture_scores(audio)
            continue
        if name in ORACLES:
            made = oracle_estimates(name, _all_stems(song, audio), audio.mixture, audio.sample_rate)[
                : len(audio.targets)
            ]
        else:
            made = separator(torch.from_numpy(audio.mixture), audio.sample_rate).numpy()
        scores[name] = _scores(audio, audio.complete(made), bss)
    return scores


def _all_stems(song: Song, audio: SongAudio) -> Audio:
    """Return every stem by itself, the targets first."""
    if len(audio.others) < 2:
        return audio.references
    return np.concatenate([audio.references[: len(audio.targets)], song.read_stems(list(audio.others))])


def _scores(audio: SongAudio, estimates: Audio, bss: Scorer) -> SongScores:
    frames, reason = bss(estimates)
    count = len(audio.targets)
    frames = BSSScores(frames.sdr[:count], frames.isr[:count], frames.sir[:count], frames.sar[:count])
    others = song_metrics(audio.references[:count], estimates[:count], sample_rate=audio.sample_rate)
    return SongScores(audio.targets, frames, {**median_over_frames(frames), **others}, reason)


def _mixture_scores(audio: SongAudio) -> SongScores:
    """Score the mixture as every target's estimate, by the metrics that need no filters."""
    count = len(audio.targets)
    references = audio.references[:count]
    mixtures = np.broadcast_to(audio.mixture, audio.references.shape)
    # Silence of any source makes a frame NaN, so that all of them are handed over.
    sdr = frame_sdr(audio.references, mixtures, window=audio.sample_rate, hop=audio.sample_rate)[:count]
    none = np.full_like(sdr, np.nan)
    frames = BSSScores(sdr, none, none, none)
    others = song_metrics(references, mixtures[:count], sample_rate=audio.sample_rate)
    values = {"SDR": median_over_frames(frames)["SDR"], **others}
    return SongScores(audio.targets, frames, values, "" if np.isfinite(sdr).any() else _why_unscored(audio, mixtures))


def _scorer(audio: SongAudio, backend: Backend) -> Scorer:
    """Return what scores one estimate after another; what depends on the references alone is worked out once."""
    if backend == "museval":
        return partial(_museval, audio)
    return partial(_bss_eval, audio, BSSEval(audio.references, window=audio.sample_rate, hop=audio.sample_rate))


def _bss_eval(audio: SongAudio, scorer: BSSEval, estimates: Audio) -> tuple[BSSScores, str]:
    frames = scorer.score(estimates)
    return frames, "" if np.isfinite(frames.sdr).any() else _why_unscored(audio, estimates)


def _museval(audio: SongAudio, estimates: Audio) -> tuple[BSSScores, str]:
    from museval.metrics import bss_eval as museval_bss_eval

    by_time = [np.moveaxis(signal, 1, 2).astype(np.float64) for signal in (audio.references, estimates)]
    try:
        sdr, isr, sir, sar, _ = museval_bss_eval(*by_time, window=audio.sample_rate, hop=audio.sample_rate)
    except (ValueError, np.linalg.LinAlgError) as error:
        # museval refuses a song with a wholly silent source.
        return _no_scores(audio), _why_unscored(audio, estimates) or f"museval: {error}"
    except AttributeError as error:
        # From numpy 2.4 on, museval 0.4.1 looks for the error of a singular matrix where it no longer is.
        if "linalg" not in str(error):
            raise
        reason = "museval cannot solve for filters: references that predict each other make its matrix singular"
        return _no_scores(audio), f"{reason}; --backend auralflow can"
    frames = BSSScores(sdr, isr, sir, sar)
    return frames, "" if np.isfinite(sdr).any() else _why_unscored(audio, estimates)


def _no_scores(audio: SongAudio) -> BSSScores:
    frames = max(1, audio.references.shape[2] // audio.sample_rate)
    return BSSScores(*np.full((len(BSS_METRICS), len(audio.references), frames), np.nan))


def _why_unscored(audio: SongAudio, estimates: Audio) -> str:
    """Say what makes every frame NaN."""
    reasons = []
    for name, reference, estimate in zip(audio.sources, audio.references, estimates, strict=True):
        if not np.isfinite(estimate).all():
            reasons.append(f"the estimate of {name} has samples that are no numbers")
        # BSSEval's silence: channels that add up to zero.
        elif not reference.sum(axis=0).any():
            reasons.append(f"{name} is silent")
        elif not estimate.sum(axis=0).any():
            reasons.append(f"the estimate of {name} is silent")
    return ", ".join(reasons) or "in each second a source or an estimate is silent"
