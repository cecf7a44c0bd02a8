"""Means of weights, and what is known of the songs that they were trained with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def mean_of(states: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of state dicts of one architecture; whole numbers, such as counters, are those of the last.

    Weights of one training, or of several from one start, lie in one basin, whose middle generalises better than its
    rim (Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", 2018).

    Args:
        states: At least one; sums are taken in double precision, and only one state is held besides.
    """
    total: dict[str, Tensor] = {}
    last: Mapping[str, Tensor] = {}
    count = 0
    for last in states:
        count += 1
        for name, tensor in last.items():
            if tensor.is_floating_point() or tensor.is_complex():
                wide = tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)
                total[name] = total[name] + wide if name in total else wide
    assert count, "there is no state to average"
    return {
        name: (total[name] / count).to(tensor.dtype) if name in total else tensor.clone()
        for name, tensor in last.items()
    }


def united_facts(trainings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return `data` of `meta.json` for weights that several trainings have a part in: the songs of all of them."""
    united = dict(trainings[0])
    for split in ("train", "valid"):
        known = [training.get(split, {}) for training in trainings]
        by_audio = {
            audio: song
            for facts in known
            for audio, song in zip(facts.get("audio", ()), facts.get("songs", ()), strict=False)
        }
        if any(facts != known[0] for facts in known):
            united[split] = {"songs": list(by_audio.values()), "audio": list(by_audio)}
    return united
