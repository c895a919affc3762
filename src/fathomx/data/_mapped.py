"""Rows of a file, without the file in memory."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray


def row_reader(array: Any) -> Any:
    """What takes rows of an array by `array[places]`: of a memory map, by reading its file.

    Pages that are read through a map count as the process's own until the system takes them back;
    what is read into a buffer does not, and several threads can read at once.
    """
    whole = _whole_map(array)
    if whole is None or not array.flags.c_contiguous or not array.ndim or not array.size:
        return array
    try:
        return _Rows(array, str(whole.filename), whole.offset, array.ctypes.data - _start(whole))
    except OSError:
        return array


class _Rows:
    def __init__(self, array: NDArray[Any], path: str, offset: int, further: int) -> None:
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self._begin = offset + further
        self._bytes = array.nbytes // len(array)
        # The map keeps the file there even if its name is gone.
        self._array = array
        self._file = os.open(path, os.O_RDONLY)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, places: NDArray[Any]) -> NDArray[Any]:
        found = np.empty((len(places), *self.shape[1:]), self.dtype)
        # Rows that follow each other are one piece.
        breaks = np.flatnonzero(np.diff(places) != 1) + 1
        ends = [*breaks.tolist(), len(places)] if len(places) else []
        buffer, begin = found.reshape(-1).view(np.uint8).data, 0
        for end in ends:
            where = self._begin + int(places[begin]) * self._bytes
            self._fill(buffer[begin * self._bytes : end * self._bytes], where)
            begin = end
        return found

    def _fill(self, piece: memoryview, where: int) -> None:
        while len(piece):
            count = os.preadv(self._file, [piece], where)
            if not count:
                raise ValueError(
                    f"the file behind a memory map has become shorter: there is nothing at byte "
                    f"{where}; put the whole file back."
                )
            piece, where = piece[count:], where + count

    def __del__(self) -> None:
        os.close(self._file)


def _whole_map(array: Any) -> np.memmap | None:
    """The memory map that an array is, or is a part of; `None` if it is not of a file."""
    found = None
    while isinstance(array, np.ndarray):
        found = array if isinstance(array, np.memmap) else found
        array = array.base
    # A map that is private holds changes that its file does not.
    known = found is not None and found.filename is not None and found.mode in ("r", "r+")
    return found if known and hasattr(os, "preadv") else None


def _start(whole: np.memmap) -> int:
    return int(whole.ctypes.data)
