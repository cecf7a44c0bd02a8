"""From frames to steps, which hold several frames each, and back.

Shapes: B batch, C channel, M feature, N frame, L step, D the network's `d_model`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from auralflow_conformer.params import ConformerParams

_ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}


class Subsampling(nn.Module):
    """Convolutions of stride 2 over frequency and time, one for each halving, and a projection of what is left.

    `striding` has full convolutions; `dw_striding` has a full one, then pairs of a depthwise and a pointwise one.
    """

    def __init__(self, params: ConformerParams, num_channels: int) -> None:
        super().__init__()
        channels, features = num_channels, params.feat_in
        self.halvings = nn.Sequential()
        for level in range(_levels(params)):
            is_separable = level > 0 and params.subsampling == "dw_striding"
            self.halvings.append(_halving(channels, params.conv_channels, is_separable))
            self.halvings.append(_ACTIVATIONS[params.subsampling_act]())
            channels, features = params.conv_channels, -(-features // 2)
        self.projection = nn.Linear(channels * features, params.d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, M, N)` to `(B, L, D)`, L = ceil(N / subsampling_factor)."""
        halved = self.halvings(x)
        steps: Tensor = self.projection(halved.permute(0, 3, 1, 2).flatten(2))
        return steps


class Upsampling(nn.Module):
    """Transposed convolutions of stride 2 over time: the mirror image of `Subsampling`, after the last layer.

    `dw_striding` has pairs of a pointwise and a depthwise convolution, and a full one at its end.
    """

    def __init__(self, params: ConformerParams) -> None:
        super().__init__()
        self.doublings = nn.Sequential()
        for level in reversed(range(_levels(params))):
            is_separable = level > 0 and params.subsampling == "dw_striding"
            self.doublings.append(_doubling(params.d_model, is_separable))
            if level > 0:  # what the decoder sees is not cut off by an activation
                self.doublings.append(_ACTIVATIONS[params.subsampling_act]())

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Map `(B, L, D)` to `(B, N, D)`."""
        doubled: Tensor = self.doublings(x.transpose(1, 2))
        return doubled[..., :num_frames].transpose(1, 2)


def _levels(params: ConformerParams) -> int:
    return params.subsampling_factor.bit_length() - 1


def _halving(before: int, after: int, is_separable: bool) -> nn.Module:
    if not is_separable:
        return nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1)
    depthwise = nn.Conv2d(before, before, kernel_size=3, stride=2, padding=1, groups=before)
    return nn.Sequential(depthwise, nn.Conv2d(before, after, kernel_size=1))


def _doubling(features: int, is_separable: bool) -> nn.Module:
    if not is_separable:
        return nn.ConvTranspose1d(features, features, kernel_size=4, stride=2, padding=1)
    depthwise = nn.ConvTranspose1d(features, features, kernel_size=4, stride=2, padding=1, groups=features)
    return nn.Sequential(nn.Conv1d(features, features, kernel_size=1), depthwise)
