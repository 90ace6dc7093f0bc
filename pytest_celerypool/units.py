"""Durations and sizes: how users write them, and how reports show them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

#: Micro is there twice: keyboards give either of two characters that look alike.
_SECONDS: Mapping[str, float] = {
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "\u03bcs": 1e-6,
    "ms": 1e-3,
    "s": 1,
    "min": 60,
    "h": 3600,
}

_BYTES: Mapping[str, int] = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}

SECONDS_HELP = 'seconds, or a string such as "300us", "200ms", "1.5s", "2min" or "1h"'
BYTES_HELP = 'bytes, or a string such as "100kB", "5MB", "20MiB" or "1GiB"'

_QUANTITY = r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([^\W\d_]+)\s*"


def parse_seconds(value: object) -> float:
    """Return a duration in seconds from a number of seconds or a string with a unit.

    Raises ValueError, without a text of its own, for anything else and for what is negative or not finite.
    """
    return _parse(value, _SECONDS)


def parse_bytes(value: object) -> float:
    """Return a size in bytes from a number of bytes or a string with a unit.

    Raises ValueError, without a text of its own, for anything else and for what is negative or not finite.
    """
    return _parse(value, _BYTES)


def format_seconds(seconds: float) -> str:
    """Return a duration with three figures or so: ``"212 ms"``, ``"1.20 s"``, ``"2 min 5 s"``."""
    if seconds < 0:
        return f"-{format_seconds(-seconds)}"
    # Each border lies where the rounded figure would need one digit more: 999.6 ms is 1.00 s.
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.00995:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def format_bytes(size: float) -> str:
    """Return a size in binary units: ``"512 B"``, ``"3.4 MiB"``."""
    if size < 0:
        return f"-{format_bytes(-size)}"
    if size < 1023.5:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB"):
        size /= 1024
        if size < 1023.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} GiB"


def _parse(value: object, units: Mapping[str, float]) -> float:
    """Return ``value`` in the unit that stands for 1, or raise a bare ValueError."""
    number: float | str
    factor: float = 1
    if isinstance(value, str):
        match = re.fullmatch(_QUANTITY, value)
        if match is None or match[2] not in units:
            raise ValueError
        number, factor = match[1], units[match[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = value
    else:
        raise ValueError  # noqa: TRY004 - a caller has one message for every value that is not a quantity
    try:
        result = float(number) * factor
    except OverflowError:
        raise ValueError from None
    if result < 0 or not math.isfinite(result):
        raise ValueError
    return result
