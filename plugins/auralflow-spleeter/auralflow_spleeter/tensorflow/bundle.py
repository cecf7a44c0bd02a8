"""A tensor bundle: an index file, which is a table of names, and shards, which hold the tensors' bytes.

Source: TensorFlow's `tensor_bundle.proto` and `tensor_bundle.h`, which describe the format.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auralflow_core.errors import CheckpointError, did_you_mean
from auralflow_spleeter.tensorflow.crc32c import masked_crc32c
from auralflow_spleeter.tensorflow.table import MOST_BYTES, read_table
from auralflow_spleeter.tensorflow.wire import DamageError, bytes_of, message_fields, number_of

# TensorFlow's numbers of the types that weights and counters have.
_DTYPES = {
    1: "<f4",
    2: "<f8",
    3: "<i4",
    4: "u1",
    5: "<i2",
    6: "i1",
    9: "<i8",
    10: "?",
    17: "<u2",
    19: "<f2",
    22: "<u4",
    23: "<u8",
}
_MOST_DIMENSIONS = 16
_MODEL_PATH = re.compile(r'^\s*model_checkpoint_path:\s*"([^"\\]+)"', re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies."""

    dtype: int = 0
    shape: tuple[int, ...] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0
    is_sliced: bool = False


class TensorBundle:
    """The tensors of a TensorFlow checkpoint, read by name.

    Args:
        path: The checkpoint's folder, its prefix (`model` of `model.index`) or its index file.

    Raises:
        CheckpointError: There is no checkpoint, or its index is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.index = _find_index(Path(path))
        try:
            if self.index.stat().st_size > MOST_BYTES:
                raise DamageError(f"has more than {MOST_BYTES} bytes")
            table = read_table(self.index.read_bytes())
            self._num_shards = _read_header(table.pop(b"", b""))
            self._entries = {key.decode(): _read_entry(value) for key, value in table.items()}
            self._claimed: Counter[int] = Counter()
            for entry in self._entries.values():
                self._claimed[entry.shard] += entry.size
        except OSError as error:
            raise CheckpointError(f"{self.index}: cannot be read ({error.strerror}); check the path") from None
        except ValueError as error:  # DamageError, and names that are no text
            raise _damaged(self.index, str(error)) from None

    @property
    def names(self) -> list[str]:
        """The tensors' names, sorted."""
        return list(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape.

        Raises:
            CheckpointError: There is no such tensor.
        """
        return self._entry(name).shape

    def read(self, name: str) -> NDArray[np.generic]:
        """Return a tensor, after checking its length and checksum.

        Raises:
            CheckpointError: There is no such tensor, its type is not supported, or its bytes are damaged.
        """
        entry = self._entry(name)
        dtype = _DTYPES.get(entry.dtype)
        if dtype is None or entry.is_sliced or 0 in entry.shape:
            what = f"has TensorFlow's type {entry.dtype}" if dtype is None else "is empty or cut into slices"
            raise CheckpointError(f"{self.index}: tensor {name!r} {what}, which is not supported; read another one")
        shard = self.index.with_suffix(f".data-{entry.shard:05d}-of-{self._num_shards:05d}")
        wanted = math.prod(entry.shape) * np.dtype(dtype).itemsize
        if entry.size != wanted:
            raise _damaged(self.index, f"tensor {name!r} has {entry.size} bytes, and {wanted} by its shape")
        data = _read_bytes(shard, entry, self._claimed[entry.shard])
        if masked_crc32c(data) != entry.crc:
            raise _damaged(shard, f"the checksum of tensor {name!r} is wrong")
        return np.frombuffer(data, dtype).reshape(entry.shape)

    def _entry(self, name: str) -> Entry:
        if name not in self._entries:
            raise CheckpointError(
                f"{self.index}: holds no tensor {name!r}{did_you_mean(name, self._entries)}; is it a checkpoint of "
                "this architecture?"
            )
        return self._entries[name]


def _find_index(path: Path) -> Path:
    if not path.is_dir():
        index = path if path.suffix == ".index" else path.with_name(f"{path.name}.index")
        if not index.is_file():
            raise CheckpointError(f"{path}: no TensorFlow checkpoint, there is no {index.name}; check the path")
        return index
    # Archives made on a Mac hold a twin `._model.index` of each file.
    found = [file for file in sorted(path.rglob("*.index")) if not file.name.startswith(".")]
    named = _named_index(path / "checkpoint")
    chosen = [file for file in found if file.name == named] or found
    if len(chosen) != 1:
        names = ", ".join(str(file.relative_to(path)) for file in chosen[:5])
        what = f"holds several checkpoints ({names}); name one" if chosen else "holds no TensorFlow checkpoint"
        raise CheckpointError(f"{path}: {what}; expected NAME.index and NAME.data-00000-of-00001")
    return chosen[0]


def _named_index(file: Path) -> str | None:
    """Return the name of the index that a folder's `checkpoint` file calls the newest, if it does."""
    try:
        found = _MODEL_PATH.search(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    # The path is that of the machine that trained it.
    return f"{Path(found[1]).name}.index" if found else None


def _read_bytes(shard: Path, entry: Entry, claimed: int) -> bytes:
    try:
        with shard.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # Before anything is allocated: the numbers may be wrong, or many tensors made of the same bytes.
            if entry.offset + entry.size > size:
                raise _damaged(shard, f"has {size} bytes, and a tensor ends at byte {entry.offset + entry.size}")
            if claimed > size:
                raise _damaged(shard, f"has {size} bytes, and its tensors {claimed} together")
            file.seek(entry.offset)
            return file.read(entry.size)
    except OSError as error:
        raise CheckpointError(f"{shard}: cannot be read ({error.strerror}); copy the whole checkpoint") from None


def _read_header(message: bytes) -> int:
    """Return the number of shards."""
    fields = dict(message_fields(message))
    if number_of(fields.get(2, 0)) != 0:
        raise DamageError("was written on a big-endian machine, which is not supported")
    return number_of(fields.get(1, 0))


def _read_entry(message: bytes) -> Entry:
    fields = dict(message_fields(message))
    return Entry(
        dtype=number_of(fields.get(1, 0)),
        shape=_read_shape(bytes_of(fields.get(2, b""))),
        shard=number_of(fields.get(3, 0)),
        offset=number_of(fields.get(4, 0)),
        size=number_of(fields.get(5, 0)),
        crc=number_of(fields.get(6, 0)),
        is_sliced=7 in fields,
    )


def _read_shape(message: bytes) -> tuple[int, ...]:
    dimensions = [bytes_of(value) for number, value in message_fields(message) if number == 2]
    if len(dimensions) > _MOST_DIMENSIONS:
        raise DamageError(f"a tensor has {len(dimensions)} dimensions")
    return tuple(number_of(dict(message_fields(dimension)).get(1, 0)) for dimension in dimensions)


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: damaged or no TensorFlow checkpoint ({reason}); copy or download it again")
