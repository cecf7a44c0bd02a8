"""BSSEval v4 and v3: SDR, ISR, SIR and SAR of each target in each frame, with museval's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from auralflow_core.errors import DataError
from auralflow_core.metrics.filters import fit_filters
from auralflow_core.metrics.frames import Bounds, FrameEnergies, error_energies, frame_bounds, has_silence
from auralflow_core.metrics.museval_order import museval_filters, museval_ratios
from auralflow_core.metrics.pair import Audio, Pair, pair_of

Mode = Literal["v4", "v3"]
METRICS = ("SDR", "ISR", "SIR", "SAR")

# Above these, in dB, what is left of an estimate is so small that rounding shows in it. SDR takes no filter: it is the
# difference of two signals, and exact for longer.
CLEAN_SDR = 200.0
CLEAN_RATIO = 100.0


@dataclass(frozen=True)
class BSSScores:
    """Scores in dB, each a float64 array `(target, frame)`.

    A frame in which any reference or estimate is silent is NaN for all targets, as in museval. `inf` means that nothing
    of that error is left, as in SIR with a single target.

    Attributes:
        sdr: Source to distortion ratio.
        isr: Source image to spatial distortion ratio.
        sir: Source to interference ratio.
        sar: Source to artifacts ratio.
    """

    sdr: NDArray[np.float64]
    isr: NDArray[np.float64]
    sir: NDArray[np.float64]
    sar: NDArray[np.float64]


def bss_eval(
    references: Audio,
    estimates: Audio,
    *,
    window: int = 44100,
    hop: int = 44100,
    filter_length: int = 512,
    mode: Mode = "v4",
    reproduce_rounding: bool = True,
) -> BSSScores:
    """Score estimates by BSSEval, as museval 0.4 does without permutations.

    Each estimate is split into its reference, a spatial error that filtering its own reference explains, interference
    that filtering all references explains, and artifacts, the rest (Vincent, Gribonval and Fevotte, 2006, section III;
    images and ISR: Vincent et al., SiSEC 2007 and 2011). v4 fits the filters once, on the whole song (Stoeter, Liutkus
    and Ito, 2018, section 3); v3 fits them in every frame.

    Tensors are scored on their device, arrays on the CPU, in float64 and in stretches of the song; beside the inputs,
    memory is that of the Gram matrix and its factor. Where rounding would decide a number (references with an empty
    band and less noise than 16 bits, or that predict each other; estimates equal to references up to a filter),
    museval's own order of operations takes over, on the CPU and at museval's speed.

    Args:
        references: True sources, `(target, channel, time)`, float.
        estimates: Estimated sources, of the same shape.
        window: Samples a frame; more than the song has makes the whole song one frame.
        hop: Samples from frame to frame. What fills no window at the end is not scored.
        filter_length: Taps of the distortion filters.
        mode: `v4` or `v3`.
        reproduce_rounding: False leaves ratios beyond 100 dB as they are found, instead of reproducing museval's
            rounding errors: for estimates that are sums of the references, such as the mixture.

    Returns:
        The scores of each target and frame in dB. A source that is silent in the whole song makes every frame NaN
        (museval refuses the song); a value that is not finite makes its target's scores NaN, in a reference those of
        all targets, in v3 only in its frame.

    Raises:
        DataError: The shapes do not fit, or a setting is out of range.
    """
    pair = _checked(references, estimates, window=window, hop=hop, filter_length=filter_length)
    if mode not in get_args(Mode):
        raise DataError(f"mode is {mode!r}; known are {' and '.join(get_args(Mode))}")
    frames = frame_bounds(pair.length, window, hop)
    heard = [number for number, bounds in enumerate(frames) if not has_silence(pair, bounds)]
    fits = [((0, pair.length), heard)] if mode == "v4" else [(frames[number], [number]) for number in heard]
    ratios = np.full((len(METRICS), pair.num_targets, len(frames)), np.nan)
    for stretch, numbers in fits if heard else []:
        scored = [frames[number] for number in numbers]
        ratios[..., numbers] = _score(pair, stretch, scored, filter_length, reproduce_rounding)
    return BSSScores(*ratios)


def frame_sdr(references: Audio, estimates: Audio, *, window: int = 44100, hop: int = 44100) -> NDArray[np.float64]:
    """Return the SDR of BSSEval v4 alone, which needs no filters and a tenth of the time.

    The three errors of BSSEval add up to estimate minus reference, so that its SDR is the energy of the reference over
    that of their difference. Arguments, silent frames and errors are those of `bss_eval`; where an estimate equals its
    reference the SDR is `inf`.

    Returns:
        SDR in dB, `(target, frame)`.
    """
    pair = _checked(references, estimates, window=window, hop=hop)
    ratios = np.full((pair.num_targets, len(frames := frame_bounds(pair.length, window, hop))), np.nan)
    for number, bounds in enumerate(frames):
        if not has_silence(pair, bounds):
            over, under = error_energies(pair, bounds)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratios[:, number] = np.where(under == 0, np.inf, 10 * np.log10(over / under))
    return ratios


def _checked(references: Audio, estimates: Audio, **settings: int) -> Pair:
    for name, value in settings.items():
        if value < 1:
            raise DataError(f"{name} is {value}; it is a number of samples, 1 or more")
    return pair_of(references, estimates)


def _score(
    pair: Pair, stretch: Bounds, frames: Sequence[Bounds], filter_length: int, reproduce_rounding: bool
) -> NDArray[np.float64]:
    """Return the ratios `(metric, target, frame)` of frames, with filters that are fitted on a stretch."""
    fitted = fit_filters(pair, *stretch, filter_length)
    everyone = range(pair.num_targets)
    filters = fitted or museval_filters(pair, everyone, *stretch, filter_length)
    ratios = _ratios(FrameEnergies(pair, filters, frames))
    limits = np.array([CLEAN_SDR, CLEAN_RATIO, CLEAN_RATIO, CLEAN_RATIO])
    if pair.num_targets == 1:
        # The two projections are one, and their difference is exactly zero.
        ratios[2] = np.where(np.isnan(ratios[2]), np.nan, np.inf)
        limits[2] = np.inf
    doubtful: NDArray[np.bool_] = np.any(ratios > limits[:, None, None], axis=0)
    if not reproduce_rounding or not doubtful.any():
        return ratios
    targets = np.flatnonzero(doubtful.any(axis=1)).tolist() if fitted else everyone
    exact = museval_filters(pair, targets, *stretch, filter_length) if fitted else filters
    for target, whole, own in zip(targets, exact.whole.cpu().numpy(), exact.own.cpu().numpy(), strict=True):
        for frame in np.flatnonzero(doubtful[target]).tolist():
            ratios[:, target, frame] = museval_ratios(pair, target, whole, own, frames[frame])
    return ratios


def _ratios(energies: FrameEnergies) -> NDArray[np.float64]:
    """Return SDR, ISR, SIR and SAR `(metric, target, frame)`; a target that has NaN anywhere has no ratio there."""
    over = np.stack([energies.target, energies.target, energies.filtered, energies.projected])
    under = np.stack([energies.error, energies.spatial, energies.interference, energies.artifacts])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(under == 0, np.inf, 10 * np.log10(over / under))
    ratios[:, np.isnan(ratios).any(axis=0)] = np.nan
    ordered: NDArray[np.float64] = ratios.swapaxes(1, 2)
    return ordered
