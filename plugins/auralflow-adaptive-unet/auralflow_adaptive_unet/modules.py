"""The modules behind the layer words. All map `(B, before, F, N)` to `(B, after, F', N')`.

Shapes: B batch, C channel, F bin, N frame. Whatever the sizes, a layer that reduces by s gives ceil(size / s) and one
that enlarges by s gives size * s, which is what `plan` reckons with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from auralflow_adaptive_unet.layers import Pair, pair
from auralflow_adaptive_unet.plan import Step


def make_module(step: Step) -> nn.Module:
    """Return the module of a planned layer."""
    return _MAKERS[step.layer.word](step, step.layer.options)


class TransposeConv(nn.ConvTranspose2d):
    """Transposed convolution that gives exactly stride times the size."""

    def __init__(self, before: int, after: int, kernel: Pair, stride: Pair, bias: bool) -> None:
        padding = [(size - step) // 2 for size, step in zip(kernel, stride, strict=True)]
        super().__init__(before, after, kernel, stride, (padding[0], padding[1]), bias=bias)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002 - torch's name
        """Map `(B, before, F, N)` to `(B, after, F * stride, N * stride)`."""
        bins, frames = (size * step for size, step in zip(input.shape[-2:], self.stride, strict=True))
        # An odd difference of kernel and stride cannot be padded evenly: one more comes out at the end.
        return super().forward(input)[..., :bins, :frames]


class Decimate(nn.Module):
    """Every s-th bin and frame (Stoller et al., Wave-U-Net, ISMIR 2018)."""

    def __init__(self, factor: Pair) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, F, N)` to `(B, C, ceil(F / s), ceil(N / s))`."""
        return x[..., :: self.factor[0], :: self.factor[1]]


class BatchNorm(nn.BatchNorm2d):
    """Batch normalization that takes its running statistics where a channel has a single value to train on."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Map `(B, C, F, N)` to the same shape."""
        if self.training and input.numel() == input.shape[1]:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)


class GroupNorm(nn.GroupNorm):
    """Group normalization of any size; with a group for each channel it is instance normalization."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Map `(B, C, F, N)` to the same shape."""
        # nn.GroupNorm refuses a single value a group, which a deep level of a short song can have.
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class LayerNorm(nn.LayerNorm):
    """Normalization over the channels of each bin and frame."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Map `(B, C, F, N)` to the same shape."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class Recurrent(nn.Module):
    """Stack of LSTM or GRU layers along one axis, projected to the channels that came in and added to them.

    Each bin is a sequence over time (axis `time`), or each frame one over the bins (axis `frequency`); the features are
    the channels, so that the layer fits any number of bins and frames.
    """

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU], channels: int, options: Mapping[str, Any]) -> None:
        super().__init__()
        directions = 2 if options["bidirectional"] else 1
        hidden = options["hidden"] or max(1, channels // directions)
        layers = options["layers"]
        self.axis = options["axis"]
        self.recurrence = kind(
            channels,
            hidden,
            layers,
            batch_first=True,
            # Between layers only: torch warns of it where there is no other layer.
            dropout=options["dropout"] if layers > 1 else 0.0,
            bidirectional=options["bidirectional"],
        )
        self.projection = nn.Linear(hidden * directions, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, F, N)` to the same shape."""
        sequences = _sequences(x, self.axis)
        y: Tensor = self.projection(self.recurrence(sequences)[0])
        return x + _planes(y, x, self.axis)


