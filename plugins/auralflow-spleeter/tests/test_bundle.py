"""TensorFlow's checkpoints: read exactly, and refused in one line where they are damaged, whatever the damage."""

from __future__ import annotations

import pickle
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auralflow_core.errors import CheckpointError
from auralflow_spleeter.tensorflow import TensorBundle
from auralflow_spleeter.tensorflow.crc32c import crc32c
from auralflow_spleeter.tensorflow.snappy import decompress
from auralflow_spleeter.tensorflow.table import read_table
from auralflow_spleeter.tensorflow.wire import DamageError

Writer = Callable[..., Path]


@pytest.fixture(scope="module")
def tensors() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    tensors: dict[str, Any] = {f"layer_{n}/kernel": generator.normal(size=(n, 3)).astype("f4") for n in range(1, 40)}
    return {
        **tensors,
        "global_step": np.array(7, np.int64),
        "scale": np.array([1.5]),
        "counts": np.arange(5, dtype="i4"),
    }


@pytest.fixture(scope="module")
def checkpoint(tensors: dict[str, Any], write_bundle: Writer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("checkpoint") / "model", tensors)


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(CheckpointError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("snappy", [False, True], ids=["plain", "snappy"])
@pytest.mark.parametrize("block_entries", [1, 5, 1000])
def test_tensors_come_back_as_they_were(
    tensors: dict[str, Any], block_entries: int, snappy: bool, write_bundle: Writer, tmp_path: Path
) -> None:
    bundle = TensorBundle(write_bundle(tmp_path / "m", tensors, block_entries=block_entries, snappy=snappy))
    assert bundle.names == sorted(tensors)
    for name, expected in tensors.items():
        found = bundle.read(name)
        assert bundle.shape(name) == found.shape == expected.shape
        assert found.dtype == expected.dtype and (found == expected).all()


def test_a_checkpoint_goes_by_its_folder_prefix_or_index(checkpoint: Path) -> None:
    for path in (checkpoint, checkpoint.with_name("model.index"), checkpoint.parent, str(checkpoint)):
        assert "global_step" in TensorBundle(path).names


def test_a_folder_with_several_needs_a_name(tensors: dict[str, Any], write_bundle: Writer, tmp_path: Path) -> None:
    for name in ("model-1", "model-2"):
        write_bundle(tmp_path / name, {"step": np.array(int(name[-1]), np.int64)})
    (tmp_path / "._model-2.index").write_bytes(b"a Mac's twin of the file")
    assert "model-1.index, model-2.index" in refusal(lambda: TensorBundle(tmp_path))
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/home/somebody/model-2"\n')
    assert TensorBundle(tmp_path).read("step") == 2


def test_what_is_missing_is_named(checkpoint: Path, tmp_path: Path) -> None:
    assert "model.index" in refusal(lambda: TensorBundle(tmp_path / "model"))
    assert "holds no TensorFlow checkpoint" in refusal(lambda: TensorBundle(tmp_path))
    assert "did you mean layer_3/kernel" in refusal(lambda: TensorBundle(checkpoint).read("layer_3/kernels"))
    (tmp_path / "model.index").write_bytes(checkpoint.with_name("model.index").read_bytes())
    assert "model.data-00000-of-00001: cannot be read" in refusal(lambda: TensorBundle(tmp_path).read("scale"))


def test_unsupported_types_are_named(write_bundle: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(write_bundle.__globals__["DTYPES"], "float64", 8)  # complex64
    bundle = TensorBundle(write_bundle(tmp_path / "m", {"x": np.zeros(2)}))
    assert "'x' has TensorFlow's type 8" in refusal(lambda: bundle.read("x"))


def test_changed_weights_are_refused(checkpoint: Path, tensors: dict[str, Any], tmp_path: Path) -> None:
    data = bytearray(checkpoint.with_name("model.data-00000-of-00001").read_bytes())
    data[100] ^= 1
    (tmp_path / "model.index").write_bytes(checkpoint.with_name("model.index").read_bytes())
    (tmp_path / "model.data-00000-of-00001").write_bytes(data)
    bundle = TensorBundle(tmp_path)
    bad = []
    for name in bundle.names:
        try:
            bundle.read(name)
        except CheckpointError as error:
            bad.append(str(error))
    assert len(bad) == 1 and "checksum" in bad[0]
    (tmp_path / "model.data-00000-of-00001").write_bytes(data[:50])
    assert "has 50 bytes" in refusal(lambda: bundle.read("scale"))


@given(place=st.integers(0, 10**6), value=st.integers(1, 255), cut=st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_damage_of_the_index_goes_unnoticed(
    place: int, value: int, cut: bool, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = checkpoint.with_name("model.index").read_bytes()
    place %= len(whole)
    damaged = whole[:place] if cut else whole[:place] + bytes([whole[place] ^ value]) + whole[place + 1 :]
    try:
        table = read_table(damaged)
    except DamageError:
        return
    # Not all bytes have a meaning: the index of metadata, and what fills the footer.
    assert table == read_table(whole)


@given(data=st.binary(max_size=200), magic=st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused(
    data: bytes, magic: bool, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = checkpoint.with_name("model.index").read_bytes()
    with pytest.raises(DamageError):
        read_table(data + (whole[-8:] if magic else b""))
    try:
        decompress(data, limit=1000)
    except DamageError:
        return


@given(values=st.dictionaries(st.binary(min_size=1, max_size=8), st.binary(max_size=40), max_size=6))
@settings(max_examples=200, deadline=None)
def test_any_index_with_good_checksums_is_read_or_refused(
    values: dict[bytes, bytes],
    checkpoint: Path,
    table_bytes: Callable[..., bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """What a hostile author can write: a sound table with any entries."""
    folder = checkpoint.parent.parent / "hostile"
    folder.mkdir(exist_ok=True)
    (folder / "model.index").write_bytes(table_bytes({b"": b"\x08\x01", **values}))
    (folder / "model.data-00000-of-00001").write_bytes(bytes(64))
    try:
        bundle = TensorBundle(folder)
        assert len(bundle.names) == len(values)
        for name in bundle.names:
            bundle.read(name)
    except CheckpointError as error:
        assert "\n" not in str(error)


def test_announced_sizes_are_not_allocated(table_bytes: Callable[..., bytes], tmp_path: Path) -> None:
    """A tensor of 2^40 bytes in a file of 64, a block of 2^60, a Snappy block of 2^40."""
    shape = b"\x12\x08\x12\x06\x08" + varint(1 << 30)
    entry = b"\x08\x01" + shape.replace(
        b"\x08\x12\x06", bytes([len(varint(1 << 30)) + 3, 0x12, len(varint(1 << 30)) + 1])
    )
    entry += b"\x28" + varint(1 << 32)
    (tmp_path / "model.index").write_bytes(table_bytes({b"": b"\x08\x01", b"x": entry}))
    (tmp_path / "model.data-00000-of-00001").write_bytes(bytes(64))
    bundle = TensorBundle(tmp_path)
    assert bundle.shape("x") == (1 << 30,)
    handle = varint(0) + varint(1 << 60)
    table = (handle + handle).ljust(40, b"\0") + table_bytes({})[-8:]
    tracemalloc.start()
    assert "has 64 bytes" in refusal(lambda: bundle.read("x"))
    for attempt in (lambda: read_table(table), lambda: decompress(varint(1 << 40) + b"\0a", 1 << 20)):
        with pytest.raises(DamageError):
            attempt()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_one_block_is_not_read_again_and_again(
    monkeypatch: pytest.MonkeyPatch, table_bytes: Callable[..., bytes]
) -> None:
    """A small index of many places that all lead to one block without entries."""
    monkeypatch.setattr("auralflow_spleeter.tensorflow.table._MOST_UNPACKED_BYTES", 1000)
    assert len(read_table(table_bytes({bytes([number]): b"x" for number in range(20)}, 1))) == 20
    helpers = table_bytes.__globals__
    empty = b"\0" * 400 + (100).to_bytes(4, "little") + b"\0"
    block = empty + helpers["masked"](empty).to_bytes(4, "little")
    places = [(bytes([number]), varint(0) + varint(len(empty) - 1)) for number in range(3)]
    index = helpers["block_bytes"](places) + b"\0"
    index_handle = varint(len(block)) + varint(len(index) - 1)
    footer = (varint(0) + varint(0) + index_handle).ljust(40, b"\0") + table_bytes({})[-8:]
    with pytest.raises(DamageError, match="1000 bytes together"):
        read_table(block + index + helpers["masked"](index).to_bytes(4, "little") + footer)


def test_tensors_do_not_share_their_bytes(
    table_bytes: Callable[..., bytes], checkpoint: Path, tensors: dict[str, Any], tmp_path: Path
) -> None:
    """Many names for one large tensor would be a small file that fills the memory."""
    whole = read_table(checkpoint.with_name("model.index").read_bytes())
    twins = {f"twin_{number}".encode(): whole[b"layer_39/kernel"] for number in range(50)}
    (tmp_path / "model.index").write_bytes(table_bytes({**whole, **twins}))
    shutil.copy(checkpoint.with_name("model.data-00000-of-00001"), tmp_path)
    assert "bytes, and its tensors" in refusal(lambda: TensorBundle(tmp_path).read("twin_0"))


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_crc32c_of_rfc_3720(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


@given(size=st.integers(0, 9000), seed=st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_crc32c_of_any_length(size: int, seed: int) -> None:
    data = np.random.default_rng(seed).bytes(size)
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    assert crc32c(data) == register ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("compressed", "plain"),
    [
        (b"\x00", b""),
        (b"\x03\x08abc", b"abc"),
        (b"\x0a\x00a\x22\x01\x00", b"a" * 10),  # a copy of two-byte offset that runs into what it writes
        (b"\x0b\x08xyz\x11\x03", b"xyzxyzxyzxy"),  # of one-byte offset, eight bytes
        (b"\x08\x0cabcd\x0f\x04\x00\x00\x00", b"abcdabcd"),  # of four-byte offset
    ],
)
def test_snappy(compressed: bytes, plain: bytes) -> None:
    assert decompress(compressed, 100) == plain
    for end in range(1, len(compressed)):
        with pytest.raises(DamageError):
            decompress(compressed[:end], 100)


class Exploit:
    """Unpickling it makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_a_malicious_pickle_executes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    payload = pickle.dumps(Exploit(trace))
    pickle.loads(payload)
    assert trace.exists()
    trace.unlink()
    for name in ("model.index", "model.data-00000-of-00001", "checkpoint"):
        folder = Path(shutil.copytree(checkpoint.parent, tmp_path / f"with {name}"))
        (folder / name).write_bytes(payload)
        try:
            TensorBundle(folder).read("global_step")
        except CheckpointError:
            assert name != "checkpoint"
    assert not trace.exists()
