"""PNG, JPEG and WebP files taken apart: what stands beside the pixels, and the bare picture for a decoder.

Decoders fail on damage in chunks that no pixel depends on, and their remedies are settings of the whole process. So
they are handed the bare picture, and what stands beside it is read here.
"""

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from tadisr.io.pixels import Encoding

MAX_FRAMES = 10_000
"""Frames and pages are counted up to here: a file of 10 MB can hold millions."""

_LARGEST_CHUNK = 2**24  # of metadata, in bytes, compressed or not
_MOST_CHUNKS = 2**20

# What a file begins with, and what it is called. Of those not read, what to do about it.
_READ = {
    b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF",
    b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF", b"\xff\x4f\xff\x51": "JPEG2000",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000",
}  # fmt: skip
_PNG, _DEVELOP = "convert it to PNG", "develop it to TIFF, PNG or JPEG"
_NOT_READ = {
    b"%PDF": ("PDF", "turn its pages into PNGs, or give it to tadisr upscale by its own name, FILE.pdf"),
    b"\xff\x0a": ("JPEG XL", _PNG), b"\0\0\0\x0cJXL ": ("JPEG XL", _PNG), b"8BPS": ("Photoshop", _PNG),
    b"%!PS": ("EPS", _PNG), b"\xc5\xd0\xd3\xc6": ("EPS", _PNG), b"<svg": ("SVG", _PNG), b"\0\0\1\0": ("ICO", _PNG),
    b"v/1\1": ("OpenEXR", _PNG), b"#?RADIANCE": ("Radiance", _PNG), b"#?RGBE": ("Radiance", _PNG),
    b"DDS ": ("DDS", _PNG), b"SIMPLE  =": ("FITS", _PNG), b"gimp xcf": ("GIMP", _PNG), b"II\xbc\1": ("JPEG XR", _PNG),
    b"AT&TFORM": ("DjVu", _PNG), b"qoif": ("QOI", _PNG), b"icns": ("ICNS", _PNG), b"BPG\xfb": ("BPG", _PNG),
    b"FUJIFILMCCD-RAW": ("camera raw", _DEVELOP), b"IIRO": ("camera raw", _DEVELOP), b"IIRS": ("camera raw", _DEVELOP),
    b"MMOR": ("camera raw", _DEVELOP), b"IIU\0": ("camera raw", _DEVELOP), b"PK\3\4": ("ZIP", "unpack it"),
    b"\x1f\x8b": ("gzip", "unpack it"), b"<!doctype html": ("HTML", "save the image itself"),
    b"<html": ("HTML", "save the image itself"),
}  # fmt: skip
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


class DamagedError(ValueError):
    """The file is not what its format demands; the message says where."""


class UnsupportedError(ValueError):
    """A format, or something within one, that is not read; the message is "a PDF file: what to do"."""

    def __init__(self, what: str, remedy: str = _PNG, why: str = "which is not supported") -> None:
        super().__init__(f"{what}, {why}: {remedy}")


def sniff(head: bytes) -> str:
    """The format of a file by its first 256 bytes, "" for an unknown one. Others raise UnsupportedError."""
    for magic, name in _READ.items():
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if re.match(rb"P[1-6f][\s#]", head):
        return "PPM"
    if re.match(rb"P[7F]\s", head):
        raise UnsupportedError("a PAM file" if head[1:2] == b"7" else "a PFM file of colours")
    if head[4:8] == b"ftyp":
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, min(256, int.from_bytes(head[:4], "big")), 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & _HEIF:
            return "HEIF"
        raise UnsupportedError(
            *(("a camera raw file", _DEVELOP) if b"crx " in brands else ("a video", "extract its images"))
        )
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for magic, (name, remedy) in _NOT_READ.items():
        if head.startswith(magic) or text.startswith(magic):
            raise UnsupportedError(f"{'an' if name[0] in 'AEIOHS' and name != 'HTML' else 'a'} {name} file", remedy)
    if text.startswith(b"<?xml") and b"<svg" in text:
        raise UnsupportedError("an SVG file")
    if head[128:132] == b"DICM":
        raise UnsupportedError("a DICOM file")
    return ""


