"""LMDB files read page by page, with every number in the file checked before it is used.

The package lmdb maps the file into memory and trusts it: a file that is cut off ends the process with SIGBUS, a damaged
one with an assertion in C. Here both are a ValueError. The layout is that of LMDB 0.9 on 64-bit little-endian machines:

- All pages have one size. A page begins with its own number, its kind, and, in trees, with the place where its list of
  nodes ends and the place where their contents begin.
- Pages 0 and 1 are headers. The one with the higher transaction number counts; it names the root of a B+tree.
- A node of a branch holds a page's number and the first key below that page. A node of a leaf holds a key and its
  value, or the number of the first of the pages that hold a large value.
"""

import os
import struct
import threading
from bisect import bisect_left, bisect_right
from pathlib import Path

_BRANCH, _LEAF, _OVERFLOW, _HEADER = 1, 2, 4, 8  # kinds of pages
_LARGE = 1  # the flag of a leaf's node whose value has pages of its own
_NO_PAGE = (1 << 64) - 1
_PAGE = struct.Struct("<Q2xHHH")
_NODE = struct.Struct("<HHHH")
# magic, version; 16 bytes about the map; page size; of the main tree flags, depth, root; last page, transaction
_FIELDS = struct.Struct("<II16xI44x4xHH32xQQQ")
_MAGIC, _VERSION = 0xBEEFC0DE, 1


class PageReader:
    """The values of one data.mdb by key, as they were when it was opened. Threads may share it, processes may not.

    ValueError, without the file's name, for what is no LMDB, and whenever a damaged or missing page is met; OSError as
    `open`.
    """

    def __init__(self, path: Path):
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        self._lock = threading.Lock()
        self._page_size = self._last_page = 0
        headers = [self._header()]
        self._page_size = headers[0][2]
        if self._page_size.bit_count() != 1 or not 512 <= self._page_size <= 65536:
            raise ValueError(f"its pages cannot have {self._page_size} bytes")
        headers.append(self._header())
        *_, flags, self._depth, self._root, self._last_page, _ = max(headers, key=lambda fields: fields[-1])
        if flags:
            raise ValueError("it holds several values for a key, or its keys are not sorted as bytes")
        if not 1 <= self._depth <= 32 and self._root != _NO_PAGE:
            raise ValueError(f"its tree cannot have {self._depth} levels")

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; None where there is none."""
        if (number := self._root) == _NO_PAGE:
            return None
        for _ in range(self._depth - 1):
            branch = self._tree_page(number, _BRANCH)
            # the first key is not stored: it stands for all that are lower than the second
            number = branch.child(bisect_right(range(1, branch.count), key, key=branch.key))
        leaf = self._tree_page(number, _LEAF)
        i = bisect_left(range(leaf.count), key, key=leaf.key)
        if i == leaf.count or leaf.key(i) != key:
            return None
        value = leaf.value(i)
        return value if isinstance(value, bytes) else self._large_value(*value)

    def _header(self) -> tuple[int, ...]:
        """The fields of page 0 or, as soon as the size of a page is known, of page 1."""
        data = self._read(self._page_size, _PAGE.size + _FIELDS.size)
        fields = _FIELDS.unpack_from(data, _PAGE.size)
        if not _PAGE.unpack_from(data)[1] & _HEADER or fields[0] != _MAGIC:
            raise ValueError("it does not begin with LMDB's two headers")
        if fields[1] != _VERSION:
            raise ValueError(f"its version is {fields[1]}, and only {_VERSION} is known")
        return fields

    def _tree_page(self, number: int, kind: int) -> "_TreePage":
        data = self._read(self._start(number), self._page_size)
        if _PAGE.unpack_from(data)[:2] != (number, kind):
            raise ValueError(f"page {number} is damaged")
        return _TreePage(data, number)

    def _large_value(self, number: int, size: int) -> bytes:
        start = self._start(number)
        found, kind, low, high = _PAGE.unpack(self._read(start, _PAGE.size))
        if (found, kind) != (number, _OVERFLOW) or _PAGE.size + size > (low | high << 16) * self._page_size:
            raise ValueError(f"page {number} is damaged")
        return self._read(start + _PAGE.size, size)

    def _start(self, number: int) -> int:
        if not 1 < number <= self._last_page:
            raise ValueError(f"it refers to page {number}, and the last is {self._last_page}")
        return number * self._page_size

    def _read(self, start: int, size: int) -> bytes:
        with self._lock:  # not os.pread, which Windows lacks
            length = os.fstat(self._file.fileno()).st_size  # Python takes memory for `size` bytes before it reads
            self._file.seek(start)
            data = self._file.read(size) if start + size <= length else b""
        if len(data or b"") != size:
            raise ValueError(f"it ends after {length} bytes, in the middle of its data")
        return data


class _TreePage:
    """The nodes of a branch or leaf by their number, from 0 to below `count`."""

    def __init__(self, data: bytes, number: int):
        self._data, self._number = data, number
        end = _PAGE.unpack_from(data)[2]
        self.count = (end - _PAGE.size) // 2
        if not _PAGE.size < end <= len(data):
            raise self._damage()
        self._places = struct.unpack_from(f"<{self.count}H", data, _PAGE.size)

    def _damage(self) -> ValueError:
        return ValueError(f"page {self._number} is damaged")

    def _node(self, i: int) -> tuple[int, int, int, int, int]:
        """Two numbers, the flags, where the key begins and where it ends."""
        begin = self._places[i] + _NODE.size
        if begin > len(self._data):
            raise self._damage()
        low, high, flags, key_size = _NODE.unpack_from(self._data, begin - _NODE.size)
        if begin + key_size > len(self._data):
            raise self._damage()
        return low, high, flags, begin, begin + key_size

    def key(self, i: int) -> bytes:
        *_, begin, end = self._node(i)
        return self._data[begin:end]

    def child(self, i: int) -> int:
        """The number of the page below node i."""
        low, high, flags, *_ = self._node(i)
        return low | high << 16 | flags << 32

    def value(self, i: int) -> bytes | tuple[int, int]:
        """The value of node i, or the page where it begins and its size."""
        low, high, flags, _, begin = self._node(i)
        size = low | high << 16
        end = begin + (8 if flags == _LARGE else size)
        if flags not in (0, _LARGE) or end > len(self._data):
            raise self._damage()
        data = self._data[begin:end]
        return (int.from_bytes(data, "little"), size) if flags else data
