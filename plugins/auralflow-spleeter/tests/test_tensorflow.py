"""Against TensorFlow itself: a checkpoint that it wrote, and what it computed (`data/make.py`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import auralflow
from auralflow.models import SpleeterBLSTM, SpleeterSoftmaxUNet, SpleeterUNet
from auralflow_core.build import build_model
from auralflow_core.config import Config, validate
from auralflow_core.errors import CheckpointError
from auralflow_core.model import SeparationModel
from auralflow_spleeter.base_config import convert
from auralflow_spleeter.tensorflow import TensorBundle
from auralflow_spleeter.weights import read_blstm, read_unet, weight_names

DATA = Path(__file__).parent / "data"
FILTERS = (2, 3, 2, 4, 3, 2)
EVERY = 7


@pytest.fixture(scope="module")
def outputs() -> dict[str, Any]:
    with np.load(DATA / "outputs.npz") as file:
        return dict(file)


def test_every_tensor_is_read() -> None:
    bundle = TensorBundle(DATA / "unet")
    assert bundle.read("global_step") == 7
    assert len(bundle.names) == 1 + 2 * (7 * 2 + 6 * 2 + 12 * 4)
    assert all(np.isfinite(bundle.read(name)).all() for name in bundle.names)
    assert bundle.shape("conv2d_7/kernel") == (5, 5, 2, 2)


@pytest.mark.parametrize(
    ("kind", "output", "activations"),
    [
        (SpleeterUNet, "sigmoid", {}),
        (SpleeterSoftmaxUNet, "softmax", {"conv_activation": "ELU", "deconv_activation": "ELU"}),
    ],
)
def test_masks_are_those_of_keras(
    kind: type[nn.Module], output: str, activations: dict[str, str], outputs: dict[str, Any]
) -> None:
    network = kind(2, 2, piece_frames=64, piece_bins=64, conv_n_filters=FILTERS, **activations).eval()
    network.load_state_dict(read_unet(DATA / "unet"))
    image = np.random.default_rng(1).uniform(0, 4, (1, 64, 64, 2)).astype(np.float32)  # (batch, frame, bin, channel)
    with torch.no_grad():
        masks = network(torch.from_numpy(image).permute(0, 3, 2, 1))[0]  # (target, channel, bin, frame)
    found = masks.permute(0, 3, 2, 1)[:, ::EVERY, ::EVERY].numpy()
    expected = outputs[output][:, 0]
    assert expected.std() > 0.05
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_estimates_are_those_of_keras_lstms() -> None:
    network = SpleeterBLSTM(2, 2, piece_frames=12, piece_bins=5, lstm_units=3).eval()
    network.load_state_dict(read_blstm(DATA / "blstm"))
    with np.load(DATA / "blstm.npz") as file:
        image, expected = file["image"], file["estimates"]
    magnitude = torch.from_numpy(image).permute(0, 3, 2, 1)
    with torch.no_grad():
        estimates = network(magnitude) * magnitude.unsqueeze(1)  # (batch, target, channel, bin, frame)
    assert expected.std() > 0.05
    np.testing.assert_allclose(estimates.permute(1, 0, 4, 3, 2).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_the_names_and_the_bias_of_keras_other_lstm(write_bundle: Callable[..., Path], tmp_path: Path) -> None:
    bundle = TensorBundle(DATA / "blstm")
    tensors: dict[str, Any] = {}
    for name in bundle.names:
        values = bundle.read(name)
        if name.startswith("bidirectional") and name.endswith("/bias"):
            values = values.reshape(2, -1).sum(0)
        tensors[re.sub(r"cu_dnnlstm(_\d+)?/", r"lstm\1/lstm_cell/", name)] = values
    expected, found = read_blstm(DATA / "blstm"), read_blstm(write_bundle(tmp_path / "model", tensors))
    for name, values in expected.items():
        other = name.replace("bias_ih", "bias_hh")
        both = (values + expected[other], found[name] + found[other]) if "bias_ih" in name else (values, found[name])
        assert "bias_hh" in name or torch.equal(*both)


def test_one_architecture_is_not_taken_for_the_other() -> None:
    with pytest.raises(CheckpointError, match="0 bidirectional and 0 dense layers"):
        read_blstm(DATA / "unet")
    with pytest.raises(CheckpointError, match="has 0 convolutions"):
        read_unet(DATA / "blstm")


def test_loss_and_gradients_are_those_of_spleeters_training(outputs: dict[str, Any]) -> None:
    """Without dropout, which draws other numbers; Spleeter's loss is summed over the targets, ours is their mean."""
    model = small_model()
    model.network.load_state_dict(read_unet(DATA / "unet"))
    model.train()
    for module in model.network.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    image = np.random.default_rng(1).uniform(0, 4, (1, 64, 64, 2)).astype(np.float32)
    targets = np.random.default_rng(3).uniform(0, 2, (2, 1, 64, 64, 2)).astype(np.float32)
    magnitude = torch.from_numpy(image).permute(0, 3, 2, 1)
    target = torch.from_numpy(targets).permute(1, 0, 4, 3, 2)
    loss = 2 * (model.network(magnitude) * magnitude.unsqueeze(1) - target).abs().mean()
    torch.testing.assert_close(loss.item(), float(outputs["loss"]), rtol=1e-5, atol=0)
    torch.autograd.backward(loss)
    gradients = {name: value.grad for name, value in model.network.named_parameters()}
    sources = dict(weight_names(TensorBundle(DATA / "unet")))
    for name, gradient in gradients.items():
        assert gradient is not None
        expected = torch.from_numpy(outputs[f"gradient/{sources[name]}"])
        expected = expected.permute(3, 2, 0, 1) if expected.dim() == 4 else expected
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    assert len(gradients) == sum(name.startswith("gradient/") for name in outputs)


def small_model() -> SeparationModel:
    theirs = {
        "instrument_list": ["vocals", "accompaniment"],
        "frame_length": 256,
        "frame_step": 64,
        "T": 64,
        "F": 64,
        "sample_rate": 8000,
        "model": {"type": "unet.unet", "params": {"conv_n_filters": FILTERS}},
    }
    return build_model(validate(Config, {**convert(theirs).data, "training": {"device": "cpu"}}))


def test_stems_are_those_of_spleeters_separation(outputs: dict[str, Any]) -> None:
    """Its frames begin half a window before ours and end a frame later: silence brings both onto one grid."""
    model = small_model()
    model.network.load_state_dict(read_unet(DATA / "unet"))
    model.eval()
    audio = torch.from_numpy(np.random.default_rng(2).uniform(-0.5, 0.5, (3900, 2)).astype(np.float32)).T
    stems = model.separate(nn.functional.pad(audio, (128, 64)))[..., 128:-64]
    expected = torch.from_numpy(outputs["stems"]).transpose(1, 2)
    assert expected.std() > 0.05
    torch.testing.assert_close(stems, expected, rtol=0, atol=1e-5)
    # The same by the separator's settings, as the README says; windows of frames that do not fit the pieces.
    for window in (7, 300):
        separator = auralflow.Separator(model, segment=3600, overlap=0, margin=128 / 8000, wiener_window=window)
        torch.testing.assert_close(separator(audio, 8000), expected, rtol=0, atol=1e-5)
