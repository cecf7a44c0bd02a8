"""The transformer of `HTDemucs`: self attention in the spectral and the temporal branch, cross attention between them.

Shapes: B batch, H hidden channel, F frequency, T frame, N token, Q query, K key.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from auralflow_demucs.params import HTDemucsParams
from auralflow_demucs.products import in_pieces, linear, tiles

_INITIAL_SCALE = 1e-4


class CrossTransformerEncoder(nn.Module):
    """Layers of self attention and of cross attention in turn (Rouard et al., 2023, section 3).

    Args:
        channels: Channels H.
        params: The settings.
    """

    def __init__(self, channels: int, params: HTDemucsParams) -> None:
        super().__init__()
        self.max_period = params.t_max_period
        self.embedding_weight = params.t_weight_pos_embed
        self.norm_in = _norm_in(channels, params)
        self.norm_in_t = _norm_in(channels, params)
        self.layers, self.layers_t = nn.ModuleList(), nn.ModuleList()
        for index in range(params.t_layers):
            is_cross = (index % 2 == 0) == params.t_cross_first
            make = CrossLayer if is_cross else SelfLayer
            self.layers.append(make(channels, params))
            self.layers_t.append(make(channels, params))

    def forward(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(B, H, F, T)` and `(B, H, N)` to the same shapes."""
        _, channels, bins, frames = x.shape
        tokens = self.norm_in(x.permute(0, 3, 2, 1).flatten(1, 2))  # frame by frame
        tokens_t = self.norm_in_t(xt.transpose(1, 2))
        if self.embedding_weight:
            tokens = tokens + self.embedding_weight * self._places(frames, bins, channels, x)
            tokens_t = tokens_t + self.embedding_weight * self._places_t(tokens_t)
        for layer, layer_t in zip(self.layers, self.layers_t, strict=True):
            tokens, tokens_t = layer(tokens, tokens_t), layer_t(tokens_t, tokens)
        return torch.unflatten(tokens, 1, (frames, bins)).permute(0, 3, 2, 1), tokens_t.transpose(1, 2)

    def _places(self, frames: int, bins: int, channels: int, like: Tensor) -> Tensor:
        """Return the embedding of frame and frequency, `(F T, H)`.

        Each has half of the channels, sines and cosines in turn.
        """
        half = channels // 2
        rates = torch.exp(torch.arange(0, half, 2, device=like.device) * -(math.log(self.max_period) / half))
        by_frame, by_bin = (
            torch.stack([phase.sin(), phase.cos()], dim=-1).flatten(1)
            for phase in (torch.arange(count, device=like.device).unsqueeze(1) * rates for count in (frames, bins))
        )
        both = [by_frame.unsqueeze(1).expand(-1, bins, -1), by_bin.expand(frames, -1, -1)]
        return torch.cat(both, dim=-1).flatten(0, 1).to(like.dtype)

    def _places_t(self, tokens: Tensor) -> Tensor:
        """Return the embedding of time, `(N, H)`: all cosines, then all sines."""
        half = tokens.shape[2] // 2
        rates = torch.arange(half, device=tokens.device) / max(1, half - 1)
        phase = torch.arange(tokens.shape[1], device=tokens.device).unsqueeze(1) / self.max_period**rates
        return torch.cat([phase.cos(), phase.sin()], dim=-1).to(tokens.dtype)


