"""torchaudio beside any build of torch."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


def import_torchaudio() -> ModuleType:
    """Return the module `torchaudio`, also where only its CUDA-linked wheel is installed beside a CPU torch.

    The wheel on PyPI is linked against CUDA, and beside a CPU build of torch its import ends in an `OSError`
    (`libc10_cuda.so` is missing) or, in other releases, an `ImportError` or `RuntimeError`. Its Python parts need no
    such library: resampling, mel filter banks and SpecAugment masks. This function imports those with the compiled
    extension declared absent. It changes no file, and audio files are never read through torchaudio here.

    Raises:
        ImportError: torchaudio is not installed, or neither way works; the message says what to install.
    """
    if "torchaudio" in sys.modules:
        return sys.modules["torchaudio"]
    try:
        return importlib.import_module("torchaudio")
    except ModuleNotFoundError as error:
        if error.name == "torchaudio":
            raise ImportError("torchaudio is not installed; `pip install torchaudio`") from None
        return _import_without_extension(error)
    except (OSError, ImportError, RuntimeError) as error:
        return _import_without_extension(error)


def _import_without_extension(first_error: Exception) -> ModuleType:
    _forget_torchaudio()
    sys.modules["torchaudio._extension"] = _absent_extension()
    try:
        return importlib.import_module("torchaudio")
    except Exception as error:
        _forget_torchaudio()
        import torch

        raise ImportError(
            f"torchaudio does not load beside torch {torch.__version__}: {first_error}, and without its compiled "
            f"extension: {error}; install a matching pair (`pip install --upgrade torchaudio`)"
        ) from error


def _forget_torchaudio() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        del sys.modules[name]


def _absent_extension() -> ModuleType:
    """The names that torchaudio's modules ask of `torchaudio._extension`, as if it was built without extension."""

    def unavailable(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("this function of torchaudio needs its compiled extension, which does not load here")

    def pass_through(function: Any) -> Any:
        return function

    module = ModuleType("torchaudio._extension")
    for flag in ("_IS_TORCHAUDIO_EXT_AVAILABLE", "_IS_RIR_AVAILABLE", "_IS_ALIGN_AVAILABLE"):
        setattr(module, flag, False)
    vars(module).update(
        fail_if_no_align=lambda function: unavailable,
        fail_if_no_rir=lambda function: unavailable,
        _load_lib=lambda *args: False,
        _check_cuda_version=lambda: None,
        _init_dll_path=lambda: None,
        fail_with_message=lambda message: pass_through,
    )
    return module
