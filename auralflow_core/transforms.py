"""From audio to spectrograms and back, resampling, and what turns a network's output into a mask."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from auralflow_core.config.params import OLDER_ACTIVATIONS
from auralflow_core.config.stft_sizes import check_nola, count_frames
from auralflow_core.errors import ConfigError, did_you_mean
from auralflow_core.torchaudio_cpu import import_torchaudio

# Of a wide Kaiser window: 105 dB between a tone and what resampling adds to it, at any pair of rates.
_KAISER_BEST = {
    "resampling_method": "sinc_interp_kaiser",
    "lowpass_filter_width": 64,
    "rolloff": 0.9475937167399596,
    "beta": 14.769656459379492,
}


class STFT(nn.Module):
    """Short-time Fourier transform with a periodic Hann window.

    Frame `k` is centred on sample `k * hop_length`, and there are as many frames as it takes to cover the last sample
    (`config.stft_sizes.count_frames`), so any length from one sample on is transformed.

    Args:
        num_fft: FFT length in samples.
        window_size: Window length in samples, at most `num_fft`; a shorter window is centred.
        hop_length: Samples between two frames.
        padding: What lies beyond the ends of the signal: `zeros`, or its mirror image, `reflect`. As much as the
            signal itself lacks for a mirror image is zero.

    Raises:
        ConfigError: The sizes allow no inverse (NOLA: shifted squared windows must sum to more than zero everywhere).
    """

    window: Tensor

    def __init__(
        self,
        num_fft: int = 1024,
        window_size: int | None = None,
        hop_length: int | None = None,
        padding: str = "zeros",
    ) -> None:
        super().__init__()
        self.num_fft = num_fft
        self.window_size = num_fft if window_size is None else window_size
        self.hop_length = self.window_size // 2 if hop_length is None else hop_length
        self.padding = padding
        check_nola(self.num_fft, self.window_size, self.hop_length)
        self.register_buffer("window", torch.hann_window(self.window_size), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Transform `(..., time)` into complex `(..., bin, frame)` with `num_fft // 2 + 1` bins."""
        return self.transform(self.pad(audio))

    def pad(self, audio: Tensor) -> Tensor:
        """Return `(..., time)` with what its frames see beyond its ends."""
        length, left = audio.shape[-1], self.num_fft // 2
        num_frames = count_frames(length, self.window_size, self.hop_length, self.padding)
        right = (num_frames - 1) * self.hop_length + self.num_fft - left - length
        if self.padding == "zeros":
            return nn.functional.pad(audio, (left, right))
        mirrored = nn.functional.pad(audio, (0, max(0, left + 1 - length))).reshape(-1, max(length, left + 1))
        mirrored = nn.functional.pad(mirrored, (left, min(max(right, 0), left)), mode="reflect")
        mirrored = nn.functional.pad(mirrored, (0, left + length + right - mirrored.shape[-1]))
        return mirrored.reshape(*audio.shape[:-1], -1)

    def transform(self, padded: Tensor) -> Tensor:
        """Transform `(..., time)` that `pad` returned, or whole frames of it."""
        spectrum = torch.stft(
            padded.reshape(-1, padded.shape[-1]),
            self.num_fft,
            self.hop_length,
            self.window_size,
            self.window,
            center=False,
            return_complex=True,
        )
        return spectrum.reshape(*padded.shape[:-1], *spectrum.shape[-2:])


class ISTFT(nn.Module):
    """Inverse of `STFT` with the same sizes; the error of the way there and back is below 1e-5 of full scale."""

    window: Tensor

    def __init__(self, num_fft: int = 1024, window_size: int | None = None, hop_length: int | None = None) -> None:
        super().__init__()
        self.num_fft = num_fft
        self.window_size = num_fft if window_size is None else window_size
        self.hop_length = self.window_size // 2 if hop_length is None else hop_length
        check_nola(self.num_fft, self.window_size, self.hop_length)
        self.register_buffer("window", torch.hann_window(self.window_size), persistent=False)

    def forward(self, spectrogram: Tensor, length: int) -> Tensor:
        """Transform complex `(..., bin, frame)` into `(..., time)` of exactly `length` samples."""
        *leading, bins, frames = spectrogram.shape
        audio = torch.istft(
            spectrogram.reshape(-1, bins, frames),
            self.num_fft,
            self.hop_length,
            self.window_size,
            self.window,
            center=True,
            length=length,
        )
        return audio.reshape(*leading, length)


def resample(audio: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Resample `(..., time)` to `ceil(time * to_rate / from_rate)` samples (windowed sinc, Kaiser window).

    Source: J. O. Smith, "Digital Audio Resampling", with the window that librosa calls `kaiser_best`.
    """
    if from_rate == to_rate:
        return audio
    resampled: Tensor = import_torchaudio().functional.resample(audio, from_rate, to_rate, **_KAISER_BEST)
    return resampled


class TargetSoftmax(nn.Module):
    """Softmax over the targets, so that their masks sum to one.

    A single target has nothing to share the mixture with: it gets a sigmoid, a softmax against silence.
    """

    def forward(self, mask: Tensor) -> Tensor:
        """Map `(batch, target, channel, bin, frame)` to masks of the same shape."""
        return mask.sigmoid() if mask.shape[1] == 1 else mask.softmax(dim=1)


def mask_activation(name: str, leak_factor: float = 0.2) -> nn.Module:
    """Return the function that turns `(batch, target, channel, bin, frame)` into masks.

    Args:
        name: One of `config.MaskActivation`.
        leak_factor: Slope below zero of `leaky_relu`.

    Raises:
        ConfigError: The name is unknown.
    """
    activations: dict[str, Callable[[], nn.Module]] = {
        "sigmoid": nn.Sigmoid,
        "hard_sigmoid": nn.Hardsigmoid,
        "relu": nn.ReLU,
        "leaky_relu": lambda: nn.LeakyReLU(leak_factor),
        "softplus": nn.Softplus,
        "tanh": nn.Tanh,
        "softmax": TargetSoftmax,
        "identity": nn.Identity,
    }
    name = OLDER_ACTIVATIONS.get(name, name)
    if name not in activations:
        near = did_you_mean(name, activations)
        raise ConfigError(f"mask activation {name!r} is unknown{near} (known: {', '.join(activations)})")
    return activations[name]()
