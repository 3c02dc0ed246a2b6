"""Plain text for people: columns, members, sizes, times."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta

_UNITS = ("KiB", "MiB", "GiB", "TiB")


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[str] = ()) -> str:
    """Columns two blanks apart, those named in `right` flush right. Without rows it is the line of headers."""
    lines = [list(headers), *([shown(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    pads = [str.rjust if header in right else str.ljust for header in headers]
    return "\n".join("  ".join(pad(cell, width) for pad, cell, width in zip(pads, line, widths, strict=True)).rstrip() for line in lines)


def members(pairs: Iterable[tuple[str, object]]) -> str:
    """A name and its value in each line."""
    found = [(name, shown(value)) for name, value in pairs]
    width = max((len(name) for name, _ in found), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}".rstrip() for name, value in found)


def shown(value: object) -> str:
    """A value in one line. What came from a bucket must not move the cursor."""
    text = "-" if value is None else "yes" if value is True else "no" if value is False else str(value)
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def size(count: int) -> str:
    """Bytes in a unit that fits."""
    value, unit = float(count), "B"
    for larger in _UNITS:
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def moment(time_us: int | None) -> str:
    """A time in UTC, as `--at` takes it; a dash for none."""
    if not time_us:
        return "-"
    text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
