"""The networks of `unet.unet` and `unet.softmax_unet`: a U-Net for each target.

Source: R. Hennequin, A. Khlif, F. Voituret, M. Moussallam, "Spleeter: a fast and efficient music source separation
tool with pre-trained models", JOSS 2020; the U-Net is that of A. Jansson et al., ISMIR 2017, with a convolution at its
end. It computes what Spleeter's TensorFlow graph computes, for the same weights: convolutions are padded as
TensorFlow's `same`, batch normalisation has Keras' constants.

Shapes: B batch, T target, C channel, N frame, F bin; inside of the U-Net, time stands before frequency.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from auralflow_core.transforms import mask_activation
from auralflow_spleeter.params import LEVELS
from auralflow_spleeter.pieces import Pieces

DROPOUTS = 3

_ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "ReLU": nn.ReLU,
    "LeakyReLU": lambda: nn.LeakyReLU(0.2),
    "ELU": nn.ELU,
}


class SpleeterUNet(nn.Module):
    """Masks from magnitude spectrograms by one U-Net for each target; their sigmoids do not know of each other.

    Args:
        num_targets: Number of masks T.
        num_channels: 1 for mono, 2 for stereo.
        piece_frames: Frames that are looked at together, a multiple of 64; Spleeter's `T`.
        piece_bins: Bins that are processed, from the lowest; those above get no mask. Spleeter's `F`.
        conv_n_filters: Filters of the six convolutions on the way down.
        conv_activation: `ReLU`, `LeakyReLU` or `ELU` on the way down.
        deconv_activation: `ReLU`, `LeakyReLU` or `ELU` on the way up.
        num_fft_bins: Not used; any number of bins is accepted.
        num_frames: Not used; any number of frames is accepted.
        sample_rate: Not used; every network is told.
    """

    output_activation = "sigmoid"

    def __init__(
        self,
        num_targets: int = 2,
        num_channels: int = 2,
        *,
        piece_frames: int = 512,
        piece_bins: int = 1024,
        conv_n_filters: Sequence[int] = (16, 32, 64, 128, 256, 512),
        conv_activation: str = "LeakyReLU",
        deconv_activation: str = "ReLU",
        num_fft_bins: int | None = None,
        num_frames: int | None = None,
        sample_rate: int | None = None,
    ) -> None:
        super().__init__()
        self.pieces = Pieces(piece_frames, piece_bins, multiple=1 << LEVELS)
        self.instruments = nn.ModuleList(
            InstrumentUNet(num_channels, conv_n_filters, conv_activation, deconv_activation) for _ in range(num_targets)
        )
        self.mask_activation = mask_activation(self.output_activation)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs

    def forward(self, magnitude: Tensor) -> Tensor:
        """Estimate masks.

        Args:
            magnitude: `(B, C, F, N)`, not negative.

        Returns:
            Masks `(B, T, C, min(F, piece_bins), N)` in [0, 1].
        """
        # Convolutions on the CPU are faster in this layout.
        pieces = self.pieces.cut(magnitude).contiguous(memory_format=torch.channels_last)
        logits = torch.stack([instrument(pieces) for instrument in self.instruments], dim=1)
        return self.pieces.join(self.mask_activation(logits), magnitude)

    def mask_windows(self, windows: Iterable[Tensor]) -> Iterator[Tensor]:
        """Estimate masks as `forward` does, for magnitudes `(B, C, F, n)` that come by windows; yield each one's."""
        return self.pieces.mask_windows(self, windows)


class SpleeterSoftmaxUNet(SpleeterUNet):
    """`SpleeterUNet` whose masks sum to one over the targets; a single target keeps the sigmoid."""

    output_activation = "softmax"


class InstrumentUNet(nn.Module):
    """The U-Net of one target.

    A skip connection is a convolution's output before it is normalised, and what goes from the way down into the way up
    is the last convolution's.
    """

    def __init__(self, channels: int, filters: Sequence[int], conv_activation: str, deconv_activation: str) -> None:
        super().__init__()
        rising = list(filters)[: LEVELS - 1]
        self.down = nn.ModuleList(
            Down(before, after, conv_activation if level else None)
            for level, (before, after) in enumerate(pairwise([channels, *filters]))
        )
        widths = [filters[-1], *(2 * width for width in reversed(rising))]
        self.up = nn.ModuleList(
            Up(before, after, deconv_activation, dropout=0.5 if level < DROPOUTS else 0.0)
            for level, (before, after) in enumerate(zip(widths, [*reversed(rising), 1], strict=True))
        )
        self.head = nn.Conv2d(1, channels, kernel_size=4, dilation=2, padding=3)
        self.apply(_draw_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Map magnitudes `(B, C, N, F)`, both sizes multiples of 64, to the masks' logits of the same shape."""
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        skips.pop()
        for up in self.up:
            x = up(x)
            if skips:
                x = torch.cat([skips.pop(), x], dim=1)
        logits: Tensor = self.head(x)
        return logits


class Down(nn.Module):
    """Half the size: the level before normalised and activated, then a 5x5 convolution of stride 2."""

    def __init__(self, before: int, after: int, activation: str | None) -> None:
        super().__init__()
        self.norm = _batch_norm(before) if activation else nn.Identity()
        self.activation = _ACTIVATIONS[activation]() if activation else nn.Identity()
        self.convolution = nn.Conv2d(before, after, kernel_size=5, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, before, N, F)` to `(B, after, N / 2, F / 2)`."""
        # TensorFlow's `same`: 3 samples for an even size, the odd one at the end.
        padded = functional.pad(self.activation(self.norm(x)), (1, 2, 1, 2))
        halved: Tensor = self.convolution(padded)
        return halved


class Up(nn.Module):
    """Twice the size: a transposed 5x5 convolution of stride 2, activated, then normalised."""

    def __init__(self, before: int, after: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.convolution = nn.ConvTranspose2d(before, after, kernel_size=5, stride=2, padding=1)
        self.activation = _ACTIVATIONS[activation]()
        self.norm = _batch_norm(after)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, before, N, F)` to `(B, after, 2 N, 2 F)`."""
        # The transpose of `same`: of 2 N + 3 samples one is cut at the start (by padding=1) and two at the end.
        doubled = self.convolution(x)[..., :-1, :-1]
        normed: Tensor = self.dropout(self.norm(self.activation(doubled)))
        return normed


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    # Keras' constants; its momentum of 0.99 is what is kept, torch's is what is taken from the batch.
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _draw_weights(module: nn.Module) -> None:
    """Draw initial weights as Spleeter does: He's uniform distribution, biases zero."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
        assert module.bias is not None
        nn.init.zeros_(module.bias)
