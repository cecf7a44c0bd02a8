"""TensorFlow's side of the tests, written anew in NumPy: checkpoints, and what Spleeter's graph computes of them.

Arrays are as in TensorFlow: images `(batch, height, width, channel)`, kernels `(height, width, in, out)`, those of
transposed convolutions `(height, width, out, in)`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[Any]
Weights = dict[str, Array]

DTYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9}
MAGIC = 0xDB4775248B80FB57


@pytest.fixture(scope="session")
def unet_weights() -> Callable[..., Weights]:
    return _unet_weights


@pytest.fixture(scope="session")
def unet_outputs() -> Callable[..., list[Array]]:
    return _unet_outputs


@pytest.fixture(scope="session")
def write_bundle() -> Callable[..., Path]:
    return _write_bundle


@pytest.fixture(scope="session")
def table_bytes() -> Callable[..., bytes]:
    return _table_bytes


def _unet_weights(instruments: int, filters: Sequence[int], channels: int = 2, seed: int = 0) -> Weights:
    """Return random weights under the names that Keras gives: layers of one kind are numbered as they are made."""
    generator = np.random.default_rng(seed)
    weights: Weights = {"global_step": np.array(7, np.int64)}
    counts = {"conv2d": 0, "conv2d_transpose": 0, "batch_normalization": 0}

    def layer(kind: str) -> str:
        number, counts[kind] = counts[kind], counts[kind] + 1
        return f"{kind}_{number}" if number else kind

    def convolution(kind: str, *kernel: int, out: int) -> None:
        name, scale = layer(kind), (3 / np.prod(kernel[:2]) / max(kernel[2:])) ** 0.5
        weights[f"{name}/kernel"] = generator.normal(0, scale, kernel).astype(np.float32)
        weights[f"{name}/bias"] = generator.normal(0, 0.1, out).astype(np.float32)

    def norm(size: int) -> None:
        name = layer("batch_normalization")
        ranges = {"gamma": (0.5, 2), "beta": (-1, 1), "moving_mean": (-1, 1), "moving_variance": (0.1, 2)}
        for part, limits in ranges.items():
            weights[f"{name}/{part}"] = generator.uniform(*limits, size).astype(np.float32)

    for _ in range(instruments):
        before = channels
        for width in filters:
            convolution("conv2d", 5, 5, before, width, out=width)
            norm(width)
            before = width
        for width in [*reversed(filters[:-1]), 1]:
            convolution("conv2d_transpose", 5, 5, width, before, out=width)
            norm(width)
            before = 2 * width
        convolution("conv2d", 4, 4, 1, channels, out=channels)
    return weights


def _unet_outputs(weights: Weights, image: Array, *, instruments: int, down: str, up: str) -> list[Array]:
    """Return each instrument's last layer before its activation, as the published graph connects the layers."""

    def part(kind: str, number: int, name: str) -> Array:
        return weights[f"{kind}_{number}/{name}" if number else f"{kind}/{name}"].astype(np.float64)

    def norm(x: Array, number: int) -> Array:
        gamma, beta, mean, variance = (
            part("batch_normalization", number, name) for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta

    def convolve(x: Array, number: int, **sizes: int) -> Array:
        return conv2d(x, part("conv2d", number, "kernel"), **sizes) + part("conv2d", number, "bias")

    outputs = []
    for instrument in range(instruments):
        convolved = []
        x = image
        for level in range(6):
            convolved.append(convolve(x, 7 * instrument + level, stride=2))
            x = activate(norm(convolved[-1], 12 * instrument + level), down)
        x = convolved.pop()
        for level in range(6):
            number = 6 * instrument + level
            x = conv2d_transpose(x, part("conv2d_transpose", number, "kernel"), stride=2)
            x = norm(activate(x + part("conv2d_transpose", number, "bias"), up), 12 * instrument + 6 + level)
            x = np.concatenate([convolved.pop(), x], axis=-1) if convolved else x
        outputs.append(convolve(x, 7 * instrument + 6, dilation=2))
    return outputs


def activate(x: Array, name: str) -> Array:
    below = {"ReLU": 0 * x, "LeakyReLU": 0.2 * x, "ELU": np.expm1(np.minimum(x, 0))}
    return np.where(x > 0, x, below[name])


def conv2d(x: Array, kernel: Array, *, stride: int = 1, dilation: int = 1) -> Array:
    """Padding `same`: as many outputs as strides begin inside, what is missing around them split, the odd one last."""
    sizes = [-(-size // stride) for size in x.shape[1:3]]
    first = [
        max((out - 1) * stride + (length - 1) * dilation + 1 - size, 0) // 2
        for out, length, size in zip(sizes, kernel.shape, x.shape[1:3], strict=False)
    ]
    y = np.zeros((len(x), *sizes, kernel.shape[3]))
    for i, j, a, b in np.ndindex(*sizes, *kernel.shape[:2]):
        row, column = i * stride + a * dilation - first[0], j * stride + b * dilation - first[1]
        if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
            y[:, i, j] += x[:, row, column] @ kernel[a, b]
    return y


def conv2d_transpose(x: Array, kernel: Array, *, stride: int) -> Array:
    """The gradient of `conv2d` by its input: every input sample is spread over the outputs that would see it."""
    sizes = [size * stride for size in x.shape[1:3]]
    first = [max((size - 1) * stride + kernel.shape[0] - size * stride, 0) // 2 for size in x.shape[1:3]]
    y = np.zeros((len(x), *sizes, kernel.shape[2]))
    for i, j, a, b in np.ndindex(*x.shape[1:3], *kernel.shape[:2]):
        row, column = i * stride + a - first[0], j * stride + b - first[1]
        if 0 <= row < sizes[0] and 0 <= column < sizes[1]:
            y[:, row, column] += x[:, i, j] @ kernel[a, b].T
    return y


def _write_bundle(prefix: Path, tensors: Mapping[str, Array], *, block_entries: int = 16, snappy: bool = False) -> Path:
    """Write a checkpoint: `prefix.index` and `prefix.data-00000-of-00001`."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    data = bytearray()
    # The header: one shard, little-endian, version 1.
    entries = {b"": message((1, 1), (3, message((1, 1))))}
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name]).reshape(tensors[name].shape)
        raw = array.tobytes()
        shape = message(*((2, message((1, size))) for size in array.shape))
        place = ((4, len(data)), (5, len(raw)), (6, masked(raw).to_bytes(4, "little")))
        entries[name.encode()] = message((1, DTYPES[array.dtype.name]), (2, shape), *place)
        data += raw
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(data)
    prefix.with_name(f"{prefix.name}.index").write_bytes(_table_bytes(entries, block_entries, snappy))
    return prefix


def _table_bytes(entries: Mapping[bytes, bytes], block_entries: int = 16, snappy: bool = False) -> bytes:
    """Return a sorted table."""
    out = bytearray()

    def add(block: bytes) -> bytes:
        stored = (literal(block) + b"\1") if snappy else (block + b"\0")
        handle = varint(len(out)) + varint(len(stored) - 1)
        out.extend(stored + masked(stored).to_bytes(4, "little"))
        return handle

    rows = sorted(entries.items())
    handles = {}
    for start in range(0, len(rows), block_entries):
        part = rows[start : start + block_entries]
        handles[part[-1][0]] = add(block_bytes(part))
    meta = add(block_bytes([]))
    index = add(block_bytes(sorted(handles.items())))
    footer = (meta + index).ljust(40, b"\0") + struct.pack("<Q", MAGIC)
    return bytes(out + footer)


def block_bytes(rows: Sequence[tuple[bytes, bytes]]) -> bytes:
    out, last = bytearray(), b""
    for key, value in rows:
        shared = next((n for n, pair in enumerate(zip(key, last, strict=False)) if pair[0] != pair[1]), None)
        shared = min(len(key), len(last)) if shared is None else shared
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return bytes(out) + struct.pack("<II", 0, 1)


def literal(data: bytes) -> bytes:
    """Snappy without any compression: literals of up to 256 bytes."""
    parts = (data[start : start + 256] for start in range(0, len(data), 256))
    return varint(len(data)) + b"".join(bytes([60 << 2, len(part) - 1]) + part for part in parts)


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """A protocol buffer message; four bytes in field 6 are a fixed number."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        elif number == 6:
            out += varint(number << 3 | 5) + value
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return bytes(out)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def masked(data: bytes) -> int:
    """CRC-32C by long division of bits, rotated and shifted by LevelDB's constant."""
    crc = 0xFFFFFFFF
    for bit in bits(data):
        crc = crc >> 1 ^ (0x82F63B78 if (crc ^ bit) & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % (1 << 32)


def bits(data: bytes) -> Iterator[int]:
    return (byte >> place & 1 for byte in data for place in range(8))
