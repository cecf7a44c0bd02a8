"""CRC-32C (Castagnoli) of large arrays.

The register of a CRC is linear over GF(2). So the data are cut into lanes whose registers numpy advances side by side,
four bytes a step, and the lanes are joined two by two: register(A + B) = shift(register(A), |B|) XOR register(B).

Source: RFC 3720, appendix B.4 (the polynomial and test vectors); the masked form is that of LevelDB's tables.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

_POLYNOMIAL = 0x82F63B78
_ALL_ONES = 0xFFFFFFFF
_MASK_DELTA = 0xA282EAD8

_MOST_LANES_BITS = 12
_SHORT = 512


def crc32c(data: bytes | memoryview) -> int:
    """Return the CRC-32C of data."""
    return _advance(_ALL_ONES, np.frombuffer(data, np.uint8)) ^ _ALL_ONES


def masked_crc32c(data: bytes | memoryview) -> int:
    """Return the CRC-32C in the form that LevelDB and TensorFlow store: rotated by 15 bits, a constant added."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & _ALL_ONES


def _advance(register: int, data: NDArray[np.uint8]) -> int:
    """Return the register after the data."""
    if len(data) < _SHORT:
        table = _byte_table().tolist()
        for byte in data.tolist():
            register = table[(register ^ byte) & 0xFF] ^ register >> 8
        return register
    lanes = 1 << min(_MOST_LANES_BITS, len(data).bit_length() // 2)
    steps = len(data) // (4 * lanes)
    whole = 4 * lanes * steps
    registers = _advance_lanes(register, data[:whole].view("<u4").reshape(lanes, steps))
    return _advance(_join(registers, 4 * steps), data[whole:])


def _advance_lanes(register: int, words: Words) -> Words:
    """Return the registers of lanes `(lane, word)`; the first lane begins with the given register, the others at 0."""
    registers = np.zeros(len(words), np.uint32)
    registers[0] = register
    tables = _word_tables()
    for step in range(words.shape[1]):
        registers = _apply(tables, registers ^ words[:, step])
    return registers


def _join(registers: Words, length: int) -> int:
    """Return the register after all lanes of `length` bytes; their number is a power of two."""
    shift = _shift_tables(length)
    while len(registers) > 1:
        registers = _apply(shift, registers[0::2]) ^ registers[1::2]
        shift = _composed(shift, shift)
    return int(registers[0])


def _apply(tables: Words, values: Words) -> Words:
    """Map values by a linear map, given as what it makes of each byte at each of the four places."""
    first, second, third, fourth = (tables[place][values >> (8 * place) & 0xFF] for place in range(4))
    mapped: Words = first ^ second ^ third ^ fourth
    return mapped


def _composed(tables: Words, others: Words) -> Words:
    """Return the map that applies `others` after `tables`."""
    return np.stack([_apply(others, table) for table in tables])


@cache
def _byte_table() -> Words:
    """Return what eight bits do to the register."""
    table: Words = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1 ^ np.where(table & 1, _POLYNOMIAL, 0)).astype(np.uint32)
    return table


def _shift_by_byte() -> Words:
    """Return the map by which one zero byte advances the register."""
    identity = np.arange(256, dtype=np.uint32)
    higher = [identity << (8 * place) >> 8 for place in (1, 2, 3)]
    return np.stack([_byte_table(), *higher])


@cache
def _word_tables() -> Words:
    return _shift_tables(4)


def _shift_tables(length: int) -> Words:
    """Return the map by which so many zero bytes advance the register."""
    power, result = _shift_by_byte(), None
    while length:
        if length & 1:
            result = power if result is None else _composed(result, power)
        power, length = _composed(power, power), length >> 1
    assert result is not None
    return result
