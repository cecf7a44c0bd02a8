"""Residual branches: dilated convolutions over time, an LSTM and local attention (Défossez, 2021, section 3.2).

Shapes: B batch, C channel, H hidden channel, F frequency, T time or frame.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from auralflow_demucs.plan import ATTENTION_HEADS
from auralflow_demucs.products import add_gated, in_pieces, tiles, times

# The LSTM sees at most so many steps at once, in frames that overlap by half.
_MAX_STEPS = 200
_DECAYS = 4
# Score of a step with itself: attention looks elsewhere.
_SELF_SCORE = -100.0


class DConv(nn.Module):
    """A stack of residual branches, each dilated twice as wide as the one before.

    Args:
        channels: Channels C.
        compress: C / H.
        depth: Number of branches.
        init: Initial scale of what a branch adds.
        attention: Whether a branch has local attention.
        lstm: Whether a branch has an LSTM.
    """

    def __init__(
        self, channels: int, *, compress: float, depth: int, init: float, attention: bool = False, lstm: bool = False
    ) -> None:
        super().__init__()
        hidden = int(channels / compress)
        self.layers = nn.ModuleList()
        for index in range(depth):
            dilation = 2**index
            between: list[nn.Module] = [BLSTM(hidden, 2, max_steps=_MAX_STEPS, skip=True)] if lstm else []
            between += [LocalState(hidden)] if attention else []
            self.layers.append(
                Branch(
                    nn.Conv1d(channels, hidden, 3, dilation=dilation, padding=dilation),
                    nn.GroupNorm(1, hidden),
                    nn.GELU(),
                    *between,
                    nn.Conv1d(hidden, 2 * channels, 1),
                    nn.GroupNorm(1, 2 * channels),
                    nn.GLU(1),
                    LayerScale(channels, init),
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, T)`, or `(B, C, F, T)` each frequency alone, to the same shape."""
        if in_pieces(x):
            return self._by_pieces(x if x.dim() == 4 else x.unsqueeze(2)).reshape(x.shape)
        if x.dim() == 3:
            return self._stack(x)
        stacked = self._stack(x.transpose(1, 2).flatten(0, 1))
        return torch.unflatten(stacked, 0, (len(x), -1)).transpose(1, 2)

    def _stack(self, x: Tensor) -> Tensor:
        for branch in self.layers:
            x = x + branch(x)
        return x

    def _by_pieces(self, x: Tensor) -> Tensor:
        """Map `(B, C, F, T)`, a few frequencies at a time."""
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        for begin, end in tiles(x.shape[2], 2 * x.shape[1], x.shape[3]):
            source, place = x[:, :, begin:end], out[:, :, begin:end]
            for branch in self.layers:
                cast(Branch, branch).add_to(source, place)
                source = place
        return out


class Branch(nn.Sequential):
    """The layers of one residual branch, in the order of `DConv`."""

    def add_to(self, x: Tensor, out: Tensor) -> None:
        """Write x plus the branch's output to `out`, which may be x, without the layers' large tensors.

        Frequencies stay side by side: the convolutions are one product of matrices for all of them. The last one's
        normalization needs mean and variance over its channels and time, for each frequency; they follow from those of
        its few inputs. With weights W and bias b, inputs h of mean m and covariance K over time, they are the mean over
        channels of W m + b, and the mean of diag(W K W^T) plus the variance over channels of W m + b. What differs
        between frequencies are then two numbers, which scale its inputs and a further one.

        Args:
            x: `(B, C, F, T)`.
            out: Of the same shape.
        """
        layers: list[Any] = list(self)
        conv, norm, activation, *between, last, last_norm, _, scale = layers
        batch, _, bins, _ = x.shape
        hidden = activation(norm(_dilated(conv, x).transpose(1, 2).flatten(0, 1)))
        for layer in between:
            hidden = layer(hidden)
        mean, variance = _moments(last, hidden)  # (B F, 1)
        factor = 1 / (variance + last_norm.eps).sqrt()

        count = hidden.shape[1]
        inputs = x.new_empty(batch, count + 3, bins, x.shape[3])
        inputs[:, :count] = torch.unflatten(hidden * factor.unsqueeze(2), 0, (batch, bins)).transpose(1, 2)
        inputs[:, count] = factor.reshape(batch, bins, 1)
        inputs[:, count + 1] = (factor * mean).reshape(batch, bins, 1)
        inputs[:, count + 2] = 1
        slope, offset = last_norm.weight.unsqueeze(1), last_norm.bias.unsqueeze(1)
        columns = [slope * last.weight.squeeze(2), slope * last.bias.unsqueeze(1), -slope, offset]
        scales = torch.cat([scale.scale, torch.ones_like(scale.scale)])  # of what is gated, not of the gates
        matrix = torch.cat(columns, dim=1) * scales.unsqueeze(1)
        add_gated(x.flatten(2), matrix, inputs.flatten(2), out.flatten(2))


