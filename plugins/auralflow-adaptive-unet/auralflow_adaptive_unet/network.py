"""The networks of `AdaptiveUNet` and `UNet`; the second is the first with other arguments.

Shapes: B batch, T target, C channel, F bin, N frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from auralflow_adaptive_unet.modules import make_module
from auralflow_adaptive_unet.params import AdaptiveUNetParams, UNetParams
from auralflow_adaptive_unet.plan import DecoderLevel, DesignError, EncoderLevel, Plan, Step
from auralflow_core.config import validate
from auralflow_core.errors import ConfigError, RegistryError
from auralflow_core.registry import default_registry
from auralflow_core.transforms import mask_activation as make_mask_activation

DEFAULT_BINS = 513
"""Bins of the default FFT of 1024 samples, for a network that is made without a data set."""

# Magnitudes span some 100 dB. Their logarithm spreads quiet bins over the range that the first layer sees; the
# floor keeps silence finite, and the shift brings ordinary music to about zero mean.
_MAGNITUDE_FLOOR = 1e-3
_LOG_SHIFT = 1.0


class AdaptiveUNet(nn.Module):
    """U-Net that estimates soft masks from magnitude spectrograms, built from nested lists of layers.

    Every level of the encoder has the layers in `encoder`, every level of the decoder those in `decoder`. An entry is
    `[word]`, `[word, value]` or `[word, {option: value}]`; the words are in the README. Any number of bins and frames
    goes in: what the encoder rounds up is cut off on the way back.

    Args:
        max_layers: Number of levels, 1 to 10.
        encoder: Layers of an encoder level; by default 3x3 convolution, batch norm, leaky ReLU, 2x2 max pooling.
        decoder: Layers of a decoder level, which must enlarge by as much as the encoder's reduce.
        bottleneck: Layers between encoder and decoder.
        mask_activation: Activation that makes the mask, see `auralflow_core.transforms.mask_activation`.
        use_skip: Whether each decoder level sees the encoder level of its size.
        targets: Names of the targets; only their number counts.
        num_fft_bins: Number of bins F that `normalize_input` and `normalize_output` learn; nothing else depends on it.
        num_frames: Number of frames in training; any number is accepted.
        num_channels: 1 for mono, 2 for stereo.
        num_targets: Number of masks T, where `targets` is not given.
        sample_rate: Not used; every network is told.
        settings: `hidden_channels` (16), `normalize_input` and `normalize_output` (False), also under their older names
            (`init_features`, `input_norm`): see `AdaptiveUNetParams`.

    Raises:
        ConfigError: An entry is unknown or out of range (the message names it), or the design cannot work.
    """

    def __init__(
        self,
        max_layers: int = 6,
        encoder: Sequence[Any] | None = None,
        decoder: Sequence[Any] | None = None,
        bottleneck: Sequence[Any] | None = None,
        mask_activation: str = "sigmoid",
        use_skip: bool = True,
        targets: Sequence[str] | None = None,
        *,
        num_fft_bins: int | None = None,
        num_frames: int | None = None,
        num_channels: int = 1,
        num_targets: int | None = None,
        sample_rate: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        parts = {"encoder": encoder, "decoder": decoder, "bottleneck": bottleneck}
        given = {name: list(part) for name, part in parts.items() if part is not None}
        plain = {"max_layers": max_layers, "mask_activation": mask_activation, "use_skip": use_skip}
        params = validate(AdaptiveUNetParams, {**plain, **given, **settings})
        self.num_targets = _count_targets(targets, num_targets)
        plan = _plan(params, num_channels)
        self.num_fft_bins = num_fft_bins or DEFAULT_BINS
        self.input_norm = BinNorm(self.num_fft_bins) if params.normalize_input else nn.Identity()
        self.encoder = nn.ModuleList(EncoderBlock(level) for level in plan.encoder)
        self.bottleneck = _sequential(plan.bottleneck)
        self.decoder = nn.ModuleList(DecoderBlock(level) for level in plan.decoder)
        self.head = nn.Conv2d(plan.channels, self.num_targets * num_channels, kernel_size=1)
        self.output_norm = BinNorm(self.num_fft_bins) if params.normalize_output else nn.Identity()
        self.mask_activation = make_mask_activation(params.mask_activation)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs

    def forward(self, data: Tensor) -> Tensor:
        """Estimate masks.

        Args:
            data: Magnitudes `(B, C, F, N)`, not negative.

        Returns:
            Masks `(B, T, C, F, N)`; with one target `(B, C, F, N)`.
        """
        x = self.input_norm(torch.log10(data + _MAGNITUDE_FLOOR) + _LOG_SHIFT)
        # Convolutions on the CPU are nearly twice as fast in this layout.
        x = x.contiguous(memory_format=torch.channels_last)
        skips = []
        for block in self.encoder:
            x, skip = block(x)
            skips.append(skip)
        x = self.bottleneck(x)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            x = block(x, skip)
        x = self.output_norm(self.head(x))
        mask: Tensor = self.mask_activation(x.unflatten(1, (self.num_targets, -1)))
        return mask.squeeze(1) if self.num_targets == 1 else mask


class UNet(AdaptiveUNet):
    """U-Net of strided 5x5 convolutions that estimates soft masks from magnitude spectrograms.

    Source: Jansson et al., "Singing voice separation with deep U-Net convolutional networks", ISMIR 2017.

    Args:
        pretrained: Whether to load published weights; none are registered yet.
        targets: Names of the targets; only their number counts.
        num_fft_bins: Number of bins F that `normalize_input` and `normalize_output` learn; nothing else depends on it.
        num_frames: Number of frames in training; any number is accepted.
        num_channels: 1 for mono, 2 for stereo.
        num_targets: Number of masks T, where `targets` is not given.
        sample_rate: Not used; every network is told.
        settings: The settings of `UNetParams`, also under their older names: `max_layers`, `hidden_channels`,
            `encoder`, `decoder`, `bottleneck` (groups of settings, or nested lists of layers), and so on.

    Raises:
        ConfigError: A setting is unknown or out of range, or the design cannot work.
        RegistryError: `pretrained` is asked for.
    """

    def __init__(
        self,
        *,
        pretrained: bool = False,
        targets: Sequence[str] | None = None,
        num_fft_bins: int | None = None,
        num_frames: int | None = None,
        num_channels: int = 1,
        num_targets: int | None = None,
        sample_rate: int | None = None,
        **settings: Any,
    ) -> None:
        if pretrained:
            raise _no_weights()
        super().__init__(
            **validate(UNetParams, settings).design().network_arguments(),
            targets=targets,
            num_fft_bins=num_fft_bins,
            num_frames=num_frames,
            num_channels=num_channels,
            num_targets=num_targets,
            sample_rate=sample_rate,
        )


class EncoderBlock(nn.Module):
    """One level of the way down."""

    def __init__(self, level: EncoderLevel) -> None:
        super().__init__()
        self.before = _sequential(level.steps[: level.split])
        self.after = _sequential(level.steps[level.split :])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(B, before, F, N)` to `(B, after, F', N')` and the skip connection `(B, skip, F, N)`."""
        skip = self.before(x)
        return self.after(skip), skip


