"""The frames of MP3 and ADTS: whether the last one is whole, where no header tells the length."""

from __future__ import annotations

import os
from typing import BinaryIO

_TAIL_BYTES = 1 << 15
_CHAIN = 4  # so many frames, one right after the other, are no accident
_BITRATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_BITRATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def missing_of_last_frame(file: BinaryIO, start: int) -> int:
    """Return how many bytes the last frame of a file lacks; 0 where something else than a frame ends it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(start, size - _TAIL_BYTES))
    tail = file.read()
    for first in range(len(tail)):
        position, frames = first, 0
        while length := _frame_bytes(tail[position : position + 6]):
            position, frames = position + length, frames + 1
        if frames >= _CHAIN:
            # What is left of a header that broke off is less than four bytes.
            return max(0, position - len(tail))
    return 0


def _frame_bytes(head: bytes) -> int:
    """Return the length of the frame that begins so; 0 if none does."""
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    if head[1] & 0xF6 == 0xF0:  # ADTS, ISO 13818-7: 13 bits from bit 30
        return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    rate, bitrate = head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or layer != 1 or rate == 3 or bitrate in (0, 15):
        return 0
    bits, blocks = (_BITRATES_1, 144) if version == 3 else (_BITRATES_2, 72)
    return blocks * 1000 * bits[bitrate] // _RATES[version][rate] + (head[2] >> 1 & 1)
