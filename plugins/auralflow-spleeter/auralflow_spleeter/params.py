"""The parameters of Spleeter's networks, under the names that Spleeter's own files use."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from auralflow_core import ModelParams

Activation = Literal["ReLU", "LeakyReLU", "ELU"]

LEVELS = 6
"""Levels of the U-Net; the frames of a piece are halved by each."""


class SpleeterParams(ModelParams):
    """What all of Spleeter's networks share."""

    T: int = Field(512, ge=64, le=1 << 16, multiple_of=1 << LEVELS, description="frames that are looked at together")
    F: int = Field(1024, ge=1, le=1 << 17, description="frequency bins that are processed, from the lowest")

    def network_arguments(self) -> dict[str, Any]:
        """Name the size of a piece as the constructors do."""
        arguments = super().network_arguments()
        arguments |= {"piece_frames": arguments.pop("T"), "piece_bins": arguments.pop("F")}
        return arguments


class UNetParams(SpleeterParams):
    """Parameters of `unet.unet` and `unet.softmax_unet`."""

    conv_n_filters: tuple[int, ...] = Field(
        (16, 32, 64, 128, 256, 512),
        min_length=LEVELS,
        max_length=LEVELS,
        description="filters of the six convolutions on the way down",
    )
    conv_activation: Activation = Field("LeakyReLU", description="activation on the way down (LeakyReLU: slope 0.2)")
    deconv_activation: Activation = Field("ReLU", description="activation on the way up (LeakyReLU: slope 0.2)")


class BLSTMParams(SpleeterParams):
    """Parameters of `blstm.blstm`."""

    lstm_units: int = Field(250, ge=1, le=4096, description="units of each LSTM, in each direction")
