"""The bytes of a submission. The server checks the fields; here only what could not be sent as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from .errors import InvalidEmail
from .server import Server
from .version import version

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def encode_fields(fields: Mapping[str, str | None]) -> bytes:
    """Return the JSON of an email, without the fields that are None.

    Raises InvalidEmail for a text that no UTF-8 can express, and TypeError for what is not a text.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    invalid: list[str] = []
    for name, value in given.items():
        if not isinstance(value, str):
            raise TypeError(f"{name}: must be a str, not {type(value).__name__}")
        try:
            value.encode()
        except UnicodeEncodeError:
            invalid.append(f"{name}: has a lone surrogate")
    if invalid:
        raise InvalidEmail("; ".join(invalid))
    return json.dumps(given, ensure_ascii=False, separators=(",", ":")).encode()


def check_key(key: str) -> None:
    """Raise InvalidEmail unless the server would accept an idempotency key."""
    if not _KEY.fullmatch(key):
        raise InvalidEmail("Idempotency-Key: must be 1 to 255 visible ASCII characters")


def build_request(server: Server, token: str | None, key: str, body: bytes) -> bytes:
    """Return a whole request. Its parts have been checked: no line end can be in one."""
    head = [
        f"POST {server.path} HTTP/1.1",
        f"Host: {server.authority}",
        f"User-Agent: reliable-email-python/{version}",
        "Accept: application/json",
        "Accept-Encoding: identity",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"Idempotency-Key: {key}",
        *([] if token is None else [f"Authorization: Bearer {token}"]),
    ]
    return "\r\n".join([*head, "", ""]).encode("ascii") + body
