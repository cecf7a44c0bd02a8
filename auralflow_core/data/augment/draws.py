"""What is drawn for a chunk, as plain data."""

from __future__ import annotations

import fnmatch
import math
from typing import Any

import numpy as np

from auralflow_core.config.augmentation_groups import Augmentation, AugmentationsConfig, StemAugmentations
from auralflow_core.config.group import Group
from auralflow_core.data.augment.effects import EFFECTS

Drawn = dict[str, Any]
"""An effect by its name, `effect`, and what was drawn for it: `{"effect": "gain", "db": -2.3}`."""

Plan = dict[str, list[Drawn]]
"""The effects of each part of a chunk, and of its mixture, in order; JSON can hold it."""

MIXTURE = "(mixture)"

_LOGARITHMIC = ("hz", "seconds", "rate", "kbps")  # what is heard by ratios is drawn by ratios


def draw_plan(config: AugmentationsConfig, stems: dict[str, StemAugmentations], rng: np.random.Generator) -> Plan:
    """Draw for one chunk.

    Args:
        config: The settings.
        stems: Those of each part, by name.
        rng: Where the numbers come from.
    """
    song = _draw_effects(config.song, rng)
    plan = {name: _in_order([*song, *_draw_effects(settings, rng)]) for name, settings in stems.items()}
    return {**plan, MIXTURE: _draw_effects(config.mixture, rng)}


def stem_settings(config: AugmentationsConfig, name: str) -> StemAugmentations:
    """Return what a stem goes through: `stems`, and in place of it what the patterns that match its name say."""
    chosen = {
        effect: augmentation
        for settings in (config.stems, *_matching(config.stems_by_name, name))
        for effect, augmentation in settings
        if augmentation is not None
    }
    return StemAugmentations(**chosen)


def _matching(by_name: dict[str, StemAugmentations], name: str) -> list[StemAugmentations]:
    return [settings for pattern, settings in by_name.items() if fnmatch.fnmatchcase(name, pattern)]


def _draw_effects(settings: Group, rng: np.random.Generator) -> list[Drawn]:
    augmentations = {name: getattr(settings, name, None) for name in EFFECTS}
    return [
        {"effect": name, **_draw_values(augmentation, EFFECTS[name].has_noise, rng)}
        for name, augmentation in augmentations.items()
        if augmentation is not None and rng.random() < augmentation.p
    ]


def _draw_values(settings: Augmentation, has_noise: bool, rng: np.random.Generator) -> Drawn:
    seed = {"seed": int(rng.integers(2**32))} if has_noise else {}
    bands = getattr(settings, "bands", None)
    if bands is None:
        return {**_draw_ranges(settings, rng), **seed}
    return {"bands": [_draw_ranges(settings, rng) for _ in range(bands)], **seed}


def _draw_ranges(settings: Augmentation, rng: np.random.Generator) -> dict[str, float]:
    return {name: _draw_value(settings, name, rng) for name in settings.ranges()}


def _draw_value(settings: Augmentation, name: str, rng: np.random.Generator) -> float:
    low, high = float(getattr(settings, f"min_{name}")), float(getattr(settings, f"max_{name}"))
    share = rng.random()
    # Clamped: a power may end beyond what it was made of.
    value = low * math.pow(high / low, share) if name in _LOGARITHMIC else low + (high - low) * share
    return min(max(value, low), high)


def _in_order(effects: list[Drawn]) -> list[Drawn]:
    """Return a part's effects with those first that a worker has to do; those of silence are left out."""
    silence = [drawn for drawn in effects if drawn["effect"] == "mute"]
    tempo = [drawn for drawn in effects if drawn["effect"] == "tempo"]
    if silence:
        return [*tempo, *silence]
    return sorted(effects, key=lambda drawn: not EFFECTS[drawn["effect"]].on_host)