class Attention(nn.Module):
    """Attention of several heads, with the parameters of `nn.MultiheadAttention`.

    Args:
        channels: Channels H.
        heads: Number of heads.
        dropout: Dropout of the attention's weights.
    """

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Let queries `(B, Q, H)` attend to keys `(B, K, H)`; return `(B, Q, H)`."""
        size = queries.shape[-1]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        query = self._heads(linear(queries, weight[:size], bias[:size]))
        # Each head in one piece: rows that lie apart by powers of two crowd each other out of the processor's cache.
        key, value = self._heads(linear(keys, weight[size:], bias[size:])).contiguous().chunk(2, dim=1)
        attended = functional.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropout if self.training else 0.0
        )
        return linear(attended.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias)

    def _heads(self, x: Tensor) -> Tensor:
        """Map `(B, N, H)`, or several such side by side, to `(B, head, N, H / heads)`."""
        return torch.unflatten(x, -1, (-1, self.in_proj_weight.shape[1] // self.heads)).transpose(1, 2)


class Layer(nn.Module):
    """Attention and two linear maps, each added to what comes in.

    Args:
        channels: Channels H.
        params: The settings.
    """

    def __init__(self, channels: int, params: HTDemucsParams) -> None:
        super().__init__()
        hidden = int(channels * params.t_hidden_scale)
        self.norm_first = params.t_norm_first
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.has_gelu = params.t_gelu
        self.dropout = nn.Dropout(params.t_dropout)
        self.norm1 = _norm(channels, params)
        self.norm2 = _norm(channels, params)
        self.norm_out = TokenGroupNorm(1, channels) if params.t_norm_first and params.t_norm_out else None
        self.gamma_1 = ChannelScale(channels) if params.t_layer_scale else None
        self.gamma_2 = ChannelScale(channels) if params.t_layer_scale else None

    def transform(self, x: Tensor) -> Tensor:
        """Apply the linear maps to `(B, N, H)`."""
        if not in_pieces(x):
            return self._transformed(x)
        out = torch.empty_like(x)
        for begin, end in tiles(x.shape[1], len(x), self.linear1.out_features):
            out[:, begin:end] = self._transformed(x[:, begin:end])
        return out

    def _transformed(self, x: Tensor) -> Tensor:
        hidden = linear(x, self.linear1.weight, self.linear1.bias, then_gelu=self.has_gelu)
        hidden = self.dropout(hidden if self.has_gelu else functional.relu(hidden))
        return linear(hidden, self.linear2.weight, self.linear2.bias)

    def add(self, x: Tensor, y: Tensor, scale: ChannelScale | None) -> Tensor:
        """Return x plus scaled y."""
        y = self.dropout(y)
        return x + y if scale is None else torch.addcmul(x, y, scale.scale)


class SelfLayer(Layer):
    """A layer whose tokens attend to their own branch."""

    def __init__(self, channels: int, params: HTDemucsParams) -> None:
        super().__init__(channels, params)
        self.self_attn = Attention(channels, params.t_heads, params.t_dropout)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Map `(B, N, H)` to the same shape; the other branch has no part in it."""
        if self.norm_first:
            x = self.add(x, self._attended(self.norm1(x)), self.gamma_1)
            x = self.add(x, self.transform(self.norm2(x)), self.gamma_2)
            return x if self.norm_out is None else cast(Tensor, self.norm_out(x))
        x = self.norm1(self.add(x, self._attended(x), self.gamma_1))
        x = self.norm2(self.add(x, self.transform(x), self.gamma_2))
        return x

    def _attended(self, x: Tensor) -> Tensor:
        attended: Tensor = self.self_attn(x, x)
        return attended


class CrossLayer(Layer):
    """A layer whose tokens attend to the other branch."""

    def __init__(self, channels: int, params: HTDemucsParams) -> None:
        super().__init__(channels, params)
        self.cross_attn = Attention(channels, params.t_heads, params.t_dropout)
        self.norm3 = _norm(channels, params)
        # With the norms behind, the checkpoints still hold the third, which nothing uses.
        self.norm3.requires_grad_(self.norm_first)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Map `(B, N, H)`, with the other branch's `(B, K, H)`, to the same shape."""
        if self.norm_first:
            x = self.add(x, self.cross_attn(self.norm1(x), self.norm2(other)), self.gamma_1)
            x = self.add(x, self.transform(self.norm3(x)), self.gamma_2)
            return x if self.norm_out is None else cast(Tensor, self.norm_out(x))
        x = self.norm1(self.add(x, self.cross_attn(x, other), self.gamma_1))
        x = self.norm2(self.add(x, self.transform(x), self.gamma_2))
        return x


class ChannelScale(nn.Module):
    """A learned factor for each channel, used where the scaled signal is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), _INITIAL_SCALE))


class TokenGroupNorm(nn.GroupNorm):
    """Group normalization of `(B, N, H)` over tokens and groups of channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `(B, N, H)`."""
        if self.num_groups > 1:
            return super().forward(x.transpose(1, 2)).transpose(1, 2)
        # The same in the layout that it has: nothing is transposed.
        normal = functional.layer_norm(x, x.shape[1:], eps=self.eps)
        return torch.addcmul(self.bias, normal, self.weight)


def _norm(channels: int, params: HTDemucsParams) -> nn.Module:
    if params.t_group_norm:
        return TokenGroupNorm(params.t_group_norm, channels)
    return nn.LayerNorm(channels)


def _norm_in(channels: int, params: HTDemucsParams) -> nn.Module:
    if params.t_norm_in:
        return nn.LayerNorm(channels)
    if params.t_norm_in_group:
        return TokenGroupNorm(params.t_norm_in_group, channels)
    return nn.Identity()
