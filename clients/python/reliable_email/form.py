"""An email with files as multipart/form-data. The contents are neither copied nor encoded."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Union
from urllib.parse import quote

from .attachment import Attachment

FieldValue = Union[str, list[str], dict[str, str]]
"""A text, a list of recipients, or a map of names to values."""

# Names that every parser reads alike in quotation marks.
_PLAIN = re.compile(r"[\w .,()+@=-]+", re.ASCII)


def is_form(attachments: Sequence[Attachment]) -> bool:
    """Whether a form can express the files: in a form, the content id of a file is its name."""
    return all(one.content_id in (None, one.filename) for one in attachments)


def encode_form(
    fields: Mapping[str, FieldValue], attachments: Sequence[Attachment]
) -> tuple[str, list[bytes]]:
    """Return the content type of a form and its bytes in pieces."""
    # No text or file can contain a random boundary.
    boundary = secrets.token_hex(16)
    pieces: list[bytes] = []
    text = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_escape(name)}"\r\n\r\n{value}\r\n'
        for name, value in _flatten(fields)
    )
    for one in attachments:
        pieces += [f"{text}--{boundary}\r\n{_file_head(one)}\r\n".encode(), one.content]
        text = "\r\n"
    pieces.append(f"{text}--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", pieces


def _flatten(fields: Mapping[str, FieldValue]) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        if isinstance(value, str):
            yield name, value
        elif isinstance(value, dict):
            yield from ((f"{name}[{key}]", one) for key, one in value.items())
        else:
            yield from ((name, one) for one in value)


def _file_head(one: Attachment) -> str:
    name = "attachment" if one.content_id is None else "inline"
    filename = f'filename="{one.filename}"'
    if not _PLAIN.fullmatch(one.filename):
        filename = f"filename*=UTF-8''{quote(one.filename, safe='')}"
    declared = "" if one.content_type is None else f"Content-Type: {one.content_type}\r\n"
    return f'Content-Disposition: form-data; name="{name}"; {filename}\r\n{declared}'


def _escape(name: str) -> str:
    """Escape a name as browsers do. The server refuses every name that needs it."""
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
