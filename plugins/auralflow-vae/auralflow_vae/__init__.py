"""SpectrogramNetVAE: a masking U-Net with a Gaussian latent before its LSTM bottleneck."""

from __future__ import annotations

from pydantic import Field

from auralflow_core import hookimpl
from auralflow_core.hookspecs import Register
from auralflow_lstm import LSTMParams


class VAEParams(LSTMParams):
    """Parameters of `SpectrogramNetVAE`: those of `SpectrogramNetLSTM` and the latent's own."""

    kl_weight: float = Field(0.01, ge=0, le=1000, description="weight of the KL divergence in the loss")
    kl_warmup_steps: int = Field(
        0, ge=0, description="training steps over which the KL weight rises from zero, linearly; 0: full from the start"
    )


@hookimpl
def register_models(register: Register) -> None:
    register(
        "SpectrogramNetVAE",
        network="auralflow_vae.network:SpectrogramNetVAE",
        params=VAEParams,
        domain="magnitude",
        summary="Variational U-Net with an LSTM bottleneck that masks the magnitude spectrogram",
        aliases=("UNetVAESpec",),
    )
