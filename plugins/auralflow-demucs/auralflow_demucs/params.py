"""The settings of the networks, under the names and with the defaults of the published systems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from auralflow_core import ModelParams
from auralflow_core.config import validate
from auralflow_core.errors import ConfigError
from auralflow_demucs.plan import (
    HybridLevel,
    check_groups,
    check_residual_branches,
    check_tokens,
    check_weights,
    hybrid_levels,
)

Dconv = Literal[0, 1, 2, 3]


class DemucsFamilyParams(ModelParams):
    """What the three networks share.

    Settings of the published systems that no published model uses are taken with the value that switches them off,
    so that the arguments in a public file pass, and are refused with any other.
    """

    absent: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Settings that are not built, each with the values that are the same as not having it; none given: any."""

    channels: int = Field(48, ge=1, le=1024, description="channels of the first level")
    growth: float = Field(2.0, ge=1, le=4, description="how many times as many channels each level has")
    depth: int = Field(6, ge=1, le=10, description="number of levels")
    rewrite: bool = Field(True, description="a gated convolution in each level, beside the strided one")
    kernel_size: int = Field(8, ge=2, le=64, description="length of the strided convolutions' kernels")
    stride: int = Field(4, ge=2, le=32, description="how much shorter each level is than the one above it")
    context: int = Field(1, ge=0, le=8, description="frames to each side that the decoder's gated convolutions see")
    norm_starts: int = Field(4, ge=1, le=10, description="first level (from 0) that is normalized")
    norm_groups: int = Field(4, ge=1, le=64, description="groups of channels that are normalized together")
    dconv_mode: Dconv = Field(1, description="residual branches: 0 none, 1 encoder, 2 decoder, 3 both")
    dconv_depth: int = Field(2, ge=1, le=8, description="layers of a residual branch; each dilated twice as wide")
    dconv_comp: float = Field(4, ge=1, le=64, description="how many times fewer channels a residual branch has")
    dconv_init: float = Field(1e-4, gt=0, le=1, description="initial scale of a residual branch's output")
    rescale: float = Field(
        0.1, ge=0, le=10, description="level that the initial weights of convolutions are brought nearer to; 0: not"
    )

    @model_validator(mode="before")
    @classmethod
    def _without_absent(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        for name, neutral in cls.absent.items():
            if neutral and name in given and given[name] not in neutral:
                raise ValueError(f"{name} {given[name]!r} is not built, since no published model uses it; leave it out")
        return {name: value for name, value in given.items() if name not in cls.absent}

    @model_validator(mode="after")
    def _sizes_fit(self) -> DemucsFamilyParams:
        try:
            self.check()
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def check(self) -> None:
        """Check that the sizes fit each other.

        Raises:
            ConfigError: They do not.
        """


class DemucsParams(DemucsFamilyParams):
    """Parameters of `Demucs`."""

    channels: int = Field(64, ge=1, le=1024, description="channels of the first level")
    lstm_layers: int = Field(
        0, ge=0, le=8, description="bidirectional LSTM layers between encoder and decoder; 0: none"
    )
    gelu: bool = Field(True, description="GELU after the strided convolutions; otherwise ReLU")
    glu: bool = Field(True, description="gated linear units after the other convolutions; otherwise ReLU")
    dconv_attn: int = Field(4, ge=0, le=10, description="first level (from 0) whose residual branch has attention")
    dconv_lstm: int = Field(4, ge=0, le=10, description="first level (from 0) whose residual branch has an LSTM")
    normalize: bool = Field(True, description="bring the mixture to mean 0 and deviation 1, and the estimates back")
    resample: bool = Field(True, description="work at twice the sample rate")

    def widths(self) -> list[int]:
        """Return the channels of each level."""
        widths = [self.channels]
        while len(widths) < self.depth:
            widths.append(int(self.growth * widths[-1]))
        return widths

    def check(self) -> None:
        """Check that the sizes fit each other."""
        widths = self.widths()
        check_groups(widths, self.norm_groups, self.norm_starts)
        if self.dconv_mode:
            check_residual_branches(widths, self.dconv_comp, self.dconv_attn)


class HybridParams(DemucsFamilyParams):
    """What the two hybrid networks share."""

    absent: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "hybrid": (True,),
        "multi_freqs": (None, []),
        "multi_freqs_depth": (),
        # Of a Wiener filter; with `cac` there is none.
        "wiener_iters": (0, -1),
        "end_iters": (0, -1),
        "wiener_residual": (False,),
    }

    channels_time: int | None = Field(None, ge=1, le=1024, description="those of the time branch (null: channels)")
    nfft: int = Field(4096, ge=16, le=65536, description="FFT length in samples; the hop is a quarter of it")
    cac: bool = Field(
        True, description="the spectrogram as real and imaginary channels; otherwise magnitudes and the mixture's phase"
    )
    freq_emb: float = Field(0.2, ge=0, le=10, description="weight of the frequency embedding; 0: none")
    emb_scale: float = Field(10, gt=0, le=1000, description="factor on the embedding, and so on its learning rate")
    emb_smooth: bool = Field(True, description="start with an embedding that is smooth over frequency")
    context_enc: int = Field(0, ge=0, le=8, description="frames to each side that the encoder's gated convolutions see")
    time_stride: int = Field(2, ge=2, le=32, description="stride of the levels below the merged branches")

    def levels(self) -> list[HybridLevel]:
        """Return the levels, from the outside in.

        Raises:
            ConfigError: Strides do not divide what they stride over.
        """
        return hybrid_levels(
            channels=self.channels,
            channels_time=self.channels_time,
            growth=self.growth,
            nfft=self.nfft,
            depth=self.depth,
            kernel_size=self.kernel_size,
            stride=self.stride,
        )

    def check(self) -> None:
        """Check that the sizes fit each other."""
        levels = self.levels()
        if self.time_stride % 2:
            raise ConfigError(
                f"time_stride {self.time_stride} is odd: estimates would be shifted; use {self.time_stride + 1}"
            )
        for widths in ([level.width for level in levels], [level.time_width for level in levels if level.is_split]):
            check_groups(widths, self.norm_groups, self.norm_starts)
            if self.dconv_mode:
                check_residual_branches(widths, self.dconv_comp, getattr(self, "dconv_attn", self.depth))


