"""Client for reliable-email: submits an email over HTTP, exactly once, whatever fails meanwhile."""

from .attachment import Attachment
from .client import Client
from .errors import InvalidEmail, ReliableEmailError, Unauthorized, Unavailable, UnexpectedAnswer
from .version import version as __version__

__all__ = [
    "Attachment",
    "Client",
    "InvalidEmail",
    "ReliableEmailError",
    "Unauthorized",
    "Unavailable",
    "UnexpectedAnswer",
    "__version__",
]
