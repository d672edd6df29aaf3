"""TIFF files laid out by hand, for what no library writes, and the numbers to put in them."""

import struct

import numpy as np

HEIGHT, WIDTH = 13, 22
_LETTERS = {"H": 3, "I": 4, "B": 1}


def ramp(white, channels=None):
    """Numbers from 0 to `white`, (13, 22) or (13, 22, channels), each channel another slope."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    values = 0.7 * x / (WIDTH - 1) + 0.3 * y / (HEIGHT - 1)
    if channels:
        values = np.stack([np.roll(values, 3 * i, axis=1) ** (1 + 0.3 * i) for i in range(channels)], -1)
    return np.rint(values * white).astype(np.int64)


def in_8_bits(values, white):
    return np.rint(np.asarray(values, float) * 255 / white).astype(np.uint8)


def packed(values, bits):
    """One bytes object a row, of numbers without gaps, each row beginning a new byte."""
    values = np.asarray(values).reshape(len(values), -1)
    digits = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return [np.packbits(row.astype(np.uint8)).tobytes() for row in digits.reshape(len(values), -1)]


def tiff(
    rows, width, bits, photometric, samples=1, compression=1, squeeze=bytes, rows_per_strip=5, tags=None, big=False
):
    """A TIFF of one page; `tags` is {code: (letter of struct, numbers)}, `squeeze` compresses a strip."""
    order = ">" if big else "<"
    strips = [squeeze(b"".join(rows[i : i + rows_per_strip])) for i in range(0, len(rows), rows_per_strip)]
    where = [8 + sum(len(strip) for strip in strips[:i]) for i in range(len(strips))]
    entries = {
        256: ("I", [width]), 257: ("I", [len(rows)]), 258: ("H", [bits] * samples), 259: ("H", [compression]),
        262: ("H", [photometric]), 273: ("I", where), 277: ("H", [samples]), 278: ("I", [rows_per_strip]),
        279: ("I", [len(strip) for strip in strips]), **(tags or {}),
    }  # fmt: skip
    pixels = b"".join(strips)
    start = 8 + len(pixels)
    beside, directory = b"", struct.pack(order + "H", len(entries))
    after = start + 2 + 12 * len(entries) + 4
    for code in sorted(entries):
        letter, numbers = entries[code]
        data = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        if len(data) > 4:
            value = struct.pack(order + "I", after + len(beside))
            beside += data
        else:
            value = data.ljust(4, b"\0")
        directory += struct.pack(order + "HHI", code, _LETTERS[letter], len(numbers)) + value
    head = (b"MM\0*" if big else b"II*\0") + struct.pack(order + "I", start)
    return head + pixels + directory + bytes(4) + beside
