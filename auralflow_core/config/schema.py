"""The groups of `config.json`. Names and defaults are documented in `docs/config.md`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from auralflow_core.config.augmentation_groups import AugmentationsConfig
from auralflow_core.config.group import Count, Group, Names, Patterns
from auralflow_core.config.sampling_groups import SamplingConfig
from auralflow_core.config.stft_sizes import check_nola, count_frames
from auralflow_core.config.training_groups import (
    CheckpointingConfig,
    CriterionTerm,
    DistributedConfig,
    EMAConfig,
    OptimizerConfig,
    SchedulerConfig,
    SequenceSchedulerConfig,
    SpecAugmentConfig,
    ValidationConfig,
    WandbConfig,
)
from auralflow_core.errors import ConfigError


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
        100_000,
        description="max number of chunks an epoch; fewer if the songs hold fewer without overlap, and just as many "
        "where sampling.places is anywhere",
    )
    num_channels: int = Field(1, ge=1, le=2, description="1 for mono, 2 for stereo")
    sample_length: float = Field(3, gt=0, le=3600, description="length of a chunk in seconds")
    sample_rate: int = Field(44100, ge=1000, le=768_000, description="sample rate in Hz")
    num_fft: int = Field(1024, ge=2, le=1 << 18, description="FFT length in samples; num_fft // 2 + 1 frequency bins")
    window_size: int = Field(1024, ge=2, description="STFT window length in samples, at most num_fft")
    hop_length: int = Field(512, ge=1, description="STFT hop in samples, at most window_size")
    stft_padding: Literal["zeros", "reflect"] = Field(
        "zeros", description="what the STFT sees beyond the ends of the audio: silence, or the audio mirrored"
    )
    validation_split: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of the songs kept for validation where the data set has no such split",
    )
    mix_name: str = Field("mix", min_length=1, description="csv: the mixture's column is `<mix_name>_path`")
    train_csv: str = Field("", description="csv: table of training songs (empty: train.csv in the folder)")
    validation_csv: str = Field(
        "", description="csv: table of validation songs (empty: validation.csv in the folder, if it is there)"
    )
    other_channels: Literal["convert", "discard"] = Field(
        "convert", description="what becomes of training songs whose channel count is not num_channels"
    )
    other_rates: Literal["convert", "discard"] = Field(
        "convert", description="what becomes of training songs whose rate is not sample_rate"
    )
    n_chunks_per_song: Count | None = Field(
        None, description="training chunks drawn from anywhere in each song, an epoch (null: each song is covered once)"
    )
    sampling: SamplingConfig = Field(
        SamplingConfig(), description="how training chunks are drawn: {stems, places, weights, balance, remix, ...}"
    )
    augmentations: AugmentationsConfig = Field(
        AugmentationsConfig(), description="what becomes of training chunks: {song, stems, stems_by_name, mixture}"
    )
    cache: bool = Field(True, description="decode compressed songs once, into a folder of uncompressed samples")
    training_cache: str | None = Field(
        None, description="folder of decoded training songs (null: in the platform's cache folder)"
    )
    validation_cache: str | None = Field(
        None, description="folder of decoded validation songs (null: in the platform's cache folder)"
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

    @model_validator(mode="after")
    def _tables_are_read(self) -> DatasetConfig:
        tables = [name for name in ("train_csv", "validation_csv") if getattr(self, name)]
        if tables and self.type == "auto":
            raise ValueError(f"{' and '.join(tables)} would not be read; set dataset.type to csv")
        return self

    @property
    def chunk_frames(self) -> int:
        """Length of a chunk in samples."""
        return round(self.sample_length * self.sample_rate)

    @property
    def num_frames(self) -> int:
        """Number of frames of a chunk's spectrogram."""
        return count_frames(self.chunk_frames, self.window_size, self.hop_length, self.stft_padding)

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
    max_steps: Count | None = Field(None, description="max number of steps (null: no limit)")
    batch_size: Count = Field(4, description="chunks in a batch; several processes share them")
    backprop_every: Count = Field(1, description="batches whose gradients are added up for one step")
    lr: float = Field(1e-3, gt=0, le=10, description="learning rate")
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description="what updates the parameters: {name, args}")
    scheduler: SchedulerConfig = Field(SchedulerConfig(), description="how the learning rate changes")
    clip_value: float | None = Field(None, gt=0, description="longest gradient, all parameters' norm (null: any)")
    freeze: Patterns = Field([], description="patterns of parameter names that are not trained: 'encoder.*'")
    sequence_scheduler: SequenceSchedulerConfig | None = Field(
        None, description="how chunks grow longer and batches smaller (null: they do not)"
    )
    spec_augment: SpecAugmentConfig | None = Field(
        None, description="what of the magnitudes is hidden from the network (null: nothing)"
    )
    start_spec_augment_after_n_epochs: int = Field(
        0, ge=-1, description="epochs before spec_augment begins; -1: it never does"
    )
    ema: EMAConfig | None = Field(None, description="moving average of the weights: {decay} (null: none)")
    validation: ValidationConfig = Field(ValidationConfig(), description="when validation is done, and its metric")
    checkpointing: CheckpointingConfig = Field(CheckpointingConfig(), description="when checkpoints are saved")
    on_nan: Literal["stop", "skip", "rollback"] = Field(
        "stop",
        description="what becomes of a batch whose loss or gradient is no number: training stops, skips it, or goes "
        "back to the last checkpoint, halves the learning rate and leaves it out",
    )
    stop_patience: Count = Field(4, description="epochs without improvement before the learning rate is reduced")
    max_lr_steps: int = Field(3, ge=0, description="reductions of the learning rate before stopping early")
    criterion: str | list[CriterionTerm] = Field(
        "l1", min_length=1, description="loss function, or several: [{name, weight, args}]"
    )
    num_workers: int = Field(0, ge=0, description="worker processes for loading data; 0 loads in the main process")
    prefetch_factor: Count = Field(2, description="batches that each worker process loads ahead")
    pin_memory: bool = Field(
        False, description="page-locked batches, which are copied to a GPU beside the computation with the ones before"
    )
    use_mixed_precision: bool = Field(False, description="automatic mixed precision")
    mixed_precision_dtype: Literal["auto", "bf16", "fp16"] = Field(
        "auto", description="format of mixed precision; `auto` is bf16 where the device has it"
    )
    tf32: bool = Field(False, description="multiply float32 matrices in TF32, where the device has it")
    channels_last: bool = Field(False, description="keep the channels of images together in memory, as GPUs like them")
    compile: bool = Field(False, description="compile the network with torch.compile for training")
    gradient_checkpointing: bool = Field(
        False, description="keep only what goes into each block of the network and compute the rest twice: saves memory"
    )
    memory_limit: float | None = Field(
        None, gt=0, le=1e6, description="GiB that `train --batch_size auto` may fill (null: what the device has free)"
    )
    silent_checkpoint: bool = Field(False, description="suppress the message for each checkpoint")
    alpha_constant: float = Field(0.2, ge=0, le=1, description="weight of the residual's level in component loss")
    beta_constant: float = Field(0.2, ge=0, le=1, description="weight of the residual's shape in component loss")
    batch_norm_batches: int = Field(
        4, ge=0, description="batches that statistics of batch normalisation are measured on before validation; 0: none"
    )
    distributed: DistributedConfig = Field(
        DistributedConfig(), description="how processes started by torchrun train together: ddp or fsdp2"
    )
    random_seed: int = Field(0, ge=0, lt=2**32, description="seed of initial weights, chunks and dropout")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="cpu, cuda, cuda:N, mps, or auto: the first accelerator found",
    )

    @model_validator(mode="before")
    @classmethod
    def _names_of_others(cls, data: Any) -> Any:
        """Accept what other trainers call a setting."""
        if not isinstance(data, dict):
            return data
        for other, name in {"backwards_every": "backprop_every", "train_max_steps": "max_steps"}.items():
            if other in data and data.get(name, data[other]) != data[other]:
                raise ValueError(f"{other} {data[other]!r} and {name} {data[name]!r} are one setting; leave out one")
            data = {name if key == other else key: value for key, value in data.items()}
        return data

    @property
    def criterion_terms(self) -> list[CriterionTerm]:
        """The losses that are added up, one where `criterion` is a name."""
        return [CriterionTerm(name=self.criterion)] if isinstance(self.criterion, str) else self.criterion

    @property
    def criterion_name(self) -> str:
        """The names of the losses, for messages."""
        return " + ".join(term.name for term in self.criterion_terms)

    @model_validator(mode="after")
    def _schedules_fit(self) -> TrainingConfig:
        if self.sequence_scheduler and self.scheduler.is_cosine and self.max_steps is None:
            raise ValueError(
                "the cosine schedule must know how many steps there will be, which the sequence_scheduler changes; "
                "set max_steps"
            )
        return self

    @model_validator(mode="after")
    def _compiles_or_checkpoints(self) -> TrainingConfig:
        if self.compile and self.gradient_checkpointing:
            raise ValueError(
                "compile chooses itself what it computes twice, and cannot see gradient_checkpointing; switch one off"
            )
        return self

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
    window: Literal["auto", "cosine", "triangle"] = Field(
        "auto",
        description="how segments are joined: faded where they overlap (cosine), or weighted from end to end "
        "(triangle); auto: cut hard where the network declares its receptive field, else cosine",
    )
    final_segment: Literal["moved", "padded"] = Field(
        "moved", description="the last segment is moved back over real audio, or padded as Demucs does it"
    )
    shifts: int = Field(0, ge=0, le=100, description="passes with random delays up to 0.5 s that are averaged; 0: none")
    shift_seed: int = Field(0, ge=0, lt=2**32, description="seed of the delays")
    margin: float = Field(
        0, ge=0, le=60, description="seconds of silence that a song gets at both ends while it is separated"
    )
    tta: bool = Field(False, description="average with what becomes of swapped channels and inverted polarity")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="what the network computes in")
    sum_to_mixture: bool = Field(
        False, description="spread what is left of the mixture over the targets, so that they add up to it"
    )
    separation_exponent: float | None = Field(
        None, gt=0, le=10, description="masks are shares of the targets' magnitudes to this power; null: as estimated"
    )
    mask_extension: Literal["zeros", "average"] = Field(
        "zeros", description="masks above the highest bin that a network estimates: zero, or their mean below it"
    )
    wiener: int = Field(0, ge=0, le=100, description="iterations of multichannel Wiener filtering; 0: none")
    wiener_window: Count = Field(300, description="frames that Wiener filtering sees at once")
    wiener_residual: bool = Field(
        False, description="give Wiener filtering what is left of the mixture as one more target"
    )
    wiener_eps: float = Field(1e-10, gt=0, le=1, description="square of the noise power that Wiener filtering assumes")


