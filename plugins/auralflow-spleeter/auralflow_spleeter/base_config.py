"""Spleeter's own configuration files (`base_config.json`), turned into auralflow's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from auralflow_core.config import Conversion, ModelParams, nested
from auralflow_core.errors import ConfigError, did_you_mean
from auralflow_spleeter.params import BLSTMParams, UNetParams

MODEL_TYPES: Mapping[str, type[ModelParams]] = {
    "unet.unet": UNetParams,
    "unet.softmax_unet": UNetParams,
    "blstm.blstm": BLSTMParams,
}

# What a file leaves out has Spleeter's value, not ours.
_DEFAULTS: Mapping[str, Any] = {
    "instrument_list": ["vocals", "accompaniment"],
    "sample_rate": 44100,
    "frame_length": 4096,
    "frame_step": 1024,
    "T": 512,
    "F": 1024,
    "n_channels": 2,
    "separation_exponent": 2,
    "mask_extension": "zeros",
    "model.type": "unet.unet",
}

# Keys whose value is taken as it is, and the settings that carry it.
_SAME: Mapping[str, tuple[str, ...]] = {
    "instrument_list": ("dataset.targets",),
    "mix_name": ("dataset.mix_name",),
    "sample_rate": ("dataset.sample_rate",),
    "frame_length": ("dataset.num_fft", "dataset.window_size"),
    "frame_step": ("dataset.hop_length",),
    "n_channels": ("dataset.num_channels",),
    "F": ("model.params.F",),
    "mask_extension": ("separation.mask_extension",),
    "learning_rate": ("training.lr",),
    "batch_size": ("training.batch_size",),
    "random_seed": ("training.random_seed",),
    # An epoch has a step at least, so that epochs do not end it first.
    "train_max_steps": ("training.max_steps", "training.max_epochs"),
    "save_checkpoints_steps": ("training.checkpointing.save_every_n_steps",),
    "save_summary_steps": ("visuals.save_summary_steps",),
    "throttle_secs": ("training.validation.throttle_secs",),
    "n_chunks_per_song": ("dataset.n_chunks_per_song",),
    "training_cache": ("dataset.training_cache",),
    "validation_cache": ("dataset.validation_cache",),
    "model.type": ("model.type",),
}
# `norbert.wiener(magnitudes, mixture)`, as Spleeter calls it.
_NORBERT: Mapping[str, Any] = {
    "separation.wiener": 1,
    "separation.wiener_eps": 2.0**-23,
    "separation.separation_exponent": 1,
}
_TABLES = ("train_csv", "validation_csv")
_PLACEHOLDER = "path/to/"

# Keys without a counterpart, and what takes their place.
_INSTEAD: Mapping[str, str] = {
    "model_dir": "the model folder NAME",
    "chunk_duration": "a chunk has T frames: sample_length",
    "train_csv": "a placeholder; name a table with --train_csv, or put train.csv into the data's folder",
    "validation_csv": "a placeholder; name a table with --validation_csv, or put validation.csv into the data's folder",
    "loss_type": "criterion l1, Spleeter's L1_mask; its weighted form is not there",
    "optimizer": "Adam, Spleeter's default",
    "MWF": "wiener 0: no Wiener filtering",
    "mask_extension": "MWF gives nothing above bin F to anyone",
    "separation_exponent": "MWF, or a single instrument, has no use for it",
    "stft_backend": "torch",
    "audio_adapter": "libsndfile, and PyAV for what it cannot read",
}


def detects(data: Mapping[Any, Any]) -> bool:
    """Whether a file's data look like Spleeter's."""
    signs = {"mix_name", "frame_length", "frame_step", "T", "F", "separation_exponent", "mask_extension"}
    return "instrument_list" in data and bool(signs & set(data))


def convert(data: Mapping[Any, Any]) -> Conversion:
    """Return the configuration that Spleeter's becomes, and what became of each of its keys.

    Raises:
        ConfigError: `T`, `F` or the sizes that they count make no sense, or the model function is unknown.
    """
    given = _flat(data)
    whole = {**given, **{key: value for key, value in _DEFAULTS.items() if key not in given}}
    _check(whole)
    settings: dict[str, Any] = {}
    taken: dict[str, str] = {}
    left: dict[str, str] = {}
    for key, value in whole.items():
        found = _settings(key, value, whole)
        settings |= found
        if key in given and found:
            taken[key] = ", ".join(found)
        elif key in given:
            left[key] = _instead(key, whole)
    return Conversion(nested(settings), taken, left)


def _settings(key: str, value: Any, whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that carry a key's value; none for a key without a counterpart."""
    settings = dict.fromkeys(_SAME.get(key, ()), value)
    if key == "n_channels":
        settings["dataset.other_channels"] = "discard"
    elif key == "T":
        seconds = _seconds(whole)
        settings = {"model.params.T": value, "dataset.sample_length": seconds, "separation.segment": seconds}
    elif key == "mask_extension" and whole.get("MWF"):
        settings = {}
    elif key == "separation_exponent" and _has_ratio_masks(whole):
        settings = {"separation.separation_exponent": value}
    elif key == "MWF" and value:
        settings = dict(_NORBERT)
    elif key in _TABLES and value and not str(value).startswith(_PLACEHOLDER):
        settings |= {f"dataset.{key}": value, "dataset.type": "csv"}
    elif key == "loss_type" and value == "L1_mask":
        settings["training.criterion"] = "l1"
    elif key.startswith("model.params.") and key.split(".")[-1] in _params(whole):
        settings[key] = value
    return settings