def _dilated(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """Apply a padded convolution of kernel 3 to `(B, C, F, T)`, as one product of matrices: with few outputs faster."""
    size, dilation = conv.out_channels, conv.dilation[0]
    taps = torch.unflatten(times(conv.weight.permute(2, 0, 1).flatten(0, 1), x.flatten(2)), 2, x.shape[2:])
    assert conv.bias is not None
    hidden = taps[:, size : 2 * size] + conv.bias[:, None, None]
    hidden[..., dilation:] += taps[:, :size, :, :-dilation]
    hidden[..., :-dilation] += taps[:, 2 * size :, :, dilation:]
    return hidden


def _moments(conv: nn.Conv1d, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance over channels and time, `(B, 1)`, of a convolution of kernel 1 on `(B, H, T)`."""
    weight = conv.weight.squeeze(2)
    mean = x.mean(2)
    centred = x - mean.unsqueeze(2)
    covariance = centred @ centred.transpose(1, 2) / x.shape[2]
    means = functional.linear(mean, weight, conv.bias)  # (B, C)
    grand_mean = means.mean(1, keepdim=True)
    within = ((weight.t() @ weight) * covariance).sum((1, 2)).unsqueeze(1) / len(weight)
    return grand_mean, within + (means - grand_mean).square().mean(1, keepdim=True)


class LayerScale(nn.Module):
    """A learned factor for each channel, small at first (Touvron et al., "Going Deeper with Image Transformers", 2021).

    Args:
        channels: Channels C.
        init: The first value.
    """

    def __init__(self, channels: int, init: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), init))

    def forward(self, x: Tensor) -> Tensor:
        """Scale `(B, C, T)`."""
        return self.scale[:, None] * x


class BLSTM(nn.Module):
    """Bidirectional LSTM layers over time and a projection back to the input's channels.

    Args:
        channels: Channels C.
        layers: Number of LSTM layers.
        max_steps: Longer input is cut into frames of this length that overlap by half; of each the middle is kept.
        skip: Whether the input is added.
    """

    def __init__(self, channels: int, layers: int, *, max_steps: int | None = None, skip: bool = False) -> None:
        super().__init__()
        self.max_steps = max_steps
        self.skip = skip
        self.lstm = nn.LSTM(channels, channels, layers, bidirectional=True)
        self.linear = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, T)` to the same shape."""
        if self.max_steps is None or x.shape[-1] <= self.max_steps:
            y = self._steps(x)
        else:
            y = self._frames(x, self.max_steps)
        return y + x if self.skip else y

    def _steps(self, x: Tensor) -> Tensor:
        hidden, _ = self.lstm(x.permute(2, 0, 1))
        projected: Tensor = self.linear(hidden)
        return projected.permute(1, 2, 0)

    def _frames(self, x: Tensor, width: int) -> Tensor:
        batch, _, length = x.shape
        hop, edge = width // 2, width // 4
        count = -(-length // hop)
        padded = functional.pad(x, (0, (count - 1) * hop + width - length))
        frames = padded.unfold(-1, width, hop)  # (B, C, frame, step)
        y = torch.unflatten(self._steps(frames.transpose(1, 2).flatten(0, 1)), 0, (batch, count))
        inner = y[..., edge:-edge].transpose(1, 2).flatten(2)
        return torch.cat([y[:, 0, :, :edge], inner, y[:, -1, :, -edge:]], dim=-1)[..., :length]


class LocalState(nn.Module):
    """Attention over time whose scores fall with distance, at a rate that each query chooses.

    Défossez, 2021, section 3.2.2. Decay f of query s lowers the score of key t by f |t - s| d / sqrt(number of
    decays), d in (0, 1/2); their sum is |t - s| times one slope, so that no score is computed for each decay.

    Args:
        channels: Channels C, a multiple of the heads.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.content = nn.Conv1d(channels, channels, 1)
        self.query = nn.Conv1d(channels, channels, 1)
        self.key = nn.Conv1d(channels, channels, 1)
        self.query_decay = nn.Conv1d(channels, ATTENTION_HEADS * _DECAYS, 1)
        self.proj = nn.Conv1d(channels, channels, 1)
        # Nearly alike decays, and slow ones, so that attention begins wide.
        with torch.no_grad():
            self.query_decay.weight.mul_(0.01)
            self.query_decay.bias.fill_(-2)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, T)` to the same shape."""
        heads = (ATTENTION_HEADS, -1)
        queries, keys, content = (torch.unflatten(layer(x), 1, heads) for layer in (self.query, self.key, self.content))
        steps = torch.arange(x.shape[-1], device=x.device, dtype=x.dtype)
        distance = (steps[:, None] - steps).abs()
        scores = queries.transpose(2, 3) @ (keys / math.sqrt(keys.shape[2]))  # (B, head, query, key)
        scores = scores - self._slopes(x).unsqueeze(-1) * distance
        scores = scores.masked_fill(distance == 0, _SELF_SCORE)
        attended = content @ scores.softmax(-1).transpose(2, 3)
        projected: Tensor = self.proj(attended.flatten(1, 2))
        return x + projected

    def _slopes(self, x: Tensor) -> Tensor:
        """Return how fast each query's scores fall, `(B, head, query)`."""
        rates = torch.unflatten(self.query_decay(x), 1, (ATTENTION_HEADS, _DECAYS)).sigmoid() / 2
        weights = torch.arange(1, _DECAYS + 1, device=x.device, dtype=x.dtype) / math.sqrt(_DECAYS)
        return torch.einsum("bhft,f->bht", rates, weights)


def rescale_weights(network: nn.Module, reference: float) -> None:
    """Bring the deviation of each convolution's initial weights nearer to a reference.

    Weights are divided by the root of deviation / reference, and biases alike (Défossez et al., 2019, section 3.3).
    """
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d):
                scale = (module.weight.std() / reference).sqrt()
                module.weight.div_(scale)
                if module.bias is not None:
                    module.bias.div_(scale)
