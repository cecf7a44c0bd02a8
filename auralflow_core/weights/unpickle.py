"""Torch checkpoints of unknown origin, read without executing anything.

Both layouts are read: the zip file of torch 1.6 and later (`data.pkl` beside one member a storage) and the older one
(some pickles in a row, then the storages). The pickles run on a machine that calls nothing (`pickle_machine`); what
remains of classes are records. `torch.load(weights_only=True)` would do for plain state dicts alone: it refuses a file
in which a class is named, and several public models are saved with theirs.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from auralflow_core.errors import CheckpointError
from auralflow_core.weights.pickle_machine import MAX_BYTES, Constructor, PickleError, PickleMachine, Record

# torch/serialization.py: what an older file begins with.
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MAX_AXES = 64

_DTYPES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}


def load_checkpoint(path: Path) -> Any:
    """Return what a file of `torch.save` holds, on the CPU.

    Args:
        path: The file, of either layout.

    Returns:
        Tensors, numbers, text, fractions, plain containers, and a `Record` in the place of anything else.

    Raises:
        CheckpointError: The file is missing, damaged or no such file.
    """
    try:
        with path.open("rb") as file:
            return _read_zip(file) if file.peek(4)[:4] == b"PK\3\4" else _read_older(file)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    # zipfile and torch stumble over damage in any way, from NotImplementedError to RuntimeError.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(
            f"{path}: damaged, or not a checkpoint of torch ({reason}); download it again, or tell whoever made it"
        ) from error


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file that holds a state dict and nothing else.

    Raises:
        CheckpointError: The file is missing, damaged, or holds something else.
    """
    state = load_checkpoint(path)
    if not (isinstance(state, dict) and state and all(isinstance(value, Tensor) for value in state.values())):
        held = ", ".join(map(str, state))[:200] if isinstance(state, dict) else f"a {type(state).__name__}"
        raise CheckpointError(f"{path}: holds no state dict of tensors, but {held or 'an empty one'}")
    return dict(state)


class _Storage(NamedTuple):
    """The memory of one or several tensors, flat: as bytes, and as what they mean."""

    raw: Tensor
    values: Tensor

    @property
    def memory(self) -> memoryview:
        return self.raw.numpy().data


class _Storages:
    """The storages that a pickle refers to, by key.

    Args:
        limit: Bytes of the file, more than which they cannot take together.
        fill: Writes a storage's bytes; without it that is left for later.
    """

    def __init__(self, limit: int, fill: Callable[[str, memoryview], None] | None = None) -> None:
        self._left = limit
        self._fill = fill
        self.by_key: dict[str, _Storage] = {}

    def open(self, identity: Any) -> _Storage | Record:
        """Return what a persistent id stands for.

        Args:
            identity: `("storage", type, key, device, numel)`, in older files with a view, which none of them has; or in
                older files `("module", class, file, source code)`.
        """
        if type(identity) is tuple and len(identity) == 4 and type(identity[1]) is Record:
            return identity[1]
        kind, type_, key, _, numel, *view = identity if type(identity) is tuple else [None] * 5
        is_view = any(part is not None for part in view)
        if kind != "storage" or type(type_) is not Record or type(key) is not str or is_view:
            raise PickleError("a persistent id is no storage of its own")
        dtype = _DTYPES.get(type_.name)
        if dtype is None:
            raise PickleError(f"{type_.path} is no known type of storage")
        if key not in self.by_key:
            raw = self._allocate(_count(numel) * dtype.itemsize)
            self.by_key[key] = _Storage(raw, raw.view(dtype))
            if self._fill:
                self._fill(key, self.by_key[key].memory)
        if self.by_key[key].values.dtype != dtype:
            raise PickleError("a storage is named with two types")
        return self.by_key[key]

    def _allocate(self, size: int) -> Tensor:
        self._left -= size
        if self._left < 0:
            raise PickleError("its storages are larger than the file")
        return torch.empty(size, dtype=torch.uint8)


def _read_zip(file: BinaryIO) -> Any:
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        # torch compresses nothing; what is compressed, or overlaps, may grow without limit.
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise PickleError("the archive is compressed")
        if sum(member.file_size for member in members) > size:
            raise PickleError("the archive's members overlap")
        root = next((name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")), "")
        if f"{root}byteorder" in archive.namelist():
            with archive.open(f"{root}byteorder") as member:
                if member.read(8) != b"little":
                    raise PickleError("its numbers are big-endian")

        def fill(key: str, memory: memoryview) -> None:
            if archive.getinfo(f"{root}data/{key}").file_size != len(memory):
                raise PickleError(f"storage {key} has another size than is said")
            with archive.open(f"{root}data/{key}") as member:
                _read_into(member, memory)

        storages = _Storages(size, fill)
        with archive.open(f"{root}data.pkl") as member:
            program = io.BytesIO(member.read(MAX_BYTES))
        return PickleMachine(_CONSTRUCTORS, storages.open).run(program)


def _read_older(file: BinaryIO) -> Any:
    plain = PickleMachine()
    if plain.run(file) != _MAGIC or plain.run(file) != _PROTOCOL:
        raise PickleError("it begins otherwise")
    if plain.run(file).get("little_endian") is not True:
        raise PickleError("its numbers are big-endian")
    storages = _Storages(os.fstat(file.fileno()).st_size)
    value = PickleMachine(_CONSTRUCTORS, storages.open).run(file)
    keys = plain.run(file)
    if not (type(keys) is list and all(type(key) is str for key in keys) and set(keys) == set(storages.by_key)):
        raise PickleError("its storages are others than it names")
    for key in keys:
        storage = storages.by_key[key]
        if int.from_bytes(file.read(8), "little") != storage.values.numel():
            raise PickleError(f"storage {key} has another size than is said")
        _read_into(file, storage.memory)
    return value


def _read_into(stream: Any, memory: memoryview) -> None:
    while memory:
        count = stream.readinto(memory)
        if not count:
            raise PickleError("the file ends too early")
        memory = memory[count:]


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """Return a view of a storage, after making sure that it lies within."""
    if not (type(storage) is _Storage and type(size) is tuple and type(stride) is tuple and len(size) <= _MAX_AXES):
        raise PickleError("a tensor is made of something else than a storage and a shape")
    sizes, strides = tuple(map(_count, size)), tuple(map(_count, stride))
    numel = 1
    for length in sizes:
        numel *= length
    last = _count(offset) + sum((length - 1) * step for length, step in zip(sizes, strides, strict=True))
    # A tensor with more elements than its storage would be expanded: small here, and without limit once it is copied.
    if numel > storage.values.numel() or (numel and last >= storage.values.numel()):
        raise PickleError("a tensor reaches beyond its storage")
    return storage.values.as_strided(sizes, strides, offset)


def _rebuild_parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise PickleError("a parameter is made of something else than a tensor")
    return data


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise PickleError("a size is no whole number")
    return int(value)


_CONSTRUCTORS: Mapping[str, Constructor] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
}
