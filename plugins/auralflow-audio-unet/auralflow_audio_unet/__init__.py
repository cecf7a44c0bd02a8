"""UNetAudio, UNetRecurrentAudio and UNetVAEAudio: one-dimensional U-Nets from the mixture's audio to the targets'."""

from __future__ import annotations

from pydantic import Field, model_validator

from auralflow_core import ModelParams, hookimpl
from auralflow_core.hookspecs import Register

# What a bottleneck frame may span: longer ones would pad a chunk of some seconds to a multiple of itself.
MAX_FRAME = 65536
MAX_WIDTH = 4096


class UNetAudioParams(ModelParams):
    """Parameters of `UNetAudio`."""

    hidden_channels: int = Field(24, ge=1, le=512, description="channels of the first level")
    depth: int = Field(5, ge=1, le=12, description="number of levels")
    kernel_size: int = Field(8, ge=2, le=64, description="length of the strided convolutions' kernels")
    stride: int = Field(4, ge=2, le=16, description="how much shorter each level is than the one above it")
    growth: float = Field(2.0, ge=1, le=4, description="how many times as many channels each level has")
    glu: bool = Field(True, description="gated linear units after the convolutions that do not stride")
    leak_factor: float = Field(0.2, ge=0, lt=1, description="slope below zero of LeakyReLU")

    @model_validator(mode="after")
    def _kernel_fits_stride(self) -> UNetAudioParams:
        surplus = self.kernel_size - self.stride
        if surplus < 0 or surplus % 2:
            near = max(self.stride, self.kernel_size + (surplus % 2))
            raise ValueError(
                f"kernel_size {self.kernel_size} minus stride {self.stride} is {surplus}, neither 0 nor a positive "
                f"even number: samples would be skipped, or shifted by half of one; set kernel_size to {near}"
            )
        return self

    @model_validator(mode="after")
    def _levels_fit(self) -> UNetAudioParams:
        frame = self.stride**self.depth
        if frame > MAX_FRAME:
            raise ValueError(
                f"stride {self.stride} to the power of depth {self.depth} is {frame} samples, above {MAX_FRAME}: a "
                "frame of the deepest level would be longer than a second; lower depth or stride"
            )
        width = self.hidden_channels * self.growth ** (self.depth - 1)
        if width > MAX_WIDTH:
            raise ValueError(
                f"the deepest level would have hidden_channels {self.hidden_channels} * growth {self.growth:g} ** "
                f"{self.depth - 1} = {width:.0f} channels, above {MAX_WIDTH}; lower one of them or depth"
            )
        return self


class UNetRecurrentAudioParams(UNetAudioParams):
    """Parameters of `UNetRecurrentAudio`."""

    recurrent_depth: int = Field(2, ge=1, le=8, description="number of stacked bidirectional LSTM layers")
    hidden_size: int = Field(256, ge=1, le=4096, description="hidden features of an LSTM layer and direction")


class UNetVAEAudioParams(UNetAudioParams):
    """Parameters of `UNetVAEAudio`."""

    latent_channels: int = Field(64, ge=1, le=4096, description="channels of the Gaussian latent")
    kl_weight: float = Field(0.01, ge=0, le=1000, description="weight of the KL divergence in the loss")
    kl_warmup_steps: int = Field(0, ge=0, description="training steps over which that weight rises from zero")


@hookimpl
def register_models(register: Register) -> None:
    register(
        "UNetAudio",
        network="auralflow_audio_unet.network:UNetAudio",
        params=UNetAudioParams,
        domain="waveform",
        summary="1-D U-Net from audio to audio",
    )
    register(
        "UNetRecurrentAudio",
        network="auralflow_audio_unet.network:UNetRecurrentAudio",
        params=UNetRecurrentAudioParams,
        domain="waveform",
        summary="1-D U-Net from audio to audio with a BiLSTM bottleneck",
    )
    register(
        "UNetVAEAudio",
        network="auralflow_audio_unet.network:UNetVAEAudio",
        params=UNetVAEAudioParams,
        domain="waveform",
        summary="1-D U-Net from audio to audio with a Gaussian latent",
    )
