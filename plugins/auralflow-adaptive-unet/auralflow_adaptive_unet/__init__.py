"""AdaptiveUNet and UNet: mask-estimating U-Nets, built from nested lists of layers or from a table of settings."""

from __future__ import annotations

from auralflow_adaptive_unet.params import AdaptiveUNetParams, UNetParams, size_table
from auralflow_core import hookimpl
from auralflow_core.hookspecs import Register

__all__ = ["AdaptiveUNetParams", "UNetParams", "size_table"]


@hookimpl
def register_models(register: Register) -> None:
    register(
        "AdaptiveUNet",
        network="auralflow_adaptive_unet.network:AdaptiveUNet",
        params=AdaptiveUNetParams,
        domain="magnitude",
        summary="U-Net built from nested lists of layers that masks the magnitude spectrogram",
    )
    register(
        "UNet",
        network="auralflow_adaptive_unet.network:UNet",
        params=UNetParams,
        domain="magnitude",
        summary="U-Net of Jansson et al. (2017) with configurable blocks that masks the magnitude spectrogram",
        aliases=("unet",),
    )
