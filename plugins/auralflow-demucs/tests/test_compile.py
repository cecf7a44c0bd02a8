"""`training.compile`: a compiler takes each network as one graph, in training and in validation."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from auralflow_demucs.demucs import Demucs
from auralflow_demucs.hdemucs import HDemucs
from auralflow_demucs.htdemucs import HTDemucs


@pytest.mark.slow
@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize(
    ("make", "params"),
    [
        (Demucs, {"channels": 4, "depth": 2, "lstm_layers": 0, "dconv_mode": 3}),
        (HDemucs, {"channels": 4, "depth": 2, "nfft": 256, "dconv_lstm": 2, "dconv_attn": 2, "dconv_mode": 3}),
        (HTDemucs, {"channels": 8, "depth": 2, "nfft": 256, "t_layers": 2, "dconv_mode": 3, "segment": 0.2}),
    ],
)
def test_one_graph_gives_the_same(make: Any, params: dict[str, Any], is_training: bool) -> None:
    torch.manual_seed(0)
    torch.compiler.reset()
    network = make(**params).train(is_training)
    audio = 0.1 * torch.randn(1, 2, 4410)
    # Without a C++ compiler; what can be traced is what matters.
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    with torch.set_grad_enabled(is_training):
        torch.testing.assert_close(compiled(audio), network(audio))