def _has_ratio_masks(whole: Mapping[str, Any]) -> bool:
    """Whether the exponent is used: norbert has its own, and a single target's share would be the mixture."""
    return not whole.get("MWF") and len(whole["instrument_list"]) > 1


def _seconds(whole: Mapping[str, Any]) -> float:
    """Return a length of audio whose spectrogram has T frames."""
    seconds = (whole["T"] - 1) * whole["frame_step"] / whole["sample_rate"]
    # Cut to a tenth of a millisecond: rounding up could make it one frame more.
    return float(max(math.floor(seconds * 1e4), 1) / 1e4)


def _check(whole: Mapping[str, Any]) -> None:
    """Refuse what has to be computed with before the schema can judge it."""
    for key in ("sample_rate", "frame_length", "frame_step", "T", "F"):
        if type(whole[key]) is not int or whole[key] < 1:
            raise ConfigError(f"{key}: {whole[key]!r} must be a whole number above 0")
    if not isinstance(whole["instrument_list"], list):
        raise ConfigError(f"instrument_list: {whole['instrument_list']!r} must be a list of names")
    bins = whole["frame_length"] // 2 + 1
    if whole["F"] > bins:
        raise ConfigError(
            f"F: {whole['F']} is above the {bins} bins that a frame_length of {whole['frame_length']} has; lower F or "
            "raise frame_length"
        )
    type_ = whole["model.type"]
    if type_ not in MODEL_TYPES:
        raise ConfigError(
            f"model.type: {type_!r} is none of {', '.join(MODEL_TYPES)}{did_you_mean(str(type_), MODEL_TYPES)}; a "
            "model function of your own becomes a plugin: `auralflow new-plugin`"
        )


def _params(whole: Mapping[str, Any]) -> set[str]:
    return set(MODEL_TYPES[whole["model.type"]].model_fields)


def _instead(key: str, whole: Mapping[str, Any]) -> str:
    if key in _INSTEAD:
        return _INSTEAD[key]
    known = {*_SAME, *_INSTEAD, "T", *(f"model.params.{name}" for name in _params(whole))}
    return f"unknown to Spleeter{did_you_mean(key, known)}"


def _flat(data: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the keys of a file with those of the model beside them: `model.type`, `model.params.conv_activation`."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if key in ("model", "model.params") and isinstance(value, Mapping):
            flat |= _flat({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            flat[str(key)] = value
    return flat
