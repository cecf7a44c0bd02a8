"""Products and convolutions in pieces that stay in a processor's cache."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

# Elements of a piece's widest tensor: in the cache that cores share, in a core's own, and in half of that.
_PIECE, _SMALL_PIECE, _GATED_PIECE = 2**20, 2**18, 2**17

# What torch's compiler makes of a linear map; without a promise, so that it may be gone.
_HAS_FUSED: bool = torch.backends.mkldnn.is_available() and hasattr(  # type: ignore[no-untyped-call]
    torch.ops.mkldnn, "_linear_pointwise"
)


def in_pieces(x: Tensor) -> bool:
    """Whether a tensor is best mapped in pieces: on a CPU, without gradients, and no compiler fuses steps."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def tiles(length: int, *widest: int, is_small: bool = False) -> Iterator[tuple[int, int]]:
    """Yield the bounds of an axis' pieces.

    Args:
        length: Of the axis.
        widest: The other axes of the widest tensor that lies between input and output.
        is_small: Whether a piece takes little arithmetic for its size, so that moving it is what costs time.
    """
    size = max(1, (_SMALL_PIECE if is_small else _PIECE) // math.prod(widest))
    for begin in range(0, length, size):
        yield begin, min(begin + size, length)


def rows(x: Tensor, begin: int, end: int) -> Tensor:
    """Return what lies between two places of the axis behind the channels, zeros where there is nothing.

    Args:
        x: `(B, C, F, T)` or `(B, C, T)`.
        begin: The first place, may be negative.
        end: The place behind the last one.
    """
    inside = x[:, :, max(0, begin) : end]
    missing = (max(0, -begin), max(0, end - x.shape[2]))
    return functional.pad(inside, (0, 0) * (x.dim() - 3) + missing) if any(missing) else inside


def gated(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """Apply a padded convolution and the gate of half of its channels to `(B, C, T)`."""
    context = (conv.kernel_size[0] - 1) // 2
    out = x.new_empty(x.shape[0], conv.out_channels // 2, x.shape[2])
    for begin, end in tiles(x.shape[2], conv.out_channels):
        part = rows(x, begin - context, end + context)
        values, gates = functional.conv1d(part, conv.weight, conv.bias).chunk(2, dim=1)
        torch.mul(values, gates.sigmoid_(), out=out[..., begin:end])
    return out


def times(matrix: Tensor, x: Tensor) -> Tensor:
    """Return the product of one matrix `(D, C)` with each of `(B, C, T)`; `@` would turn each of them around first."""
    return torch.bmm(matrix.expand(len(x), -1, -1), x)


def linear(x: Tensor, weight: Tensor, bias: Tensor, *, then_gelu: bool = False) -> Tensor:
    """Apply a linear map to `(..., C)`, and GELU to what it gives if that is wanted.

    oneDNN, where torch has it, adds the bias and applies GELU while the product is in the cache; torch's own product
    passes over the output once more for each.
    """
    if in_pieces(x) and x.dtype == torch.float32 and _HAS_FUSED and not torch.is_autocast_enabled("cpu"):
        fused: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu" if then_gelu else "none", [], "none")
        return fused
    y = functional.linear(x, weight, bias)
    return functional.gelu(y) if then_gelu else y


def add_gated(x: Tensor, matrix: Tensor, inputs: Tensor, out: Tensor) -> None:
    """Write x plus a gated product to `out`, which may be x.

    Args:
        x: `(B, C, N)`.
        matrix: `(2 C, H)`, that of the values above that of the gates.
        inputs: What it is multiplied with, `(B, H, N)`.
        out: `(B, C, N)`.
    """
    batch, channels, count = x.shape
    # Autocast, which would bring both to one type, lets products with a given output be.
    value_matrix, gate_matrix = matrix.to(x.dtype).expand(batch, -1, -1).chunk(2, dim=1)
    size = min(count, max(1, _GATED_PIECE // len(matrix)))
    scratch = x.new_empty(2, batch, channels, size)  # the same for all pieces, so that it stays in the cache
    for piece, base, place in zip(*(torch.split(whole, size, dim=2) for whole in (inputs, x, out)), strict=True):
        values, gates = scratch[..., : piece.shape[2]]
        torch.bmm(value_matrix, piece, out=values)
        torch.bmm(gate_matrix, piece, out=gates)
        torch.addcmul(base, values, gates.sigmoid_(), out=place)


def widen(conv: nn.ConvTranspose1d | nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """Apply a transposed convolution over the axis behind the channels, without its bias.

    With a kernel of two strides, each output is a sum of two products: the first half of the kernel with the element
    at its place, the second half with the one before.

    Args:
        conv: Its kernel has length 1 on the other axis, if there is one.
        x: `(B, C, F, T)` or `(B, C, T)`.
    """
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    if kernel != 2 * stride or not in_pieces(x):
        apply = torch.conv_transpose2d if x.dim() == 4 else torch.conv_transpose1d
        return apply(x, conv.weight, None, conv.stride)
    batch, _, count, *rest = x.shape
    matrix = conv.weight.flatten(2).permute(1, 2, 0).flatten(0, 1)  # (output and tap, C)
    out = x.new_empty(batch, conv.out_channels, count + 1, stride, *rest)
    out[:, :, 0] = 0
    for begin, end in tiles(count, len(matrix), *rest, is_small=True):
        taps = times(matrix, x[:, :, begin:end].flatten(2)).reshape(
            batch, conv.out_channels, 2, stride, end - begin, *rest
        )
        now, later = taps.transpose(3, 4).unbind(2)
        out[:, :, begin] += now[:, :, 0]
        out[:, :, begin + 1 : end] = now[:, :, 1:]
        out[:, :, end] = 0
        out[:, :, begin + 1 : end + 1] += later
    return out.flatten(2, 3)
