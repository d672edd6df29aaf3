"""Damage to files, all from a seeded `Random`: bytes, chunks of PNGs with right checksums, values of JSON."""

import json
import struct
import zlib
from collections.abc import Sequence
from random import Random
from typing import Any

_NUMBERS = (
    0,
    1,
    2,
    7,
    8,
    16,
    127,
    128,
    255,
    256,
    4095,
    32767,
    32768,
    65535,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
)
_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 2.5, 1e-9, 1e308, float("nan"), float("inf"), 2**31, 2**64, "", "4", "a" * 3000,
    "\u202e", "\ud800", "../../x", "/etc/passwd", [], [0], [[]], {}, {"a": 1}, [None] * 50,
)  # fmt: skip


def damaged(data: bytes, chance: Random, others: Sequence[bytes] = ()) -> bytes:
    """One to a few changes to bytes; `others` are files to splice with."""
    found = bytearray(data)
    if data.startswith(b"\x89PNG") and chance.random() < 0.6:
        found = _png(found, chance)
    elif data[:4] in (b"II*\0", b"MM\0*") and chance.random() < 0.6:
        found = _tiff(found, chance)
    for _ in range(chance.choice([0, 1, 1, 1, 2, 3, 8]) if found != data else chance.choice([1, 1, 1, 2, 3, 8])):
        if not found:
            break
        # half of the damage is done to the head, where the numbers are that others depend on
        at = chance.randrange(min(len(found), chance.choice([64, 512, len(found), len(found)])))
        size = chance.choice([1, 2, 4, 8, 64, 1000])
        kind = chance.randrange(9)
        if kind == 0:
            found[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            found[at : at + min(size, 64)] = chance.randbytes(min(size, 64))
        elif kind == 2:
            del found[at:]
        elif kind == 3:
            del found[at : at + size]
        elif kind == 4:
            found[at:at] = chance.choice([chance.randbytes(size), bytes(size), found[at : at + size]])
        elif kind == 5 and others:
            other = chance.choice(others)
            found[at:] = other[chance.randrange(len(other)) :]
        elif kind == 6:
            start = chance.randrange(len(found))
            found[at : at + size] = found[start : start + size]
        else:
            width = chance.choice([1, 2, 4, 8])
            order = chance.choice(["little", "big"])
            found[at : at + width] = (chance.choice(_NUMBERS) % (1 << 8 * width)).to_bytes(width, order)
    return bytes(found)


def _png(data: bytearray, chance: Random) -> bytearray:
    """Chunks dropped, doubled, moved, or with other contents and a right checksum."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        chunks.append((bytes(data[at + 4 : at + 8]), data[at + 8 : at + 8 + size]))
        at += 12 + size
    i = chance.randrange(len(chunks))
    name, body = chunks[i]
    kind = chance.randrange(5)
    if kind == 0:
        del chunks[i]
    elif kind == 1:
        chunks.insert(chance.randrange(len(chunks)), chunks[i])
    elif kind == 2 and body:
        body[chance.randrange(len(body))] = chance.randrange(256)
    elif kind == 3:
        name = chance.choice(
            [b"PLTE", b"tRNS", b"gAMA", b"iCCP", b"eXIf", b"zTXt", b"iTXt", b"pHYs", b"sBIT", b"acTL", b"cICP", b"fcTL"]
        )
        chunks.insert(1 + (i or 0), (name, bytearray(chance.randbytes(chance.choice([0, 1, 2, 6, 13, 300])))))
    elif body:
        at = chance.randrange(0, len(body))
        body[at : at + 4] = struct.pack(">I", chance.choice(_NUMBERS) & 0xFFFFFFFF)
    done = bytearray(data[:8])
    for name, body in chunks:
        done += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return done


def _tiff(data: bytearray, chance: Random) -> bytearray:
    """An entry of a directory becomes another tag, type, count or value."""
    order = "<" if data[:1] == b"I" else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    if at + 2 > len(data):
        return data
    (count,) = struct.unpack_from(f"{order}H", data, at)
    entry = at + 2 + 12 * chance.randrange(max(1, count))
    field = chance.choice([0, 2, 4, 8, 8, 8])
    if entry + 12 <= len(data):
        form, most = (f"{order}H", 65536) if field < 4 or chance.random() < 0.5 else (f"{order}I", 2**32)
        value = chance.choice(
            [
                chance.choice(_NUMBERS),
                chance.randrange(20),
                chance.choice([256, 257, 258, 259, 262, 277, 278, 284, 339]),
            ]
        )
        struct.pack_into(form, data, entry + field, value % most)
    return data


def changed(values: Any, chance: Random) -> Any:
    """JSON values of which one, somewhere, is another one, missing, doubled or beside a stranger."""
    if isinstance(values, dict) and values and chance.random() < 0.85:
        key = chance.choice(list(values))
        kind = chance.randrange(10)
        if kind == 0:
            return {name: value for name, value in values.items() if name != key}
        if kind == 1:
            return {
                **values,
                chance.choice(["x", "__class__", "_class_name", "quantization_config", ""]): chance.choice(_VALUES),
            }
        return {**values, key: changed(values[key], chance)}
    if isinstance(values, list) and values and chance.random() < 0.7:
        i = chance.randrange(len(values))
        return [*values[:i], *[changed(values[i], chance)] * chance.choice([0, 1, 1, 1, 2]), *values[i + 1 :]]
    if isinstance(values, (int, float)) and chance.random() < 0.5:
        return chance.choice([values + 1, values - 1, -values, values * 2, values * 10**6, str(values)])
    return chance.choice(_VALUES)


def damaged_text(data: bytes, chance: Random, others: Sequence[bytes] = ()) -> bytes:
    """A JSON file with another value, or with other bytes."""
    if chance.random() < 0.75:
        try:
            text = json.dumps(changed(json.loads(data), chance), ensure_ascii=chance.random() < 0.5)
            return chance.choice([b"", b"", b"\xef\xbb\xbf"]) + text.encode("utf-8", "surrogatepass")
        except (ValueError, RecursionError):
            pass
    return damaged(data, chance, others)


def damaged_tensors(data: bytes, chance: Random) -> bytes:
    """A safetensors file: its header's values, its header's size, its numbers, or any bytes."""
    (size,) = struct.unpack_from("<Q", data)
    header, body = data[8 : 8 + size], bytearray(data[8 + size :])
    kind = chance.randrange(4)
    if kind < 2:
        header = json.dumps(changed(json.loads(header), chance)).encode("utf-8", "surrogatepass")
        return struct.pack("<Q", len(header)) + header + body
    if kind == 2 and body:
        at = chance.randrange(len(body)) // 4 * 4
        body[at : at + 4] = chance.choice([b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff" * 4, chance.randbytes(4)])
        return data[: 8 + size] + bytes(body)
    return damaged(data, chance)
