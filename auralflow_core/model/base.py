"""The contract of all models: data in, estimates, loss, one step, state on disk."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from auralflow_core.checkpoint import CheckpointStore
from auralflow_core.config import Config, SeparationConfig, validate
from auralflow_core.device import autocast_dtype, resolve_device
from auralflow_core.errors import AuralflowError, CheckpointError, ConfigError
from auralflow_core.losses import Criterion
from auralflow_core.model.forward import ForwardPass
from auralflow_core.model.optimizers import OptimizerMaker, core_optimizer, freeze, make_optimizer
from auralflow_core.model.origin import check_criterion, check_origin, plain_type
from auralflow_core.model.prediction import Prediction
from auralflow_core.model.schedules import Schedule, ScheduleFinder, make_schedule, unknown_schedule
from auralflow_core.model.separation import EvaluationMode, separate_groups
from auralflow_core.model.shapes import check_batch
from auralflow_core.transforms import ISTFT, STFT

CHECKPOINT_PARTS = ("model", "optimizer", "scheduler", "grad_scaler")


class SeparationModel(ABC):
    """A network wrapped for training and separation; subclasses know the domain it works in.

    One training step is `set_data`, `forward`, `compute_loss`, `backward`, `optimizer_step`; one epoch ends with
    `eval`, `set_data`, `test` and `compute_loss` over the validation batches, then `scheduler_step`.

    Args:
        config: The configuration, or its data as read from a `config.json`.
        network: Maps the domain's input to its output; see the subclass.
        criterion: The loss; without one the model can separate but not train.
        folder: The model folder that checkpoints are saved to and loaded from.
        origin: Facts about the network's plugin, kept in every checkpoint.
        find_optimizer: Returns what makes the optimizer of a name; by default the core's own are known.
        find_scheduler: Returns the same of a schedule that is not the core's own; by default there is none.

    Raises:
        ConfigError: A setting is out of range, or the network and the criterion do not fit.
    """

    domain: ClassVar[str]
    makes_mask: ClassVar[bool] = False

    def __init__(
        self,
        config: Config | Mapping[str, Any],
        network: nn.Module,
        criterion: Criterion | None = None,
        *,
        folder: Path | None = None,
        origin: Mapping[str, Any] | None = None,
        find_optimizer: Callable[[str], OptimizerMaker] = core_optimizer,
        find_scheduler: ScheduleFinder = unknown_schedule,
    ) -> None:
        self.config = config if isinstance(config, Config) else validate(Config, config)
        self.folder = folder
        self.origin = dict(origin or {})
        self._find_optimizer = find_optimizer
        self._find_scheduler = find_scheduler
        training, data = self.config.training, self.config.dataset
        self.device = resolve_device(training.device)
        self.network = network.to(self.device)
        if training.channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.forward_pass = ForwardPass(training, self.device)
        self.evaluation_mode = EvaluationMode(self.network)
        self.check_separation(self.config.separation)
        self.criterion = None if criterion is None else criterion.to(self.device)
        if criterion is not None:
            check_criterion(self.config, self.network, criterion, self.domain, makes_mask=self.makes_mask)
        self.stft = STFT(data.num_fft, data.window_size, data.hop_length, data.stft_padding).to(self.device)
        self.istft = ISTFT(data.num_fft, data.window_size, data.hop_length).to(self.device)
        self.amp_dtype = autocast_dtype(training.mixed_precision_dtype, self.device)
        # bfloat16 has float32's range; only float16's small gradients must be scaled.
        scaled = training.use_mixed_precision and self.amp_dtype == torch.float16
        self.grad_scaler = GradScaler(self.device.type, enabled=scaled)
        self.prediction: Prediction | None = None
        self.loss: Tensor | None = None
        self.data_facts: dict[str, Any] = {}
        self.gradient_norm: float | None = None
        self._mixture: Tensor | None = None
        self._target: Tensor | None = None
        self._validation_losses: list[float] = []

    @abstractmethod
    def predict(self, mixture: Tensor, target: Tensor | None = None) -> Prediction:
        """Estimate the targets of `(batch, channel, time)` with the configured channel count, on the device."""

    def check_separation(self, settings: SeparationConfig) -> None:
        """Refuse settings of a separation that cannot work with this model.

        Raises:
            ConfigError: A post-processing of masks is asked for, and the model makes none.
        """
        for name, is_on in (("wiener", settings.wiener > 0), ("separation_exponent", settings.separation_exponent)):
            if is_on:
                raise ConfigError(
                    f"separation.{name}: {getattr(settings, name)} works on masks of magnitudes, and "
                    f"{self.config.model.type} works in the {self.domain} domain; leave it out for this model"
                )

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """What updates the parameters; made when training asks for it, since it takes a second of imports."""
        freeze(self.network, self.config.training.freeze)
        return make_optimizer(self.network, self.config.training, self._find_optimizer)

    @cached_property
    def scheduler(self) -> Schedule:
        """What changes the learning rate."""
        return make_schedule(self.optimizer, self.config.training, self._find_scheduler)

    @property
    def targets(self) -> list[str]:
        """Names of the estimated targets, in the order of the target axis."""
        return self.config.dataset.targets

    @property
    def sample_rate(self) -> int:
        """Sample rate in Hz that the model works at."""
        return self.config.dataset.sample_rate

    @property
    def training(self) -> bool:
        """Whether the network is in training mode."""
        return self.network.training

    def set_data(self, *data: Tensor) -> None:
        """Set a batch: the mixture `(batch, channel, time)` and, for a loss, the targets.

        Targets are `(batch, target, channel, time)`; a single target may come without its axis.
        """
        if not 1 <= len(data) <= 2:
            raise AuralflowError(f"set_data: got {len(data)} tensors; pass the mixture and, for a loss, the targets")
        mixture, *targets = (tensor.to(self.device, non_blocking=True) for tensor in data)
        target = targets[0] if targets else None
        if target is not None and target.dim() == 3:
            target = target.unsqueeze(1)
        check_batch(mixture, target, self.config.dataset)
        self._mixture, self._target = mixture, target
        self.prediction = self.loss = None

    def forward(self) -> Tensor:
        """Estimate the targets of the batch; return what the domain estimates (see the subclass)."""
        assert self._mixture is not None, "call set_data first"
        self.prediction = self.predict(self._mixture, self._target)
        return self.estimate(self.prediction)

    def estimate(self, prediction: Prediction) -> Tensor:
        """Return the domain's own form of the estimates."""
        return prediction.estimate_audio

    def estimate_audio(self, mixture: Tensor) -> Tensor:
        """Estimate the targets' audio `(batch, target, channel, time)`; a domain may do more here than in training.

        Args:
            mixture: As `predict` takes it; without gradients and in evaluation mode.
        """
        return self.predict(mixture).estimate_audio

    def separate(self, audio: Tensor) -> Tensor:
        """Separate audio at the model's sample rate, in evaluation mode; several threads may do so at once.

        Args:
            audio: float32 in [-1, 1], `(time)`, `(channel, time)` or `(batch, channel, time)`, any channel count:
                channels are taken in groups of the model's channel count.

        Returns:
            The estimates with a target axis before the channels, on the audio's device: `(target, channel, time)` or
            `(batch, target, channel, time)`; for `(time)` it is `(target, time)`.
        """
        if not 1 <= audio.dim() <= 3 or audio.numel() == 0:
            raise AuralflowError(
                f"separate: audio of shape {tuple(audio.shape)}; pass (time), (channel, time) or "
                "(batch, channel, time) with at least one sample"
            )
        batched = audio.reshape((1,) * (3 - audio.dim()) + audio.shape).to(self.device, torch.float32)
        with self.evaluation_mode.held():
            estimates = separate_groups(self, batched)
        shape = (*audio.shape[:-2], len(self.targets), *audio.shape[-2:]) if audio.dim() > 1 else (-1, audio.shape[-1])
        return estimates.reshape(shape).to(audio.device)

    def compute_loss(self) -> float:
        """Return the batch's loss: the criterion plus the network's own terms."""
        assert self.prediction is not None, "call forward or test first"
        if self.criterion is None:
            raise ConfigError(
                "this model has no criterion: build it with one, or install the plugin of training.criterion, which "
                "separation does without"
            )
        with torch.set_grad_enabled(self.training):
            self.loss = self.criterion(self.prediction) + sum(self.prediction.terms.values())
        value = float(self.loss.detach())
        if not self.training:
            self._validation_losses.append(value)
        return value

    def backward(self, share: float = 1.0, *, keep: bool = False) -> None:
        """Compute the gradients of the loss.

        Args:
            share: What they are multiplied with: the batch's share of a step of several batches.
            keep: Whether to add them to those of the batches before.
        """
        assert self.loss is not None, "call compute_loss first"
        if not keep:
            self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss if share == 1 else self.loss * share
        torch.autograd.backward(self.grad_scaler.scale(loss))

    def optimizer_step(self) -> bool:
        """Clip the gradient and update the parameters, as configured; return whether they were updated.

        They are not where the gradient is no number, which is looked at with `clip_value` or an `on_nan` that goes on.
        """
        scheduler, training = self.scheduler, self.config.training
        if training.clip_value is not None or training.on_nan != "stop":
            self.grad_scaler.unscale_(self.optimizer)
            norm = nn.utils.clip_grad_norm_(self.network.parameters(), training.clip_value or torch.inf)
            self.gradient_norm = float(norm)
            # Scaled gradients overflow now and then: the scaler itself leaves out such a step and scales less.
            if not self.grad_scaler.is_enabled() and not math.isfinite(self.gradient_norm):
                return False
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        scheduler.after_step()
        return True

    def scheduler_step(self, loss: float | None = None) -> bool:
        """End an epoch: reduce the learning rate if validation does not improve; return whether to stop training.

        Args:
            loss: The epoch's validation loss; by default the mean of those computed in evaluation mode since the
                last call.
        """
        losses, self._validation_losses = self._validation_losses, []
        if loss is None:
            if not losses:
                raise AuralflowError("scheduler_step: no loss was computed in evaluation mode; pass one")
            loss = sum(losses) / len(losses)
        return self.scheduler.step(loss)

    def train(self) -> None:
        """Set the network to training mode."""
        self.network.train()

    def eval(self) -> None:
        """Set the network to evaluation mode."""
        self.network.eval()

    def test(self) -> Tensor:
        """Call `forward` in evaluation mode, without gradients."""
        self.eval()
        with torch.no_grad():
            return self.forward()

    def save(
        self,
        global_step: int,
        model: bool = True,
        optim: bool = True,
        scheduler: bool = True,
        grad_scaler: bool = True,
        **others: Mapping[str, Any],
    ) -> Path:
        """Save a checkpoint as a whole; return its folder.

        Args:
            global_step: Global step or epoch number.
            model: Whether to save the network's weights.
            optim: Whether to save the optimizer.
            scheduler: Whether to save the scheduler.
            grad_scaler: Whether to save the gradient scaler.
            others: Further state dicts by name.
        """
        return self._store().save(global_step, *self.checkpoint(model, optim, scheduler, grad_scaler, **others))

    def checkpoint(
        self,
        model: bool = True,
        optim: bool = True,
        scheduler: bool = True,
        grad_scaler: bool = True,
        **others: Mapping[str, Any],
    ) -> tuple[dict[str, Any], dict[str, Mapping[str, Any]]]:
        """Return what `save` writes: facts about the model, and the state dicts by name."""
        wanted = dict(zip(CHECKPOINT_PARTS, (model, optim, scheduler, grad_scaler), strict=True))
        parts = {name: self._part(name).state_dict() for name, is_wanted in wanted.items() if is_wanted}
        return self._meta(), {**parts, **others}

    def load(self, global_step: int) -> None:
        """Load everything that a checkpoint holds of the model, the optimizer, the scheduler and the scaler.

        Raises:
            CheckpointError: The checkpoint is missing, damaged, or belongs to another architecture.
        """
        held = self._store().parts(global_step) or CHECKPOINT_PARTS
        for name in CHECKPOINT_PARTS:
            if name in held:
                self._load_part(global_step, name)

    def save_model(self, global_step: int) -> None:
        """Save the network's weights."""
        self._save_part(global_step, "model")

    def load_model(self, global_step: int) -> None:
        """Load the network's weights.

        Raises:
            CheckpointError: The checkpoint is missing, damaged, or belongs to another architecture.
        """
        self._load_part(global_step, "model")

    def save_optim(self, global_step: int) -> None:
        """Save the optimizer's state."""
        self._save_part(global_step, "optimizer")

    def load_optim(self, global_step: int) -> None:
        """Load the optimizer's state."""
        self._load_part(global_step, "optimizer")

    def save_scheduler(self, global_step: int) -> None:
        """Save the learning rate scheduler's state."""
        self._save_part(global_step, "scheduler")

    def load_scheduler(self, global_step: int) -> None:
        """Load the learning rate scheduler's state."""
        self._load_part(global_step, "scheduler")

    def save_grad_scaler(self, global_step: int) -> None:
        """Save the gradient scaler's state."""
        self._save_part(global_step, "grad_scaler")

    def load_grad_scaler(self, global_step: int) -> None:
        """Load the gradient scaler's state."""
        self._load_part(global_step, "grad_scaler")

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which the network runs: mixed precision, where it is switched on."""
        enabled = self.config.training.use_mixed_precision
        return torch.autocast(self.device.type, dtype=self.amp_dtype, enabled=enabled)

    def run(self, data: Tensor) -> Tensor:
        """Return the network's output; in mixed precision, compiled and so on, as configured."""
        with self.autocast():
            return self.forward_pass(self.network, data)

    def own_terms(self) -> dict[str, Tensor]:
        """Return the loss terms that the network left in `loss_terms` during its last training pass."""
        return dict(getattr(self.network, "loss_terms", {})) if self.training else {}

    def _part(self, name: str) -> Any:
        return self.network if name == "model" else getattr(self, name)

    def _store(self) -> CheckpointStore:
        if self.folder is None:
            raise CheckpointError(
                "this model has no folder to keep checkpoints in; load its config from a model folder, or set "
                "`model.folder = Path(...)`"
            )
        return CheckpointStore(self.folder / "checkpoint")

    def _save_part(self, step: int, name: str) -> None:
        self._store().save_part(step, self._meta(), name, self._part(name).state_dict())

    def _load_part(self, step: int, name: str) -> None:
        store = self._store()
        state = store.load(step, name)
        if name == "model":
            check_origin(self.config, self.network, store.path(step), store.meta(step), state)
        if name == "optimizer":
            _ = self.scheduler  # It takes its peaks from the configured rates, before the saved ones come.
        try:
            self._part(name).load_state_dict(state)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{store.path(step)}: {name} state does not fit {self.config.model.type} as configured "
                f"({' '.join(str(error).split())[:200]}); go on from another step, or train a new model"
            ) from error

    def _meta(self) -> dict[str, Any]:
        model = self.config.model
        facts = {"model_type": plain_type(model.type), **self.origin, "params": model.params}
        return {**facts, "config": self.config.model_dump(mode="json"), "data": self.data_facts}
