"""Metadata of a match: what is left out, what stays as it was, and that no client refuses the rest."""

from __future__ import annotations

import random
import unicodedata

import pytest
from pydantic import AnyUrl, TypeAdapter, ValidationError

from service.engine.metadata import is_absolute_url, public_metadata, source_url

CLIENT = TypeAdapter(AnyUrl)
SCHEMES = ["http", "https", "HTTP", "ws", "ftp", "file", "s3", "gs", "foo", "a+b", "urn", "c", ""]
PIECES = [
    *("://", ":", "//", "/", "\\", "?", "#", "@", ":80", ":65535", ":65536", ":0", "user:pass@", "%", "%41", "%20", " ", "\t", "\n", "\0"),
    *("[::1]", "[", "]", "::", "1.2.3.4", "256.1.1.1", "0x1", "9", "01", "08", "a", "b.c", "a1", "1a", "-", "_", ".", "..", "$", "*"),
    *("^", "|", "<", "`", "{", '"', "xn--", "xn--a", "xn--mnchen-3ya", "é", "ß", "ς", "ü", "Ü", "\u200d", "\u00ad", "\u3002", "\uff0e"),
    *("\u1c83", "\u115f"),
]


def client_accepts(text: str) -> bool:
    try:
        CLIENT.validate_python(text)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("metadata", [None, b"{}", b"{ }", b" {\n} "])
def test_nothing_to_show(metadata: bytes | None) -> None:
    """No metadata and an empty object are both nothing."""
    assert public_metadata(metadata) is None


@pytest.mark.parametrize(
    "metadata",
    [
        b'{"a": [1, 2.50, null],"b":"\\u0061"}',
        b'{"name":"A name", "x":1}',
        b'{"name":null,"source":null}',
        b'{"source":"https://example.com/a b","name":""}',
        b'{"nested":{"name":3,"source":"no"}}',
        b'{"title":"\\"name\\""}',
    ],
)
def test_verbatim(metadata: bytes) -> None:
    """What clients accept comes back byte for byte."""
    assert public_metadata(metadata) == metadata


@pytest.mark.parametrize(
    ("metadata", "shown"),
    [
        (b'{"source":"nope"}', None),
        (b'{"source":"nope","a":  [1, 2.50]}', b'{"a":[1, 2.50]}'),
        (b'{"name":3,"source":"s3://b/k","a":1}', b'{"source":"s3://b/k","a":1}'),
        (b'{"n\\u0061me":{"x":1},"a":1}', b'{"a":1}'),
        (b'{"source":["https://example.com/"],"name":"n"}', b'{"name":"n"}'),
        (b'{"name":"n","name":false}', None),
        (b'{"name":1,"name":"the last one counts"}', b'{"name":"the last one counts"}'),
        (b'{"name":null,"source":7}', b'{"name":null}'),
        (b'{"source":"C:\\\\x.txt","a":12345678901234567890123}', b'{"a":12345678901234567890123}'),
    ],
)
def test_left_out(metadata: bytes, shown: bytes | None) -> None:
    """A name that is no string and a source that is no absolute URL are left out; the other members keep their bytes."""
    assert public_metadata(metadata) == shown


@pytest.mark.parametrize(
    ("metadata", "source"),
    [
        (None, None),
        (b"{}", None),
        (b'{"name":"n"}', None),
        (b'{"source":null}', None),
        (b'{"source":5}', None),
        (b'{"source":"relative/path"}', None),
        (b'{"source":"https://example.com/x","name":5}', "https://example.com/x"),
        (b'{"s\\u006frce":"file:///x"}', None),
        (b'{"\\u0073ource":"file:///x"}', "file:///x"),
    ],
)
def test_source_url(metadata: bytes | None, source: str | None) -> None:
    """The source of a chunk match is the member when it is an absolute URL, and otherwise nothing."""
    assert source_url(metadata) == source


@pytest.mark.parametrize(
    "text",
    [
        *("https://example.com", "http://example.com:8080/a?b=c#d", "HTTPS://EXAMPLE.COM/x y", "https://user:pass@example.com./"),
        *("http://127.0.0.1:80/", "http://[2001:db8::1]/", "https://münchen.de/ü", "https://xn--mnchen-3ya.de/", "https://例え.jp/"),
        *(
            "file:///C:/x y.txt",
            "file://server/share/x",
            "s3://bucket/path/to/file.epub",
            "s3://2024/x",
            "az://container/path",
            "gs://b_c/x",
        ),
        *("urn:isbn:9780306406157", "mailto:a@example.com", "data:text/plain,x", "ipfs://bafybeigdyrzt5", "foo:///x"),
    ],
)
def test_urls_given(text: str) -> None:
    """Addresses of the kinds that people use are given."""
    assert is_absolute_url(text)
    assert client_accepts(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "/a/b", "//example.com/", "example.com/x", "C:\\x.txt", "C:/x.txt", "http:", "http://", "http:/x", "https:///x", "foo:"),
        *("http://a b/", "http://a:65536/", "http://a:x/", "http://256.1.1.1/", "http://[::g]/", "http://xn--a/", "http://a%20b/"),
        *(" http://example.com", "http://exa\tmple.com/", "http://example.com/\n", "http://@/", "file://host:80/x", "1a://x"),
    ],
)
def test_urls_left_out(text: str) -> None:
    """Paths, halves of addresses and addresses that parsers read differently are not given."""
    assert not is_absolute_url(text)


def test_client_accepts_every_url_given() -> None:
    """Of random addresses no one is given that the client's parser refuses."""
    rng = random.Random(1)
    given = 0
    for _ in range(40_000):
        text = rng.choice(SCHEMES) + rng.choice(["://", "://", "://", ":"]) + "".join(rng.choices(PIECES, k=rng.randint(0, 5)))
        if is_absolute_url(text):
            given += 1
            assert client_accepts(text), ascii(text)
    assert given > 4000


def test_client_accepts_every_letter_given() -> None:
    """No letter of any script in a host, written plainly or as punycode, is given that the client's parser refuses."""
    letters = [chr(number) for number in range(0x80, 0x30000) if unicodedata.category(chr(number)) in ("Ll", "Lu", "Lo", "Lm", "Mn", "Nd")]
    for letter in random.Random(2).sample(letters, 20_000):
        for text in (f"http://a{letter}.de/", f"http://xn--{letter.encode('punycode').decode()}.de/"):
            assert not is_absolute_url(text) or client_accepts(text), ascii(text)
