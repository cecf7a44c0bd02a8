"""A layer of the Conformer.

Sources: A. Gulati et al., "Conformer: Convolution-augmented Transformer for Speech Recognition", Interspeech 2020;
M. Ding et al., "CogView: Mastering Text-to-Image Generation via Transformers", 2021 (sandwich norm); D. Fu et al.,
"Simple Hardware-Efficient Long Convolutions for Sequence Modeling", 2023.

Shapes: B batch, L step, D the network's `d_model`, W width of a convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from auralflow_conformer.attention import Attention
from auralflow_conformer.params import ConformerParams


class ConformerLayer(nn.Module):
    """Half a feed-forward module, attention, convolution, the other half; each adds to what it got."""

    def __init__(self, params: ConformerParams) -> None:
        super().__init__()
        self.ff_before = _feed_forward(params)
        self.attention_norm = make_norm(params)
        self.attention = Attention(params)
        self.attention_norm_after = make_norm(params) if params.sandwich_norm else nn.Identity()
        self.convolution = ConvolutionModule(params)
        self.ff_after = _feed_forward(params)
        self.norm = make_norm(params)

    def forward(self, x: Tensor, rotation: Tensor | None) -> Tensor:
        """Map `(B, L, D)` to `(B, L, D)`."""
        x = x + 0.5 * self.ff_before(x)
        x = x + self.attention_norm_after(self.attention(self.attention_norm(x), rotation))
        x = x + self.convolution(x)
        x = x + 0.5 * self.ff_after(x)
        y: Tensor = self.norm(x)
        return y


class ConvolutionModule(nn.Module):
    """A gated projection, a depthwise convolution over time, normalised and activated, and a projection back.

    The paper normalises over the batch. Here it is `default_norm`: statistics of a batch would differ between chunks
    that double in length, and would be counted twice where a layer is recomputed.
    """

    def __init__(self, params: ConformerParams) -> None:
        super().__init__()
        width = max(1, round(params.d_model * params.conv_expansion_factor))
        self.before = nn.Sequential(make_norm(params), nn.Linear(params.d_model, 2 * width), nn.GLU())
        self.depthwise = _depthwise(params, width)
        self.after = nn.Sequential(
            make_norm(params, width), nn.SiLU(), nn.Linear(width, params.d_model), nn.Dropout(params.dropout_conv)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, L, D)` to `(B, L, D)`."""
        y: Tensor = self.after(self.depthwise(self.before(x).transpose(1, 2)).transpose(1, 2))
        return y


class LongConvolution(nn.Module):
    """A depthwise convolution whose kernel reaches far to both sides, by FFT: the cost of a step grows with log L.

    Its taps fade with their distance at first, and are drawn towards zero by a soft threshold (Squash), so that only
    those that earn it reach far.

    Args:
        width: Channels W.
        reach: Steps R to each side.
        squash: Threshold.
    """

    def __init__(self, width: int, reach: int, squash: float) -> None:
        super().__init__()
        self.reach = reach
        self.squash = squash
        distance = torch.arange(-reach, reach + 1).abs()
        # Channels fade at rates from a step to the whole reach.
        rates = torch.logspace(0, -torch.tensor(float(reach + 1)).log10().item(), width)
        fade = torch.exp(-distance * rates[:, None])
        self.kernel = nn.Parameter(torch.randn(width, 2 * reach + 1) * fade / fade.square().sum(1, keepdim=True).sqrt())
        self.direct = nn.Parameter(torch.ones(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, W, L)` to `(B, W, L)`."""
        steps = x.shape[-1]
        reach = min(self.reach, steps - 1)
        kernel = self.kernel[:, self.reach - reach : self.reach + reach + 1]
        kernel = functional.softshrink(kernel, self.squash)
        size = 1 << (steps + 2 * reach - 1).bit_length()  # at least their sum, so that nothing wraps round
        # There is no FFT of half precision for every length.
        precise = torch.promote_types(x.dtype, torch.float32)
        spectrum = torch.fft.rfft(x.to(precise), size) * torch.fft.rfft(kernel.to(precise), size)
        far = torch.fft.irfft(spectrum, size)[..., reach : reach + steps]
        y: Tensor = (far + self.direct * x).to(x.dtype)
        return y


class RMSNorm(nn.RMSNorm):
    """`torch.nn.RMSNorm` in the weight's precision, which it needs and autocast does not see to."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., size)` to the same shape and type."""
        y: Tensor = super().forward(x.to(self.weight.dtype)).to(x.dtype)
        return y


def make_norm(params: ConformerParams, size: int | None = None) -> nn.Module:
    """Return the normalisation that `default_norm` names, over the last axis."""
    kind = nn.LayerNorm if params.default_norm == "layer_norm" else RMSNorm
    return kind(size or params.d_model, eps=1e-5)


def _feed_forward(params: ConformerParams) -> nn.Module:
    width = max(1, round(params.d_model * params.expansion_factor))
    return nn.Sequential(
        make_norm(params),
        nn.Linear(params.d_model, width, bias=params.bias_in_ff),
        nn.SiLU(),
        nn.Dropout(params.dropout_ff),
        nn.Linear(width, params.d_model, bias=params.bias_in_ff),
        nn.Dropout(params.dropout_ff),
        make_norm(params) if params.sandwich_norm else nn.Identity(),
    )


def _depthwise(params: ConformerParams, width: int) -> nn.Module:
    if params.conv_type == "longconv":
        return LongConvolution(width, params.longconv_length, params.longconv_squash)
    return nn.Conv1d(width, width, params.conv_kernel_size, padding="same", groups=width)
