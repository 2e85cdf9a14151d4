"""Files of which one bit is another, as disks and memory make them."""

from __future__ import annotations

from collections.abc import Iterator


def flipped(whole: bytes) -> Iterator[tuple[int, bytes]]:
    """Every bit's number, and `whole` with that bit alone changed."""
    for bit in range(8 * len(whole)):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(content)
