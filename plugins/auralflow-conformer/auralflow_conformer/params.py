"""The parameters of `Conformer`: those of its document under their own names, and what separation adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from auralflow_core import ModelParams
from auralflow_core.config import MaskActivation

MAX_SUBSAMPLING = 64

_Probability = Annotated[float, Field(ge=0, lt=1)]


class ConformerParams(ModelParams):
    """Parameters of `Conformer`."""

    # Of several rates on rendered songs, what scored highest after the same minutes of training.
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"training": {"lr": 3e-4}}

    feat_in: int = Field(80, ge=4, le=1 << 17, description="mel bands; linear features: lowest bins that are processed")
    features: Literal["mel", "linear"] = Field("mel", description="what the network sees of the magnitudes")
    mel_masks: Literal["bins", "bands"] = Field(
        "bins", description="mel: a learned layer masks all bins, or bands are masked and spread over their bins"
    )
    mask_activation: MaskActivation = Field("sigmoid", description="function that makes masks of the decoder's output")

    n_layers: int = Field(6, ge=1, le=128, description="number of layers")
    d_model: int = Field(768, ge=1, le=8192, description="features of a step between the layers")
    n_heads: int = Field(6, ge=1, le=128, description="number of attention heads")
    head_dim: int = Field(128, ge=2, le=1024, multiple_of=2, description="features of each head")
    dropout_ff: _Probability = Field(0.0, description="dropout probability in feed-forward modules")
    dropout_attn: _Probability = Field(0.0, description="dropout probability of attention weights")
    dropout_conv: _Probability = Field(0.0, description="dropout probability in convolution modules")

    subsampling_factor: int = Field(8, ge=1, le=MAX_SUBSAMPLING, description="frames of a step: 1, 2, 4, 8, ...")
    subsampling: Literal["dw_striding", "striding"] = Field(
        "dw_striding", description="convolutions from frames to steps and back: depthwise separable, or full"
    )
    subsampling_act: Literal["relu", "silu", "gelu"] = Field("relu", description="activation of these convolutions")
    subsampling_conv_channels: int = Field(
        256, ge=-1, le=8192, description="channels of the convolutions from frames to steps; -1: d_model"
    )
    subsampling_norm_out: bool = Field(False, description="normalise what subsampling returns")
    frame_skip: bool = Field(True, description="show the decoder each frame's features again, past the layers")

    expansion_factor: float = Field(4, gt=0, le=64, description="width of feed-forward modules, in d_model")
    bias_in_ff: bool = Field(False, description="biases in feed-forward modules")

    conv_type: Literal["standard", "longconv"] = Field(
        "standard", description="kernels of conv_kernel_size, or long convolutions by FFT"
    )
    conv_kernel_size: int = Field(9, ge=1, le=1023, description="kernel of the standard convolutions, odd, in steps")
    conv_expansion_factor: float = Field(1, gt=0, le=64, description="width of convolution modules, in d_model")
    longconv_length: int = Field(1024, ge=1, le=1 << 16, description="longconv: reach to each side, in steps")
    longconv_squash: float = Field(1e-3, ge=0, le=1, description="longconv: taps are drawn towards zero by this")

    self_conditioning: bool = Field(True, description="show the masks so far to the next layer")
    self_condition_subsampling: bool = Field(False, description="show the first masks to the first layer")
    gated_sc: bool = Field(False, description="let a sigmoid decide how much of self-conditioning is added")
    decoder_norm: bool = Field(True, description="normalise what goes into the decoder")

    use_rotary: bool = Field(True, description="rotary positions in attention")
    rotary_interpolation_factor: float = Field(1, ge=1e-3, le=1e3, description="what positions are divided by")
    rotary_learned_freq: bool = Field(False, description="train the frequencies of rotary positions")
    flash_attn: bool = Field(True, description="attention by torch's fused kernels; false: written out, for comparison")
    attention_chunk: int = Field(
        0, ge=0, le=1 << 20, description="steps of a chunk, which attends to itself and its neighbours; 0: to all steps"
    )

    default_norm: Literal["layer_norm", "rms_norm"] = Field("layer_norm", description="normalisation")
    sandwich_norm: bool = Field(False, description="normalise after feed-forward and attention modules too")
    checkpoint_every_n_layers: int = Field(
        0, ge=0, le=128, description="recompute every n-th layer in the backward pass, which saves memory; 0: none"
    )

    @field_validator("subsampling_factor")
    @classmethod
    def _is_power_of_two(cls, factor: int) -> int:
        if factor & (factor - 1):
            raise ValueError(f"{factor} is no power of two; each convolution halves the frames: use 1, 2, 4, 8, ...")
        return factor

    @field_validator("subsampling_conv_channels")
    @classmethod
    def _are_channels(cls, channels: int) -> int:
        if channels == 0:
            raise ValueError("0 channels carry nothing; use at least 1, or -1 for d_model")
        return channels

    @field_validator("conv_kernel_size")
    @classmethod
    def _is_odd(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError(f"{size} is even; use {size - 1} or {size + 1}, which have a middle")
        return size

    @property
    def conv_channels(self) -> int:
        """Channels of the convolutions from frames to steps."""
        return self.d_model if self.subsampling_conv_channels < 0 else self.subsampling_conv_channels
