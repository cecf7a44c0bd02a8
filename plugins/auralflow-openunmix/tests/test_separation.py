"""Whole songs against the peer's Separator: same weights, same mixture, stored outputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import auralflow
from auralflow_core.errors import ConfigError
from auralflow_core.model import SpectrogramMaskModel

ModelMaker = Callable[..., SpectrogramMaskModel]


def error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max())


def test_one_iteration_equals_the_peer(make_model: ModelMaker, mixture: Tensor, peer: dict[str, Tensor]) -> None:
    assert error(make_model(wiener=1).separate(mixture), peer["niter1"]) < 1e-5


def test_masks_alone_equal_the_peer(make_model: ModelMaker, mixture: Tensor, peer: dict[str, Tensor]) -> None:
    assert error(make_model().separate(mixture[..., :1000]), peer["niter0"]) < 1e-5


def test_a_residual_target_equals_the_peer(make_model: ModelMaker, mixture: Tensor, peer: dict[str, Tensor]) -> None:
    model = make_model(("vocals",), wiener=2, wiener_residual=True)
    assert error(model.separate(mixture[..., :1000]), peer["residual"]) < 1e-5


def test_a_segment_as_long_as_the_song_equals_the_peer(
    make_model: ModelMaker, mixture: Tensor, peer: dict[str, Tensor]
) -> None:
    found = auralflow.Separator(make_model(wiener=1), segment=10, overlap=0)(mixture[0], 8000)
    assert error(found, peer["niter1"][0]) < 1e-5


def test_the_last_window_may_be_short(make_model: ModelMaker, mixture: Tensor) -> None:
    """The peer's 314 frames are a window of 300 and one of 14; the song is the same by windows of other sizes."""
    whole = make_model().separate(mixture)
    assert error(make_model(wiener_window=7).separate(mixture), whole) < 1e-6


def test_one_target_alone_cannot_share_the_mixture(make_model: ModelMaker) -> None:
    with pytest.raises(ConfigError, match="wiener_residual"):
        make_model(("vocals",), wiener=1)


def test_estimates_do_not_depend_on_the_batch(make_model: ModelMaker, mixture: Tensor) -> None:
    model = make_model(wiener=1)
    batch = torch.cat([mixture[..., :2000], 0.01 * mixture[..., 2000:4000]])
    together = model.separate(batch)
    for item in (0, 1):
        assert error(together[item], model.separate(batch[item])) < 1e-6
