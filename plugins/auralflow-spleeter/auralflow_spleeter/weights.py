"""Spleeter's TensorFlow checkpoints as state dicts of our networks, and where its public ones lie."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from auralflow_core.errors import CheckpointError
from auralflow_spleeter.blstm import LAYERS
from auralflow_spleeter.params import LEVELS
from auralflow_spleeter.tensorflow import TensorBundle

CONVOLUTIONS = LEVELS + 1
NORMS = 2 * LEVELS

# Spleeter takes `CuDNNLSTM`, whose weights are named so; Keras' other LSTM has its cell's name in between.
_LSTM_PARTS = ("kernel", "recurrent_kernel", "bias")
_LSTM = re.compile(rf"bidirectional(?:_(\d+))?/(forward|backward)_\w+/(?:\w+/)?({'|'.join(_LSTM_PARTS)})")
_DENSE = re.compile(r"time_distributed(?:_(\d+))?/(?:\w+/)?(kernel|bias)")

_CONVOLUTION = re.compile(r"conv2d(?:_\d+)?/kernel")
_NORM_NAMES = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def read_unet(path: str | Path) -> dict[str, Tensor]:
    """Return the state dict of `SpleeterUNet` or `SpleeterSoftmaxUNet` from Spleeter's checkpoint.

    TensorFlow is not needed, and nothing in the files is executed.

    Args:
        path: The checkpoint's folder, its prefix (`model` of `model.index`) or its index file.

    Raises:
        CheckpointError: There is no checkpoint, it is damaged, or it is not one of Spleeter's U-Nets.
    """
    bundle = TensorBundle(path)
    return {name: _tensor(bundle, source) for name, source in weight_names(bundle)} | _counters(bundle)


def read_blstm(path: str | Path) -> dict[str, Tensor]:
    """Return the state dict of `SpleeterBLSTM` from Spleeter's checkpoint, as `read_unet` does.

    Raises:
        CheckpointError: There is no checkpoint, it is damaged, or it is not one of Spleeter's BLSTMs.
    """
    bundle = TensorBundle(path)
    lstms, denses = _layers(bundle, _LSTM), _layers(bundle, _DENSE)
    is_whole = all(len(names) == 6 for names in lstms) and all(len(names) == 2 for names in denses)
    if not denses or not is_whole or len(lstms) != LAYERS * len(denses):
        raise CheckpointError(
            f"{bundle.index}: has {len(lstms)} bidirectional and {len(denses)} dense layers where a BLSTM of Spleeter "
            f"has {LAYERS} and one for each instrument; is it a checkpoint of another architecture?"
        )
    state: dict[str, Tensor] = {}
    for number, names in enumerate(lstms):
        instrument, layer = divmod(number, LAYERS)
        for direction, suffix in (("forward", ""), ("backward", "_reverse")):
            kernel, recurrent, bias = (_tensor(bundle, names[f"{direction}/{part}"]) for part in _LSTM_PARTS)
            # cuDNN adds one bias to each of the two products, Keras' own LSTM one to both; gates are in torch's order.
            biases = bias.chunk(2) if len(bias) == 2 * len(kernel) else (bias, torch.zeros_like(bias))
            names_of_torch = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            for name, value in zip(names_of_torch, (kernel, recurrent, *biases), strict=True):
                state[f"instruments.{instrument}.lstm.{name}_l{layer}{suffix}"] = value
    for instrument, names in enumerate(denses):
        state[f"instruments.{instrument}.dense.weight"] = _tensor(bundle, names["kernel"])
        state[f"instruments.{instrument}.dense.bias"] = _tensor(bundle, names["bias"])
    return state


def from_archive(paths: Mapping[str, Path]) -> dict[str, Tensor]:
    """Return the state dict from the unpacked archive of a public model: its only file."""
    [folder] = paths.values()
    return read_unet(folder)


def weight_names(bundle: TensorBundle) -> Iterator[tuple[str, str]]:
    """Yield the name of each weight in our network, and in Spleeter's checkpoint.

    Keras numbers the layers of one kind in the order in which they are made: instrument after instrument.

    Raises:
        CheckpointError: The checkpoint is not one of Spleeter's U-Nets.
    """
    for instrument in range(_num_instruments(bundle)):
        ours = f"instruments.{instrument}"
        convolution, up, norm = (count * instrument for count in (CONVOLUTIONS, LEVELS, NORMS))
        for level in range(LEVELS):
            yield from _convolution(f"{ours}.down.{level}.convolution", "conv2d", convolution + level)
            yield from _convolution(f"{ours}.up.{level}.convolution", "conv2d_transpose", up + level)
            yield from _norm(f"{ours}.up.{level}.norm", norm + LEVELS + level)
        # Level by level, what is normalised goes into the next convolution; the last one's is made and never used.
        for level in range(1, LEVELS):
            yield from _norm(f"{ours}.down.{level}.norm", norm + level - 1)
        yield from _convolution(f"{ours}.head", "conv2d", convolution + LEVELS)


def _layers(bundle: TensorBundle, pattern: re.Pattern[str]) -> list[dict[str, str]]:
    """Return the names of each layer's weights, by their parts, in the order in which the layers were made."""
    layers: dict[int, dict[str, str]] = {}
    for name in bundle.names:
        if found := pattern.fullmatch(name):
            number, *parts = found.groups()
            layers.setdefault(int(number or 0), {})["/".join(parts)] = name
    return [layers[number] for number in sorted(layers)]


def _num_instruments(bundle: TensorBundle) -> int:
    count = sum(bool(_CONVOLUTION.fullmatch(name)) for name in bundle.names)
    if count == 0 or count % CONVOLUTIONS:
        raise CheckpointError(
            f"{bundle.index}: has {count} convolutions where a U-Net of Spleeter has {CONVOLUTIONS} for each "
            "instrument; is it a checkpoint of another architecture?"
        )
    return count // CONVOLUTIONS


def _convolution(ours: str, kind: str, number: int) -> Iterator[tuple[str, str]]:
    yield f"{ours}.weight", f"{_layer(kind, number)}/kernel"
    yield f"{ours}.bias", f"{_layer(kind, number)}/bias"


def _norm(ours: str, number: int) -> Iterator[tuple[str, str]]:
    for name, theirs in _NORM_NAMES.items():
        yield f"{ours}.{name}", f"{_layer('batch_normalization', number)}/{theirs}"


def _layer(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


def _tensor(bundle: TensorBundle, name: str) -> Tensor:
    values = bundle.read(name)
    if values.dtype != "float32":
        raise CheckpointError(f"{bundle.index}: tensor {name!r} is {values.dtype}, where float32 is expected")
    # Kernels are (height, width, in, out) or (in, out), transposed ones (height, width, out, in); ours begin with the
    # last two the other way round.
    order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(values.ndim, range(values.ndim))
    return torch.from_numpy(values.transpose(order).copy())


def _counters(bundle: TensorBundle) -> dict[str, Tensor]:
    """Return the counters of batches that torch keeps with each batch normalisation."""
    norms = {name.rpartition(".")[0] for name, _ in weight_names(bundle) if name.endswith("running_mean")}
    return {f"{norm}.num_batches_tracked": torch.tensor(0) for norm in sorted(norms)}
