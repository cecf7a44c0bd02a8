"""One level of the hybrid networks' branches, downward and upward.

Shapes: B batch, C channel, F frequency, T time or frame. A layer of the frequency branch strides over frequency and
takes `(B, C, F, T)`; one of the time branch strides over time and takes `(B, C, T)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from auralflow_demucs.residual import DConv


@dataclass(frozen=True)
class Shape:
    """How a level's layers are made, upward and downward alike.

    Attributes:
        is_freq: Whether they belong to the frequency branch.
        kernel_size: Length of the strided convolution's kernel.
        stride: Its stride.
        is_padded: Whether it is padded by a quarter of its kernel.
        groups: Groups of the normalizations; 0 for none.
        rewrite: Whether there is a gated convolution.
    """

    is_freq: bool
    kernel_size: int
    stride: int
    is_padded: bool
    groups: int
    rewrite: bool

    @property
    def padding(self) -> int:
        """Padding of the strided convolution."""
        return self.kernel_size // 4 if self.is_padded else 0

    def norm(self, channels: int) -> nn.Module:
        """Return a normalization of so many channels."""
        return nn.GroupNorm(self.groups, channels) if self.groups else nn.Identity()

    def gate(self, channels: int, context: int) -> nn.Module:
        """Return the convolution whose output is gated down to the channels again."""
        make = nn.Conv2d if self.is_freq else nn.Conv1d
        return make(channels, 2 * channels, 1 + 2 * context, padding=context)


class HEncLayer(nn.Module):
    """A strided convolution, a residual branch and a gated convolution.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        shape: How it is made.
        context: Frames that the gated convolution sees to each side.
        dconv: The residual branch, if there is one.
        is_empty: Whether the strided convolution is all there is.
    """

    def __init__(
        self, inputs: int, outputs: int, shape: Shape, *, context: int, dconv: DConv | None, is_empty: bool = False
    ) -> None:
        super().__init__()
        self.shape = shape
        self.is_empty = is_empty
        self.conv: nn.Module
        if shape.is_freq:
            self.conv = nn.Conv2d(
                inputs, outputs, (shape.kernel_size, 1), (shape.stride, 1), padding=(shape.padding, 0)
            )
        else:
            self.conv = nn.Conv1d(inputs, outputs, shape.kernel_size, shape.stride, padding=shape.padding)
        if is_empty:
            return
        self.norm1 = shape.norm(outputs)
        self.rewrite = shape.gate(outputs, context) if shape.rewrite else None
        self.norm2 = shape.norm(2 * outputs) if shape.rewrite else None
        self.dconv = dconv

    def forward(self, x: Tensor, inject: Tensor | None = None) -> Tensor:
        """Map a level's input to the next level's.

        Args:
            x: `(B, C, F, T)` or `(B, C, T)`; a frequency axis of length 1 is dropped where it is not wanted.
            inject: What is added behind the strided convolution, `(B, C, T)`.
        """
        if not self.shape.is_freq:
            x = x.flatten(1, 2) if x.dim() == 4 else x
            x = functional.pad(x, (0, -x.shape[-1] % self.shape.stride))
        x = self.conv(x)
        if self.is_empty:
            return x
        if inject is not None:
            x = x + inject.unsqueeze(2)
        x = functional.gelu(self.norm1(x))
        if self.dconv is not None:
            x = self.dconv(x)
        if self.rewrite is not None and self.norm2 is not None:
            x = functional.glu(self.norm2(self.rewrite(x)), dim=1)
        return x


class HDecLayer(nn.Module):
    """A gated convolution, a residual branch and a transposed convolution.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        shape: How it is made.
        context: Frames that the gated convolution sees to each side.
        dconv: The residual branch, if there is one.
        is_last: Whether the output is the network's own.
        is_empty: Whether the transposed convolution is all there is.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        shape: Shape,
        *,
        context: int,
        dconv: DConv | None,
        is_last: bool,
        is_empty: bool = False,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.is_last = is_last
        self.is_empty = is_empty
        self.conv_tr: nn.Module
        if shape.is_freq:
            self.conv_tr = nn.ConvTranspose2d(inputs, outputs, (shape.kernel_size, 1), (shape.stride, 1))
        else:
            self.conv_tr = nn.ConvTranspose1d(inputs, outputs, shape.kernel_size, shape.stride)
        self.norm2 = shape.norm(outputs)
        if is_empty:
            return
        self.rewrite = shape.gate(inputs, context) if shape.rewrite else None
        self.norm1 = shape.norm(2 * inputs) if shape.rewrite else None
        self.dconv = dconv

    def forward(self, x: Tensor | None, skip: Tensor | None, length: int) -> tuple[Tensor, Tensor]:
        """Map a level's input to the input of the level above it.

        Args:
            x: `(B, C, F, T)` or `(B, C, T)`; a frequency axis of length 1 is added where it is wanted.
            skip: What the encoder gave at this level; one of the two may be missing, which stands for zero.
            length: T of the output, for the time branch.

        Returns:
            The output, and what its transposed convolution was given.
        """
        if x is not None and self.shape.is_freq and x.dim() == 3:
            x = x.unsqueeze(2)
        x = skip if x is None else x if skip is None else x + skip
        assert x is not None
        if not self.is_empty:
            if self.rewrite is not None and self.norm1 is not None:
                x = functional.glu(self.norm1(self.rewrite(x)), dim=1)
            if self.dconv is not None:
                x = self.dconv(x)
        y = self.norm2(self.conv_tr(x))
        padding = self.shape.padding
        if not self.shape.is_freq:
            y = y[..., padding : padding + length]
        elif padding:
            y = y[..., padding:-padding, :]
        return y if self.is_last else functional.gelu(y), x


class ScaledEmbedding(nn.Module):
    """A learned vector for each frequency; its factor makes it learn that much faster.

    Args:
        count: Number of frequencies F.
        channels: Channels C.
        scale: The factor.
        smooth: Whether it begins as a normalized random walk over frequency, not as noise.
    """

    def __init__(self, count: int, channels: int, *, scale: float, smooth: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(count, channels)
        self.scale = scale
        with torch.no_grad():
            weight = self.embedding.weight
            if smooth:
                # A sum of n normal variables has n times their variance.
                steps = torch.arange(1, count + 1, dtype=weight.dtype)
                weight.copy_(weight.cumsum(0) / steps.sqrt().unsqueeze(1))
            weight.div_(scale)

    def forward(self) -> Tensor:
        """Return the vectors as `(C, F, 1)`."""
        return (self.embedding.weight * self.scale).t().unsqueeze(-1)
