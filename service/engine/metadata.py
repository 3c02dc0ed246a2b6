"""The metadata of a match: what the asset was stored with, less what clients refuse.

Clients check two members of a match's metadata: `name` is a string or null, `source` an absolute URL or null. A member that is
neither is left out; everything else stays byte for byte. What is accepted as a URL is narrower than the standard, so that no client's
parser refuses it.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata

import msgspec


class _Checked(msgspec.Struct):
    name: str | None = None
    source: str | None = None


def public_metadata(metadata: bytes | None) -> bytes | None:
    """A JSON object, or None when there is nothing to show."""
    if metadata is None or _EMPTY.fullmatch(metadata):
        return None
    if not _names_checked(metadata):
        return metadata
    try:
        source = _CHECKED.decode(metadata).source
    except msgspec.ValidationError:
        return _without_refused(metadata)
    return metadata if source is None or is_absolute_url(source) else _without_refused(metadata)


def source_url(metadata: bytes | None) -> str | None:
    """The member `source`, when it is an absolute URL."""
    if metadata is None or not _names_checked(metadata):
        return None
    source = _string(_MEMBERS.decode(metadata).get("source", _NULL))
    return source if source is not None and is_absolute_url(source) else None


def is_absolute_url(text: str) -> bool:
    """A scheme of at least two letters (one is a drive), and an authority that every parser reads alike or none."""
    match = _URL.fullmatch(text)
    if match is None:
        return False
    scheme, authority = match["scheme"].lower(), match["authority"]
    if authority is None:
        return scheme not in _WITH_AUTHORITY
    if authority == "":
        return scheme == "file" or scheme not in _WITH_AUTHORITY
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None or (scheme == "file" and authority != parts["host"]):
        return False
    if int(parts["port"] or 0) > _PORT_MAX or not _is_host(parts["host"]):
        return False
    return scheme not in _WITH_AUTHORITY or not _IPV4_LIKE.search(parts["host"]) or _is_address(parts["host"], ipaddress.IPv4Address)


def _is_host(host: str) -> bool:
    if host.startswith("["):
        return _is_address(host[1:-1], ipaddress.IPv6Address)
    labels = host.removesuffix(".").split(".")
    return len(host) <= _HOST_CHARS_MAX and all(map(_is_label, labels)) and unicodedata.is_normalized("NFKC", host)


def _is_label(label: str) -> bool:
    if not label or label[:4].lower() == "xn--":
        return _is_punycode(label)
    return all(char in _HOST_CHARS or _is_plain_letter(char) for char in label)


def _is_plain_letter(char: str) -> bool:
    """Left to right, without case or in lower case: the letters of all scripts that the rules for host names never refuse or change."""
    left_to_right = unicodedata.category(char) in ("Ll", "Lo") and unicodedata.bidirectional(char) == "L"
    return left_to_right and char not in _FILLERS and (char.casefold() == char or char in "ßς")


def _is_punycode(label: str) -> bool:
    try:
        decoded = label[4:].encode("ascii").decode("punycode")
    except UnicodeError:
        return False
    written_back = decoded.encode("punycode").decode() == label[4:].lower()
    return written_back and not decoded.isascii() and _is_label(decoded) and unicodedata.is_normalized("NFKC", decoded)


def _is_address(text: str, kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> bool:
    try:
        return bool(kind(text))
    except ValueError:
        return False


def _names_checked(metadata: bytes) -> bool:
    """Whether a checked member can be in there, written plainly or with escapes."""
    return b'"name"' in metadata or b'"source"' in metadata or b"\\u00" in metadata


def _without_refused(metadata: bytes) -> bytes | None:
    members = _MEMBERS.decode(metadata)
    if members.get("name", _NULL) != _NULL and _string(members["name"]) is None:
        del members["name"]
    if members.get("source", _NULL) != _NULL and source_url(metadata) is None:
        del members["source"]
    return msgspec.json.encode(members) if members else None


def _string(member: msgspec.Raw) -> str | None:
    try:
        return _TEXT.decode(member)
    except msgspec.ValidationError:
        return None


_CHECKED = msgspec.json.Decoder(_Checked)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_NULL = msgspec.Raw(b"null")
_EMPTY = re.compile(rb"\s*\{\s*\}\s*")
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):(?://(?P<authority>[^/?#\\]*)(?:[/?#][^\x00-\x1f]*)?|(?!//)[^\x00-\x1f]+)")
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:%-]*@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:@\[\]]+)(?::(?P<port>[0-9]{0,5}))?")
_IPV4_LIKE = re.compile(r"(?:^|\.)(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?$")  # parsers take a host that ends so for an address
_WITH_AUTHORITY = frozenset(("http", "https", "ws", "wss", "ftp", "file"))
_HOST_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_FILLERS = "\u115f\u1160"
_PORT_MAX = 65535
_HOST_CHARS_MAX = 253
