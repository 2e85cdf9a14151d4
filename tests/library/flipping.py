"""Files of which one bit is another, as disks and memory make them."""

from __future__ import annotations

from collections.abc import Iterator


def flipped(whole: bytes) -> Iterator[tuple[int, bytes]]:
    """Every byte's number, and `whole` with one bit of that byte changed, another one from byte to byte.

    A checksum that a byte goes into changes with any of its bits: what is asked is whether every byte goes into one.
    """
    for number in range(len(whole)):
        content = bytearray(whole)
        content[number] ^= 1 << number * 5 % 8
        yield number, bytes(content)
