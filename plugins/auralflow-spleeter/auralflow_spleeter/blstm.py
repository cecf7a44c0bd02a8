"""The network of `blstm.blstm`: three bidirectional LSTMs for each target.

Source: S. Uhlich et al., "Improving music source separation based on deep neural networks through data augmentation
and network blending", ICASSP 2017, as Spleeter builds it: no normalisation, no dropout, magnitudes in and out.

Shapes: B batch, T target, C channel, N frame, F bin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from auralflow_spleeter.pieces import Pieces

LAYERS = 3

# Far below the magnitude of any audible bin; the mask times the mixture is the estimate wherever there is sound.
_MAGNITUDE_FLOOR = 1e-8


class SpleeterBLSTM(nn.Module):
    """Magnitudes of each target from those of the mixture by three bidirectional LSTMs, given as masks.

    Args:
        num_targets: Number of masks T.
        num_channels: 1 for mono, 2 for stereo.
        piece_frames: Frames that are looked at together; Spleeter's `T`.
        piece_bins: Bins that are processed, from the lowest; those above get no mask. Spleeter's `F`.
        lstm_units: Units of each LSTM, in each direction.
        num_fft_bins: Bins of the spectrograms, where they are fewer than `piece_bins`.
        num_frames: Not used; any number of frames is accepted.
        sample_rate: Not used; every network is told.
    """

    def __init__(
        self,
        num_targets: int = 2,
        num_channels: int = 2,
        *,
        piece_frames: int = 512,
        piece_bins: int = 1024,
        lstm_units: int = 250,
        num_fft_bins: int | None = None,
        num_frames: int | None = None,
        sample_rate: int | None = None,
    ) -> None:
        super().__init__()
        bins = min(piece_bins, num_fft_bins or piece_bins)
        self.pieces = Pieces(piece_frames, bins)
        self.instruments = nn.ModuleList(InstrumentBLSTM(bins * num_channels, lstm_units) for _ in range(num_targets))

    def forward(self, magnitude: Tensor) -> Tensor:
        """Estimate masks.

        Args:
            magnitude: `(B, C, F, N)`, not negative.

        Returns:
            Masks `(B, T, C, min(F, piece_bins), N)`, not negative.
        """
        pieces = self.pieces.cut(magnitude)  # (B * P, C, N, F)
        features = pieces.permute(0, 2, 3, 1).flatten(2)  # bin by bin, a bin's channels side by side
        estimates = torch.stack([instrument(features) for instrument in self.instruments], dim=1)
        estimates = estimates.reshape(*estimates.shape[:-1], self.pieces.bins, -1).permute(0, 1, 4, 2, 3)
        return self.pieces.join(estimates / pieces.unsqueeze(1).clamp_min(_MAGNITUDE_FLOOR), magnitude)

    def mask_windows(self, windows: Iterable[Tensor]) -> Iterator[Tensor]:
        """Estimate masks as `forward` does, for magnitudes `(B, C, F, n)` that come by windows; yield each one's."""
        return self.pieces.mask_windows(self, windows)


class InstrumentBLSTM(nn.Module):
    """The LSTMs of one target, and a rectified linear layer of the input's size."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, units, LAYERS, batch_first=True, bidirectional=True)
        self.dense = nn.Linear(2 * units, features)
        self._draw_weights(units)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, N, feature)` to the same shape, not negative."""
        hidden, _ = self.lstm(x)
        estimate: Tensor = self.dense(hidden).relu()
        return estimate

    def _draw_weights(self, units: int) -> None:
        """Draw initial weights as Keras does: He's uniform distribution, orthogonal recurrences, open forget gates."""
        for name, value in self.lstm.named_parameters():
            if name.startswith("weight_ih"):
                nn.init.kaiming_uniform_(value, nonlinearity="relu")
            elif name.startswith("weight_hh"):
                nn.init.orthogonal_(value)
            else:
                nn.init.zeros_(value)
                if name.startswith("bias_ih"):
                    # Of the gates input, forget, cell, output.
                    with torch.no_grad():
                        value[units : 2 * units] = 1
        nn.init.kaiming_uniform_(self.dense.weight, nonlinearity="relu")
        nn.init.zeros_(self.dense.bias)
