"""The groups of `config.json`. Names and defaults are documented in `docs/config.md`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)

from auralflow_core.config.stft_sizes import check_nola
from auralflow_core.errors import ConfigError


def _whole_number(value: Any) -> Any:
    """Accept a count written as `1e5`, in a file or on the command line."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _split_names(value: Any) -> Any:
    """Accept a list written as `vocals,drums`."""
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


Count = Annotated[int, BeforeValidator(_whole_number), Field(gt=0)]
Names = Annotated[list[str], BeforeValidator(_split_names), Field(min_length=1)]


class Group(BaseModel):
    """Base of the groups: unknown names are refused, values are validated and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, protected_namespaces=())


class ModelConfig(Group):
    """Which architecture, under which name, with which parameters of its own."""

    type: str = Field(description="base model architecture, as `auralflow list-models` names it", min_length=1)
    name: str = Field("model", description="model name (default: folder name)", min_length=1)
    params: dict[str, Any] = Field(
        default_factory=dict, description="the architecture's own settings: `auralflow show-model TYPE`"
    )


class DatasetConfig(Group):
    """How songs become training chunks and spectrograms."""

    type: str = Field("auto", description="data set type, or `auto`: found by looking at the folder")
    targets: Names = Field(["vocals"], description="target sources to estimate")
    max_num_tracks: Count = Field(80, description="max number of songs to draw chunks from")
    max_num_samples: Count = Field(
        100_000, description="max number of chunks an epoch; fewer if the songs hold fewer without overlap"
    )
    num_channels: int = Field(1, ge=1, le=2, description="1 for mono, 2 for stereo")
    sample_length: float = Field(3, gt=0, le=3600, description="length of a chunk in seconds")
    sample_rate: int = Field(44100, ge=1000, le=768_000, description="sample rate in Hz")
    num_fft: int = Field(1024, ge=2, le=1 << 18, description="FFT length in samples; num_fft // 2 + 1 frequency bins")
    window_size: int = Field(1024, ge=2, description="STFT window length in samples, at most num_fft")
    hop_length: int = Field(512, ge=1, description="STFT hop in samples, at most window_size")
    validation_split: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of the songs kept for validation where the data set has no such split",
    )

    @field_validator("targets")
    @classmethod
    def _distinct(cls, targets: list[str]) -> list[str]:
        for name in targets:
            if not name or targets.count(name) > 1:
                raise ValueError(f"{name!r} is empty or named twice; name each target once")
            if name.startswith(".") or "/" in name or "\\" in name:
                raise ValueError(f"{name!r} cannot be the name of a file; use letters, digits, spaces and dashes")
        return targets

    @model_validator(mode="after")
    def _sizes_fit(self) -> DatasetConfig:
        try:
            check_nola(self.num_fft, self.window_size, self.hop_length)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if self.chunk_frames < self.window_size:
            raise ValueError(
                f"sample_length {self.sample_length:g} s is {self.chunk_frames} samples, below window_size "
                f"{self.window_size}; use at least {self.window_size / self.sample_rate:.3f} s"
            )
        return self

    @property
    def chunk_frames(self) -> int:
        """Length of a chunk in samples."""
        return round(self.sample_length * self.sample_rate)

    @property
    def num_frames(self) -> int:
        """Number of frames of a chunk's spectrogram."""
        return -(-self.chunk_frames // self.hop_length) + 1

    @property
    def num_bins(self) -> int:
        """Number of frequency bins of a spectrogram."""
        return self.num_fft // 2 + 1


class TrainingConfig(Group):
    """How a model is trained."""

    max_epochs: Count = Field(100, description="max number of epochs to train for")
    max_minutes: float | None = Field(
        None, gt=0, le=1e6, description="max minutes that one run trains for (null: no limit)"
    )
    batch_size: Count = Field(8, description="chunks in a batch")
    lr: float = Field(1e-3, gt=0, le=10, description="learning rate")
    stop_patience: Count = Field(4, description="epochs without improvement before the learning rate is reduced")
    max_lr_steps: int = Field(3, ge=0, description="reductions of the learning rate before stopping early")
    criterion: str = Field("l1", description="loss function")
    num_workers: int = Field(0, ge=0, description="worker processes for loading data; 0 loads in the main process")
    pin_memory: bool = Field(False, description="page-locked batches, for faster transfer to a GPU")
    use_mixed_precision: bool = Field(False, description="automatic mixed precision")
    mixed_precision_dtype: Literal["auto", "bf16", "fp16"] = Field(
        "auto", description="format of mixed precision; `auto` is bf16 where the device has it"
    )
    silent_checkpoint: bool = Field(False, description="suppress the message for each checkpoint")
    alpha_constant: float = Field(0.2, ge=0, le=1, description="weight of the residual's level in component loss")
    beta_constant: float = Field(0.2, ge=0, le=1, description="weight of the residual's shape in component loss")
    batch_norm_batches: int = Field(
        4, ge=0, description="batches that statistics of batch normalisation are measured on before validation; 0: none"
    )
    random_seed: int = Field(0, ge=0, lt=2**32, description="seed of initial weights, chunks and dropout")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="cpu, cuda, cuda:N, mps, or auto: the first accelerator found",
    )

    @model_validator(mode="after")
    def _component_weights(self) -> TrainingConfig:
        if self.alpha_constant + self.beta_constant >= 1:
            raise ValueError(
                f"alpha_constant {self.alpha_constant:g} + beta_constant {self.beta_constant:g} is not below 1: the "
                "target's own term would get no weight; lower one of them"
            )
        return self


class SeparationConfig(Group):
    """How a song is cut while it is separated."""

    segment: float = Field(10, gt=0, le=3600, description="length in seconds of what is separated at once")
    overlap: float = Field(0.25, ge=0, le=0.5, description="share of a segment that overlaps the next one")


class VisualsConfig(Group):
    """What training shows besides its losses."""

    tensorboard: bool = Field(True, description="write TensorBoard runs to `runs/`")
    save_images: bool = Field(True, description="write spectrograms and waveforms of validation songs to `images/`")
    save_audio: bool = Field(True, description="write separated snippets of validation songs to `audio/`")
    num_snippets: Count = Field(2, description="number of validation songs shown")
    snippet_length: float = Field(6, gt=0, le=600, description="length of a snippet in seconds")
    every_n_epochs: Count = Field(5, description="epochs between two rounds of snippets; the last epoch has one too")


class Config(Group):
    """Everything that `config.json` holds."""

    model: ModelConfig
    dataset: DatasetConfig = DatasetConfig()
    training: TrainingConfig = TrainingConfig()
    separation: SeparationConfig = SeparationConfig()
    visuals: VisualsConfig = VisualsConfig()
    _folder: Path | None = PrivateAttr(None)

    @property
    def folder(self) -> Path | None:
        """The model folder that the configuration was read from, if it was."""
        return self._folder

    def within(self, folder: Path) -> Config:
        """Return the same configuration as one that was read from a model folder."""
        config = self.model_copy()
        config._folder = folder
        return config
