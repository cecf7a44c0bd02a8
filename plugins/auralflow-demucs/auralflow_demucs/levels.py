"""One level of the hybrid networks' branches, downward and upward.

Shapes: B batch, C channel, F frequency, T time or frame. A layer of the frequency branch strides over frequency and
takes `(B, C, F, T)`; one of the time branch strides over time and takes `(B, C, T)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from auralflow_demucs.products import gated, in_pieces, rows, tiles, widen
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

    def gate(self, channels: int, context: int) -> nn.Conv1d | nn.Conv2d:
        """Return the convolution whose output is gated down to the channels again."""
        make = nn.Conv2d if self.is_freq else nn.Conv1d
        return make(channels, 2 * channels, 1 + 2 * context, padding=context)

    def is_tiled(self, x: Tensor) -> bool:
        """Whether the frequency branch maps a few frequencies at a time; normalization wants all of them."""
        return self.is_freq and self.is_gated_in_pieces(x)

    def is_gated_in_pieces(self, x: Tensor) -> bool:
        """Whether the gated convolution goes piece by piece."""
        return self.groups == 0 and in_pieces(x)


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
        self.context = context
        self.is_empty = is_empty
        self.conv: nn.Conv1d | nn.Conv2d
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
        elif inject is None and not (self.is_empty or self.context) and self.shape.is_tiled(x):
            return self._by_tiles(x)
        x = self.conv(x)
        if self.is_empty:
            return x
        if inject is not None:
            x = x + inject.unsqueeze(2)
        return self._refined(x)

    def _refined(self, x: Tensor) -> Tensor:
        """Apply all that follows the strided convolution."""
        x = functional.gelu(self.norm1(x))
        if self.dconv is not None:
            x = self.dconv(x)
        if isinstance(self.rewrite, nn.Conv1d) and self.shape.is_gated_in_pieces(x):
            return gated(self.rewrite, x)
        if self.rewrite is not None and self.norm2 is not None:
            x = functional.glu(self.norm2(self.rewrite(x)), dim=1)
        return x

    def _by_tiles(self, x: Tensor) -> Tensor:
        kernel, stride, padding = self.shape.kernel_size, self.shape.stride, self.shape.padding
        bins = (x.shape[2] + 2 * padding - kernel) // stride + 1
        out = x.new_empty(x.shape[0], self.conv.out_channels, bins, x.shape[3])
        for begin, end in tiles(bins, 2 * self.conv.out_channels, x.shape[3]):
            part = rows(x, begin * stride - padding, (end - 1) * stride - padding + kernel)
            down = torch.conv2d(part, self.conv.weight, self.conv.bias, self.conv.stride)
            out[:, :, begin:end] = self._refined(down)
        return out


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
        self.context = context
        self.is_last = is_last
        self.is_empty = is_empty
        self.conv_tr: nn.ConvTranspose1d | nn.ConvTranspose2d
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

    def forward(self, x: Tensor | None, skip: Tensor | None, length: int) -> Tensor:
        """Map a level's input to the input of the level above it.

        Args:
            x: `(B, C, F, T)` or `(B, C, T)`; a frequency axis of length 1 is added where it is wanted.
            skip: What the encoder gave at this level; one of the two may be missing, which stands for zero.
            length: T of the output, for the time branch.
        """
        parts = self._parts(x, skip)
        if self.shape.is_tiled(parts[0]) and not self.is_empty:
            return self._by_tiles(parts)
        return self.widened(self.gated(x, skip), length)

    def gated(self, x: Tensor | None, skip: Tensor | None) -> Tensor:
        """Return what the transposed convolution is given; arguments as those of `forward`."""
        parts = self._parts(x, skip)
        return self._refined(sum(parts[1:], parts[0]), self.context)

    def widened(self, x: Tensor, length: int) -> Tensor:
        """Apply the transposed convolution and what follows it."""
        assert self.conv_tr.bias is not None
        bias = self.conv_tr.bias
        y: Tensor = self.norm2(widen(self.conv_tr, x).add_(bias.reshape(-1, *[1] * (x.dim() - 2))))
        padding = self.shape.padding
        if not self.shape.is_freq:
            y = y[..., padding : padding + length]
        elif padding:
            y = y[..., padding:-padding, :]
        return y if self.is_last else functional.gelu(y)

    def _parts(self, x: Tensor | None, skip: Tensor | None) -> list[Tensor]:
        parts = [part for part in (x, skip) if part is not None]
        return [part.unsqueeze(2) if self.shape.is_freq and part.dim() == 3 else part for part in parts]

    def _refined(self, x: Tensor, padding: int | tuple[int, int]) -> Tensor:
        """Apply all that precedes the transposed convolution; `padding` is the gated one's."""
        if self.is_empty:
            return x
        if isinstance(self.rewrite, nn.Conv1d) and self.shape.is_gated_in_pieces(x):
            x = gated(self.rewrite, x)
        elif self.rewrite is not None and self.norm1 is not None:
            convolve = functional.conv2d if self.shape.is_freq else functional.conv1d
            rewritten = convolve(x, self.rewrite.weight, self.rewrite.bias, padding=padding)
            x = functional.glu(self.norm1(rewritten), dim=1)
        return x if self.dconv is None else self.dconv(x)

    def _by_tiles(self, parts: list[Tensor]) -> Tensor:
        """Map the sum of the parts; the rows that two tiles share are added up."""
        kernel, stride, padding = self.shape.kernel_size, self.shape.stride, self.shape.padding
        batch, _, bins, frames = parts[0].shape
        context, overlap = self.context if self.rewrite is not None else 0, kernel - stride
        bias = self.conv_tr.bias
        assert bias is not None
        out = parts[0].new_empty(batch, self.conv_tr.out_channels, stride * (bins - 1) + kernel - 2 * padding, frames)
        shared = parts[0].new_zeros(())
        for begin, end in tiles(bins, 2 * self.conv_tr.in_channels, frames):
            here = [rows(part, begin - context, end + context) for part in parts]
            y = widen(self.conv_tr, self._refined(sum(here[1:], here[0]), (0, context)))
            y[:, :, :overlap] += shared
            whole = y.shape[2] - overlap
            shared = y[:, :, whole:]
            done = y if end == bins else y[:, :, :whole]
            first = max(0, padding - begin * stride)
            place = out[:, :, begin * stride - padding + first :][:, :, : done.shape[2] - first]
            done = done[:, :, first : first + place.shape[2]]
            if self.is_last:
                torch.add(done, bias[:, None, None], out=place)
            else:
                place.copy_(functional.gelu(done.add_(bias[:, None, None])))
        return out


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
