"""The address of one server, and the rules that its URL must keep."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[A-Za-z0-9._:-]+")


class Server(NamedTuple):
    """Where a server listens, taken apart. ``str(server)`` is its URL, which holds nothing secret."""

    is_https: bool
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_default = self.port == _default_port(self.is_https)
        return host if is_default else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.is_https else 'http'}://{self.authority}{self.path}"


def _default_port(is_https: bool) -> int:
    return 443 if is_https else 80


def parse_server(url: str) -> Server:
    """Take a URL apart. Raises ValueError, without the URL where it may hold a password."""
    if "@" in url:
        raise ValueError("url: must not contain a user name or password: use token")
    if not _VISIBLE.fullmatch(url):
        raise ValueError(f"url: {url!r} must be visible ASCII: write an international name in punycode")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"url: {url!r} is not a URL ({error})") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"url: {url!r} is not a URL such as http://localhost:3000")
    if not _HOST.fullmatch(host) or port == 0:
        raise ValueError(f"url: {url!r} has no valid host and port")
    if "?" in url or "#" in url:
        raise ValueError(f"url: {url!r} must not have a query or a fragment")
    is_https = parts.scheme == "https"
    return Server(is_https, host, port or _default_port(is_https), parts.path or "/")
