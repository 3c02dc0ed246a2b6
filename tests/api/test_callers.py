"""Who asks: addresses, proxies that are trusted and those that are not."""

from __future__ import annotations

from typing import Any

import pytest

from service.api.callers import Callers

TRUSTED = ("10.0.0.0/8", "fd00::/8")


def name(client: Any, *forwarded: str, trusted: tuple[str, ...] = TRUSTED) -> str:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    scope: Any = {"client": client, "headers": headers}
    return Callers(trusted).name(scope)


def test_addresses_of_ipv4_are_themselves_and_those_of_ipv6_their_network() -> None:
    """Whoever has one address of IPv6 has a whole /64 of them; IPv4 written as IPv6 is IPv4."""
    assert name(["192.0.2.7", "1"]) == "192.0.2.7"
    assert name(["2001:db8:1:2:3:4:5:6", "1"]) == name(["2001:db8:1:2::9", "1"]) == "2001:db8:1:2::/64"
    assert name(["::ffff:192.0.2.7", "1"]) == "192.0.2.7"
    assert name(None) == name(["", "0"]) == "unknown"


def test_the_header_of_a_stranger_is_not_read() -> None:
    """Anybody may write it."""
    assert name(["192.0.2.7", "1"], "198.51.100.1") == "192.0.2.7"
    assert name(["10.0.0.1", "1"], "198.51.100.1", trusted=()) == "10.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (["198.51.100.1"], "198.51.100.1"),
        (["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
        (["203.0.113.9, 198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        (["203.0.113.9, 198.51.100.1", "10.9.9.9"], "198.51.100.1"),
        (["198.51.100.1:4711"], "198.51.100.1"),
        (["[2001:db8::1]:4711"], "2001:db8::/64"),
        (["2001:db8::1"], "2001:db8::/64"),
        (["198.51.100.1, nonsense"], "10.0.0.1"),
        (["198.51.100.1, nonsense, 10.2.3.4"], "10.2.3.4"),
        (["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
        ([""], "10.0.0.1"),
        (["\xff\xfe"], "10.0.0.1"),
    ],
)
def test_behind_a_trusted_proxy_the_header_is_read_from_the_right(forwarded: list[str], expected: str) -> None:
    """Up to the first address that is not a proxy of ours; what cannot be read ends it."""
    assert name(["10.0.0.1", "1"], *forwarded) == expected
