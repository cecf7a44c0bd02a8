"""The parameters of `AdaptiveUNet` and `UNet`, and the translation of the second into the first. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from auralflow_adaptive_unet.layers import read_layer, read_size
from auralflow_adaptive_unet.names import canonical, spread
from auralflow_adaptive_unet.plan import UNKNOWN, Design, DesignError, Plan, make_plan, plan_rows
from auralflow_core import MaskActivation, ModelParams


def _entry(value: Any) -> list[Any]:
    """Check an entry and return it as it was written."""
    read_layer(value)
    return [value] if isinstance(value, str) else list(value)


def _size(value: Any) -> Any:
    try:
        return read_size(value)
    except ValueError as error:
        raise ValueError(f"{value!r} {error}") from None


_LAYERS: TypeAdapter[Any] = TypeAdapter(list[Annotated[list[Any], BeforeValidator(_entry)]])


def _layers(value: Any, _: ValidatorFunctionWrapHandler) -> Any:
    """Read a nested list; an error of pydantic's that passes through a validator keeps the entry's number."""
    layers = _LAYERS.validate_python(value)
    if not layers:
        raise ValueError("is an empty list; name at least one layer: [[conv, 3]]")
    return layers


Layers = Annotated[list[list[Any]], WrapValidator(_layers)]
OptionalLayers = Annotated[
    list[list[Any]], WrapValidator(lambda value, _: _LAYERS.validate_python([] if value is None else value))
]
Size = Annotated[int | list[int], BeforeValidator(_size)]


class AdaptiveUNetParams(ModelParams):
    """Parameters of `AdaptiveUNet`: each part is a list of `[word]`, `[word, value]` or `[word, {option: value}]`."""

    synonyms: ClassVar[Mapping[str, str]] = {
        "activation": "mask_activation",
        "encoder_depth": "max_layers",
        "hidden": "hidden_channels",
        "init_features": "hidden_channels",
        "init_hidden": "hidden_channels",
        "input_norm": "normalize_input",
        "mask_act_fn": "mask_activation",
        "output_norm": "normalize_output",
        "skip_connections": "use_skip",
    }
    """Names that older documents use for these parameters."""

    max_layers: int = Field(6, ge=1, le=10, description="number of encoder levels, and of decoder levels")
    hidden_channels: int = Field(
        16, ge=1, le=512, description="channels of the first level; each level has twice as many"
    )
    encoder: Layers = Field(
        [["conv", 3], ["batch_norm"], ["leaky_relu", 0.2], ["max_pool", 2]],
        description="layers of each encoder level",
    )
    decoder: Layers = Field(
        [["transpose_conv", 2], ["conv", 3], ["batch_norm"], ["relu"], ["dropout", 0.4]],
        description="layers of each decoder level",
    )
    bottleneck: OptionalLayers = Field([], description="layers between encoder and decoder")
    use_skip: bool = Field(True, description="join each encoder level with the decoder level of its size")
    mask_activation: MaskActivation = Field("sigmoid", description="function that makes the soft mask")
    normalize_input: bool = Field(False, description="train a learnable normalization of each input bin")
    normalize_output: bool = Field(False, description="train a learnable normalization of each output bin")

    @model_validator(mode="before")
    @classmethod
    def _canonical(cls, data: Any) -> Any:
        return canonical(data, cls.synonyms)

    @model_validator(mode="after")
    def _works(self) -> AdaptiveUNetParams:
        try:
            self.plan()
        except DesignError as error:
            raise _located(error, self) from None
        return self

    def plan(self, num_channels: int = UNKNOWN) -> Plan:
        """Return every layer of the network with its channels.

        Raises:
            DesignError: The design cannot work with that many input channels.
        """
        design = Design(
            [read_layer(entry) for entry in self.encoder],
            [read_layer(entry) for entry in self.decoder],
            [read_layer(entry) for entry in self.bottleneck],
            self.max_layers,
            self.hidden_channels,
            self.use_skip,
        )
        return make_plan(design, num_channels)

    def size_table(
        self, *, num_fft_bins: int, num_frames: int, num_channels: int, num_targets: int
    ) -> list[tuple[str, str]]:
        """Return (part, size) level by level; a size is channels x bins x frames."""
        return plan_rows(self.plan(num_channels), (num_fft_bins, num_frames), num_targets)


class _Group(ModelParams):
    """Settings of one part of a `UNet`."""

    @model_validator(mode="before")
    @classmethod
    def _canonical(cls, data: Any) -> Any:
        return canonical(data, {})


class EncoderSettings(_Group):
    """What each encoder level of a `UNet` is made of."""

    block_layers: int = Field(1, ge=1, le=8, description="convolutions of a level")
    kernel_size: Size = Field(5, description="size of their kernels")
    down: Annotated[
        Literal["conv", "maxpool", "decimate"],
        BeforeValidator(lambda value: "maxpool" if value in ("max_pool", "max-pool") else value),
    ] = Field("conv", description="what halves bins and frames: the last convolution's stride, or a layer after it")
    leak: float = Field(0.2, ge=0, lt=1, description="slope below zero of LeakyReLU; 0: ReLU")

    def layers(self) -> list[list[Any]]:
        """Return the level as a nested list."""
        conv: list[Any] = ["conv", self.kernel_size]
        after: list[list[Any]] = [["batch_norm"], ["leaky_relu", self.leak] if self.leak else ["relu"]]
        if self.down == "conv":
            last: list[Any] = ["conv", {"kernel_size": self.kernel_size, "stride": 2}]
            first = (self.block_layers - 1) * [conv, *after]
            return [*first, last, *after]
        pool = "max_pool" if self.down == "maxpool" else "decimate"
        return [*self.block_layers * [conv, *after], [pool, 2]]


class DecoderSettings(_Group):
    """What each decoder level of a `UNet` is made of."""

    block_layers: int = Field(1, ge=1, le=8, description="convolutions of a level, a transposed one among them")
    kernel_size: Size = Field(5, description="size of their kernels")
    up: Literal["transposed", "upsample"] = Field(
        "transposed", description="what doubles bins and frames: the first convolution, or a layer before it"
    )
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout probability at the end of a level")
    num_dropouts: int = Field(3, ge=0, le=10, description="number of levels with dropout, from the deepest")

    def layers(self) -> list[list[Any]]:
        """Return the level as a nested list."""
        conv: list[Any] = ["conv", self.kernel_size]
        after = [["batch_norm"], ["relu"]]
        if self.up == "transposed":
            first: list[Any] = ["transpose_conv", {"kernel_size": self.kernel_size, "stride": 2}]
            body: list[list[Any]] = [first, *after, *(self.block_layers - 1) * [conv, *after]]
        else:
            body = [["upsample", 2], *self.block_layers * [conv, *after]]
        if self.dropout and self.num_dropouts:
            body.append(["dropout", {"p": self.dropout, "levels": self.num_dropouts}])
        return body


class BottleneckSettings(_Group):
    """What stands between encoder and decoder of a `UNet`."""

    type: Literal["conv", "lstm"] = Field("conv", description="kind of its layers")
    layers: int | None = Field(None, ge=0, le=16, description="number of its layers (null: 0 of conv, 3 of lstm)")


def _settings_or_lists(schema: type[_Group]) -> WrapValidator:
    """Read a list as nested lists and anything else as settings, so that an error is about one of the two only."""

    def read(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        if not isinstance(value, list):
            return schema.model_validate({} if value is None else value)
        return _layers(value, handler) if value or schema is not BottleneckSettings else []

    return WrapValidator(read)


class UNetParams(ModelParams):
    """Parameters of `UNet`; encoder, decoder and bottleneck also take nested lists as those of `AdaptiveUNet`."""

    synonyms: ClassVar[Mapping[str, str]] = {
        **AdaptiveUNetParams.synonyms,
        "block_layers": "encoder.block_layers decoder.block_layers",
        "block_size": "encoder.block_layers decoder.block_layers",
        "bottleneck_depth": "bottleneck.layers",
        "bottleneck_layers": "bottleneck.layers",
        "bottleneck_size": "bottleneck.layers",
        "bottleneck_type": "bottleneck.type",
        "down": "encoder.down",
        "downsample": "encoder.down",
        "dropout": "decoder.dropout",
        "dropout_p": "decoder.dropout",
        "kernel_size": "encoder.kernel_size decoder.kernel_size",
        "leak": "encoder.leak",
        "leak_factor": "encoder.leak",
        "num_dropout": "decoder.num_dropouts",
        "num_dropouts": "decoder.num_dropouts",
        "up": "decoder.up",
    }
    """Names that older documents use for these parameters, and short ones for those of the groups."""

    max_layers: int = Field(6, ge=1, le=10, description="number of encoder levels, and of decoder levels")
    hidden_channels: int = Field(
        16, ge=1, le=512, description="channels of the first level; each level has twice as many"
    )
    encoder: Annotated[EncoderSettings | list[list[Any]], _settings_or_lists(EncoderSettings)] = Field(
        EncoderSettings(), description="encoder levels: block_layers, kernel_size, down, leak"
    )
    decoder: Annotated[DecoderSettings | list[list[Any]], _settings_or_lists(DecoderSettings)] = Field(
        DecoderSettings(), description="decoder levels: block_layers, kernel_size, up, dropout, num_dropouts"
    )
    bottleneck: Annotated[BottleneckSettings | list[list[Any]], _settings_or_lists(BottleneckSettings)] = Field(
        BottleneckSettings(), description="between them: type, layers"
    )
    use_skip: bool = Field(True, description="join each encoder level with the decoder level of its size")
    mask_activation: MaskActivation = Field("sigmoid", description="function that makes the soft mask")
    normalize_input: bool = Field(True, description="train a learnable normalization of each input bin")
    normalize_output: bool = Field(False, description="train a learnable normalization of each output bin")

    @model_validator(mode="before")
    @classmethod
    def _canonical(cls, data: Any) -> Any:
        return spread(data, cls.synonyms)

    @model_validator(mode="after")
    def _works(self) -> UNetParams:
        self.design()
        return self

    def design(self) -> AdaptiveUNetParams:
        """Return the same network as nested lists."""
        encoder, decoder = (part if isinstance(part, list) else part.layers() for part in (self.encoder, self.decoder))
        same = ("max_layers", "hidden_channels", "use_skip", "mask_activation", "normalize_input", "normalize_output")
        return AdaptiveUNetParams(
            encoder=encoder,
            decoder=decoder,
            bottleneck=self._bottleneck_layers(),
            **{name: getattr(self, name) for name in same},
        )

    def network_arguments(self) -> dict[str, Any]:
        """Return the parameters as plain data."""
        return self.model_dump()

    def size_table(
        self, *, num_fft_bins: int, num_frames: int, num_channels: int, num_targets: int
    ) -> list[tuple[str, str]]:
        """Return (part, size) level by level; a size is channels x bins x frames."""
        return self.design().size_table(
            num_fft_bins=num_fft_bins, num_frames=num_frames, num_channels=num_channels, num_targets=num_targets
        )

    def _bottleneck_layers(self) -> list[list[Any]]:
        if isinstance(self.bottleneck, list):
            return self.bottleneck
        kind, number = self.bottleneck.type, self.bottleneck.layers
        if kind == "lstm":
            number = 3 if number is None else number
            return [["lstm", number]] if number else []
        encoder = self.encoder if isinstance(self.encoder, EncoderSettings) else EncoderSettings(kernel_size=3)
        plain = EncoderSettings(kernel_size=encoder.kernel_size, leak=encoder.leak, down="maxpool").layers()[:-1]
        return (number or 0) * plain


def size_table(
    params: AdaptiveUNetParams | UNetParams,
    num_fft_bins: int,
    num_frames: int,
    num_channels: int = 1,
    num_targets: int = 1,
) -> list[tuple[str, str]]:
    """Return (part, size) of a network level by level; a size is channels x bins x frames.

    Args:
        params: The network's parameters.
        num_fft_bins: Number of frequency bins, `num_fft // 2 + 1`.
        num_frames: Number of frames.
        num_channels: 1 for mono, 2 for stereo.
        num_targets: Number of masks.
    """
    return params.size_table(
        num_fft_bins=num_fft_bins, num_frames=num_frames, num_channels=num_channels, num_targets=num_targets
    )


def _located(error: DesignError, params: AdaptiveUNetParams) -> ValidationError:
    """Return the error as one of pydantic's that knows its entry."""
    section = str(error.location[0])
    detail = InitErrorDetails(
        type="value_error",
        loc=error.location,
        input=getattr(params, section),
        ctx={"error": ValueError(error.message)},
    )
    return ValidationError.from_exception_data(type(params).__name__, [detail])
