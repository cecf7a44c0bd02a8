"""Metrics that need no distortion filters: SI-SDR, SNR, uSDR, log-spectral distance, loudness, energy at silence.

References and estimates are `(target, channel, time)`, arrays or tensors; each function returns a float64 array
`(target,)`. Estimates are compared with the reference of the same number: in music the targets are known by name, and
no permutation is searched for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import get_window, sosfilt

from auralflow_core.errors import DataError
from auralflow_core.metrics.pair import Audio, pair_of

Array = NDArray[np.float64]

USDR_DELTA = 1e-7
SPECTRA_PER_BATCH = 256
BLOCK_SAMPLES = 2**15
# Among the columns of tables, whose other metrics are better when higher.
LOWER_IS_BETTER = frozenset({"PES"})
# ITU-R BS.1770-4, annex 1: the gates (eqs. 3 to 7), the weights of left, right, centre and surrounds (table 3).
LOUDNESS_OFFSET = -0.691
ABSOLUTE_GATE = -70.0
RELATIVE_GATE = -10.0
BLOCK_SECONDS, STEP_SECONDS = 0.4, 0.1
CHANNEL_WEIGHTS = (1.0, 1.0, 1.0, 1.41, 1.41)


def si_sdr(references: Audio, estimates: Audio) -> Array:
    """Return the scale-invariant signal to distortion ratio in dB, the mean over channels.

    10 log10(|a s|^2 / |a s - e|^2) with a = <e, s> / <s, s>, over the whole signal and without removal of the mean (Le
    Roux, Wisdom, Erdogan and Hershey, "SDR - half-baked or well done?", 2019, eq. 3). Silent channels of a reference do
    not count; a target with no other is NaN. An exact multiple of the reference is `inf`, up to rounding.

    Raises:
        DataError: The shapes differ or are not `(target, channel, time)`.
    """
    return np.array([_Sums.of(*pair).si_sdr for pair in _targets(references, estimates)])


def snr(references: Audio, estimates: Audio) -> Array:
    """Return the signal to noise ratio in dB, 10 log10(|s|^2 / |e - s|^2), over all channels and the whole signal.

    A silent reference is NaN, an estimate equal to its reference `inf`. The mean over songs of the same ratio, held
    finite, is uSDR.

    Raises:
        DataError: The shapes differ or are not `(target, channel, time)`.
    """
    return np.array([_Sums.of(*pair).ratio() for pair in _targets(references, estimates)])


def usdr(references: Audio, estimates: Audio) -> Array:
    """Return the SDR of the Music Demixing Challenges of 2021 and 2023 in dB ("utterance SDR", "new SDR").

    10 log10((|s|^2 + d) / (|s - e|^2 + d)) with d = 1e-7, over all channels and the whole song (Mitsufuji et al.,
    "Music demixing challenge 2021", 2022, eq. 1; the constant is that of the challenge's code). Silence that is left
    silent scores 0 dB.

    Raises:
        DataError: The shapes differ or are not `(target, channel, time)`.
    """
    return np.array([_Sums.of(*pair).ratio(USDR_DELTA) for pair in _targets(references, estimates)])


def log_spectral_distance(
    references: Audio, estimates: Audio, *, num_fft: int = 2048, hop: int = 512, floor_db: float = -80.0
) -> Array:
    """Return the log-spectral distance in dB: 0 for equal magnitudes, larger is worse.

    The root mean square over bins of the difference of the two power spectra in dB, then the mean over frames and
    channels (Gray and Markel, "Distance measures for speech processing", 1976, the L2 norm of log spectra). Frames are
    Hann windows, and those that fill no window are left out; a signal shorter than a window stands in the middle of
    one.

    Args:
        references: True sources, `(target, channel, time)`.
        estimates: Estimated sources, of the same shape.
        num_fft: Samples a frame.
        hop: Samples from frame to frame.
        floor_db: Level of a bin, relative to a sine of amplitude 1, below which all counts as silence.

    Raises:
        DataError: The shapes differ or are not `(target, channel, time)`, or a number of samples is below 1.
    """
    if num_fft < 1 or hop < 1:
        raise DataError(f"num_fft is {num_fft} and hop {hop}; each is a number of samples, 1 or more")
    window = get_window("hann", num_fft)
    # A sine of amplitude 1 in the middle of a bin.
    floor = (window.sum() / 2) ** 2 * 10 ** (floor_db / 10)
    distances = []
    for true, guess in _targets(references, estimates):
        frames = [
            np.sqrt(np.mean(np.square(_log_power(a, window, floor) - _log_power(b, window, floor)), axis=-1))
            for a, b in zip(_frames(true, num_fft, hop), _frames(guess, num_fft, hop), strict=True)
        ]
        distances.append(np.concatenate(frames, axis=1).mean())
    return np.array(distances)


def loudness(signals: Audio, *, sample_rate: int) -> Array:
    """Return the integrated loudness of each target in LUFS (LKFS), gated, by ITU-R BS.1770-4, annex 1.

    The K-weighting is computed for the sample rate, with the analogue parameters that give the standard's table of
    coefficients at 48 kHz (De Man, "Evaluation of implementations of the EBU R128 loudness measurement", 2018).

    Args:
        signals: `(target, channel, time)`, amplitude 1 is full scale; channels in the order left, right, centre, left
            and right surround.
        sample_rate: In Hz.

    Returns:
        Loudness in LUFS; `-inf` where no block of 0.4 s is above -70 LUFS, as in silence or a shorter signal.

    Raises:
        DataError: The shape is not `(target, channel, time)`, or there are more than five channels.
    """
    pair_of(signals, signals)
    channels = int(signals.shape[1])
    if channels > len(CHANNEL_WEIGHTS):
        raise DataError(f"signals have {channels} channels; loudness is defined for at most {len(CHANNEL_WEIGHTS)}")
    weights = np.array(CHANNEL_WEIGHTS[:channels])
    filters = _k_weighting(sample_rate)
    return np.array([_integrated(weights @ _block_powers(_array(signal), filters, sample_rate)) for signal in signals])


def energy_at_silence(
    references: Audio, estimates: Audio, *, frame: int = 44100, silence_db: float = -60.0, floor_db: float = -100.0
) -> Array:
    """Return how much is left where the target is silent: the estimate's mean level in those frames, in dBFS.

    0 is a square wave at full scale, `floor_db` silence; lower is better. After "predicted energy at silence"
    (Schulze-Forster, Doire, Richard and Badeau, "Weakly informed audio source separation", 2019), which BSSEval, with
    its NaN for silent frames, does not see. The last frame may be shorter.

    Args:
        references: True sources, `(target, channel, time)`.
        estimates: Estimated sources, of the same shape.
        frame: Samples a frame.
        silence_db: Level of a frame in dBFS (mean square over channels and time) up to which a reference is silent.
        floor_db: Level in dBFS below which an estimate counts as silent.

    Returns:
        Mean over the frames with a silent reference; NaN for a target that has none.

    Raises:
        DataError: The shapes differ or are not `(target, channel, time)`, or `frame` is below 1.
    """
    if frame < 1:
        raise DataError(f"frame is {frame}; it is a number of samples, 1 or more")
    results = []
    for true, guess in _targets(references, estimates):
        starts = range(0, true.shape[1], frame)
        silent = [start for start in starts if _level(true[:, start : start + frame]) <= 10 ** (silence_db / 10)]
        left = [max(_level(guess[:, start : start + frame]), 10 ** (floor_db / 10)) for start in silent]
        results.append(np.mean(10 * np.log10(left)) if left else np.nan)
    return np.array(results)


def song_metrics(references: Audio, estimates: Audio, *, sample_rate: int) -> dict[str, Array]:
    """Return the metrics of a whole song that stand beside BSSEval's in tables, each `(target,)`.

    `SI-SDR` and `uSDR` in dB, higher is better; `PES` is `energy_at_silence` in frames of one second in dBFS, lower is
    better, NaN for a target that is never silent.

    Raises:
        DataError: The shapes differ or are not `(target, channel, time)`.
    """
    sums = [_Sums.of(*pair) for pair in _targets(references, estimates)]
    return {
        "SI-SDR": np.array([one.si_sdr for one in sums]),
        "uSDR": np.array([one.ratio(USDR_DELTA) for one in sums]),
        "PES": energy_at_silence(references, estimates, frame=sample_rate),
    }


def _targets(references: Audio, estimates: Audio) -> Iterator[tuple[Array, Array]]:
    pair_of(references, estimates)
    for true, guess in zip(references, estimates, strict=True):
        yield _array(true), _array(guess)


def _array(audio: Any) -> Array:
    samples = audio.detach().cpu().numpy() if hasattr(audio, "detach") else audio
    return np.asarray(samples)


@dataclass(frozen=True)
class _Sums:
    """Inner products over a signal for each channel, of which ratios are made.

    Attributes:
        reference: Of the reference with itself.
        error: Of estimate - reference with itself.
        shared: Of estimate - reference with the reference.
    """

    reference: Array
    error: Array
    shared: Array

    @classmethod
    def of(cls, true: Array, guess: Array) -> _Sums:
        """Sum up blocks that stay in the cache."""
        sums = np.zeros((3, len(true)))
        for start in range(0, true.shape[1], BLOCK_SAMPLES):
            reference = true[:, start : start + BLOCK_SAMPLES].astype(np.float64)
            error = guess[:, start : start + BLOCK_SAMPLES] - reference
            pairs = ((reference, reference), (error, error), (error, reference))
            sums += [np.einsum("ct,ct->c", *pair) for pair in pairs]
        return cls(*sums)

    @property
    def si_sdr(self) -> float:
        """SI-SDR in dB: with the error d, what no scaling of s explains of the estimate is |d|^2 - <d, s>^2 / |s|^2."""
        heard = self.reference > 0
        energy, shared = self.reference[heard], self.shared[heard]
        left = np.maximum(self.error[heard] - shared**2 / energy, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = 10 * np.log10((energy + shared) ** 2 / energy / left)
        return float(ratios.mean()) if heard.any() else np.nan

    def ratio(self, delta: float = 0.0) -> float:
        """Energy of the reference over that of the error in dB, each with a constant added."""
        over, under = self.reference.sum() + delta, self.error.sum() + delta
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.nan if over == 0 else 10 * np.log10(over / under))


def _level(signal: Array) -> float:
    """Return the mean square."""
    return float(np.square(signal, dtype=np.float64).mean())


def _frames(signal: Array, size: int, hop: int) -> Iterator[Array]:
    """Yield batches of frames, `(channel, frame, sample)`."""
    missing = max(0, size - signal.shape[1])
    padded = np.pad(signal, [(0, 0), (missing // 2, missing - missing // 2)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)[:, ::hop]
    for first in range(0, frames.shape[1], SPECTRA_PER_BATCH):
        yield frames[:, first : first + SPECTRA_PER_BATCH]


def _log_power(frames: Array, window: Array, floor: float) -> Array:
    power = np.square(np.abs(np.fft.rfft(frames * window)))
    decibels: Array = 10 * np.log10(np.maximum(power, floor))
    return decibels


def _k_weighting(sample_rate: int) -> Array:
    """Return the shelving and the high-pass filter of BS.1770 as second-order sections."""
    shelf_tan = np.tan(np.pi * 1681.974450955533 / sample_rate)
    gain, quality = 10 ** (3.999843853973347 / 20), 0.7071752369554196
    middle = gain**0.4996667741545416
    shelf = [
        gain + middle * shelf_tan / quality + shelf_tan**2,
        2 * (shelf_tan**2 - gain),
        gain - middle * shelf_tan / quality + shelf_tan**2,
    ]
    high_tan = np.tan(np.pi * 38.13547087602444 / sample_rate)
    poles = [_poles(shelf_tan, quality), _poles(high_tan, 0.5003270373238773)]
    return np.array(
        [
            [*(np.array(shelf) / poles[0][0]), *(poles[0] / poles[0][0])],
            [1.0, -2.0, 1.0, *(poles[1] / poles[1][0])],
        ]
    )


def _poles(tan: float, quality: float) -> Array:
    return np.array([1 + tan / quality + tan**2, 2 * (tan**2 - 1), 1 - tan / quality + tan**2])


def _block_powers(signal: Array, filters: Array, sample_rate: int) -> Array:
    """Return the mean square of the weighted signal in each block of 0.4 s, `(channel, block)`."""
    sums = np.pad(np.cumsum(np.square(sosfilt(filters, signal, axis=1)), axis=1), [(0, 0), (1, 0)])
    size = round(BLOCK_SECONDS * sample_rate)
    starts = np.arange(0, signal.shape[1], STEP_SECONDS * sample_rate).round().astype(int)
    starts = starts[starts + size <= signal.shape[1]]
    # Differences of long sums: silence after sound may come out below zero.
    powers: Array = np.maximum(sums[:, starts + size] - sums[:, starts], 0) / size
    return powers


def _integrated(powers: Array) -> float:
    """Return the gated loudness of block powers `(block,)` that are summed over channels."""
    with np.errstate(divide="ignore"):
        levels = LOUDNESS_OFFSET + 10 * np.log10(powers)
        loud = levels > ABSOLUTE_GATE
        if not loud.any():
            return -np.inf
        gate = LOUDNESS_OFFSET + 10 * np.log10(powers[loud].mean()) + RELATIVE_GATE
        return float(LOUDNESS_OFFSET + 10 * np.log10(powers[loud & (levels > gate)].mean()))
