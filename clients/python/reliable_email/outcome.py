"""What follows from an answer. Only this service's own JSON acknowledges an email, or calls it invalid."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from .connection import Answer
from .errors import InvalidEmail, Unauthorized, UnexpectedAnswer
from .server import Server


class Stored(NamedTuple):
    """The email is on stable storage."""

    id: str


class NotAcknowledged(NamedTuple):
    """The email may or may not be stored: repeat it under the same key."""

    reason: str
    status: int | None = None
    cause: Exception | None = None


def read_answer(server: Server, answer: Answer) -> Stored | NotAcknowledged:
    """Return what an answer means. Raises InvalidEmail, Unauthorized or UnexpectedAnswer: do not repeat."""
    status = answer.status
    document = _json_object(answer.body)
    is_success = 200 <= status < 300
    email_id = document.get("id")
    if is_success and document.get("ok") is True and isinstance(email_id, str) and email_id != "":
        return Stored(email_id)
    message = document.get("error_message")
    if document.get("ok") is not False or not isinstance(message, str):
        message = None
    if status == 400 and message is not None:
        raise InvalidEmail(message, status=status)
    said = f"{server} answered {status}" + (f": {message}" if message else ", but not as this service does")
    if status == 401:
        raise Unauthorized(message or said, status=status)
    if is_success or status >= 500 or status in (408, 429):
        return NotAcknowledged(said, status)
    raise UnexpectedAnswer(said, status=status)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
