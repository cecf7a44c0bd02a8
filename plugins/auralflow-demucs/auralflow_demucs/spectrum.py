"""The hybrid networks' spectrogram: as many frames as hops, each in the middle of its place in the time branch.

Shapes: B batch, C channel, L sample, F frequency, T frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from auralflow_demucs.products import in_pieces

# The squares of periodic Hann windows that are a quarter of their length apart have this sum.
_WINDOW_SUM = 1.5


class Spectrogram(nn.Module):
    """STFT and its inverse with a hop h of a quarter of the FFT, without the highest frequency.

    Audio of n hops, the last one filled up, is extended by 1.5 h to each side, which gives n frames and places them as
    a convolution of stride h and kernel 4 h with padding 1.5 h would: so does the time branch's stack of convolutions.
    All frames that overlap the original audio but do not lie inside of the extended one are left out, and count as
    zero in the inverse.

    Args:
        nfft: FFT length, a multiple of 8.
        is_old: Extend with zeros, not by reflection, and give the inverse 1.5 h late, as the models of the Music
            Demixing Challenge 2021 do.
    """

    window: Tensor

    def __init__(self, nfft: int, *, is_old: bool = False) -> None:
        super().__init__()
        self.nfft = nfft
        self.hop = nfft // 4
        self.is_old = is_old
        self.register_buffer("window", torch.hann_window(nfft), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Map `(B, C, L)` to a complex `(B, C, F, T)` with F = nfft / 2."""
        length = audio.shape[-1]
        pad = 3 * self.hop // 2
        extended = _extend(audio, pad, pad + -length % self.hop, reflect=not self.is_old)
        # Frames inside of the extended audio are those that need no padding by the transform.
        spectrogram = torch.stft(
            extended.flatten(0, 1),
            self.nfft,
            self.hop,
            window=self.window,
            center=False,
            normalized=True,
            return_complex=True,
        )
        return torch.unflatten(spectrogram[:, :-1], 0, audio.shape[:2])

    def inverse(self, frames: Tensor, length: int) -> Tensor:
        """Map a complex `(..., T, F)`, frames first, to `(..., length)`; with the highest frequency or without."""
        # The real transform fills in the missing frequency with zero, in a copy.
        parts = torch.fft.irfft(frames, self.nfft, norm="ortho").mul_(self.window / _WINDOW_SUM)
        quarters = torch.unflatten(parts, -1, (4, self.hop))
        count = frames.shape[-2]
        audio = quarters.new_zeros(*quarters.shape[:-3], count + 3, self.hop)
        for index in range(4):
            audio[..., index : index + count, :] += quarters[..., index, :]
        start = 3 * self.hop // 2
        if self.is_old:
            start = 0
            # Of the four windows there, the last quarter of one lies before the first frame.
            missing = self.window[-self.hop :].square()
            audio[..., 0, :] *= _WINDOW_SUM / (_WINDOW_SUM - missing)
        joined: Tensor = audio.flatten(-2)
        return joined[..., start : start + length]


def _extend(audio: Tensor, left: int, right: int, *, reflect: bool) -> Tensor:
    if not reflect:
        return functional.pad(audio, (left, right))
    # Audio that is too short to be reflected gets zeros behind it first, and before it where those do not suffice.
    missing = max(0, max(left, right) - audio.shape[-1] + 1)
    behind = min(right, missing)
    before = missing - behind
    filled = functional.pad(audio, (before, behind)) if missing else audio
    return functional.pad(filled, (left - before, right - behind), mode="reflect")


def as_channels(spectrogram: Tensor) -> Tensor:
    """Map a complex `(B, C, F, T)` to real and imaginary channels in turn, `(B, 2 C, F, T)`."""
    return torch.view_as_real(spectrogram).permute(0, 1, 4, 2, 3).flatten(1, 2)


def from_channels(channels: Tensor) -> Tensor:
    """Map real and imaginary channels in turn, `(B, 2 C, F, T)`, to a complex `(B, C, T, F)`, frames first.

    Where a CPU works without gradients the highest frequency is there as well, and zero: the inverse need not copy.
    """
    real, imaginary = torch.unflatten(channels, 1, (-1, 2)).transpose(-1, -2).unbind(2)
    if not in_pieces(channels):
        return torch.complex(real, imaginary)
    frames = real.new_zeros(*real.shape[:-1], real.shape[-1] + 1, dtype=real.dtype.to_complex())
    torch.complex(real, imaginary, out=frames[..., :-1])
    return frames


def with_phase(magnitude: Tensor, spectrogram: Tensor) -> Tensor:
    """Give magnitudes `(B, C, F, T)` the phase of `(B, C, F, T)`; return `(B, C, T, F)`, frames first."""
    phase = spectrogram / (1e-8 + spectrogram.abs())
    return (phase * magnitude).transpose(-1, -2)
