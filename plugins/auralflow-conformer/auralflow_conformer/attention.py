"""Multi-head attention with rotary positions.

Sources: A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017; J. Su et al., "RoFormer: Enhanced Transformer
with Rotary Position Embedding", 2021; S. Chen et al., "Extending Context Window of Large Language Models via Positional
Interpolation", 2023.

Shapes: B batch, H head, L step, E features of a head, D the network's `d_model`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from auralflow_conformer.params import ConformerParams

_ROTARY_BASE = 10000.0


class Attention(nn.Module):
    """Attention of each step to all steps, or to those of its own chunk and of the chunks beside it."""

    def __init__(self, params: ConformerParams) -> None:
        super().__init__()
        width = params.n_heads * params.head_dim
        self.n_heads = params.n_heads
        self.chunk = params.attention_chunk
        self.dropout = params.dropout_attn
        self.is_fused = params.flash_attn
        self.to_qkv = nn.Linear(params.d_model, 3 * width, bias=False)
        self.to_out = nn.Linear(width, params.d_model, bias=False)

    def forward(self, x: Tensor, rotation: Tensor | None) -> Tensor:
        """Map `(B, L, D)` to `(B, L, D)`.

        Args:
            x: The steps.
            rotation: What `RotaryPositions` returned for their number, or nothing.
        """
        # (B, L, 3 H E) -> 3 x (B, H, L, E)
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        attended = self._by_chunks(q, k, v) if self.chunk else self._attend(q, k, v)
        y: Tensor = self.to_out(attended.transpose(1, 2).flatten(2))
        return y

    def _by_chunks(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # Slices rather than a mask: with a mask torch has no flash kernel.
        chunks = []
        for start in range(0, q.shape[2], self.chunk):
            seen = slice(max(0, start - self.chunk), start + 2 * self.chunk)
            chunks.append(self._attend(q[:, :, start : start + self.chunk], k[:, :, seen], v[:, :, seen]))
        return torch.cat(chunks, dim=2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        if self.is_fused:
            return functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1)
        return functional.dropout(weights, dropout) @ v


class RotaryPositions(nn.Module):
    """The angles by which pairs of features are turned at each step: two steps see their distance, not their places.

    A position is divided by the interpolation factor: a factor of 2 takes a network to twice the length that it was
    trained with, at angles that it knows.
    """

    def __init__(self, params: ConformerParams) -> None:
        super().__init__()
        self.head_dim = params.head_dim
        self.interpolation = params.rotary_interpolation_factor
        self.learned = nn.Parameter(self._frequencies()) if params.rotary_learned_freq else None

    def forward(self, num_steps: int, device: torch.device) -> Tensor:
        """Return cosines and sines `(2, L, E)`."""
        # Not a buffer: rounded to half precision, frequencies would lose far positions.
        frequencies = self._frequencies(device) if self.learned is None else self.learned.float()
        positions = torch.arange(num_steps, device=device) / self.interpolation
        angles = (positions[:, None] * frequencies).repeat(1, 2)
        return torch.stack([angles.cos(), angles.sin()])

    def _frequencies(self, device: torch.device | None = None) -> Tensor:
        exponents = torch.arange(0, self.head_dim, 2, dtype=torch.float32, device=device) / self.head_dim
        return _ROTARY_BASE**-exponents


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn the pairs (i, i + E / 2) of the features `(B, H, L, E)` by the angles of their steps."""
    cosines, sines = rotation.unbind()
    first, second = x.chunk(2, dim=-1)
    return (x * cosines + torch.cat([-second, first], dim=-1) * sines).to(x.dtype)
