"""The public weights of Open-Unmix: where they are, under which terms, with which settings. No torch at import."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auralflow_core.hookspecs import Register

if TYPE_CHECKING:
    from torch import Tensor

MUSIC = ("vocals", "drums", "bass", "other")
SPEECH = ("speech", "noise")

_STEREO_44100: Mapping[str, int] = {
    "sample_rate": 44100,
    "num_channels": 2,
    "num_fft": 4096,
    "window_size": 4096,
    "hop_length": 1024,
}
_MONO_16000: Mapping[str, int] = {
    "sample_rate": 16000,
    "num_channels": 1,
    "num_fft": 1024,
    "window_size": 1024,
    "hop_length": 512,
}
_OPTIMIZER: Mapping[str, Any] = {"name": "adam", "args": {"weight_decay": 1e-5}}


@dataclass(frozen=True)
class Release:
    """One set of weights: a file for each target at zenodo.org, named after it and the beginning of its SHA-256."""

    record: int
    files: tuple[str, ...]
    licence: str
    summary: str
    params: Mapping[str, Any]
    targets: tuple[str, ...] = MUSIC
    dataset: Mapping[str, int] = field(default_factory=lambda: _STEREO_44100)

    def config(self) -> dict[str, Any]:
        """Return the settings that the weights were trained with, in the groups of `config.json`."""
        return {
            "model": {"params": dict(self.params)},
            "dataset": {"targets": list(self.targets), "stft_padding": "reflect", "sample_length": 6, **self.dataset},
            "training": {"criterion": "l2", "lr": 1e-3, "batch_size": 16, "optimizer": _OPTIMIZER},
            "separation": {"segment": 60, "overlap": 0.1, "wiener": 1},
        }


RELEASES: Mapping[str, Release] = {
    "umx": Release(
        record=3370486,
        files=("vocals-c8df74a5.pth", "drums-5a48008b.pth", "bass-646024d3.pth", "other-f8e132cc.pth"),
        licence="MIT",
        summary="Open-Unmix, trained on MUSDB18, whose songs hold nothing above 16 kHz",
        params={"hidden_size": 512, "max_bin": 1487},
    ),
    "umxhq": Release(
        record=3370489,
        files=("vocals-b62c91ce.pth", "drums-9619578f.pth", "bass-8d85a5bd.pth", "other-b52fbbf7.pth"),
        licence="MIT",
        summary="Open-Unmix, trained on MUSDB18-HQ",
        params={"hidden_size": 512, "max_bin": 1487},
    ),
    "umxl": Release(
        record=5069601,
        files=("vocals-bccbd9aa.pth", "drums-69e0ebd4.pth", "bass-2ca1ce51.pth", "other-c8c5b3e6.pth"),
        licence="CC BY-NC-SA 4.0",
        summary="Open-Unmix of twice the hidden size, trained on about 400 h of other songs; not for commercial use",
        params={"hidden_size": 1024, "max_bin": 1487},
    ),
    "umxse": Release(
        record=3786908,
        files=("speech_f5e0d9f9.pth", "noise_04a6fc2d.pth"),
        licence="see https://zenodo.org/records/3786908",
        summary="Open-Unmix for speech in noise, 16 kHz mono, trained on Voicebank+Demand",
        params={"hidden_size": 256, "max_bin": 513},
        targets=SPEECH,
        dataset=_MONO_16000,
    ),
}


def register_all(register: Register) -> None:
    """Register all releases."""
    for name, release in RELEASES.items():
        register(
            name,
            type="OpenUnmix",
            files={file: f"https://zenodo.org/records/{release.record}/files/{file}" for file in release.files},
            sha256={file: _named(file)[1] for file in release.files},
            config=release.config(),
            convert="auralflow_openunmix.weights:convert",
            licence=release.licence,
            summary=release.summary,
        )


def convert(files: Mapping[str, Path]) -> dict[str, Tensor]:
    """Return the state of our network, which holds that of each file under the number of its target.

    Args:
        files: The files of a release by their names, in any order.
    """
    from auralflow_core.weights import load_state_dict

    order = [*MUSIC, *SPEECH]
    paths = sorted(files.items(), key=lambda item: order.index(_named(item[0])[0]))
    states = (load_state_dict(path) for _, path in paths)
    return {f"targets.{number}.{key}": value for number, state in enumerate(states) for key, value in state.items()}


def _named(file: str) -> tuple[str, str]:
    """Return the target and the beginning of the digest that a file's name holds."""
    target, digest, _ = re.split(r"[-_.]", file)
    return target, digest
