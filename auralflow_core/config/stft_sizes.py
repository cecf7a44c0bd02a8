"""Which sizes of a short-time Fourier transform allow the way back."""

from __future__ import annotations

import math

from auralflow_core.errors import ConfigError

# Below this share of its mean, the summed squared window amplifies rounding errors past 1e-5 (NOLA, nearly broken).
_NOLA_FLOOR = 1e-3


def check_nola(num_fft: int, window_size: int, hop_length: int) -> None:
    """Refuse sizes of a Hann-windowed transform from which no signal can be rebuilt.

    The squares of the shifted windows must sum to more than zero everywhere (nonzero overlap-add, NOLA).

    Raises:
        ConfigError: The window is longer than the FFT, or the hop leaves samples with (nearly) no window over them.
    """
    if not 2 <= window_size <= num_fft:
        raise ConfigError(
            f"window_size {window_size} is not between 2 and num_fft {num_fft}; lower window_size or raise num_fft"
        )
    if hop_length < 1:
        raise ConfigError(f"hop_length {hop_length} is below 1; half of window_size is usual")
    squared = [math.sin(math.pi * sample / window_size) ** 4 for sample in range(window_size)]
    envelope = [sum(squared[start::hop_length]) for start in range(hop_length)]
    if min(envelope) < _NOLA_FLOOR * sum(envelope) / hop_length:
        raise ConfigError(
            f"hop_length {hop_length} leaves gaps between windows of window_size {window_size}, so audio cannot be "
            f"rebuilt from its spectrogram; use a hop_length of at most {window_size // 2}"
        )


def count_frames(length: int, window_size: int, hop_length: int, padding: str) -> int:
    """Return the number of frames of a transform whose frame `k` is centred on sample `k * hop_length`.

    There are as many as cover the last sample. With padding "reflect" and a hop of at most a quarter of the window the
    last one is centred on or before the last sample, which is the number that `torch.stft(center=True)` has; with a
    longer hop the last samples would lie under the window's foot, where errors are amplified.
    """
    if padding == "reflect" and 4 * hop_length <= window_size:
        return length // hop_length + 1
    return -(-length // hop_length) + 1