class HDemucsParams(HybridParams):
    """Parameters of `HDemucs`."""

    hybrid_old: bool = Field(
        False,
        description="pad as the models of the 2021 challenge do: estimates of the spectral branch come 1.5 hops late",
    )
    dconv_attn: int = Field(4, ge=0, le=10, description="first level (from 0) whose residual branch has attention")
    dconv_lstm: int = Field(4, ge=0, le=10, description="first level (from 0) whose residual branch has an LSTM")


class HTDemucsParams(HybridParams):
    """Parameters of `HTDemucs`."""

    absent: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **HybridParams.absent,
        "channels_time": (None,),
        "t_emb": ("sin",),
        "t_sin_random_shift": (0,),
        "t_sparse_self_attn": (False,),
        "t_sparse_cross_attn": (False,),
        # Of other embeddings, of sparse attention, and of an optimizer.
        **dict.fromkeys(
            (
                "t_max_positions",
                "t_cape_mean_normalize",
                "t_cape_augment",
                "t_cape_glob_loc_scale",
                "t_mask_type",
                "t_mask_random_seed",
                "t_sparse_attn_window",
                "t_global_window",
                "t_sparsity",
                "t_auto_sparsity",
                "t_weight_decay",
                "t_lr",
            ),
            (),
        ),
    }

    depth: int = Field(4, ge=1, le=10, description="number of levels")
    dconv_comp: float = Field(8, ge=1, le=64, description="how many times fewer channels a residual branch has")
    dconv_init: float = Field(1e-3, gt=0, le=1, description="initial scale of a residual branch's output")
    bottom_channels: int = Field(
        0, ge=0, le=8192, description="channels of the transformer; 0: those of the last level"
    )
    t_layers: int = Field(5, ge=0, le=64, description="layers of the transformer, of self and cross attention in turn")
    t_hidden_scale: float = Field(4.0, gt=0, le=16, description="how many times as many hidden features a layer has")
    t_heads: int = Field(8, ge=1, le=64, description="heads of attention")
    t_dropout: float = Field(0.0, ge=0, lt=1, description="dropout in the transformer")
    t_norm_in: bool = Field(True, description="layer normalization before the transformer")
    t_norm_in_group: int = Field(0, ge=0, le=64, description="groups of a normalization instead of t_norm_in; 0: none")
    t_group_norm: int = Field(0, ge=0, le=64, description="groups of the normalizations in layers; 0: over channels")
    t_norm_first: bool = Field(True, description="normalize before attention, not after it")
    t_norm_out: bool = Field(True, description="normalize what a layer gives, with t_norm_first")
    t_max_period: float = Field(10000.0, gt=1, le=1e9, description="longest period of the position embedding")
    t_layer_scale: bool = Field(True, description="learned scales on what a layer adds, 0.0001 at first")
    t_gelu: bool = Field(True, description="GELU in the transformer; otherwise ReLU")
    t_weight_pos_embed: float = Field(1.0, ge=0, le=100, description="weight of the position embedding")
    t_cross_first: bool = Field(False, description="begin with cross attention")
    segment: float | None = Field(
        None, gt=0, le=3600, description="seconds that shorter audio is padded to in evaluation (null: not padded)"
    )
    use_train_segment: bool = Field(True, description="pad to `segment`")

    def check(self) -> None:
        """Check that the sizes fit each other."""
        super().check()
        bins = self.nfft // 2 // self.stride ** (self.depth - 1)
        if bins <= self.kernel_size:
            raise ConfigError(
                f"depth {self.depth} leaves {bins} frequencies at its last level, which a kernel of "
                f"{self.kernel_size} would make one: then there are no two branches for the transformer; lower depth"
            )
        if self.t_layers:
            check_tokens(self.bottom_channels or self.levels()[-1].width, self.t_heads)


