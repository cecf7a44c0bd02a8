"""The groups inside `training` and `visuals`: optimizer, schedules, augmentation, checkpoints, validation, loggers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from auralflow_core.config.group import Count, Group


class CriterionTerm(Group):
    """One loss of a weighted sum."""

    name: str = Field(min_length=1, description="the loss, as `auralflow list-plugins` names it")
    weight: float = Field(1.0, gt=0, le=1e6, description="what it is multiplied with")
    args: dict[str, Any] = Field(default_factory=dict, description="its own arguments")


class OptimizerConfig(Group):
    """What updates the parameters."""

    name: str = Field(
        "adam",
        min_length=1,
        description="adam, adamw, radam, sgd, muon (for matrices; adamw for the rest), madgrad, mirrormadgrad, or one "
        "that a plugin registers",
    )
    args: dict[str, Any] = Field(
        default_factory=dict, description="its own arguments, such as weight_decay; an lr here goes before training.lr"
    )
    lr_by_name: dict[str, float] = Field(
        default_factory=dict, description="learning rates by pattern of parameter names: {'*lstm*': 1e-4}"
    )
    fused: bool = Field(False, description="one kernel for all parameters: adam, adamw and sgd have one")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _rates_are_positive(self) -> OptimizerConfig:
        for pattern, rate in {"args.lr": self.args.get("lr", 1.0), **self.lr_by_name}.items():
            if not isinstance(rate, (int, float)) or not 0 < rate <= 10:
                raise ValueError(f"{pattern}: {rate!r} is no learning rate above 0 and up to 10")
        if self.fused and self.name not in ("adam", "adamw", "sgd"):
            raise ValueError(f"torch has no fused {self.name}; set fused to false, or choose adam, adamw or sgd")
        return self


class SchedulerConfig(Group):
    """How the learning rate changes."""

    name: str = Field(
        "auto",
        min_length=1,
        description="halved when validation does not improve (plateau), warm-up and then half a cosine, or one that a "
        "plugin registers; auto: cosine where warmup_steps or final_lr is set, else plateau",
    )
    args: dict[str, Any] = Field(default_factory=dict, description="arguments of one that a plugin registers")
    warmup_steps: int = Field(0, ge=0, description="cosine: steps over which the rate rises in a line")
    final_lr: float = Field(0.0, ge=0, description="cosine: the rate at the end")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _each_has_its_own(self) -> SchedulerConfig:
        if (self.warmup_steps or self.final_lr) and not self.is_cosine:
            other = f", or give {self.name} what it takes in args" if self.is_registered else ""
            raise ValueError(f"warmup_steps and final_lr belong to the cosine schedule; set name to cosine{other}")
        if self.args and not self.is_registered:
            raise ValueError(
                f"args {self.args} are for schedules of plugins; cosine has warmup_steps and final_lr instead, plateau "
                "has training.stop_patience and training.max_lr_steps"
            )
        return self

    @property
    def kind(self) -> str:
        """Its name, with `auto` resolved."""
        if self.name == "auto":
            return "cosine" if self.warmup_steps or self.final_lr else "plateau"
        return self.name.removesuffix("@auralflow")

    @property
    def is_cosine(self) -> bool:
        """Whether the rate follows a cosine."""
        return self.kind == "cosine"

    @property
    def is_registered(self) -> bool:
        """Whether the schedule is not one of the core's own."""
        return self.kind not in ("plateau", "cosine")


class SequenceSchedulerConfig(Group):
    """How chunks grow longer, and batches smaller, while a model is trained."""

    increase_every: Count = Field(description="steps between two increases")
    start_after: int = Field(0, ge=0, description="steps before the first period begins")
    stop_after: Count | None = Field(None, description="step after which nothing grows any more (null: never)")
    max_sequence_length: float = Field(gt=0, le=3600, description="longest chunk in seconds")
    increase_by_multiplier: float = Field(2.0, gt=1, le=100, description="what the length is multiplied with")
    batch_size_multiplier: float = Field(0.5, gt=0, le=1, description="what the batch size is multiplied with")


class SpecAugmentConfig(Group):
    """Which parts of the magnitudes are hidden from the network while it is trained."""

    n_time_masks: int = Field(2, ge=0, le=1000, description="number of masks over time; 0: none")
    time_mask_param: int = Field(100, ge=0, description="longest of them, in frames")
    n_freq_masks: int = Field(2, ge=0, le=1000, description="number of masks over frequency; 0: none")
    freq_mask_param: int = Field(27, ge=0, description="widest of them, in bins")
    iid_masks: bool = Field(True, description="draw masks for each item of a batch by itself")
    p: float = Field(1.0, ge=0, le=1, description="largest share of the frames that all masks over time may hide")
    zero_masking: bool = Field(False, description="hidden parts are zero, or else the mean of the spectrogram")


class CheckpointingConfig(Group):
    """When checkpoints are saved, besides after each validation."""

    save_every_n_steps: Count | None = Field(None, description="steps between two (null: only after validation)")
    keep: Count = Field(1, description="how many of the latest are kept, besides the best")


class ValidationConfig(Group):
    """When a model in training is validated, and what decides which checkpoint is the best."""

    every_n_steps: Count | None = Field(
        None, description="validate after this many steps too, not only after epochs; stop_patience counts validations"
    )
    throttle_secs: float = Field(
        0, ge=0, description="seconds that must lie between two validations; the last one is always done"
    )
    metric: Literal["loss", "si_sdr", "usdr"] = Field(
        "loss", description="what decides on the best checkpoint and the plateau: the loss, or dB over the chunks"
    )
    full_songs: int = Field(
        0, ge=0, description="validation songs that are scored whole when training ends, with the best weights; 0: none"
    )


class EMAConfig(Group):
    """An exponential moving average of the weights, which is validated and saved in their place."""

    decay: float = Field(0.999, gt=0, lt=1, description="share of the average that a step keeps, once it is warm")


class DistributedConfig(Group):
    """How several processes train one model."""

    strategy: Literal["ddp", "fsdp2"] = Field(
        "ddp", description="each process has the whole network (ddp), or a part of weights and optimizer state (fsdp2)"
    )
    find_unused_parameters: bool = Field(
        False, description="ddp: parameters without a gradient differ from step to step; found out if they do not"
    )
    sync_batch_norm: bool = Field(
        False, description="GPUs: batch normalisation sees the whole batch, not each process's part of it by itself"
    )

    @model_validator(mode="before")
    @classmethod
    def _strategy_alone(cls, data: Any) -> Any:
        return {"strategy": data} if isinstance(data, str) else data


class WandbConfig(Group):
    """A run of Weights & Biases; `pip install auralflow-wandb` brings what writes it."""

    use: bool = Field(False, description="log there too")
    project_name: str = Field("", description="project (empty: what WANDB_PROJECT says, or W&B's own default)")
    name: str = Field("", description="name of the run (empty: the model's name)")
    id: str = Field("", description="id of the run to go on with (empty: a new one, kept when training is resumed)")
