"""Each parameter changes parameters, graph or output as documented; the parts equal independent references."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from auralflow_conformer.attention import RotaryPositions
from auralflow_conformer.features import Features, mel_bands
from auralflow_conformer.layer import ConformerLayer, ConvolutionModule, LongConvolution
from auralflow_conformer.network import Conformer
from auralflow_conformer.params import ConformerParams
from auralflow_core.errors import ConfigError
from auralflow_core.model.forward import recomputed
from auralflow_core.torchaudio_cpu import import_torchaudio

KeptBytes = Callable[..., tuple[int, Tensor]]
D, HEADS, E, M, BINS, FRAMES, LAYERS = 16, 2, 8, 12, 65, 37, 3
SMALL: dict[str, Any] = {
    "feat_in": M,
    "n_layers": LAYERS,
    "d_model": D,
    "n_heads": HEADS,
    "head_dim": E,
    "subsampling_factor": 4,
    "subsampling_conv_channels": 6,
    "longconv_length": 20,
}


def make(**params: Any) -> Conformer:
    torch.manual_seed(0)
    return Conformer(num_fft_bins=BINS, num_targets=2, num_channels=2, sample_rate=8000, **{**SMALL, **params})


def params_of(**params: Any) -> ConformerParams:
    return ConformerParams(**{**SMALL, **params})


def magnitudes(batch: int = 2, frames: int = FRAMES) -> Tensor:
    return torch.rand(batch, 2, BINS, frames, generator=torch.Generator().manual_seed(1)) * 5


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# How many parameters a setting adds to the small network (T = 2 targets, C = 2 channels, all 65 bins masked).
MASKS = 2 * 2 * BINS
ADDED: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "feat_in": ({}, {"feat_in": 20}, 6 * 2 * D + 2 * 8 * D),  # 20 bands leave 5 after two halvings, 12 leave 3
    "d_model": (
        {},
        {"d_model": 24},
        LAYERS * (19 * (24**2 - D**2) + (4 * HEADS * E + 25) * 8) + 5 * (24**2 - D**2) + (54 + 2 * MASKS) * 8,
    ),
    "n_layers": ({}, {"n_layers": LAYERS + 1}, size(ConformerLayer(params_of()))),
    "n_heads": ({}, {"n_heads": 5}, LAYERS * 4 * D * 3 * E),
    "head_dim": ({}, {"head_dim": 10}, LAYERS * 4 * D * HEADS * 2),
    "expansion_factor": ({}, {"expansion_factor": 5}, LAYERS * 2 * 2 * D * D),
    "a fraction of expansion": ({}, {"expansion_factor": 4.5}, LAYERS * 2 * 2 * D * D // 2),
    "bias_in_ff": ({}, {"bias_in_ff": True}, LAYERS * 2 * (4 * D + D)),
    "conv_kernel_size": ({}, {"conv_kernel_size": 15}, LAYERS * 6 * D),
    "conv_expansion_factor": ({}, {"conv_expansion_factor": 2}, LAYERS * D * (2 * D + 2 + 9 + 1 + 2 + D)),
    "conv_type": ({}, {"conv_type": "longconv"}, LAYERS * D * (2 * 20 + 1 + 1 - 9 - 1)),
    "longconv_length": ({"conv_type": "longconv"}, {"longconv_length": 21}, LAYERS * D * 2),
    "sandwich_norm": ({}, {"sandwich_norm": True}, LAYERS * 3 * 2 * D),
    "default_norm": ({}, {"default_norm": "rms_norm"}, -D * (LAYERS * 6 + 1)),
    "decoder_norm": ({}, {"decoder_norm": False}, -2 * D),
    "subsampling_norm_out": ({}, {"subsampling_norm_out": True}, 2 * D),
    "self_conditioning": ({}, {"self_conditioning": False}, -(MASKS * D + D)),
    "gated_sc": ({}, {"gated_sc": True}, D * D + D),
    "self_condition_subsampling alone": (
        {"self_conditioning": False},
        {"self_condition_subsampling": True},
        MASKS * D + D,
    ),
    "frame_skip": ({}, {"frame_skip": False}, -(2 * M * D + D)),
    "rotary_learned_freq": ({}, {"rotary_learned_freq": True}, E // 2),
    "subsampling_factor": ({}, {"subsampling_factor": 8}, (6 * 10 + 6 * 7) + (D * D + D + D * 5) - 6 * D),
    "subsampling_factor 1": (
        {},
        {"subsampling_factor": 1},
        (2 * M - 6 * 3) * D - (6 * 2 * 9 + 6) - (6 * 10 + 6 * 7) - (D * D * 4 + D) - (D * D + D + D * 5),
    ),
    "subsampling": ({}, {"subsampling": "striding"}, (6 * 6 * 9 + 6) - (6 * 10 + 6 * 7) + D * D * 4 - D * D - D * 5),
    "subsampling_conv_channels": ({}, {"subsampling_conv_channels": 7}, (2 * 9 + 1) + 10 + (7 * 7 - 6 * 6 + 1) + 3 * D),
    "mel_masks": ({}, {"mel_masks": "bands"}, -2 * 2 * (BINS - M) * (2 * D + 1)),
    "features": ({}, {"features": "linear"}, -2 * 2 * (BINS - M) * (2 * D + 1)),
}


@pytest.mark.parametrize("name", ADDED)
def test_what_a_parameter_adds(name: str) -> None:
    base, change, added = ADDED[name]
    assert size(make(**base, **change)) - size(make(**base)) == added


def test_sizes_of_the_model_and_its_features() -> None:
    assert make(d_model=24).layers[0].norm.normalized_shape == (24,)
    assert make(feat_in=20).features.bands.shape == (20, BINS)
    channels = [
        conv.out_channels
        for conv in make(subsampling_conv_channels=-1).subsampling.modules()
        if isinstance(conv, nn.Conv2d)
    ]
    assert set(channels) == {D}


# Settings without parameters of their own: with the same weights they make other masks.
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "use_rotary": ({}, {"use_rotary": False}),
    "rotary_interpolation_factor": ({}, {"rotary_interpolation_factor": 4}),
    "attention_chunk": ({}, {"attention_chunk": 2}),
    "mask_activation": ({}, {"mask_activation": "softplus"}),
    "subsampling_act": ({}, {"subsampling_act": "silu"}),
    "gelu": ({"subsampling_act": "silu"}, {"subsampling_act": "gelu"}),
    "self_condition_subsampling": ({}, {"self_condition_subsampling": True}),
    "longconv_squash": ({"conv_type": "longconv"}, {"longconv_squash": 0.1}),
}


def with_weights_of(network: Conformer, **params: Any) -> Conformer:
    other = make(**params)
    other.load_state_dict(network.state_dict())
    return other.eval()


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_the_masks_alone(name: str) -> None:
    base, change = CHANGES[name]
    network = make(**base).eval()
    other = with_weights_of(network, **{**base, **change})
    x = magnitudes()
    assert (network(x) - other(x)).abs().max() > 1e-4


def test_the_written_out_attention_makes_the_same_masks() -> None:
    network = make().eval()
    other = with_weights_of(network, flash_attn=False)
    x, fused = magnitudes(), functional.scaled_dot_product_attention
    with patch.object(functional, "scaled_dot_product_attention", side_effect=fused) as calls:
        expected = network(x)
        assert calls.call_count == LAYERS
        torch.testing.assert_close(other(x), expected, atol=1e-5, rtol=1e-5)
        assert calls.call_count == LAYERS


DROPOUTS = {"dropout_ff": {"ff_before", "ff_after"}, "dropout_attn": {"attention"}, "dropout_conv": {"convolution"}}


@pytest.mark.parametrize("name", DROPOUTS)
def test_each_dropout_has_its_place(name: str) -> None:
    layer, x = make(**{name: 0.5}).layers[0], torch.rand(2, 9, D)
    modules = {part: getattr(layer, part) for part in ("ff_before", "attention", "convolution", "ff_after")}
    passes = [
        {part: module(x, None) if part == "attention" else module(x) for part, module in modules.items()}
        for _ in range(2)
    ]
    assert {part for part in modules if not torch.equal(passes[0][part], passes[1][part])} == DROPOUTS[name]


@pytest.mark.parametrize("name", DROPOUTS)
@pytest.mark.parametrize("flash", [True, False])
def test_dropout(name: str, flash: bool) -> None:
    network, plain = make(flash_attn=flash, **{name: 0.5}), make(flash_attn=flash)
    x = magnitudes()
    assert (network(x) - network(x)).abs().max() > 1e-4
    assert torch.equal(plain(x), plain(x))
    assert torch.equal(network.eval()(x), plain(x))


@settings(deadline=None, max_examples=25)
@given(frames=st.integers(1, 70), level=st.integers(0, 5), kind=st.sampled_from(["dw_striding", "striding"]))
def test_any_length_comes_back_in_frames(frames: int, level: int, kind: str) -> None:
    network = make(subsampling_factor=1 << level, subsampling=kind, n_layers=1).eval()
    seen: list[int] = []
    network.layers[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    masks = network(magnitudes(1, frames))
    assert masks.shape == (1, 2, 2, BINS, frames) and masks.min() >= 0 and masks.max() <= 1
    assert seen == [math.ceil(frames / 2**level)]


def test_a_frame_of_the_input_moves_the_same_frame_of_the_masks() -> None:
    network = make(n_layers=1, conv_kernel_size=1, self_conditioning=False, attention_chunk=1).eval()
    x = magnitudes(1, 64)
    moved = x.clone()
    moved[..., 40] += 20
    change = (network(moved) - network(x)).abs().amax(dim=(0, 1, 2, 3))
    assert change.argmax() == 40 and change[:16].max() == 0


@pytest.mark.parametrize(
    ("sc", "first", "calls"), [(True, False, 2), (True, True, 3), (False, True, 1), (False, False, 0)]
)
def test_self_conditioning_follows_every_layer_but_the_last(sc: bool, first: bool, calls: int) -> None:
    network = make(self_conditioning=sc, self_condition_subsampling=first).eval()
    decoded: list[int] = []
    network.decoder.register_forward_pre_hook(lambda _, given: decoded.append(given[0].shape[1]))
    network(magnitudes())
    steps = math.ceil(FRAMES / 4)
    assert decoded == [steps] * calls + [FRAMES]


@pytest.mark.parametrize("is_gated", [False, True])
def test_what_self_conditioning_adds(is_gated: bool) -> None:
    conditioning = make(gated_sc=is_gated).conditioning
    assert conditioning is not None
    x, masks = torch.randn(2, 5, D), torch.rand(2, 2, 2, BINS, 5)
    weights = {name: value.detach() for name, value in conditioning.named_parameters()}
    found = masks.movedim(-1, 1).flatten(2) @ weights["projection.weight"].T + weights["projection.bias"]
    if is_gated:
        found = found / (1 + (-(x @ weights["gate.0.weight"].T + weights["gate.0.bias"])).exp())
    torch.testing.assert_close(conditioning(x, masks), x + found, atol=1e-5, rtol=1e-5)


def trained_pass(
    network: Conformer, is_recomputed: bool, kept_bytes: KeptBytes
) -> tuple[int, dict[str, Tensor], list[int]]:
    """Return the bytes kept for the backward pass, the gradients, and how often each layer ran."""
    runs = [0] * LAYERS
    for number, layer in enumerate(network.layers):

        def count(*_: Any, number: int = number) -> None:
            runs[number] += 1

        layer.attention.to_qkv.register_forward_hook(count)
    torch.manual_seed(3)
    with recomputed(network) if is_recomputed else nullcontext():
        kept, masks = kept_bytes(network, magnitudes())
    masks.square().mean().backward()
    gradients = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    return kept, gradients, runs


def test_checkpointing_saves_memory_and_changes_no_gradient(kept_bytes: KeptBytes) -> None:
    # With the trainer's `training.gradient_checkpointing`, which has blocks of its own, and without.
    dropout = {"dropout_ff": 0.2, "dropout_attn": 0.2, "dropout_conv": 0.2, "rotary_learned_freq": True}
    settings = [(every, is_recomputed) for every in (0, 1, 2, 3) for is_recomputed in (False, True)]
    found = {
        (every, is_recomputed): trained_pass(
            make(checkpoint_every_n_layers=every, **dropout), is_recomputed, kept_bytes
        )
        for every, is_recomputed in settings
    }
    expected = found[0, False][1]
    for (every, is_recomputed), (_, gradients, runs) in found.items():
        assert gradients.keys() == expected.keys() == dict(make(**dropout).named_parameters()).keys()
        assert all(torch.equal(gradients[name], expected[name]) for name in expected)
        # A layer that keeps nothing runs once more, and never twice more where both settings are on.
        assert runs == [2 if is_recomputed or (every and number % every == 0) else 1 for number in range(1, LAYERS + 1)]
    kept = {setting: found[setting][0] for setting in settings}
    assert kept[1, False] < kept[2, False] == kept[3, False] < kept[0, False]
    assert all(kept[every, True] == kept[0, True] < kept[1, False] for every in (1, 2, 3))


def test_rotary_positions_are_interpolated_and_trained() -> None:
    cpu = torch.device("cpu")
    near, far = (RotaryPositions(params_of(rotary_interpolation_factor=factor))(99, cpu) for factor in (1, 3))
    torch.testing.assert_close(far[:, ::3], near[:, :33])
    learned = RotaryPositions(params_of(rotary_learned_freq=True))
    assert torch.equal(learned(99, cpu), near)
    network = make(rotary_learned_freq=True)
    network(magnitudes()).square().mean().backward()
    assert network.rotary is not None and network.rotary.learned is not None
    assert network.rotary.learned.grad is not None and network.rotary.learned.grad.abs().min() > 0


@settings(deadline=None, max_examples=25)
@given(steps=st.integers(1, 50), reach=st.integers(1, 30), squash=st.sampled_from([0.0, 0.01, 0.2]))
def test_long_convolution_equals_a_convolution_with_the_squashed_kernel(steps: int, reach: int, squash: float) -> None:
    torch.manual_seed(steps)
    convolution = LongConvolution(D, reach, squash)
    kernel = convolution.kernel.detach()
    squashed = kernel.sign() * (kernel.abs() - squash).clamp(min=0)
    x = torch.randn(2, D, steps)
    expected = functional.conv1d(x, squashed.flip(1)[:, None], padding=reach, groups=D)
    torch.testing.assert_close(convolution(x), expected + x, atol=1e-5, rtol=1e-5)


def test_the_convolution_module_sees_as_far_as_its_kernel() -> None:
    def reach(**params: Any) -> int:
        module = ConvolutionModule(params_of(**params)).eval()
        x = torch.randn(1, 81, D, generator=torch.Generator().manual_seed(0))
        moved = x.clone()
        moved[:, 40, 0] += 9  # a norm would not see it in all features
        return int(((module(moved) - module(x)).abs().amax(dim=(0, 2)) > 1e-5).sum()) // 2

    assert reach(conv_kernel_size=9) == 4
    assert reach(conv_kernel_size=1) == 0
    assert reach(conv_type="longconv", longconv_length=20) > 10


def test_norms_are_of_the_chosen_kind() -> None:
    kinds: dict[str, Callable[[Tensor], Tensor]] = {
        "layer_norm": lambda x: (x - x.mean(-1, keepdim=True)) / x.std(-1, correction=0, keepdim=True),
        "rms_norm": lambda x: x / x.square().mean(-1, keepdim=True).sqrt(),
    }
    x = torch.randn(3, 5, D) * 4 + 2
    for name, formula in kinds.items():
        layer = make(default_norm=name, sandwich_norm=True).layers[0]
        assert not isinstance(make(default_norm=name).layers[0].attention_norm_after, type(layer.norm))
        for norm in (layer.norm, layer.attention_norm_after, layer.ff_before[-1]):
            torch.testing.assert_close(norm(x), formula(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("is_normal", [False, True])
def test_where_the_optional_norms_are(is_normal: bool) -> None:
    network = make(subsampling_norm_out=is_normal, decoder_norm=is_normal).eval()
    steps: list[Tensor] = []
    network.layers[0].register_forward_pre_hook(lambda _, given: steps.append(given[0]))
    network(magnitudes())
    assert (steps[0].mean(-1).abs().max() < 1e-5) == is_normal
    x = torch.randn(2, 5, D)
    # A normalised decoder sees no level.
    assert ((network.decoder(x) - network.decoder(9 * x)).abs().max() < 1e-3) == is_normal


@settings(deadline=None, max_examples=40)
@given(bands=st.integers(4, 300), bins=st.integers(3, 1200), rate=st.sampled_from([8000, 22050, 44100, 96000]))
def test_mel_bands_cover_all_bins_and_none_is_empty(bands: int, bins: int, rate: int) -> None:
    triangles = mel_bands(bands, bins, rate)
    assert triangles.shape == (bands, bins) and triangles.min() >= 0
    torch.testing.assert_close(triangles.sum(0), torch.ones(bins))
    assert triangles.sum(1).min() > 0


def test_mel_bands_equal_those_of_torchaudio() -> None:
    expected = import_torchaudio().functional.melscale_fbanks(4097, 0.0, 8000.0, 38, 16000).T
    torch.testing.assert_close(mel_bands(40, 4097, 16000)[1:-1], expected, atol=1e-4, rtol=0)


def test_linear_features_and_their_masks_are_the_lowest_bins() -> None:
    network = make(features="linear", feat_in=20).eval()
    x = magnitudes()
    assert network(x).shape == (2, 2, 2, 20, FRAMES)
    louder = x.clone()
    louder[:, :, 20:] *= 9
    assert torch.equal(network(louder), network(x))
    torch.testing.assert_close(network.features(x), ((x[:, :, :20] + 1e-4).log() + 2) / 3)


def test_masks_of_bands_are_spread_over_bins() -> None:
    features = Features(params_of(mel_masks="bands"), BINS, 8000)
    masks = torch.rand(1, 2, 2, M, 3)
    spread = features.spread(masks)
    torch.testing.assert_close(spread, torch.einsum("mf,btcmn->btcfn", features.bands, masks))
    torch.testing.assert_close(features.spread(torch.ones(1, 2, 2, M, 3)), torch.ones(1, 2, 2, BINS, 3))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"subsampling_factor": 6}, "subsampling_factor: 6.*power of two"),
        ({"conv_kernel_size": 8}, "conv_kernel_size: 8.*use 7 or 9"),
        ({"head_dim": 7}, "head_dim: 7"),
        ({"subsampling_conv_channels": 0}, "-1 for d_model"),
        ({"conv_type": "short"}, "conv_type: 'short'"),
        ({"n_layer": 2}, "n_layer: .*did you mean n_layers"),
        ({"features": "linear", "feat_in": BINS + 1}, "feat_in: 66 linear features are above the 65 bins"),
    ],
)
def test_what_makes_no_network_is_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**params)


def test_every_parameter_is_tested_here() -> None:
    elsewhere = {"flash_attn", "checkpoint_every_n_layers", *DROPOUTS}
    changed = {name for _, change, _ in ADDED.values() for name in change}
    changed |= {name for _, change in CHANGES.values() for name in change}
    assert changed | elsewhere == set(ConformerParams.model_fields)
