"""Whether every number of some bytes is finite, without a numerical library.

A number is not finite exactly when all bits of its exponent are set (IEEE 754). The C extension ``_nonfinite`` looks at
them at the speed of memory; where it was not built, ``is_finite_in_python`` gives the same answer, ten to thirty times
as slowly (ADR-0010). A property test holds both to the same answer.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable

__all__ = ["is_finite", "is_finite_in_python"]


def is_finite_in_python(dtype: str, data: bytes | memoryview) -> bool:
    """Tell whether no number in ``data`` is a NaN or an infinity.

    The exponent stands in the last one or two bytes of each little-endian number, which slices pick out.

    Args:
        dtype: ``F16``, ``BF16``, ``F32`` or ``F64``.
        data: Whole numbers, little endian.

    >>> import struct
    >>> is_finite("F32", struct.pack("<2f", 1.0, -3e38)), is_finite("F32", struct.pack("<2f", 1.0, float("nan")))
    (True, False)
    """
    return _FINITE[dtype](bytes(data))


def _is_finite_f16(data: bytes) -> bool:
    high = data[1::2]
    return not any(byte in high for byte in _F16_HIGH)


def _by_two_bytes(width: int, low_mask: int) -> Callable[[bytes], bool]:
    """Check formats whose exponent fills seven bits of the last byte and ``low_mask`` of the one before."""

    def check(data: bytes) -> bool:
        high = data[width - 1 :: width]
        if b"\x7f" not in high and b"\xff" not in high:
            return True
        low = data[width - 2 :: width]
        return not any(
            top & 0x7F == 0x7F and below & low_mask == low_mask for top, below in zip(high, low, strict=True)
        )

    return check


_F16_HIGH = [bytes([sign | 0x7C | rest]) for sign in (0, 0x80) for rest in range(4)]
_FINITE: dict[str, Callable[[bytes], bool]] = {
    "F16": _is_finite_f16,
    "BF16": _by_two_bytes(2, 0x80),
    "F32": _by_two_bytes(4, 0x80),
    "F64": _by_two_bytes(8, 0xF0),
}

is_finite: Callable[[str, bytes | memoryview], bool] = is_finite_in_python
with contextlib.suppress(ImportError):  # without a compiler it was not built
    is_finite = importlib.import_module("ual_registry.air._nonfinite").is_finite