class VisualsConfig(Group):
    """What training shows besides its losses."""

    tensorboard: bool = Field(True, description="write TensorBoard runs to `runs/`")
    wandb: WandbConfig = Field(WandbConfig(), description="run of Weights & Biases: {use, project_name, name, id}")
    save_summary_steps: Count = Field(5, description="steps between two points of the loggers' curves of steps")
    save_images: bool = Field(True, description="write spectrograms and waveforms of validation songs to `images/`")
    save_audio: bool = Field(True, description="write separated snippets of validation songs to `audio/`")
    num_snippets: Count = Field(2, description="number of validation songs shown")
    snippet_length: float = Field(6, gt=0, le=600, description="length of a snippet in seconds")
    every_n_epochs: Count = Field(5, description="epochs between two rounds of snippets; the last epoch has one too")
    metric_songs: int = Field(
        8, ge=0, description="validation songs that are scored during training, for TensorBoard; 0: none"
    )
    metric_length: float = Field(10, gt=0, le=3600, description="seconds of each, from its middle")
    metric_every_n_epochs: Count = Field(1, description="epochs between two rounds of scores; the last has one too")

    @property
    def loggers(self) -> dict[str, bool]:
        """The loggers that have a setting here, and whether they are switched on."""
        return {"tensorboard": self.tensorboard, "wandb": self.wandb.use}


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
