"""Attention equals the softmax written out, sees distances alone, and keeps memory linear in length."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from auralflow_conformer.attention import Attention, RotaryPositions, rotate
from auralflow_conformer.params import ConformerParams

D, HEADS, E = 16, 2, 8


def params_of(**params: Any) -> ConformerParams:
    return ConformerParams(d_model=D, n_heads=HEADS, head_dim=E, **params)


def reference_attention(attention: Attention, x: Tensor, mask: Tensor | None = None) -> Tensor:
    q, k, v = (
        (x @ weight.T).unflatten(-1, (HEADS, E)).transpose(1, 2).double() for weight in attention.to_qkv.weight.chunk(3)
    )
    logits = torch.einsum("bhqe,bhke->bhqk", q, k) / E**0.5
    weights = (logits if mask is None else logits.masked_fill(~mask, -math.inf)).exp()
    mixed = torch.einsum("bhqk,bhke->bqhe", weights / weights.sum(-1, keepdim=True), v)
    return mixed.flatten(2).float() @ attention.to_out.weight.T


@settings(deadline=None, max_examples=25)
@given(steps=st.integers(1, 1100), chunk=st.integers(0, 1200), flash=st.booleans(), seed=st.integers(0, 1000))
def test_attention_equals_a_plain_softmax(steps: int, chunk: int, flash: bool, seed: int) -> None:
    torch.manual_seed(seed)
    attention = Attention(params_of(attention_chunk=chunk, flash_attn=flash)).eval()
    x = torch.randn(2, steps, D) * 2
    mask = None
    if chunk:
        number = torch.arange(steps) // chunk
        mask = (number[:, None] - number).abs() <= 1
    torch.testing.assert_close(attention(x, None), reference_attention(attention, x, mask), atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=25)
@given(a=st.integers(0, 60), b=st.integers(0, 60), by=st.integers(0, 40), seed=st.integers(0, 1000))
def test_rotary_attention_sees_distances(a: int, b: int, by: int, seed: int) -> None:
    q, k = torch.randn(2, E, generator=torch.Generator().manual_seed(seed))
    rotation = RotaryPositions(params_of())(101, torch.device("cpu"))

    def product(i: int, j: int) -> Tensor:
        return rotate(q, rotation[:, i]) @ rotate(k, rotation[:, j])

    torch.testing.assert_close(product(a, b), product(a + by, b + by), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rotate(q, rotation[:, a]).norm(), q.norm())


def test_without_rotary_positions_attention_knows_no_order() -> None:
    attention, x = Attention(params_of()).eval(), torch.randn(1, 20, D)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    rotation = RotaryPositions(params_of())(20, x.device)
    torch.testing.assert_close(attention(x[:, order], None), attention(x, None)[:, order])
    assert (attention(x[:, order], rotation) - attention(x, rotation)[:, order]).abs().max() > 1e-2


@pytest.mark.parametrize(("params", "growth"), [({}, 4), ({"attention_chunk": 64}, 4), ({"flash_attn": False}, 16)])
def test_what_attention_keeps_grows_with_its_length(
    params: dict[str, Any], growth: int, kept_bytes: Callable[..., tuple[int, Tensor]]
) -> None:
    attention = Attention(params_of(**params))
    short, long = (kept_bytes(attention, torch.rand(1, steps, D), None)[0] for steps in (512, 2048))
    assert long / short == pytest.approx(growth, rel=0.1)
