"""The network of `Conformer`.

Sources: A. Gulati et al., "Conformer: Convolution-augmented Transformer for Speech Recognition", Interspeech 2020;
J. Nozaki and T. Komatsu, "Relaxing the Conditional Independence Assumption of CTC-based ASR by Conditioning on
Intermediate Predictions", Interspeech 2021 (self-conditioning).

Shapes: B batch, T target, C channel, F bin, M feature, K masked bins or bands, N frame, L step, D `d_model`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from auralflow_conformer.attention import RotaryPositions
from auralflow_conformer.features import Features
from auralflow_conformer.layer import ConformerLayer, make_norm
from auralflow_conformer.params import ConformerParams
from auralflow_conformer.sampling import Subsampling, Upsampling
from auralflow_core.config import validate
from auralflow_core.transforms import mask_activation


class Conformer(nn.Module):
    """Masks from magnitude spectrograms of any length: layers of attention and convolution over steps of some frames.

    Args:
        num_fft_bins: Bins F of the magnitudes.
        num_channels: 1 for mono, 2 for stereo.
        num_targets: Number of masks T.
        sample_rate: In Hz; places the mel bands.
        num_frames: Not used; any number of frames is accepted.
        params: The fields of `ConformerParams`.

    Raises:
        ConfigError: A parameter is unknown or out of range, or there are fewer bins than linear features.
    """

    def __init__(
        self,
        *,
        num_fft_bins: int = 513,
        num_channels: int = 1,
        num_targets: int = 1,
        sample_rate: int = 44100,
        num_frames: int | None = None,
        **params: Any,
    ) -> None:
        super().__init__()
        self.params = settings = validate(ConformerParams, params)
        self.features = Features(settings, num_fft_bins, sample_rate)
        self.subsampling = Subsampling(settings, num_channels)
        self.subsampling_norm = make_norm(settings) if settings.subsampling_norm_out else nn.Identity()
        self.rotary = RotaryPositions(settings) if settings.use_rotary else None
        self.layers = nn.ModuleList(ConformerLayer(settings) for _ in range(settings.n_layers))
        self.upsampling = Upsampling(settings)
        self.skip = nn.Linear(num_channels * settings.feat_in, settings.d_model) if settings.frame_skip else None
        self.decoder = MaskDecoder(settings, num_targets, num_channels, self.features.mask_size)
        is_conditioned = settings.self_conditioning and settings.n_layers > 1
        self.conditioning = (
            SelfConditioning(settings, self.decoder.num_masks)
            if is_conditioned or settings.self_condition_subsampling
            else None
        )

    def forward(self, magnitude: Tensor) -> Tensor:
        """Estimate masks.

        Args:
            magnitude: `(B, C, F, N)`, not negative.

        Returns:
            Masks `(B, T, C, F, N)`; of the lowest `feat_in` bins if the features are linear.
        """
        features = self.features(magnitude)
        x = self._through_layers(self.subsampling_norm(self.subsampling(features)))
        x = self.upsampling(x, features.shape[-1])
        if self.skip is not None:
            x = x + self.skip(features.flatten(1, 2).transpose(1, 2))
        masks: Tensor = self.decoder(x)
        return self.features.spread(masks)

    @property
    def checkpoint_blocks(self) -> list[nn.Module]:
        """What `training.gradient_checkpointing` recomputes: all but the layers that are recomputed here already."""
        layers = [layer for number, layer in enumerate(self.layers, start=1) if not self._is_recomputed(number)]
        others = (self.subsampling, self.upsampling, self.skip, self.decoder, self.conditioning)
        return [*layers, *(block for block in others if block is not None)]

    def _through_layers(self, x: Tensor) -> Tensor:
        rotation = None if self.rotary is None else self.rotary(x.shape[1], x.device)
        if self.conditioning is not None and self.params.self_condition_subsampling:
            x = self.conditioning(x, self.decoder(x))
        for number, layer in enumerate(self.layers, start=1):
            if self.training and self._is_recomputed(number):
                x = checkpoint(layer, x, rotation, use_reentrant=False)
            else:
                x = layer(x, rotation)
            if self.conditioning is not None and self.params.self_conditioning and number < len(self.layers):
                x = self.conditioning(x, self.decoder(x))
        return x

    def _is_recomputed(self, number: int) -> bool:
        every = self.params.checkpoint_every_n_layers
        return every > 0 and number % every == 0


class MaskDecoder(nn.Module):
    """Masks of frames, or of steps: one mask for all the frames that a step holds."""

    def __init__(self, params: ConformerParams, num_targets: int, num_channels: int, mask_size: int) -> None:
        super().__init__()
        self.shape = (num_targets, num_channels, mask_size)
        self.norm = make_norm(params) if params.decoder_norm else nn.Identity()
        self.projection = nn.Linear(params.d_model, num_targets * num_channels * mask_size)
        self.activation = mask_activation(params.mask_activation)

    @property
    def num_masks(self) -> int:
        """Masks of one frame: T C K."""
        return self.projection.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, N, D)` to masks `(B, T, C, K, N)`."""
        logits = self.projection(self.norm(x)).unflatten(-1, self.shape)
        masks: Tensor = self.activation(logits.permute(0, 2, 3, 4, 1))
        return masks


class SelfConditioning(nn.Module):
    """Adds to each step the masks that the decoder would make of it by now, so that later layers can build on them.

    x + W masks; gated: x + sigmoid(V x) W masks. The decoder, V and W are the same after every layer.
    """

    def __init__(self, params: ConformerParams, num_masks: int) -> None:
        super().__init__()
        self.projection = nn.Linear(num_masks, params.d_model)
        self.gate = nn.Sequential(nn.Linear(params.d_model, params.d_model), nn.Sigmoid()) if params.gated_sc else None

    def forward(self, x: Tensor, masks: Tensor) -> Tensor:
        """Map `(B, L, D)` and the masks `(B, T, C, K, L)` of its steps to `(B, L, D)`."""
        found: Tensor = self.projection(masks.flatten(1, 3).transpose(1, 2))
        return x + found if self.gate is None else x + self.gate(x) * found