class Attention(nn.Module):
    """Multi-head self-attention along one axis of what is normalized over channels, added to what came in."""

    def __init__(self, channels: int, heads: int, axis: str) -> None:
        super().__init__()
        self.heads = heads
        self.axis = axis
        self.norm = nn.LayerNorm(channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.projection = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, F, N)` to the same shape."""
        sequences = self.norm(_sequences(x, self.axis))
        parts = self.query_key_value(sequences).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each (sequence, head, place, feature)
        attended = functional.scaled_dot_product_attention(query, key, value)
        y: Tensor = self.projection(attended.transpose(1, 2).flatten(2))
        return x + _planes(y, x, self.axis)


def _sequences(x: Tensor, axis: str) -> Tensor:
    """Map `(B, C, F, N)` to `(B * F, N, C)` along time, `(B * N, F, C)` along frequency."""
    order = (0, 2, 3, 1) if axis == "time" else (0, 3, 2, 1)
    return x.permute(order).flatten(0, 1)


def _planes(sequences: Tensor, x: Tensor, axis: str) -> Tensor:
    """Undo `_sequences` for the shape of `x`."""
    batch, _, bins, frames = x.shape
    if axis == "time":
        return sequences.view(batch, bins, frames, -1).permute(0, 3, 1, 2)
    return sequences.view(batch, frames, bins, -1).permute(0, 3, 2, 1)


def _conv(step: Step, options: Mapping[str, Any]) -> nn.Module:
    kernel, dilation = pair(options["kernel_size"]), pair(options["dilation"])
    reach = [(size - 1) * spread for size, spread in zip(kernel, dilation, strict=True)]
    uneven = any(span % 2 for span in reach)
    conv = nn.Conv2d(
        step.before,
        step.after,
        kernel,
        pair(options["stride"]),
        0 if uneven else (reach[0] // 2, reach[1] // 2),
        dilation,
        bias=step.bias,
    )
    if not uneven:
        return conv
    bins, frames = reach
    pad = nn.ZeroPad2d((frames // 2, frames - frames // 2, bins // 2, bins - bins // 2))
    return nn.Sequential(pad, conv)


def _transpose_conv(step: Step, options: Mapping[str, Any]) -> nn.Module:
    kernel, stride = pair(options["kernel_size"]), pair(options["stride"])
    return TransposeConv(step.before, step.after, kernel, stride, step.bias)


def _upsample(_: Step, options: Mapping[str, Any]) -> nn.Module:
    corners = {"align_corners": False} if options["mode"] == "bilinear" else {}
    bins, frames = pair(options["scale"])
    return nn.Upsample(scale_factor=(float(bins), float(frames)), mode=options["mode"], **corners)


_MAKERS: Mapping[str, Callable[[Step, Mapping[str, Any]], nn.Module]] = {
    "conv": _conv,
    "transpose_conv": _transpose_conv,
    "upsample": _upsample,
    "max_pool": lambda _, options: nn.MaxPool2d(pair(options["size"]), ceil_mode=True),
    "avg_pool": lambda _, options: nn.AvgPool2d(pair(options["size"]), ceil_mode=True),
    "decimate": lambda _, options: Decimate(pair(options["factor"])),
    "batch_norm": lambda step, _: BatchNorm(step.before),
    "group_norm": lambda step, options: GroupNorm(options["groups"], step.before),
    "instance_norm": lambda step, _: GroupNorm(step.before, step.before),
    "layer_norm": lambda step, _: LayerNorm(step.before),
    "relu": lambda *_: nn.ReLU(),
    "leaky_relu": lambda _, options: nn.LeakyReLU(options["slope"]),
    "prelu": lambda step, options: nn.PReLU(step.before, options["slope"]),
    "elu": lambda _, options: nn.ELU(options["alpha"]),
    "selu": lambda *_: nn.SELU(),
    "gelu": lambda *_: nn.GELU(),
    "silu": lambda *_: nn.SiLU(),
    "tanh": lambda *_: nn.Tanh(),
    "sigmoid": lambda *_: nn.Sigmoid(),
    "dropout": lambda _, options: (nn.Dropout2d if options["channels"] else nn.Dropout)(options["p"]),
    "lstm": lambda step, options: Recurrent(nn.LSTM, step.before, options),
    "gru": lambda step, options: Recurrent(nn.GRU, step.before, options),
    "attention": lambda step, options: Attention(step.before, options["heads"], options["axis"]),
}
