"""Checks of the machine: torch and its devices, plugins, the disk."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from auralflow_core.doctor.finding import Finding
from auralflow_core.registry import Registry

_GIB = 2**30
_LEAST_FREE, _SCARCE = 0.5 * _GIB, 2.0 * _GIB


def check_torch() -> Iterator[Finding]:
    """Versions of torch and torchaudio, and whether torch sees the GPU that is there."""
    import torch

    from auralflow_core.torchaudio_cpu import import_torchaudio

    yield Finding("torch", "info", f"torch {torch.__version__}, {_device()}", "machine")
    try:
        import_torchaudio()
        text = f"torchaudio {importlib.metadata.version('torchaudio')}"
        if getattr(sys.modules.get("torchaudio._extension"), "__file__", None) is None:
            text += " without its compiled extension, which is not needed"
        yield Finding("torch", "info", text, "machine")
    except ImportError as error:
        yield Finding("torch", "error", str(error), "machine", next_step="pip install --upgrade torchaudio")
    driver = _driver()
    if driver and not torch.cuda.is_available():
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
        yield Finding(
            "torch", "warning", f"an NVIDIA driver is there ({driver}), but torch sees no GPU", "machine", build,
            "a build that fits the driver", "a CPU wheel, or a torch that is newer than the driver",
            "install a CUDA build: https://pytorch.org/get-started/locally",
        )  # fmt: skip


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}"
    return "Apple GPU" if torch.backends.mps.is_available() else f"no GPU, threads: {torch.get_num_threads()}"


def _driver() -> str:
    """Return the version line of NVIDIA's driver, or nothing."""
    try:
        return Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0].strip()
    except (OSError, IndexError):
        return "nvidia-smi" if shutil.which("nvidia-smi") else ""


def check_plugins(registry: Registry) -> Iterator[Finding]:
    """Plugins that are installed and do not load."""
    for failure in registry.failures:
        yield Finding(
            "plugins", "warning", f"plugin {failure.name} {failure.version} does not load: {failure.reason}", "machine",
            cause="a version that does not fit, or a missing package",
            next_step=f"pip install --upgrade {failure.name}, or uninstall it",
        )  # fmt: skip


def check_disk(folder: Path) -> Iterator[Finding]:
    """Room for checkpoints in the model folder."""
    place = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < _SCARCE:
        yield Finding(
            "disk", "error" if free < _LEAST_FREE else "warning", "little room for checkpoints", str(folder),
            f"{free / _GIB:.1f} GiB", f"at least {_SCARCE / _GIB:.0f} GiB", "a full disk",
            "free some, or move the model folder",
        )  # fmt: skip
