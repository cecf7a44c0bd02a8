"""Where a model runs."""

from __future__ import annotations

import torch

from auralflow_core.errors import ConfigError


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
