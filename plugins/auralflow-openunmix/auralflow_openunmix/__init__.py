"""Open-Unmix: three recurrent layers that mask magnitude spectrograms, one network a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from auralflow_core import ModelParams, hookimpl
from auralflow_core.hookspecs import Register
from auralflow_openunmix import weights


class OpenUnmixParams(ModelParams):
    """Parameters of `OpenUnmix`."""

    # Of several rates and sizes on rendered songs, what scored highest after the same minutes of training.
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"training": {"lr": 3e-3}}

    hidden_size: int = Field(512, ge=2, le=8192, description="size of the hidden layers; even, if bidirectional")
    num_layers: int = Field(3, ge=1, le=16, description="number of recurrent layers")
    unidirectional: bool = Field(False, description="recur forward in time only")
    max_bin: int | None = Field(None, ge=1, description="number of lowest bins that the network sees (null: all)")
    dropout_p: float = Field(0.4, ge=0, lt=1, description="dropout probability between recurrent layers")

    @model_validator(mode="after")
    def _directions_share_the_hidden_size(self) -> OpenUnmixParams:
        if not self.unidirectional and self.hidden_size % 2:
            raise ValueError(
                f"hidden_size {self.hidden_size} cannot be halved for two directions; use {self.hidden_size + 1}, or "
                "set unidirectional"
            )
        return self


@hookimpl
def register_models(register: Register) -> None:
    register(
        "OpenUnmix",
        network="auralflow_openunmix.network:OpenUnmix",
        params=OpenUnmixParams,
        domain="magnitude",
        summary="Open-Unmix: bidirectional LSTMs that mask the magnitude spectrogram, a network for each target",
    )


@hookimpl
def register_weights(register: Register) -> None:
    weights.register_all(register)
