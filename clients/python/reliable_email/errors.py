"""The errors in which a submission can end: one class for each thing that a caller may do about it."""

from __future__ import annotations


class ReliableEmailError(Exception):
    """Base of this package's errors. ``str(error)`` is the message, the server's own where it sent one."""

    status: int | None
    """The HTTP status of the answer, or None if there was none."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class InvalidEmail(ReliableEmailError, ValueError):
    """The email, or its idempotency key, is invalid (400). Nothing was queued; do not repeat it.

    The message names every invalid field. ``status`` is None if this client noticed it before sending.
    """


class Unauthorized(ReliableEmailError):
    """The server requires a token, and this client has none or a wrong one (401). Nothing was queued."""


class Unavailable(ReliableEmailError):
    """No server acknowledged the email within the timeout (5xx, 408, 429, the network, a proxy's own answer).

    The email may be queued nevertheless. To repeat it later without a duplicate, pass ``idempotency_key``
    of this error to the next call, within 24 hours.
    """

    idempotency_key: str
    """The key under which the email was submitted."""

    def __init__(self, message: str, *, status: int | None = None, idempotency_key: str = "") -> None:
        super().__init__(message, status=status)
        self.idempotency_key = idempotency_key


class UnexpectedAnswer(ReliableEmailError):
    """Something other than this service answered, such as with a redirect or 404: check the URL."""