SCHEMAS: Mapping[str, type[DemucsFamilyParams]] = {
    "Demucs": DemucsParams,
    "HDemucs": HDemucsParams,
    "HTDemucs": HTDemucsParams,
}
"""The schema of each type that a bag may hold."""


class BagMember(ModelParams):
    """One network of a bag."""

    type: Literal["Demucs", "HDemucs", "HTDemucs"] = Field("HTDemucs", description="architecture of the member")
    params: dict[str, Any] = Field(default_factory=dict, description="the architecture's own settings")

    @field_validator("params")
    @classmethod
    def _complete(cls, params: dict[str, Any], info: Any) -> dict[str, Any]:
        if "type" not in info.data:
            return params
        try:
            return validate(SCHEMAS[info.data["type"]], params).model_dump(mode="json")
        except ConfigError as error:
            raise ValueError(str(error)) from None


class DemucsBagParams(ModelParams):
    """Parameters of `DemucsBag`."""

    members: list[BagMember] = Field(
        [BagMember()], min_length=1, max_length=16, description="the networks: type and params"
    )
    weights: list[list[float]] | None = Field(
        None, description="one row a member with a weight for each target, from 0 on (null: all alike)"
    )

    @field_validator("weights")
    @classmethod
    def _not_negative(cls, weights: list[list[float]] | None) -> list[list[float]] | None:
        for row in weights or []:
            for weight in row:
                if not 0 <= weight < float("inf"):
                    raise ValueError(f"{weight} is not a weight; use numbers from 0 on")
        return weights

    @model_validator(mode="after")
    def _rows_fit(self) -> DemucsBagParams:
        try:
            check_weights(self.weights, len(self.members))
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def network_arguments(self) -> dict[str, Any]:
        """Return plain data: a bag is also made by hand."""
        return {"members": [member.model_dump() for member in self.members], "weights": self.weights}
