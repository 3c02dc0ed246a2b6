"""Whole numbers as regular expressions: a JSON Schema can say of a text that it is a number from 1 to 65535 in no other way."""

from __future__ import annotations


def between(low: int, high: int) -> str:
    """Matches the decimal digits, without leading zeros, of exactly the numbers from `low` to `high`."""
    if not 0 <= low <= high:
        raise ValueError(f"no such range low={low} high={high}")
    parts: list[str] = []
    for length in range(len(str(low)), len(str(high)) + 1):
        first = 10 ** (length - 1) if length > 1 else 0
        parts += _same_length(str(max(low, first)), str(min(high, 10**length - 1)))
    return "|".join(parts)


def _same_length(low: str, high: str) -> list[str]:
    """For two numbers with as many digits."""
    if low == high:
        return [low]
    rest = len(low) - 1
    if not rest:
        return [_digit(int(low), int(high))]
    lowest, highest = int(low[0]), int(high[0])
    if lowest == highest:
        return [low[0] + part for part in _same_length(low[1:], high[1:])]
    parts = []
    if low[1:] != "0" * rest:
        parts += [low[0] + part for part in _same_length(low[1:], "9" * rest)]
        lowest += 1
    tail = []
    if high[1:] != "9" * rest:
        tail = [high[0] + part for part in _same_length("0" * rest, high[1:])]
        highest -= 1
    if lowest <= highest:
        parts.append(_digit(lowest, highest) + (f"[0-9]{{{rest}}}" if rest > 1 else "[0-9]"))
    return parts + tail


def _digit(low: int, high: int) -> str:
    return str(low) if low == high else f"[{low}-{high}]"
