"""Passes through the network, forwards and backwards: alone, replicated in several processes, or sharded over them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from auralflow_core.checkpoint import CheckpointStore
from auralflow_core.errors import ConfigError, TrainingError
from auralflow_core.model import SeparationModel
from auralflow_core.trainer.distributed import World


class Passes:
    """Passes of a network that one process trains alone.

    Args:
        model: The model.
    """

    def __init__(self, model: SeparationModel) -> None:
        self.model = model

    def __call__(self, share: float, *, is_first: bool, is_last: bool) -> float:
        """Return the loss of the batch that the model holds, and compute its gradients.

        Args:
            share: What the gradients count in those of the step.
            is_first: Whether the step has none before.
            is_last: Whether it has none after; then gradients are those of all processes.
        """
        self.model.forward()
        loss = self.model.compute_loss()
        self.model.backward(share, keep=not is_first)
        return loss

    def whole(self) -> AbstractContextManager[None]:
        """Return the context in which the model's network has all of its weights in this process."""
        return nullcontext()

    def full(self, state: Any) -> Any:
        """Return a state with all of its tensors whole."""
        return state

    def local(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return of whole weights what this process holds."""
        return weights

    def load(self, step: int) -> None:
        """Load the weights of a checkpoint."""
        self.model.load_model(step)

    def load_optimizer(self, store: CheckpointStore, step: int) -> None:
        """Load the optimizer's state of a checkpoint."""
        self.model.load_optim(step)


class ReplicatedPasses(Passes):
    """Passes of a network that each process has a copy of; gradients are added up while the backward pass runs (DDP).

    Whether parameters may be left without a gradient is found out in the first step, whose gradients are added up at
    its end. DDP itself has to be told to look for such parameters, and then warns where there are none.
    """

    def __init__(self, model: SeparationModel, world: World) -> None:
        super().__init__(model)
        self._world = world
        self._finds_unused = model.config.training.distributed.find_unused_parameters
        self._is_settled = self._finds_unused
        self._replica: nn.parallel.DistributedDataParallel | None = None

    def __call__(self, share: float, *, is_first: bool, is_last: bool) -> float:
        """Return the loss of this process's part of the batch, and compute its gradients."""
        if self._replica is None:
            self._replica = nn.parallel.DistributedDataParallel(
                _Loss(self.model), gradient_as_bucket_view=True, find_unused_parameters=self._finds_unused
            )
        with nullcontext() if is_last and self._is_settled else self._replica.no_sync():
            self.model.loss = self._replica()
            # DDP takes the mean over processes, and the shares of all of them add up to 1.
            self.model.backward(share * self._world.size, keep=not is_first)
        if is_last and self._is_settled:
            self._check_gradients()
        elif is_last:
            self._settle()
        return float(self.model.loss.detach())

    def _settle(self) -> None:
        """Take the mean of the gradients, and note whether some parameters have none."""
        trained = [each for each in self.model.network.parameters() if each.requires_grad]
        counts = self._world.sum([each.grad is not None for each in trained])
        for parameter, count in zip(trained, counts, strict=True):
            if count and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._world.average(each.grad for each in trained if each.grad is not None)
        self._finds_unused, self._is_settled = min(counts) < self._world.size, True
        if self._finds_unused:
            self._replica = None

    def _check_gradients(self) -> None:
        lacking = [
            name
            for name, parameter in self.model.network.named_parameters()
            if parameter.requires_grad and parameter.grad is None
        ]
        if lacking and not self._finds_unused:
            raise TrainingError(
                f"{', '.join(lacking[:3])} got no gradient in this step, though it did in the first; set "
                "training.distributed.find_unused_parameters to true, then go on with --resume"
            )


class _Loss(nn.Module):
    """The loss of the batch that a model holds, as the output of a module, which is what DDP waits for.

    It has the network's parameters and not its buffers: each process keeps those that its batches gave it, until
    validation brings them together.
    """

    def __init__(self, model: SeparationModel) -> None:
        super().__init__()
        self.trained = nn.ParameterList(each for each in model.network.parameters() if each.requires_grad)
        self._model = model

    def forward(self) -> Tensor:
        self._model.forward()
        self._model.compute_loss()
        assert self._model.loss is not None
        return self._model.loss


class ShardedPasses(Passes):
    """Passes of a network whose weights, gradients and optimizer state are spread over the processes (FSDP2).

    The network is one unit, and so is each module in its lists of modules. What is validated, separated with and saved
    is a whole copy of it without gradients.
    """

    def __init__(self, model: SeparationModel, world: World) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        super().__init__(model)
        self._world = world
        self._copy = copy.deepcopy(model.network).requires_grad_(False).eval()
        self._sharded = model.network
        self._mesh = init_device_mesh(model.device.type, (world.size,))
        for unit in [*_units(model.network), model.network]:
            fully_shard(unit, mesh=self._mesh)

    def __call__(self, share: float, *, is_first: bool, is_last: bool) -> float:
        """Return the loss of this process's part of the batch, and compute its gradients."""
        self._sharded.set_requires_gradient_sync(is_last)  # type: ignore[operator]  # a method that fully_shard adds
        return super().__call__(share * self._world.size, is_first=is_first, is_last=is_last)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Return the context in which the model's network is the copy; buffers that it changes are kept."""
        if self.model.network is self._copy:
            yield
            return
        self._copy.load_state_dict(self.full(self._sharded.state_dict()))
        self.model.network = self._copy
        try:
            yield
        finally:
            self.model.network = self._sharded
            for own, measured in zip(self._sharded.buffers(), self._copy.buffers(), strict=True):
                own.copy_(measured)

    def full(self, state: Any) -> Any:
        """Return a state with all of its tensors whole."""
        from torch.distributed.tensor import DTensor

        if isinstance(state, DTensor):
            return state.full_tensor().detach()
        if isinstance(state, Mapping):
            return {key: self.full(value) for key, value in state.items()}
        return [self.full(value) for value in state] if isinstance(state, list) else state

    def local(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return of whole weights what this process holds."""
        # Not the parameters themselves, which after a forward pass are whole for a while.
        own = self._sharded.state_dict()
        return {name: self._part(weight, own.get(name)) for name, weight in weights.items()}

    def load(self, step: int) -> None:
        """Load the weights of a checkpoint."""
        self.model.network = self._copy
        try:
            self.model.load_model(step)
        finally:
            self.model.network = self._sharded
        self._sharded.load_state_dict(self.local(self._copy.state_dict()))

    def load_optimizer(self, store: CheckpointStore, step: int) -> None:
        """Load the optimizer's state of a checkpoint."""
        _ = self.model.scheduler  # It takes its peaks from the configured rates, before the saved ones come.
        optimizer, state = self.model.optimizer, store.load(step, "optimizer")
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for number, found in state["state"].items():
            for name, value in found.items():
                found[name] = self._part(value, parameters[number])
        optimizer.load_state_dict(state)

    def _part(self, value: Any, parameter: Tensor | None) -> Any:
        from torch.distributed.tensor import DTensor, distribute_tensor

        if not isinstance(parameter, DTensor) or not isinstance(value, Tensor) or value.shape != parameter.shape:
            return value
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)


def make_passes(model: SeparationModel, world: World) -> Passes:
    """Return the passes that `training.distributed` asks for; one process needs none of it.

    Raises:
        ConfigError: A setting does not work with several processes, or not on this device.
    """
    settings = model.config.training.distributed
    if world.size == 1:
        return Passes(model)
    if settings.sync_batch_norm:
        if model.device.type != "cuda":
            raise ConfigError(
                "training.distributed.sync_batch_norm: torch has it for GPUs alone; set it to false, and batch "
                "normalisation sees each process's part of a batch by itself"
            )
        nn.SyncBatchNorm.convert_sync_batchnorm(model.network)  # type: ignore[no-untyped-call]
    if settings.strategy == "ddp":
        return ReplicatedPasses(model, world)
    _check_sharding(model)
    return ShardedPasses(model, world)


def _check_sharding(model: SeparationModel) -> None:
    training = model.config.training
    if training.optimizer.name == "muon":
        raise ConfigError(
            "training.distributed: fsdp2 cuts matrices into pieces, and muon needs them whole; use ddp, or adamw"
        )
    if model.grad_scaler.is_enabled():
        raise ConfigError(
            "training.distributed: fsdp2 does not scale gradients for fp16; use ddp, or mixed_precision_dtype bf16"
        )


def _units(network: nn.Module) -> list[nn.Module]:
    """Return the modules in the outermost lists of modules that have parameters and a pass of their own."""
    found: list[nn.Module] = []
    for child in network.children():
        members = list(child) if isinstance(child, nn.ModuleList) else [child]
        if isinstance(child, nn.ModuleList) and not any(isinstance(each, nn.ModuleList) for each in members):
            found += [each for each in members if any(True for _ in each.parameters())]
        else:
            found += [unit for each in members for unit in _units(each)]
    return found
