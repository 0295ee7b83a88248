"""The client of the original service, so that code written for it changes one import."""

from __future__ import annotations

from .client import Client
from .errors import ReliableEmailError


class ReClient:
    """Submits emails to a server without API_TOKENS. New code should use :class:`reliable_email.Client`."""

    def __init__(self, server_url: str) -> None:
        """Keep the address of a server. Raises ValueError if it is not a URL."""
        self._client = Client(server_url)

    def submit(
        self,
        subject: str,
        body: str,
        to_email: str,
        to_name: str = "",
        from_email: str = "",
        from_name: str = "",
    ) -> bool:
        """Return True if the email was submitted, or False, whatever the reason. Takes 60 s at most."""
        try:
            self._client.submit(
                to=to_email,
                subject=subject,
                body=body,
                to_name=to_name,
                from_=from_email,
                from_name=from_name,
            )
        except ReliableEmailError:
            return False
        return True
