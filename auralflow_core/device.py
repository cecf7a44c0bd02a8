"""Where a model runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from auralflow_core.errors import ConfigError

Group = list[Any]
"""The batches of one step: each is a tuple of tensors."""


def resolve_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is the first accelerator found, else the CPU.

    Raises:
        ConfigError: The name is no device, or the device is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device {name!r} is unknown; use cpu, cuda, cuda:N, mps or auto") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r} is not there ({torch.cuda.device_count()} CUDA devices found by torch "
            f"{torch.__version__}); use cpu or auto, or install a CUDA build of torch"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"device {name!r} is not there; use cpu or auto")
    return device


def autocast_dtype(choice: str, device: torch.device) -> torch.dtype:
    """Return the format of mixed precision: `auto` is bfloat16 where the device computes in it, else float16."""
    if choice == "auto":
        choice = "fp16" if device.type == "cuda" and not torch.cuda.is_bf16_supported() else "bf16"
    return torch.bfloat16 if choice == "bf16" else torch.float16


@contextmanager
def tf32(is_on: bool) -> Iterator[None]:
    """Let products of float32 matrices be computed in TF32 during the body, where the device can.

    TF32 keeps float32's range and 10 of its 23 bits of precision. What was set before comes back after the body.
    """
    before = torch.get_float32_matmul_precision()
    if is_on:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def moved_ahead(groups: Iterable[Group], device: torch.device) -> Iterator[Group]:
    """Yield the batches of each step; on a GPU each group is copied there while the one before is computed with.

    Elsewhere nothing is done. Batches in page-locked memory (`pin_memory`) alone are copied beside the computation.

    Args:
        groups: The batches of one step after another.
        device: Where they are needed.
    """
    if device.type != "cuda":
        yield from groups
        return
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ahead: tuple[Group, torch.cuda.Event] | None = None
    for group in groups:
        with torch.cuda.stream(side):
            moved = [tuple(part.to(device, non_blocking=True) for part in batch) for batch in group]
        if ahead:
            yield _arrived(*ahead)
        ahead = moved, side.record_event()
    if ahead:
        yield _arrived(*ahead)


def _arrived(group: Group, copied: torch.cuda.Event) -> Group:
    """Let the computation wait for the copies, and their memory be kept until the computation is over."""
    stream = torch.cuda.current_stream(group[0][0].device)
    stream.wait_event(copied)
    for batch in group:
        for part in batch:
            part.record_stream(stream)
    return group
