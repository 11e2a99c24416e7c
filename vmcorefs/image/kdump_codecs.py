"""What decompresses a page of a kdump-compressed dump, by the flags of its descriptor; what comes out is bounded."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from vmcorefs.errors import ImageError
from vmcorefs.image.libraries import library
from vmcorefs.quantities import PAGE_SIZE

PLAIN, ZLIB, LZO, SNAPPY, ZSTD = 0, 1, 2, 4, 0x20
COMPRESSIONS = {ZLIB: "zlib", LZO: "lzo", SNAPPY: "snappy", ZSTD: "zstd"}

Decode = Callable[[memoryview], bytes]


class DamagedError(Exception):
    """Damaged data, in words."""


def decoder(flags: int, file: str) -> Decode:
    """A function from at most 4 KiB of compressed data to a page, or to bytes of a wrong length; it raises DamagedError.

    It is new each time, since some libraries' objects are for one thread.
    """
    if flags == PLAIN:
        return bytes
    if flags not in COMPRESSIONS:
        raise DamagedError(f"damaged page descriptor: flags {flags:#x} are unknown")
    return _MAKERS[flags](file)


def _guard(decode: Decode, *errors: type[Exception]) -> Decode:
    def guarded(data: memoryview) -> bytes:
        try:
            return decode(data)
        except errors as error:
            raise DamagedError(f"damaged page: {error}") from error
    return guarded


def _zlib(_: str) -> Decode:
    return _guard(lambda data: zlib.decompress(data, 15, PAGE_SIZE), zlib.error)  # at most 4 MiB come out of 4 KiB


def _lzo(file: str) -> Decode:
    module = _library(LZO, file)
    compressor = module.LZOCompressor()
    return _guard(lambda data: bytes(compressor.decompress(data, PAGE_SIZE)), module.LZOError)  # at most 1 MiB out of 4 KiB


def _snappy(file: str) -> Decode:
    module = _library(SNAPPY, file)
    snappy = module.snappy

    def decode(data: memoryview) -> bytes:
        size = snappy.decompress_raw_len(data)  # as much is allocated as the data say
        if size != PAGE_SIZE:
            raise DamagedError(f"damaged page: snappy data of {size:#x} bytes, not 0x1000")
        return bytes(snappy.decompress_raw(data))
    return _guard(decode, module.DecompressionError)


def _zstd(file: str) -> Decode:
    module = _library(ZSTD, file)
    decompressor = module.ZstdDecompressor()

    def decode(data: memoryview) -> bytes:
        size = module.frame_content_size(data)  # -1: the frame does not say
        if size not in {-1, PAGE_SIZE}:
            raise DamagedError(f"damaged page: a zstd frame of {size:#x} bytes, not 0x1000")
        return bytes(decompressor.decompress(data, max_output_size=PAGE_SIZE))
    return _guard(decode, module.ZstdError)


def _library(flags: int, file: str) -> Any:
    try:
        return library(COMPRESSIONS[flags], file)
    except ImageError as error:
        raise DamagedError(str(error)) from error


_MAKERS: dict[int, Callable[[str], Decode]] = {ZLIB: _zlib, LZO: _lzo, SNAPPY: _snappy, ZSTD: _zstd}
