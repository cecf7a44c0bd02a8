"""The configuration files of long-context-asr, turned into auralflow's.

They describe speech recognition. What they say about the network and its training is taken; a spectrogram with their
100 frames a second, and the targets, are separation's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auralflow_conformer.params import ConformerParams
from auralflow_core.config import Conversion, by_path, nested
from auralflow_core.errors import ConfigError, did_you_mean

FRAMES_PER_SECOND = 100
"""512 frames are 5.12 seconds in the document."""

# A hop of 441 at 44.1 kHz makes these frames.
_SPECTROGRAM: Mapping[str, Any] = {
    "dataset.sample_rate": 44100,
    "dataset.num_fft": 2048,
    "dataset.window_size": 2048,
    "dataset.hop_length": 441,
}

# Keys whose value is taken as it is. A group of keys has the setting of the group: `spec_augment.p`.
_SAME: Mapping[str, str] = {
    "optimizer.name": "training.optimizer.name",
    "optimizer.args": "training.optimizer.args",
    "optimizer.args.lr": "training.lr",
    "scheduler.warmup_steps": "training.scheduler.warmup_steps",
    "sequence_scheduler.increase_every": "training.sequence_scheduler.increase_every",
    "sequence_scheduler.stop_after": "training.sequence_scheduler.stop_after",
    "sequence_scheduler.start_after": "training.sequence_scheduler.start_after",
    "sequence_scheduler.increase_by_multiplier": "training.sequence_scheduler.increase_by_multiplier",
    "sequence_scheduler.batch_size_multiplier": "training.sequence_scheduler.batch_size_multiplier",
    "checkpointing.save_every_n_steps": "training.checkpointing.save_every_n_steps",
    "wandb.use": "visuals.wandb.use",
    "wandb.project_name": "visuals.wandb.project_name",
    "wandb.name": "visuals.wandb.name",
    "wandb.id": "visuals.wandb.id",
    "spec_augment.n_time_masks": "training.spec_augment.n_time_masks",
    "spec_augment.time_mask_param": "training.spec_augment.time_mask_param",
    "spec_augment.n_freq_masks": "training.spec_augment.n_freq_masks",
    "spec_augment.freq_mask_param": "training.spec_augment.freq_mask_param",
    "spec_augment.iid_masks": "training.spec_augment.iid_masks",
    "spec_augment.p": "training.spec_augment.p",
    "spec_augment.zero_masking": "training.spec_augment.zero_masking",
    "training.start_spec_augment_after_n_epochs": "training.start_spec_augment_after_n_epochs",
    "training.max_epochs": "training.max_epochs",
    "training.batch_size": "training.batch_size",
    "training.backprop_every": "training.backprop_every",
    "training.clip_value": "training.clip_value",
    **{f"model.{name}": f"model.params.{name}" for name in ConformerParams.model_fields},
}

# Keys that count frames, and the settings that count seconds.
_FRAMES: Mapping[str, str] = {
    "audio_chunking.size": "dataset.sample_length",
    "sequence_scheduler.max_sequence_length": "training.sequence_scheduler.max_sequence_length",
}

# Keys without a counterpart, and what takes their place.
_INSTEAD: Mapping[str, str] = {
    "checkpointing.dir": "checkpoints lie in the model folder: NAME/checkpoint",
    "training.backwards_every": "each batch has a backward pass of its own; backprop_every of them make a step",
    "data.path": "songs rather than pairs of audio and text: `auralflow train NAME FOLDER`",
}


_UNBOUNDED_STEPS = 90_000
"""The document's; see `_needed`."""


def detects(data: Mapping[Any, Any]) -> bool:
    """Whether a file's data look like those of long-context-asr."""
    model = data.get("model")
    signs = {"feat_in", "d_model", "n_layers", "n_heads", "subsampling_factor", "self_conditioning"}
    return isinstance(model, Mapping) and not {"type", "params"} & set(model) and len(signs & set(model)) > 1


def convert(data: Mapping[Any, Any]) -> Conversion:
    """Return the configuration that the file becomes, and what became of each of its keys.

    Raises:
        ConfigError: A number of frames is none.
    """
    settings: dict[str, Any] = {"model.type": "Conformer", **_SPECTROGRAM}
    taken: dict[str, str] = {}
    left: dict[str, str] = {}
    for key, value in by_path(data).items():
        path = _path(key)
        if path is None:
            left[key] = _instead(key, value)
            continue
        settings[path] = _seconds(key, value) if key in _FRAMES else value
        taken[key] = f"{path} ({settings[path]:g} s)" if key in _FRAMES else path
    for path, (key, value) in _needed(settings, taken).items():
        settings[path] = value
        if key in taken:
            taken[key] += f", {path}"
    return Conversion(nested(settings), taken, left)


def _path(key: str) -> str | None:
    if key in _FRAMES or key in _SAME:
        return _FRAMES.get(key) or _SAME[key]
    group, _, argument = key.rpartition(".")
    return f"{_SAME[group]}.{argument}" if group == "optimizer.args" else None


def _instead(key: str, value: Any) -> str:
    known = {*_SAME, *_FRAMES, *_INSTEAD}
    if not value and any(name.startswith(f"{key}.") for name in known):
        return "an empty section, as if it were not there"
    return _INSTEAD.get(key) or f"unknown{did_you_mean(key, known)}"


def _needed(settings: Mapping[str, Any], taken: Mapping[str, str]) -> dict[str, tuple[str, Any]]:
    """Return settings that follow from what was taken, each with the key that it follows from."""
    # The document has no other schedule than a cosine.
    needed: dict[str, tuple[str, Any]] = {"training.scheduler.name": ("scheduler.warmup_steps", "cosine")}
    group = "sequence_scheduler"
    if any(key.startswith(f"{group}.") for key in taken):
        # A cosine must know its end, and how many steps the epochs have is unknown while batches shrink: it ends when
        # nothing grows any more.
        steps = settings.get(f"training.{group}.stop_after") or _UNBOUNDED_STEPS
        needed["training.max_steps"] = (f"{group}.stop_after", steps)
    # The longest audio that it is trained with is what it separates at once.
    for key in (f"{group}.max_sequence_length", "audio_chunking.size"):
        if key in taken:
            return {**needed, "separation.segment": (key, settings[_FRAMES[key]])}
    return needed


def _seconds(key: str, frames: Any) -> float:
    if type(frames) is not int or frames < 1:
        raise ConfigError(f"{key}: {frames!r} must be a whole number of frames above 0")
    return frames / FRAMES_PER_SECOND
