"""The bytes of a submission. The server checks the fields; here only what could not be sent as it is."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Callable, NamedTuple

from .attachment import Attachment
from .errors import InvalidEmail
from .form import FieldValue, encode_form, is_form
from .server import Server
from .version import version

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_PRINTABLE = re.compile(r"[\x20-\x7e]+")


class Body(NamedTuple):
    """The body of a request, in pieces, so that files need not be copied."""

    content_type: str
    pieces: Sequence[bytes]


def encode_email(fields: Mapping[str, object], attachments: Sequence[Attachment] = ()) -> Body:
    """Return the body of an email, without the fields that are None.

    Raises InvalidEmail for a value that cannot be sent, such as a text with a lone surrogate, and TypeError
    for a value of the wrong type.
    """
    faults: list[str] = []
    given = {
        name: _READERS.get(name, _read_text)(name, value, faults)
        for name, value in fields.items()
        if value is not None
    }
    files = _read_files(attachments, faults)
    if faults:
        raise InvalidEmail("; ".join(faults))
    if files and is_form(files):
        return Body(*encode_form(given, files))
    email: dict[str, object] = {name: value for name, value in given.items() if value not in ([], {})}
    if files:
        email["attachments"] = [_members_of(one) for one in files]
    return Body("application/json", [json.dumps(email, ensure_ascii=False, separators=(",", ":")).encode()])


def check_key(key: str) -> None:
    """Raise InvalidEmail unless the server would accept an idempotency key."""
    if not _KEY.fullmatch(key):
        raise InvalidEmail("Idempotency-Key: must be 1 to 255 visible ASCII characters")


def build_request(server: Server, token: str | None, key: str, body: Body) -> list[bytes]:
    """Return a whole request in pieces. The header values have been checked, so none contains a line end."""
    first, *rest = body.pieces
    head = [
        f"POST {server.path} HTTP/1.1",
        f"Host: {server.authority}",
        f"User-Agent: reliable-email-python/{version}",
        "Accept: application/json",
        "Accept-Encoding: identity",
        f"Content-Type: {body.content_type}",
        f"Content-Length: {sum(map(len, body.pieces))}",
        f"Idempotency-Key: {key}",
        *([] if token is None else [f"Authorization: Bearer {token}"]),
    ]
    return ["\r\n".join([*head, "", ""]).encode("ascii") + first, *rest]


def _read_text(name: str, value: object, faults: list[str]) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name}: must be a str, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        faults.append(f"{name}: has a lone surrogate")
    return value


def _read_addresses(name: str, value: object, faults: list[str]) -> list[str]:
    if isinstance(value, str):
        return [_read_text(name, value, faults)]
    # Not a set, whose order may change: repeats of an email must have the same recipients in the same order.
    if not isinstance(value, Sequence) or isinstance(value, (bytes, bytearray)):
        raise TypeError(f"{name}: must be a str or a sequence of them, not {type(value).__name__}")
    return [_read_text(f"{name}[{index}]", one, faults) for index, one in enumerate(value)]


def _read_map(name: str, value: object, faults: list[str]) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: must be a mapping, not {type(value).__name__}")
    return {
        _read_text(name, key, faults): _read_text(f"{name}[{key}]", one, faults) for key, one in value.items()
    }


def _read_time(name: str, value: object, faults: list[str]) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"{name}: must be a datetime, not {type(value).__name__}")
    if value.utcoffset() is None:
        faults.append(f"{name}: has no time zone, such as datetime.timezone.utc")
        return ""
    return value.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_READERS: Mapping[str, Callable[[str, object, list[str]], FieldValue]] = {
    "cc": _read_addresses,
    "bcc": _read_addresses,
    "headers": _read_map,
    "tags": _read_map,
    "send_at": _read_time,
}
"""Readers of the fields that are not a single text. Each appends the faults of a value to a list."""


def _read_files(value: object, faults: list[str]) -> list[Attachment]:
    if not isinstance(value, Sequence):
        raise TypeError(f"attachments: must be a sequence, not {type(value).__name__}")
    for index, one in enumerate(value):
        at = f"attachments[{index}]"
        if not isinstance(one, Attachment):
            raise TypeError(f"{at}: must be an Attachment, not {type(one).__name__}")
        _read_text(f"{at}.filename", one.filename, faults)
        if one.content_id is not None:
            _read_text(f"{at}.content_id", one.content_id, faults)
        if one.content_type is not None and not _PRINTABLE.fullmatch(one.content_type):
            faults.append(f"{at}.content_type: must be printable ASCII")
    return list(value)


def _members_of(one: Attachment) -> dict[str, str]:
    members = {
        "filename": one.filename,
        "content": b64encode(one.content).decode("ascii"),
        "content_type": one.content_type,
        "content_id": one.content_id,
    }
    return {name: value for name, value in members.items() if value is not None}
