"""Audio that comes through a pipe."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from auralflow_core.errors import AudioError

STDIN = Path("-")
"""Stands for standard input among paths; a file of this name can be named with its folder, absolutely."""

_COPY_BYTES = 1 << 20


@contextmanager
def on_disk(source: str | Path | BinaryIO) -> Iterator[Path]:
    """Yield a file with the bytes of `source`: a path stands for itself, a pipe is read to its end first.

    Most formats need seeks, if only to tell that the end is missing. The copy lies in the folder for temporary files
    (`TMPDIR`) and goes when the body ends.

    Args:
        source: A path; `-`, standard input; or an open binary file, which is read from where it stands.

    Raises:
        AudioError: Standard input is a terminal, the pipe breaks, or the disk is full.
    """
    if isinstance(source, (str, Path)) and Path(source) != STDIN:
        yield Path(source)
        return
    stream = sys.stdin.buffer if isinstance(source, (str, Path)) else source
    if stream.isatty():
        raise AudioError("cannot read standard input: it is a terminal; send a file down a pipe, or name one")
    with tempfile.TemporaryDirectory(prefix="auralflow-") as folder:
        # The name is what error messages say.
        path = Path(folder, "standard input")
        try:
            with path.open("wb") as copy:
                shutil.copyfileobj(stream, copy, _COPY_BYTES)
        except OSError as error:
            raise AudioError(
                f"cannot copy standard input to {folder}: {error.strerror}; TMPDIR chooses another folder"
            ) from error
        yield path
