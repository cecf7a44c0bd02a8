"""The forward pass of a network that is trained: compiled, recomputed by the backward pass, with channels last."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from auralflow_core.config import TrainingConfig
from auralflow_core.errors import ConfigError

Buffers = list[tuple[nn.Module, str, Tensor]]

_COMPILERS = ("g++", "clang++", "c++", "cl")


class ForwardPass:
    """Runs a network as the settings of speed and memory say; plainly where it is not trained.

    The network itself stays as it is, with the names of its parameters, whatever is switched on.

    Args:
        config: The settings of the group `training`.
        device: Where the network runs.
    """

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self._config = config
        self._device = device
        self._compiled: Callable[[nn.Module, Tensor], Tensor] | None = None

    def __call__(self, network: nn.Module, data: Tensor) -> Tensor:
        """Return the network's output."""
        if self._config.channels_last and data.dim() == 4:
            data = data.contiguous(memory_format=torch.channels_last)
        is_trained = network.training and torch.is_grad_enabled()
        if is_trained and self._config.compile:
            return self._run_compiled(network, data)
        is_recomputed = is_trained and self._config.gradient_checkpointing
        with recomputed(network) if is_recomputed else nullcontext():
            return _run(network, data)

    def check(self) -> None:
        """Refuse to compile where there is nothing to compile with.

        Raises:
            ConfigError: A CPU has no C++ compiler, or a GPU no Triton.
        """
        if not self._config.compile:
            return
        if self._device.type == "cuda" and importlib.util.find_spec("triton") is None:
            raise ConfigError(
                "training.compile: torch compiles for GPUs with Triton, which is not installed; `pip install triton`, "
                "or set compile to false"
            )
        compilers = (os.environ.get("CXX"), *_COMPILERS)
        if self._device.type == "cpu" and not any(shutil.which(name) for name in compilers if name):
            raise ConfigError(
                f"training.compile: torch compiles for a CPU with a C++ compiler, and none of {', '.join(_COMPILERS)} "
                "is found; install one, name it in the environment variable CXX, or set compile to false"
            )

    def _run_compiled(self, network: nn.Module, data: Tensor) -> Tensor:
        if self._compiled is None:
            self.check()
            self._compiled = torch.compile(_run)
        from torch._dynamo.exc import TorchDynamoException

        try:
            return self._compiled(network, data)
        except TorchDynamoException as error:
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"training.compile: torch cannot compile this network here ({reason}); set compile to false"
            ) from error


def _run(network: nn.Module, data: Tensor) -> Tensor:
    output: Tensor = network(data)
    return output


@contextmanager
def recomputed(network: nn.Module) -> Iterator[None]:
    """Let the blocks of a network keep nothing but their inputs of the passes in the body.

    The backward pass computes the rest again, with the same random numbers and buffers, so that gradients are the
    same; buffers such as the statistics of batch normalisation change once and not twice.

    Blocks are what the network's attribute `checkpoint_blocks` names, an iterable of modules; else its children that
    have parameters, those inside lists of modules one by one. A network whose only child is another one has the
    blocks of that.
    """
    blocks = list(_blocks(network))
    for block in blocks:
        block.forward = partial(_checkpointed, block, block.forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    named = getattr(network, "checkpoint_blocks", None)
    if named is not None:
        yield from named
        return
    children = [block for child in network.children() for block in _opened(child)]
    found = [child for child in children if next(child.parameters(), None) is not None]
    is_shell = len(found) == 1 and next(found[0].children(), None) is not None
    yield from _blocks(found[0]) if is_shell else found


def _opened(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the members of a list of modules, which is never called itself; else the module."""
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        for child in module.children():
            yield from _opened(child)
    else:
        yield module


def _checkpointed(block: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    before = [
        (module, name, buffer.clone())
        for module in block.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _with_buffers(before)

    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


@contextmanager
def _with_buffers(before: Buffers) -> Iterator[None]:
    """Give modules the buffers that they had, for the time of the body."""
    now = [(module, name, module.get_buffer(name)) for module, name, _ in before]
    for module, name, buffer in before:
        setattr(module, name, buffer)
    try:
        yield
    finally:
        for module, name, buffer in now:
            setattr(module, name, buffer)
