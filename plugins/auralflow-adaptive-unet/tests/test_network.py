"""What the networks compute: sizes, layers and skip connections against torch called by hand."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as f

from auralflow.models.build import AdaptiveUNet, UNet
from auralflow_adaptive_unet import AdaptiveUNetParams, UNetParams, size_table
from auralflow_adaptive_unet.layers import VOCABULARY, read_layer
from auralflow_adaptive_unet.modules import make_module
from auralflow_adaptive_unet.plan import Step
from auralflow_core.errors import AuralflowError, ConfigError

SMALL = {"max_layers": 2, "hidden_channels": 4}


def network(kind: Any = AdaptiveUNet, **arguments: Any) -> Any:
    torch.manual_seed(0)
    return kind(**{**SMALL, **arguments})


def module(entry: Any, before: int = 4, after: int = 4) -> Any:
    torch.manual_seed(0)
    return make_module(Step(read_layer(entry), 0, before, after, True))


def standardized(x: Tensor, *axes: int) -> Tensor:
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt()


@pytest.fixture
def planes() -> Tensor:
    return torch.randn(2, 4, 7, 10, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("word", VOCABULARY)
def test_every_word_builds_and_trains(word: str) -> None:
    layer = read_layer([word])
    encoder: list[Any] = [["conv", 3], ["relu"], ["max_pool", 2]]
    decoder: list[Any] = [["upsample", 2], ["conv", 3]]
    bottleneck: list[Any] = []
    if layer.up != (1, 1):
        decoder = [[word], ["conv", 3]]
    elif layer.down != (1, 1):
        encoder = [["conv", 3], [word]]
    else:
        bottleneck = [[word]]
    net = network(hidden_channels=8, encoder=encoder, decoder=decoder, bottleneck=bottleneck)
    mask = net(torch.rand(2, 1, 17, 11))
    mask.square().sum().backward()
    assert mask.shape == (2, 1, 17, 11)
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (["relu"], f.relu),
        (["leaky_relu", 0.3], lambda x: f.leaky_relu(x, 0.3)),
        (["prelu", 0.1], lambda x: f.leaky_relu(x, 0.1)),
        (["elu", 0.5], lambda x: f.elu(x, 0.5)),
        (["selu"], f.selu),
        (["gelu"], f.gelu),
        (["silu"], f.silu),
        (["tanh"], torch.tanh),
        (["sigmoid"], torch.sigmoid),
        (["max_pool", [2, 1]], lambda x: torch.stack([x[:, :, i : i + 2].amax(2) for i in range(0, 7, 2)], 2)),
        (["avg_pool", [1, 3]], lambda x: torch.stack([x[..., i : i + 3].mean(-1) for i in range(0, 10, 3)], -1)),
        (["decimate", {"factor": [3, 2]}], lambda x: x[:, :, [0, 3, 6]][..., [0, 2, 4, 6, 8]]),
        (["upsample", [1, 2]], lambda x: x.repeat_interleave(2, dim=-1)),
        (["instance_norm"], lambda x: standardized(x, 2, 3)),
        (["layer_norm"], lambda x: standardized(x, 1)),
        (["batch_norm"], lambda x: standardized(x, 0, 2, 3)),
        (["group_norm", 2], lambda x: f.layer_norm(x.unflatten(1, (2, 2)), (2, 7, 10)).flatten(1, 2)),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_layers_compute_what_they_are_called(entry: list[Any], expected: Any, planes: Tensor) -> None:
    torch.testing.assert_close(module(entry)(planes), expected(planes), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel", range(1, 8))
@pytest.mark.parametrize("stride", (1, 2, 3))
@pytest.mark.parametrize("size", (1, 2, 7, 12))
def test_convolutions_scale_exactly(kernel: int, stride: int, size: int) -> None:
    x = torch.randn(1, 2, size, 2 * size)
    down = module(["conv", {"kernel_size": kernel, "stride": stride}], 2, 3)(x)
    assert down.shape == (1, 3, math.ceil(size / stride), math.ceil(2 * size / stride))
    if kernel >= stride:
        up = module(["transpose_conv", {"kernel_size": kernel, "stride": stride}], 2, 3)(x)
        assert up.shape == (1, 3, size * stride, 2 * size * stride)


@pytest.mark.parametrize("kind", ("lstm", "gru"))
def test_recurrence_runs_along_its_axis(kind: str, planes: Tensor) -> None:
    for axis, dimension in (("time", 3), ("frequency", 2)):
        layer = module([kind, {"axis": axis, "bidirectional": False}])
        changed = planes.clone()
        changed.select(dimension, 4).add_(1)
        differs = (layer(changed) - layer(planes)).abs().amax((0, 1)) > 1e-7
        expected = torch.zeros(7, 10, dtype=torch.bool)
        expected.narrow(dimension - 2, 4, expected.shape[dimension - 2] - 4).fill_(True)
        assert torch.equal(differs, expected)


def test_attention_is_that_of_torch(planes: Tensor) -> None:
    layer = module(["attention", 2])
    reference: Any = torch.nn.MultiheadAttention(4, 2, batch_first=True)
    reference.in_proj_weight.data = layer.query_key_value.weight
    reference.in_proj_bias.data = layer.query_key_value.bias
    reference.out_proj = layer.projection
    for bin_ in range(7):
        row = planes[:, :, bin_].transpose(1, 2)
        normal = f.layer_norm(row, (4,))
        expected = row + reference(normal, normal, normal)[0]
        torch.testing.assert_close(layer(planes)[:, :, bin_], expected.transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_network_is_the_written_design() -> None:
    net = network(
        encoder=[["conv", 3], ["leaky_relu", 0.2], ["max_pool", 2]],
        decoder=[["transpose_conv", 2], ["conv", 3], ["relu"]],
        bottleneck=[["conv", 1], ["tanh"]],
    ).eval()
    weights = iter(net.state_dict().values())

    def conv(x: Tensor, padding: int) -> Tensor:
        return f.conv2d(x, next(weights), next(weights), padding=padding)

    def up(x: Tensor, skip: Tensor) -> Tensor:
        x = f.conv_transpose2d(x, next(weights), next(weights), stride=2)[..., : skip.shape[2], : skip.shape[3]]
        return f.relu(conv(torch.cat([x, skip], 1), 1))

    data = torch.rand(2, 1, 9, 7)
    first = f.leaky_relu(conv(torch.log10(data + 1e-3) + 1, 1), 0.2)
    second = f.leaky_relu(conv(f.max_pool2d(first, 2, ceil_mode=True), 1), 0.2)
    middle = torch.tanh(conv(f.max_pool2d(second, 2, ceil_mode=True), 0))
    expected = conv(up(up(middle, second), first), 0).sigmoid()
    torch.testing.assert_close(net(data), expected, atol=1e-5, rtol=1e-5)
    assert not list(weights)


def test_unet_has_the_papers_parameters() -> None:
    """Jansson et al., section 3.2: six strided 5x5 convolutions from 16 to 512 filters and six transposed ones."""
    channels = [1, 16, 32, 64, 128, 256, 512]
    encoder = sum(25 * a * b + 2 * b for a, b in pairwise(channels))
    inputs = [512, 512, 256, 128, 64, 32]
    outputs = [256, 128, 64, 32, 16, 16]  # the last makes 16 for the mask's 1x1 convolution
    decoder = sum(25 * a * b + 2 * b for a, b in zip(inputs, outputs, strict=True))
    count = sum(parameter.numel() for parameter in UNet(normalize_input=False).parameters())
    assert count == encoder + decoder + 16 + 1


def test_dropout_levels_are_the_deepest() -> None:
    blocks = UNet(max_layers=5, hidden_channels=1, decoder={"num_dropouts": 2}).decoder
    assert [any(isinstance(part, torch.nn.Dropout) for part in block.modules()) for block in blocks] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_without_skip_connections_only_the_bottleneck_matters() -> None:
    for use_skip in (True, False):
        net = network(use_skip=use_skip).eval()
        net.encoder[-1].register_forward_hook(lambda _, __, output: (torch.zeros_like(output[0]), output[1]))
        is_same = torch.equal(net(torch.rand(1, 1, 16, 16)), net(torch.rand(1, 1, 16, 16)))
        assert is_same is not use_skip


@pytest.mark.parametrize("kind", (AdaptiveUNet, UNet))
def test_size_table_tells_the_sizes_that_come_out(kind: Any) -> None:
    params = (AdaptiveUNetParams if kind is AdaptiveUNet else UNetParams)(max_layers=3, hidden_channels=2)
    rows = dict(size_table(params, 37, 50, num_channels=2, num_targets=3))
    net = kind(max_layers=3, hidden_channels=2, num_channels=2, targets=["a", "b", "c"], num_fft_bins=37)
    seen: dict[str, str] = {}

    def note(name: str, tensor: Tensor) -> None:
        seen[name] = " x ".join(map(str, tensor.shape[1:]))

    for number, block in enumerate(net.encoder, start=1):
        block.register_forward_hook(lambda *args, name=f"encoder {number}": note(name, args[-1][0]))
    for number, block in zip((3, 2, 1), net.decoder, strict=True):
        block.register_forward_hook(lambda *args, name=f"decoder {number}": note(name, args[-1]))
    note("masks", net(torch.rand(1, 2, 37, 50)))
    assert seen == {name: size for name, size in rows.items() if name not in ("input",) and "skip" not in name}
    assert rows["input"] == "2 x 37 x 50"


@st.composite
def designs(draw: Any) -> dict[str, Any]:
    """A design that works: whatever the encoder reduces by, the decoder enlarges by."""
    scale = [draw(st.integers(1, 3)), draw(st.integers(1, 3))]
    plain = st.sampled_from(
        [["relu"], ["gelu"], ["batch_norm"], ["instance_norm"], ["layer_norm"], ["dropout", 0.2], ["group_norm", 1]]
        + [["conv", size] for size in (1, 2, 3, [4, 1])]
    )
    mixing = st.sampled_from([*[[kind, {"axis": axis}] for kind in ("lstm", "gru") for axis in ("time", "frequency")]])
    down = draw(
        st.sampled_from([["max_pool", scale], ["avg_pool", scale], ["decimate", scale]])
        | st.integers(1, 4).map(lambda size: ["conv", {"kernel_size": size, "stride": scale}])
    )
    up = draw(
        st.sampled_from([["upsample", scale], ["upsample", {"scale": scale, "mode": "bilinear"}]])
        | st.integers(3, 5).map(lambda size: ["transpose_conv", {"kernel_size": size, "stride": scale}])
    )
    encoder, decoder = draw(st.lists(plain, max_size=3)), draw(st.lists(plain, max_size=3))
    encoder.insert(draw(st.integers(0, len(encoder))), down)
    decoder.insert(draw(st.integers(0, len(decoder))), up)
    return {
        "max_layers": draw(st.integers(1, 3)),
        "hidden_channels": draw(st.integers(1, 3)),
        "encoder": encoder,
        "decoder": decoder,
        "bottleneck": draw(st.lists(plain | mixing, max_size=2)),
        "use_skip": draw(st.booleans()),
    }


@given(designs(), st.integers(1, 40), st.integers(1, 40), st.integers(1, 2), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_masks_have_the_inputs_size(
    design: dict[str, Any], bins: int, frames: int, channels: int, targets: int
) -> None:
    net = AdaptiveUNet(**design, num_channels=channels, num_targets=targets)
    data = torch.rand(2, channels, bins, frames)
    expected = (2, channels, bins, frames) if targets == 1 else (2, targets, channels, bins, frames)
    mask = net(data)
    assert mask.shape == expected
    assert mask.isfinite().all()
    assert AdaptiveUNetParams(**AdaptiveUNetParams(**design).model_dump(mode="json")) == AdaptiveUNetParams(**design)


def test_a_single_value_can_be_trained_on() -> None:
    for norm in ("batch_norm", "instance_norm", "group_norm"):
        net = network(hidden_channels=8, encoder=[["conv", 3], ["max_pool", 2], [norm]])
        assert net(torch.rand(1, 1, 2, 2)).isfinite().all()


def test_normalization_names_the_bins_it_was_made_for() -> None:
    with pytest.raises(ConfigError, match=r"has 65 bins, but this network normalizes 513; .*num_fft_bins=65"):
        network(normalize_input=True)(torch.rand(1, 1, 65, 9))


def test_targets_are_counted() -> None:
    assert network(targets="vocals").num_targets == 1
    assert network(targets=["a", "b"], num_targets=2).num_targets == 2
    wrongs: list[dict[str, Any]] = [{"targets": []}, {"targets": ["a"], "num_targets": 2}]
    for wrong in wrongs:
        with pytest.raises(ConfigError, match="name at least one"):
            network(**wrong)


def test_group_norm_of_the_input_is_checked_with_its_channels() -> None:
    design: dict[str, Any] = {"encoder": [["group_norm", 2], ["conv", 3], ["max_pool", 2]]}
    assert network(**design, num_channels=2)(torch.rand(1, 2, 8, 8)).shape == (1, 2, 8, 8)
    with pytest.raises(ConfigError, match=r"model\.params\.encoder\[0\]: group_norm: groups 2 does not divide the 1"):
        network(**design)


def test_no_pretrained_weights() -> None:
    with pytest.raises(AuralflowError, match="no pretrained weights are registered"):
        UNet(pretrained=True)
