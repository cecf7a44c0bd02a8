"""SpectrogramNetLSTM: a masking U-Net whose bottleneck is a stack of bidirectional LSTM layers."""

from __future__ import annotations

from pydantic import Field

from auralflow_core import hookimpl
from auralflow_core.hookspecs import Register
from auralflow_simplenet import SimpleNetParams


class LSTMParams(SimpleNetParams):
    """Parameters of `SpectrogramNetLSTM`: those of `SpectrogramNetSimple` and the bottleneck's own."""

    dropout_p: float = Field(
        0.4, ge=0, lt=1, description="dropout probability of the deeper decoder blocks and between LSTM layers"
    )
    recurrent_depth: int = Field(3, ge=1, le=16, description="number of stacked LSTM layers")
    hidden_size: int = Field(1024, ge=1, le=8192, description="hidden features of each LSTM layer and direction")
    input_axis: int = Field(
        1,
        ge=0,
        le=1,
        description="axis fed as features; 0: frequency, recurs over time; 1: time, over frequency",
    )


@hookimpl
def register_models(register: Register) -> None:
    register(
        "SpectrogramNetLSTM",
        network="auralflow_lstm.network:SpectrogramNetLSTM",
        params=LSTMParams,
        domain="magnitude",
        summary="U-Net with a bidirectional LSTM bottleneck that masks the magnitude spectrogram",
        aliases=("UNetRecurrentSpec",),
    )