class DecoderBlock(nn.Module):
    """One level of the way up: enlarged, cut to size, joined with the skip connection, refined."""

    def __init__(self, level: DecoderLevel) -> None:
        super().__init__()
        self.grow = _sequential(level.steps[: level.grown])
        self.refine = _sequential(level.steps[level.grown : level.joined])
        self.is_joined = level.skip_channels > 0
        self.mix = _sequential(level.steps[level.joined :])

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map `(B, before, F', N')` and the skip connection `(B, skip, F, N)` to `(B, after, F, N)`."""
        bins, frames = skip.shape[-2:]
        x = self.refine(self.grow(x)[..., :bins, :frames])
        if self.is_joined:
            x = torch.cat([x, skip], dim=1)
        mixed: Tensor = self.mix(x)
        return mixed


class BinNorm(nn.Module):
    """(x - centre) * scale, learned for each bin."""

    def __init__(self, num_bins: int) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(num_bins, 1))
        self.scale = nn.Parameter(torch.ones(num_bins, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, F, N)` to the same shape."""
        if x.shape[-2] != len(self.centre):
            raise ConfigError(
                f"the input has {x.shape[-2]} bins, but this network normalizes {len(self.centre)}; make it with "
                f"num_fft_bins={x.shape[-2]}, or without normalize_input and normalize_output"
            )
        return (x - self.centre) * self.scale


def _sequential(steps: Sequence[Step]) -> nn.Sequential:
    return nn.Sequential(*(make_module(step) for step in steps))


def _plan(params: AdaptiveUNetParams, num_channels: int) -> Plan:
    try:
        return params.plan(num_channels)
    except DesignError as error:
        raise ConfigError(f"model.params.{error}") from None


def _count_targets(targets: Sequence[str] | None, num_targets: int | None) -> int:
    if targets is None:
        return 1 if num_targets is None else num_targets
    names = [targets] if isinstance(targets, str) else list(targets)
    if not names or num_targets not in (None, len(names)):
        raise ConfigError(
            f"targets {names} are {len(names)}, and num_targets is {num_targets}; name at least one, and leave out "
            "num_targets"
        )
    return len(names)


def _no_weights() -> RegistryError:
    names = [entry.name for entry in default_registry().weights if entry.type == "UNet"]
    if names:
        return RegistryError(
            f"UNet: pretrained=True is not supported yet; these weights are registered: {', '.join(names)}"
        )
    return RegistryError(
        "UNet: no pretrained weights are registered; leave out pretrained=True and train it, or load a model that "
        "you trained with auralflow.models.load(FOLDER)"
    )
