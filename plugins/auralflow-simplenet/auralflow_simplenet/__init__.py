"""SpectrogramNetSimple: a U-Net that estimates masks for magnitude spectrograms."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from auralflow_core import MaskActivation, ModelParams, hookimpl
from auralflow_core.hookspecs import Register


class SimpleNetParams(ModelParams):
    """Parameters of `SpectrogramNetSimple`."""

    normalize_input: bool = Field(False, description="train a learnable normalization of each input bin")
    normalize_output: bool = Field(False, description="train a learnable normalization of each output bin")
    mask_activation: MaskActivation = Field("sigmoid", description="function that makes the soft mask")
    hidden_channels: int = Field(16, ge=1, le=512, description="number of initial hidden channels")
    dropout_p: float = Field(0.4, ge=0, lt=1, description="dropout probability of the deeper decoder blocks")
    leak_factor: float = Field(
        0.2, ge=0, lt=1, description="slope below zero of hidden layers and of a leaky_relu mask; 0: SELU"
    )

    def network_arguments(self) -> dict[str, Any]:
        """Name the mask activation as the constructor does."""
        arguments = super().network_arguments()
        arguments["mask_act_fn"] = arguments.pop("mask_activation")
        return arguments


@hookimpl
def register_models(register: Register) -> None:
    register(
        "SpectrogramNetSimple",
        network="auralflow_simplenet.network:SpectrogramNetSimple",
        params=SimpleNetParams,
        domain="magnitude",
        summary="U-Net of five levels that masks the magnitude spectrogram",
        aliases=("UNetSpec",),
    )
