"""Files compressed so that they can be read at any offset: seekable zstd, bgzip, xz in blocks."""

from __future__ import annotations

import lzma
import struct
import zlib

import zstandard

BGZIP_BLOCK = 0xFF00
BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at:at + size] for at in range(0, len(data), size)]


def zstd(data: bytes, frame: int, *, checksums: bool = False, sizes: bool = True, level: int = 3) -> bytes:
    """Seekable zstd. *checksums*: of the table's entries (their values are not looked at by anything here)."""
    compressor = zstandard.ZstdCompressor(level=level, write_content_size=sizes, write_checksum=True)
    frames = [(compressor.compress(piece), len(piece)) for piece in cut(data, frame)]
    entries = b"".join(struct.pack("<II", len(packed), size) + (b"\x55" * 4 if checksums else b"") for packed, size in frames)
    table = entries + struct.pack("<IBI", len(frames), 0x80 if checksums else 0, 0x8F92EAB1)
    return b"".join(packed for packed, _ in frames) + struct.pack("<II", 0x184D2A5E, len(table)) + table


def member(data: bytes) -> bytes:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = compressor.compress(data) + compressor.flush()
    return struct.pack("<4BI2BH2sHH", 0x1F, 0x8B, 8, 4, 0, 0, 0xFF, 6, b"BC", 2, len(packed) + 25) + packed \
        + struct.pack("<II", zlib.crc32(data), len(data))


def bgzip(data: bytes, block: int = BGZIP_BLOCK) -> bytes:
    return b"".join(member(piece) for piece in cut(data, block)) + BGZIP_END


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def xz_index(rows: list[tuple[int, int]], flags: bytes) -> bytes:
    """Index and footer of a stream, for blocks of (unpadded size, unpacked size)."""
    index = b"\0" + varint(len(rows)) + b"".join(varint(packed) + varint(size) for packed, size in rows)
    index += bytes(-len(index) % 4)
    index += struct.pack("<I", zlib.crc32(index))
    footer = struct.pack("<I", len(index) // 4 - 1) + flags
    return index + struct.pack("<I", zlib.crc32(footer)) + footer + b"YZ"


def xz(data: bytes, block: int, check: int = lzma.CHECK_CRC64, preset: int = 1) -> bytes:
    """One stream of several blocks, put together out of streams of one block each."""
    head, blocks, rows = b"", b"", []
    for piece in cut(data, block):
        whole = lzma.compress(piece, lzma.FORMAT_XZ, check, preset)
        index_size = (int.from_bytes(whole[-8:-4], "little") + 1) * 4
        head, body = whole[:12], whole[12:-12 - index_size]
        unpadded = _first_varint(whole[-12 - index_size + 2:])
        rows.append((unpadded, len(piece)))
        blocks += body
    return head + blocks + xz_index(rows, head[6:8])


def _first_varint(data: bytes) -> int:
    value = 0
    for number, byte in enumerate(data):
        value |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            return value
    raise AssertionError("no end")
