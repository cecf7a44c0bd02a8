"""Spleeter's networks: `unet.unet`, `unet.softmax_unet` and `blstm.blstm`."""

from __future__ import annotations

from auralflow_core import hookimpl
from auralflow_core.hookspecs import Register
from auralflow_spleeter.base_config import convert
from auralflow_spleeter.params import BLSTMParams, UNetParams

__all__ = ["BLSTMParams", "UNetParams"]

_ELU = {"conv_activation": "ELU", "deconv_activation": "ELU"}

# The public models: their instruments, model function and parameters, and the SHA-256 of their archives.
_STEMS = {
    "2stems": (
        ["vocals", "accompaniment"],
        {"type": "unet.unet", "params": {}},
        "f3a90b39dd2874269e8b05a48a86745df897b848c61f3958efc80a39152bd692",
    ),
    "4stems": (
        ["vocals", "drums", "bass", "other"],
        {"type": "unet.unet", "params": _ELU},
        "3adb4a50ad4eb18c7c4d65fcf4cf2367a07d48408a5eb7d03cd20067429dfaa8",
    ),
    "5stems": (
        ["vocals", "piano", "drums", "bass", "other"],
        {"type": "unet.softmax_unet", "params": _ELU},
        "25a1e87eb5f75cc72a4d2d5467a0a50ac75f05611f877c278793742513cc7218",
    ),
}
_RELEASE = "https://github.com/deezer/spleeter/releases/download/v1.4.0"


@hookimpl
def register_models(register: Register) -> None:
    register(
        "unet.unet",
        network="auralflow_spleeter.unet:SpleeterUNet",
        params=UNetParams,
        domain="magnitude",
        summary="Spleeter's U-Nets, one a target, that mask the magnitude spectrogram",
        aliases=("SpleeterUNet",),
    )
    register(
        "unet.softmax_unet",
        network="auralflow_spleeter.unet:SpleeterSoftmaxUNet",
        params=UNetParams,
        domain="magnitude",
        summary="Spleeter's U-Nets with masks that sum to one",
        aliases=("SpleeterSoftmaxUNet",),
    )
    register(
        "blstm.blstm",
        network="auralflow_spleeter.blstm:SpleeterBLSTM",
        params=BLSTMParams,
        domain="magnitude",
        summary="Spleeter's bidirectional LSTMs, three a target, on the magnitude spectrogram",
        aliases=("SpleeterBLSTM",),
    )


@hookimpl
def register_config_formats(register: Register) -> None:
    register(
        "spleeter",
        detects="auralflow_spleeter.base_config:detects",
        convert="auralflow_spleeter.base_config:convert",
        summary="Spleeter's base_config.json",
    )


@hookimpl
def register_weights(register: Register) -> None:
    for stems, (instruments, model, digest) in _STEMS.items():
        archive = f"{stems}.tar.gz"
        register(
            f"spleeter:{stems}",
            type=model["type"],
            files={archive: f"{_RELEASE}/{archive}"},
            sha256={archive: digest},
            config=convert({"instrument_list": instruments, "model": model, "random_seed": 0}).data,
            convert="auralflow_spleeter.weights:from_archive",
            licence="MIT",
            summary=f"Spleeter's {', '.join(instruments)}, 44.1 kHz stereo",
        )