@dataclass
class Parts:
    """A file taken apart. Sizes are as stored, not upright."""

    format: str
    width: int
    height: int
    bare: Callable[[], bytes]  # reads the file on: the picture without what is beside it
    frames: int = 1
    has_alpha: bool = False
    gray: bool = False
    bits: int = 8
    white: int | None = None  # the largest number that the file says it uses, where that is less than its bits allow
    dpi: tuple[float, float] | None = None
    exif: bytes = b""  # a TIFF structure, without "Exif" before it
    xmp: bytes = b""
    icc_profile: bytes = b""
    encoding: Encoding | None = None
    transparent: tuple[int, ...] | None = None  # the numbers of the one colour that is transparent
    animation: Callable[[], bytes] | None = None  # like `bare`, with all frames
    remarks: list[str] = field(default_factory=list)


def _read(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise DamagedError("it ends too early")
    return data


# PNG


def open_png(file: BinaryIO) -> Parts:
    """Raises DamagedError, UnsupportedError."""
    file.seek(8)
    if _read(file, 8)[4:] == b"CgBI":
        raise UnsupportedError("a PNG in Apple's own form (CgBI)", "convert it by pncrush -revert-iphone-optimizations")
    file.seek(8)
    start = _read(file, 33 - 8)
    if start[:8] != b"\0\0\0\rIHDR":
        raise DamagedError("it does not begin with its size")
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", start[8:21])
    if not (0 < width < 2**31 and 0 < height < 2**31) or bits not in (1, 2, 4, 8, 16) or colour not in (0, 2, 3, 4, 6):
        raise DamagedError("its header makes no sense")
    remarks: list[str] = []
    kept: list[tuple[bytes, int, int]] = []  # chunks: name, position of its data, length
    beside: dict[bytes, bytes] = {}
    texts: list[bytes] = []
    for name, position, length in _png_chunks(file, 8):
        if name in (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"):
            kept.append((name, position, length))
        elif name in _BESIDE_PNG:
            data = file.read(length + 4) if length <= _LARGEST_CHUNK else b""
            if len(data) < length + 4 or zlib.crc32(name + data[:-4]).to_bytes(4, "big") != data[-4:]:
                remarks.append(f"a damaged {name.decode()} chunk was left out")
            elif name in (b"tEXt", b"zTXt", b"iTXt"):
                if data.startswith((b"XML:com.adobe.xmp\0", b"Raw profile type ")):
                    texts.append(data[:-4])
            else:
                beside.setdefault(name, data[:-4])
                if name == b"tRNS" and colour == 3:  # of others, decoders mix up the number before and after scaling
                    kept.append((name, position, length))
        elif name[:1].isupper():
            raise UnsupportedError(f"a PNG with an unknown part {name!r}")
    names = [name for name, _, _ in kept]
    if b"IDAT" not in names:
        raise DamagedError("it has no pixels")

    def bare(animated: bool = False) -> bytes:
        return _bare_png(file, kept, animated, (width, height, bits, colour, interlaced), remarks)

    parts = Parts("PNG", width, height, bare, bits=bits, gray=colour in (0, 4), remarks=remarks)
    parts.has_alpha = colour in (4, 6) or (b"tRNS" in beside and colour in (0, 2, 3))
    if b"acTL" in names and b"fcTL" in names:
        first_is_still = names.index(b"fcTL") > names.index(b"IDAT")
        parts.frames = min(MAX_FRAMES, names.count(b"fcTL") + first_is_still)
        parts.animation = lambda: bare(True)
    with suppress(struct.error, zlib.error, ValueError, IndexError):
        _png_texts(texts, parts)
    with suppress(struct.error, IndexError):
        _png_beside(beside, parts, colour)
    return parts


_BESIDE_PNG = {
    b"tRNS", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"sBIT", b"pHYs", b"eXIf", b"tEXt", b"zTXt", b"iTXt",
}  # fmt: skip


def _png_chunks(file: BinaryIO, position: int) -> Iterator[tuple[bytes, int, int]]:
    for _ in range(_MOST_CHUNKS):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            return
        length, name = struct.unpack(">I4s", head)
        if length >= 2**31 or not name.isalpha():
            return  # what follows is no PNG: Pillow, too, reads up to here
        yield name, position + 8, length
        if name == b"IEND":
            return
        position += 12 + length
    raise DamagedError(f"it has more than {_MOST_CHUNKS} parts")


def _png_beside(beside: dict[bytes, bytes], parts: Parts, colour: int) -> None:
    if len(pixels := beside.get(b"pHYs", b"")) == 9 and pixels[8] == 1:
        across, down = struct.unpack(">II", pixels[:8])
        parts.dpi = (across * 0.0254, down * 0.0254)
    parts.exif = parts.exif or beside.get(b"eXIf", b"").removeprefix(b"Exif\0\0")
    if b"sBIT" in beside and parts.bits == 16:
        used = max(beside[b"sBIT"][: 1 if parts.gray else 3])
        parts.white = 2**used - 1 if 0 < used < 16 else None
    if b"tRNS" in beside and colour in (0, 2):
        parts.transparent = struct.unpack(">H" if colour == 0 else ">HHH", beside[b"tRNS"])
    if (code := beside.get(b"cICP", b"")) and len(code) == 4:
        parts.encoding, parts.icc_profile = cicp(code[0], code[1]), b""
    elif b"iCCP" in beside:
        profile = _inflated(beside[b"iCCP"].partition(b"\0")[2][1:])
        parts.icc_profile = profile or b""
        if profile is None:
            parts.remarks.append("its colour profile is damaged and was left out")
    elif b"sRGB" not in beside and not parts.icc_profile:
        gamma = int.from_bytes(beside.get(b"gAMA", b""), "big")
        corners = struct.unpack(">8I", beside[b"cHRM"]) if len(beside.get(b"cHRM", b"")) == 32 else ()
        primaries = tuple(one / 100_000 for one in corners)
        sensible = len(primaries) == 8 and all(y > 0 for y in primaries[1::2])
        if gamma or sensible:
            parts.encoding = Encoding(100_000 / gamma if gamma else None, primaries if sensible else None)


def _inflated(data: bytes) -> bytes | None:
    """None for damaged data and for bombs."""
    with suppress(zlib.error):
        stream = zlib.decompressobj()
        out = stream.decompress(data, _LARGEST_CHUNK)
        return out if stream.eof else None
    return None


def _png_texts(texts: list[bytes], parts: Parts) -> None:
    for text in texts:
        key, _, rest = text.partition(b"\0")
        if key == b"XML:com.adobe.xmp":  # iTXt: compressed or not, method, language, translated key, text
            body = rest[2:].split(b"\0", 2)[2]
            parts.xmp = (_inflated(body) if rest[0] else body) or b""
            continue
        # As ImageMagick and exiftool write it: a line of the kind, one of the length, then hexadecimal digits.
        body = (_inflated(rest[1:]) or b"") if rest[:1] == b"\0" else rest
        lines = body.strip().split(b"\n", 2)
        data = bytes.fromhex(b"".join(lines[2].split()).decode("ascii")) if len(lines) == 3 else b""
        kind = key.removeprefix(b"Raw profile type ").lower()
        if kind in (b"exif", b"app1") and data.startswith(b"Exif\0\0"):
            parts.exif = data[6:]
        elif kind == b"xmp":
            parts.xmp = data
        elif kind in (b"icc", b"icm"):
            parts.icc_profile = data


def _bare_png(
    file: BinaryIO,
    kept: list[tuple[bytes, int, int]],
    animated: bool,
    header: tuple[int, int, int, int, int],
    remarks: list[str],
) -> bytes:
    out, pixels, whole = [b"\x89PNG\r\n\x1a\n"], [], True
    for name, position, length in kept:
        if name == b"IEND" or (name in (b"acTL", b"fcTL", b"fdAT") and not animated):
            continue
        file.seek(position - 8)
        chunk = file.read(12 + length)
        if name == b"IDAT":
            data = chunk[8 : 8 + length]
            whole = whole and chunk[8 + length :] == zlib.crc32(b"IDAT" + data).to_bytes(4, "big")
            if not pixels and not animated:
                out.append(b"")  # the place of the pixels
            if not animated:
                pixels.append(data)
                continue
        out.append(chunk)
    end = _chunk(b"IEND", b"")
    if animated:
        return b"".join([*out, end])
    data = b"".join(pixels)
    if not whole or kept[-1][0] != b"IEND":
        data = _mended(data, header, remarks)
    place = out.index(b"")
    # A decoder takes any length up to 2 ** 31.
    out[place] = b"".join(_chunk(b"IDAT", data[i : i + 2**30]) for i in range(0, len(data), 2**30))
    return b"".join([*out, end])


def _chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def _mended(data: bytes, header: tuple[int, int, int, int, int], remarks: list[str]) -> bytes:
    """Compressed rows whose end is missing, with copies of the last row there. DamagedError: too much is missing."""
    width, height, bits, colour, interlaced = header
    stream, rows = zlib.decompressobj(), b""
    row = (width * bits * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] + 7) // 8 + 1
    try:
        rows = stream.decompress(data, height * row + 1)
    except zlib.error as error:
        raise DamagedError(f"its pixels are damaged ({error})") from None
    if stream.eof or len(rows) >= height * row:
        return data
    missing = 1 - len(rows) / (height * row)
    if interlaced or missing > MISSING:
        raise DamagedError(f"it ends too early: about {max(1, round(100 * missing))} % of the picture is missing")
    rows += bytes(-len(rows) % row)
    remarks.append(f"its end is missing: the last {height - len(rows) // row + 1} rows are made up")
    return zlib.compress(rows + (b"\2" + bytes(row - 1)) * (height - len(rows) // row), 1)


MISSING = 0.05
"""As much of a picture may be missing at its end."""


def cicp(primaries: int, transfer: int) -> Encoding | None:
    """Colours by the numbers of ITU-T H.273, as PNG, AVIF and HEIC have them. Raises UnsupportedError for HDR."""
    if transfer in (16, 18):
        raise UnsupportedError(f"an HDR picture ({'PQ' if transfer == 16 else 'HLG'})", "convert it to sRGB")
    corners = {
        9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
        11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
        12: (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    }.get(primaries)
    gamma = {4: 2.2, 5: 2.8, 8: 1.0}.get(transfer)
    return Encoding(gamma, corners) if corners or gamma else None


# JPEG


def open_jpeg(file: BinaryIO) -> Parts:
    """Raises DamagedError, UnsupportedError."""
    file.seek(2)
    kept, pieces = [b"\xff\xd8"], {}
    exif, xmp, dpi, frame, components = b"", b"", None, b"", 0
    start = 2
    for marker, data in _jpeg_segments(file):
        if marker == 0xE0 and data.startswith(b"JFIF\0") and len(data) >= 12:
            unit, across, down = struct.unpack(">BHH", data[7:12])
            dpi = {1: (across, down), 2: (across * 2.54, down * 2.54)}.get(unit)
        elif marker == 0xE1 and data.startswith(b"Exif\0"):
            exif = exif or data[6:]
        elif marker == 0xE1 and data.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = xmp or data[29:]
        elif marker == 0xE2 and data.startswith(b"ICC_PROFILE\0") and len(data) > 14:
            pieces[data[12]] = (data[13], data[14:])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if len(data) < 6:
                raise DamagedError("its header makes no sense")
            frame, components = data, data[5]
            if data[0] != 8:
                raise UnsupportedError(f"a {data[0]}-bit JPEG")
            if marker not in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA):
                raise UnsupportedError("a lossless or hierarchical JPEG")
        elif marker == 0xF7:
            raise UnsupportedError("a JPEG-LS file")
        # Decoders read the colours from JFIF and Adobe's segment. No pixel depends on any other.
        beside = 0xE1 <= marker <= 0xEF or marker == 0xFE or (marker == 0xE0 and not data.startswith(b"JFIF\0"))
        if not beside or (marker == 0xEE and data.startswith(b"Adobe")):
            kept.append(b"\xff" + bytes([marker]) + (len(data) + 2).to_bytes(2, "big") + data)
        if marker == 0xDA:
            start = file.tell()
            break
    if not frame or kept[-1][1] != 0xDA:
        raise DamagedError("it has no pixels")
    height, width = struct.unpack(">HH", frame[1:5])
    if not height or not width:
        raise DamagedError("its header says that it has no pixels")
    remarks: list[str] = []
    profile = b""
    if pieces:
        if sorted(pieces) == list(range(1, len(pieces) + 1)) and {n for n, _ in pieces.values()} == {len(pieces)}:
            profile = b"".join(pieces[i][1] for i in sorted(pieces))
        else:
            remarks.append("its colour profile is damaged and was left out")

    def bare() -> bytes:
        file.seek(start)
        return b"".join(kept) + file.read()

    return Parts(
        "JPEG", width, height, bare, gray=components == 1, dpi=dpi if dpi and min(dpi) > 1 else None,
        exif=exif, xmp=xmp, icc_profile=profile, remarks=remarks,
    )  # fmt: skip


def _jpeg_segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Markers with their data, up to and with the first scan's header."""
    while True:
        byte = file.read(1)
        while byte and byte != b"\xff":  # junk between segments, which decoders skip
            byte = file.read(1)
        while byte == b"\xff":
            byte = file.read(1)
        if not byte:
            raise DamagedError("it ends before its pixels")
        marker = byte[0]
        if marker in (0, 1) or 0xD0 <= marker <= 0xD8:
            continue
        if marker == 0xD9:
            raise DamagedError("it ends before its pixels")
        length = int.from_bytes(_read(file, 2), "big")
        if length < 2:
            raise DamagedError("the length of a part makes no sense")
        yield marker, _read(file, length - 2)
        if marker == 0xDA:
            return


def split_jpeg(data: bytes) -> tuple[bytes, bool, bool]:
    """(a bare JPEG up to its end marker, whether that was there, whether all its scans have begun)."""
    position, scans = 2, []
    components = 1
    while match := _MARKER.search(data, position):
        marker, position = data[match.end() - 1], match.end()
        if marker == 0xD9:
            return data[: match.start()], True, _all_scans(scans, components)
        if marker == 1 or marker == 0xD8:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        body = data[position + 2 : position + length]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) > 5:
            components = body[5]
        if marker == 0xDA and body:
            scans.append(body)
        position += length
    return data.rstrip(b"\0"), False, _all_scans(scans, components)  # recovered files often end in zeros


_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")


def _all_scans(scans: list[bytes], components: int) -> bool:
    """Whether the scans bring every coefficient of every component in full."""
    found: set[tuple[int, int]] = set()
    names = set()
    for body in scans:
        count = body[0]
        if len(body) < 4 + 2 * count:
            return False
        first, last, precision = body[1 + 2 * count : 4 + 2 * count]
        for i in range(count):
            names.add(body[1 + 2 * i])
            if precision & 15 == 0:
                found.update((body[1 + 2 * i], k) for k in range(first, min(last, 63) + 1))
    return len(names) >= components and len(found) >= 64 * len(names)


# WebP


def open_webp(file: BinaryIO) -> Parts:
    """Raises DamagedError, UnsupportedError."""
    file.seek(0, io.SEEK_END)
    size = file.tell()
    position, kept, remarks = 12, [], []
    beside: dict[bytes, bytes] = {}
    flags, width, height, frames, alpha = 0, 0, 0, 0, False
    while position + 8 <= size and len(kept) < _MOST_CHUNKS:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        if name in (b"ICCP", b"EXIF", b"XMP "):
            data = file.read(length) if length <= _LARGEST_CHUNK else b""
            if len(data) < length:
                remarks.append(f"a damaged {name.decode().strip()} chunk was left out")
            else:
                beside.setdefault(name, data)
        elif name in (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"):
            kept.append((name, position, length))
            head = file.read(16)
            if name == b"VP8X" and len(head) >= 10:
                flags = head[0]
                width, height = (int.from_bytes(head[i : i + 3], "little") + 1 for i in (4, 7))
            elif name == b"VP8L" and not width and len(head) >= 5:
                bits = int.from_bytes(head[1:5], "little")
                width, height, alpha = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
            elif name == b"VP8 " and not width and len(head) >= 10:
                width, height = (int.from_bytes(head[i : i + 2], "little") & 0x3FFF for i in (6, 8))
            frames += name == b"ANMF"
        position += 8 + length + length % 2
    if not width or not height or not kept:
        raise DamagedError("it has no pixels")

    def bare() -> bytes:
        out = []
        for name, place, length in kept:
            file.seek(place)
            chunk = bytearray(file.read(8 + length + length % 2))
            if name == b"VP8X":
                chunk[8] &= 0b00010010  # alpha and animation; no longer a profile, EXIF or XMP
            out.append(bytes(chunk) + (b"\0" if len(chunk) == 8 + length and length % 2 else b""))
        body = b"WEBP" + b"".join(out)
        return b"RIFF" + struct.pack("<I", len(body)) + body

    return Parts(
        "WEBP", width, height, bare, frames=min(MAX_FRAMES, max(1, frames)), has_alpha=alpha or bool(flags & 0x10),
        exif=beside.get(b"EXIF", b"").removeprefix(b"Exif\0\0"), xmp=beside.get(b"XMP ", b""),
        icc_profile=beside.get(b"ICCP", b""), animation=bare, remarks=remarks,
    )  # fmt: skip


# GIF


def gif_frames(file: BinaryIO) -> int:
    """How many frames a GIF holds, at most `MAX_FRAMES`."""
    frames = 0
    with suppress(DamagedError):
        file.seek(6)
        flags = _read(file, 7)[4]
        file.seek(3 * 2 ** ((flags & 7) + 1) if flags & 128 else 0, io.SEEK_CUR)
        while frames < MAX_FRAMES and (kind := _read(file, 1)) != b";":
            if kind == b"!":
                _read(file, 1)
            elif kind == b",":
                flags = _read(file, 9)[8]
                file.seek((3 * 2 ** ((flags & 7) + 1) if flags & 128 else 0) + 1, io.SEEK_CUR)
                frames += 1
            else:
                continue
            while length := _read(file, 1)[0]:
                file.seek(length, io.SEEK_CUR)
    return max(1, frames)


# JPEG 2000


def jp2_bits(file: BinaryIO) -> int:
    """Bits a channel. Raises UnsupportedError for more than 8 in an arrangement that no decoder here gets right."""
    file.seek(0)
    head = file.read(2**16)
    at = head.find(b"\xff\x4f\xff\x51")
    size = head[at + 4 :]
    channels = int.from_bytes(size[36:38], "big")
    kinds = {size[38 + 3 * i : 41 + 3 * i] for i in range(channels)} if len(size) >= 38 + 3 * channels else set()
    if at < 0 or not kinds:
        return 8
    bits = max((kind[0] & 127) + 1 for kind in kinds)
    if any(kind[0] & 128 for kind in kinds):
        raise UnsupportedError("a JPEG 2000 file of signed numbers")
    ycc = head.find(b"colr\x01", 0, at)
    ycc = ycc >= 0 and head[ycc + 7 : ycc + 11] == b"\0\0\0\x12"
    if bits > 8 and (len(kinds) > 1 or channels not in (1, 3, 4) or ycc or bits > 16 or b"pclr" in head[:at]):
        raise UnsupportedError(f"a {bits}-bit JPEG 2000 file of channels that are not gray or RGB")
    return bits
