"""BSSEval v4 and v3: SDR, ISR, SIR and SAR of each target in each frame, with museval's numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from auralflow_core.errors import DataError
from auralflow_core.metrics.correlations import Bounds, Correlations, correlate, correlate_each, correlate_tiles
from auralflow_core.metrics.filters import NormalEquations
from auralflow_core.metrics.frames import error_energies, filtered_energies, frame_bounds, has_silence
from auralflow_core.metrics.museval_order import museval_filters, museval_ratios
from auralflow_core.metrics.pair import Audio, Pair, pair_of
from auralflow_core.metrics.quadratic import part_energies

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
    memory is that of the Gram matrix, its factor and the correlations within the frames. Where rounding would decide a
    number (references with an empty band and less noise than 16 bits, or that predict each other; estimates equal to
    references up to a filter), museval's own order of operations takes over, on the CPU and at museval's speed.

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
    scorer = BSSEval(references, window=window, hop=hop, filter_length=filter_length, mode=mode)
    return scorer.score(estimates, reproduce_rounding=reproduce_rounding)


class BSSEval:
    """`bss_eval` of several estimates against the same references.

    In v4 the references' correlations and the factor of their Gram matrix are worked out by the first estimate and kept
    for the next ones: 170 MB for 4 stereo targets, and 16 MB a minute.
    """

    def __init__(
        self,
        references: Audio,
        *,
        window: int = 44100,
        hop: int = 44100,
        filter_length: int = 512,
        mode: Mode = "v4",
    ) -> None:
        """Take the references and settings, which are those of `bss_eval`.

        Raises:
            DataError: A setting is out of range, or the references are not `(target, channel, time)`.
        """
        _check(window=window, hop=hop, filter_length=filter_length)
        if mode not in get_args(Mode):
            raise DataError(f"mode is {mode!r}; known are {' and '.join(get_args(Mode))}")
        self._references, self._mode = references, mode
        self._window, self._hop, self._taps = window, hop, filter_length
        self._gram: Tensor | None = None
        self._tiles: list[Bounds] = []
        self._tile_grams: Tensor | None = None
        self._normal: NormalEquations | None = None

    def score(self, estimates: Audio, *, reproduce_rounding: bool = True) -> BSSScores:
        """Score estimates; arguments, scores and errors are those of `bss_eval`."""
        pair = pair_of(self._references, estimates)
        frames = frame_bounds(pair.length, self._window, self._hop)
        heard = [number for number, bounds in enumerate(frames) if not has_silence(pair, bounds)]
        ratios = np.full((len(METRICS), pair.num_targets, len(frames)), np.nan)
        if heard:
            score = self._score_song if self._mode == "v4" else self._score_framewise
            ratios[..., heard] = score(pair, [frames[number] for number in heard], reproduce_rounding)
        return BSSScores(*ratios)

    def _score_song(self, pair: Pair, frames: Sequence[Bounds], reproduce_rounding: bool) -> NDArray[np.float64]:
        """Return the ratios `(metric, target, frame)` of frames, with filters that are fitted on the whole song."""
        song = (0, pair.length)
        inside: Iterable[Correlations]
        if self._hop >= self._window:
            tiles = _tiles(pair.length, frames)
            # In one estimate a frame is silent that is not in another: then the tiles are others too.
            known = self._tile_grams if tiles == self._tiles else None
            found = correlate_each(pair, tiles, self._taps, known)
            self._tiles, self._tile_grams = tiles, found.gram
            whole = correlate_tiles(pair, tiles, self._taps, found, self._gram)
            scored = set(frames)
            places = [number for number, tile in enumerate(tiles) if tile in scored]
            inside = (Correlations(found.gram[number], found.cross[number]) for number in places)
        else:
            whole = correlate(pair, song, self._taps, self._gram)
            inside = (correlate(pair, frame, self._taps) for frame in frames)
        self._gram = whole.gram
        if self._normal is None:
            self._normal = NormalEquations(pair, whole.gram, song)
        return _ratios(pair, self._normal, whole, song, frames, inside, reproduce_rounding)

    def _score_framewise(self, pair: Pair, frames: Sequence[Bounds], reproduce_rounding: bool) -> NDArray[np.float64]:
        """Return the ratios `(metric, target, frame)` of frames, with filters that are fitted on each."""
        ratios = []
        for frame in frames:
            lags = correlate(pair, frame, self._taps)
            normal = NormalEquations(pair, lags.gram, frame)
            ratios.append(_ratios(pair, normal, lags, frame, [frame], [lags], reproduce_rounding))
        return np.concatenate(ratios, axis=2)


def frame_sdr(references: Audio, estimates: Audio, *, window: int = 44100, hop: int = 44100) -> NDArray[np.float64]:
    """Return the SDR of BSSEval v4 alone, which needs no filters and a tenth of the time.

    The three errors of BSSEval add up to estimate minus reference, so that its SDR is the energy of the reference over
    that of their difference. Arguments, silent frames and errors are those of `bss_eval`; where an estimate equals its
    reference the SDR is `inf`.

    Returns:
        SDR in dB, `(target, frame)`.
    """
    _check(window=window, hop=hop)
    pair = pair_of(references, estimates)
    ratios = np.full((pair.num_targets, len(frames := frame_bounds(pair.length, window, hop))), np.nan)
    for number, bounds in enumerate(frames):
        if not has_silence(pair, bounds):
            over, under = error_energies(pair, bounds)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratios[:, number] = np.where(under == 0, np.inf, 10 * np.log10(over / under))
    return ratios


def _check(**settings: int) -> None:
    for name, value in settings.items():
        if value < 1:
            raise DataError(f"{name} is {value}; it is a number of samples, 1 or more")


def _tiles(length: int, frames: Sequence[Bounds]) -> list[Bounds]:
    """Return frames that do not overlap, and what lies between them, in order."""
    cuts = sorted({0, length, *(cut for frame in frames for cut in frame)})
    return list(pairwise(cuts))


def _ratios(
    pair: Pair,
    normal: NormalEquations,
    lags: Correlations,
    stretch: Bounds,
    frames: Sequence[Bounds],
    inside: Iterable[Correlations],
    reproduce_rounding: bool,
) -> NDArray[np.float64]:
    """Return the ratios `(metric, target, frame)` of frames, with filters that are fitted on a stretch.

    Args:
        pair: The signals.
        normal: The normal equations of the stretch.
        lags: Its correlations.
        stretch: Its first sample and the one after its last.
        frames: The frames.
        inside: The correlations within each of them.
        reproduce_rounding: Whether museval's rounding errors are reproduced where they decide a ratio.
    """
    taps = lags.gram.shape[-1]
    fitted = normal.filters(lags.cross, pair.num_targets)
    everyone = range(pair.num_targets)
    filters = fitted or museval_filters(pair, everyone, *stretch, taps)
    errors = np.stack([error_energies(pair, frame) for frame in frames])  # (frame, 2, target)
    energies, unsure = part_energies(filters, inside, errors)
    if unsure.any():
        numbers = np.flatnonzero(unsure).tolist()
        energies[:, numbers] = filtered_energies(pair, filters, [frames[number] for number in numbers])
    ratios = _decibels(errors, energies)
    limits = np.array([CLEAN_SDR, CLEAN_RATIO, CLEAN_RATIO, CLEAN_RATIO])
    if pair.num_targets == 1:
        # The two projections are one, and their difference is exactly zero.
        ratios[2] = np.where(np.isnan(ratios[2]), np.nan, np.inf)
        limits[2] = np.inf
    doubtful: NDArray[np.bool_] = np.any(ratios > limits[:, None, None], axis=0)
    if not reproduce_rounding or not doubtful.any():
        return ratios
    targets = np.flatnonzero(doubtful.any(axis=1)).tolist() if fitted else everyone
    exact = museval_filters(pair, targets, *stretch, taps) if fitted else filters
    for target, whole, own in zip(targets, exact.whole.cpu().numpy(), exact.own.cpu().numpy(), strict=True):
        for frame in np.flatnonzero(doubtful[target]).tolist():
            ratios[:, target, frame] = museval_ratios(pair, target, whole, own, frames[frame])
    return ratios


def _decibels(errors: NDArray[np.float64], energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return SDR, ISR, SIR and SAR `(metric, target, frame)`; a target that has NaN anywhere has no ratio there.

    Args:
        errors: Energies of the references and of the estimates' errors, `(frame, 2, target)`.
        energies: Those of the parts of the estimates, `(energy, frame, target)`, in the order of `filtered_energies`.
    """
    reference, error = errors.swapaxes(0, 1)
    spatial, projected, interference, explained, artifacts = energies
    over = np.stack([reference, reference, projected, explained])
    under = np.stack([error, spatial, interference, artifacts])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(under == 0, np.inf, 10 * np.log10(over / under))
    ratios[:, np.isnan(ratios).any(axis=0)] = np.nan
    ordered: NDArray[np.float64] = ratios.swapaxes(1, 2)
    return ordered
