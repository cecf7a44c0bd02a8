"""The network of `SpectrogramNetLSTM`: the bottleneck is in this file, the U-Net around it is SimpleNet's.

Shapes: B batch, T target, C channel, F bin, N frame; F' band and N' step are bins and frames after five poolings,
F' = ceil(F / 32), N' = ceil(N / 32).
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from auralflow_core.errors import ConfigError
from auralflow_simplenet.network import LEVELS, SpectrogramNetSimple

# Values of `input_axis`, numbered as the axes of a spectrogram (F, N).
FREQUENCY_AXIS = 0
TIME_AXIS = 1


class SpectrogramNetLSTM(SpectrogramNetSimple):
    """U-Net that estimates soft masks, with a stack of bidirectional LSTM layers as bottleneck.

    Convolutions see a few seconds at most; the recurrence lets every part of the mask depend on the whole input along
    one axis. Any number of bins and frames goes in, whichever axis that is.

    Args:
        args: Positional arguments of `SpectrogramNetSimple`.
        recurrent_depth: Number of stacked LSTM layers, at least 1.
        hidden_size: Hidden features of each layer in each direction, at least 1.
        input_axis: Axis that is fed as features, see `RecurrentBottleneck`. 0, frequency: the recurrence runs over
            time, with a frame's whole frequency content at each step. 1, time: it runs over frequency, through each
            frame.
        kwargs: Keyword arguments of `SpectrogramNetSimple`. `dropout_p` also acts between the LSTM layers.

    Raises:
        ConfigError: `input_axis` is neither 0 nor 1, or `recurrent_depth` or `hidden_size` is below 1.
    """

    def __init__(
        self,
        *args: Any,
        recurrent_depth: int = 3,
        hidden_size: int = 1024,
        input_axis: int = 1,
        **kwargs: Any,
    ) -> None:
        _check_sizes(recurrent_depth, hidden_size, input_axis)
        base = inspect.signature(SpectrogramNetSimple).bind(*args, **kwargs)
        base.apply_defaults()
        # Set before the base class's constructor, which calls make_bottleneck.
        self.recurrent_depth = recurrent_depth
        self.hidden_size = hidden_size
        self.input_axis = input_axis
        self._bands: int = -(-base.arguments["num_fft_bins"] // 2**LEVELS)
        self._dropout_p: float = base.arguments["dropout_p"]
        super().__init__(*args, **kwargs)

    def make_bottleneck(self, channels: int, leak_factor: float) -> nn.Module:
        """Return what stands between encoder and decoder: `(B, channels, F', N')` to `(B, 2 * channels, F', N')`."""
        return RecurrentBottleneck(
            channels,
            self._bands,
            depth=self.recurrent_depth,
            hidden_size=self.hidden_size,
            input_axis=self.input_axis,
            leak_factor=leak_factor,
            dropout_p=self._dropout_p,
        )


class RecurrentBottleneck(nn.Module):
    """Bidirectional LSTM layers (Graves and Schmidhuber, 2005) along one axis of an encoded spectrogram.

    input_axis 0, frequency as features, recurs over time: `(B, C, F', N')` becomes B sequences of N' steps with
    F' * C features each. A band always lies at the same frequencies, so each one's channels are features of their own.

    input_axis 1, time as features, recurs over frequency: `(B, C, F', N')` becomes B * N' sequences of F' steps with
    C features each. Which frame a chunk begins with means nothing, so frames share weights: with one weight a frame,
    the network would only take the length it was trained with.

    The features that come out are projected to 2 * C channels. In neither case does a sequence hold more than one
    batch item.

    Args:
        channels: Channels C that come in; twice as many go out.
        bands: Bands F' in training. Over time, another number is interpolated to this one and back: another FFT
            length divides the same range of frequencies into other steps.
        depth: Number of stacked layers.
        hidden_size: Hidden features of each layer in each direction.
        input_axis: 0 or 1.
        leak_factor: Slope below zero of LeakyReLU; 0 takes SELU instead.
        dropout_p: Dropout probability between the layers.
    """

    def __init__(
        self,
        channels: int,
        bands: int,
        *,
        depth: int,
        hidden_size: int,
        input_axis: int,
        leak_factor: float,
        dropout_p: float,
    ) -> None:
        super().__init__()
        self.bands = bands
        self.is_over_time = input_axis == FREQUENCY_AXIS
        features = bands * channels if self.is_over_time else channels
        self.lstm = nn.LSTM(
            features,
            hidden_size,
            num_layers=depth,
            batch_first=True,
            bidirectional=True,
            dropout=dropout_p if depth > 1 else 0.0,
        )
        # The normalization after it has a bias.
        self.projection = nn.Linear(2 * hidden_size, 2 * features, bias=False)
        self.norm = nn.BatchNorm2d(2 * channels)
        self.activation = nn.LeakyReLU(leak_factor) if leak_factor > 0 else nn.SELU()

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, F', N')` to `(B, 2 * C, F', N')`."""
        bands, steps = x.shape[-2:]
        if self.is_over_time and bands != self.bands:
            return _resized(self._recur(_resized(x, self.bands, steps)), bands, steps)
        return self._recur(x)

    def _recur(self, x: Tensor) -> Tensor:
        cells = x.permute(0, 3, 2, 1)  # (B, N', F', C)
        # (B, N', F' * C) or (B * N', F', C): batch, sequence, features
        sequences = cells.flatten(2, 3) if self.is_over_time else cells.flatten(0, 1)
        hidden, _ = self.lstm(sequences)
        cells = self.projection(hidden).reshape(*cells.shape[:3], -1)  # (B, N', F', 2 * C)
        y: Tensor = self.activation(self.norm(cells.permute(0, 3, 2, 1)))
        return y


def _resized(x: Tensor, bands: int, steps: int) -> Tensor:
    return functional.interpolate(x, size=(bands, steps), mode="bilinear", align_corners=False)


def _check_sizes(recurrent_depth: int, hidden_size: int, input_axis: int) -> None:
    if input_axis not in (FREQUENCY_AXIS, TIME_AXIS):
        raise ConfigError(
            f"input_axis: {input_axis} is no axis of a spectrogram; use {FREQUENCY_AXIS} (the LSTM runs over time) or "
            f"{TIME_AXIS} (over frequency)"
        )
    for name, value in {"recurrent_depth": recurrent_depth, "hidden_size": hidden_size}.items():
        if value < 1:
            raise ConfigError(f"{name}: {value} is below 1; for a U-Net without LSTM take SpectrogramNetSimple")
