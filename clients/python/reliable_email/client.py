"""The client: one call submits one email, and repeats it under one key until a server has acknowledged it."""

from __future__ import annotations

import logging
import os
import random
import re
import socket
import ssl
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from http.client import HTTPException, RemoteDisconnected
from types import TracebackType

from .attachment import Attachment
from .connection import Answer, Connection
from .deadline import Deadline
from .errors import Unavailable
from .outcome import NotAcknowledged, Stored, read_answer
from .pool import Pool
from .resolver import Resolver
from .rotation import Rotation
from .server import Server, parse_server
from .submission import Body, build_request, check_key, encode_email

_log = logging.getLogger("reliable_email")

_PAUSE_BASE_S = 0.1
_PAUSE_MAX_S = 5.0
_TIMEOUT_MAX_S = 86_400
_TOKEN = re.compile(r"[\x21-\x2b\x2d-\x7e]+")


class Client:
    """Submits emails to reliable-email. Make one for each process, and share it among threads.

        with Client("http://localhost:3000") as client:
            client.submit(to="jane@example.org", subject="Hi", body="Hello")

    With several URLs, which must lead to the same queue, calls take turns. When a server fails, the same
    call goes to the next one at once, and for 30 s the others are tried first.

    Connections are kept between calls, at most 16. A forked child makes its own.
    """

    def __init__(
        self,
        urls: str | Iterable[str],
        *,
        token: str | None = None,
        timeout: float = 60,
        attempt_timeout: float = 20,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Check the arguments; nothing is sent. Raises ValueError.

        :param urls: address of one or several servers, ``http://`` or ``https://``. A path is sent as it is.
        :param token: one of the server's API_TOKENS. It appears in no error and in no repr.
        :param timeout: seconds for a whole call, repeats and pauses included. At most 86400, since the
            server remembers a key for a day.
        :param attempt_timeout: seconds for one attempt, connecting included. The server may take 10 s to
            answer (SUBMIT_TIMEOUT); a shorter limit repeats what it is still working on.
        :param ssl_context: for https; by default ``ssl.create_default_context()``.
        """
        servers = [parse_server(url) for url in ([urls] if isinstance(urls, str) else urls)]
        if not servers:
            raise ValueError("urls: must be at least one")
        if token is not None and not _TOKEN.fullmatch(token):
            raise ValueError("token: must be visible ASCII characters without spaces and commas")
        for name, seconds in (("timeout", timeout), ("attempt_timeout", attempt_timeout)):
            if not 0 < seconds <= _TIMEOUT_MAX_S:
                raise ValueError(f"{name}: {seconds} is not above 0 and at most {_TIMEOUT_MAX_S} seconds")
        self._servers = list(dict.fromkeys(servers))
        self._token = token
        self._timeout = timeout
        self._attempt_timeout = attempt_timeout
        if ssl_context is None and any(server.is_https for server in servers):
            ssl_context = ssl.create_default_context()
        self._tls = ssl_context
        self._is_closed = False
        self._process = _Process(self._servers)

    def submit(
        self,
        *,
        to: str,
        subject: str,
        body: str,
        to_name: str | None = None,
        from_: str | None = None,
        from_name: str | None = None,
        html: str | None = None,
        reply_to: str | None = None,
        cc: str | Sequence[str] | None = None,
        bcc: str | Sequence[str] | None = None,
        attachments: Sequence[Attachment] = (),
        headers: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        send_at: datetime | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Submit an email and return its id. When this returns, the email is on the service's stable storage.

        :param to: one address
        :param subject: one line
        :param body: plain text
        :param to_name: display name of the recipient
        :param from_: sender address; required if the server has no DEFAULT_FROM
        :param from_name: display name of the sender
        :param html: HTML alternative to ``body``
        :param reply_to: one address
        :param cc: further recipients, one address or several
        :param bcc: further recipients whom no recipient sees, one address or several
        :param attachments: files, which are not copied
        :param headers: mail headers, such as ``{"List-Unsubscribe": "<https://example.com/u/17>"}``
        :param tags: names and values for the provider's statistics and webhooks
        :param send_at: the time, with a time zone, before which the email is not sent
        :param idempotency_key: 1 to 255 visible ASCII characters. Within 24 hours, the same email under the
            same key is queued once. By default each call makes a key, which covers its own repeats; pass one
            of your own, such as an order number, where the call itself may be repeated.
        :raises InvalidEmail: the server refuses the email (400), or this client refuses to send it because a
            text has a lone surrogate or ``send_at`` has no time zone
        :raises Unauthorized: the token is missing or wrong (401)
        :raises Unavailable: no server acknowledged the email within ``timeout``
        :raises UnexpectedAnswer: something other than this service answered
        """
        if self._is_closed:
            raise RuntimeError("submit: the client is closed")
        key = str(uuid.uuid4()) if idempotency_key is None else idempotency_key
        check_key(key)
        fields = {
            "to": to,
            "subject": subject,
            "body": body,
            "to_name": to_name,
            "from": from_,
            "from_name": from_name,
            "html": html,
            "reply_to": reply_to,
            "cc": cc,
            "bcc": bcc,
            "headers": headers,
            "tags": tags,
            "send_at": send_at,
        }
        return self._submit(encode_email(fields, attachments), key)

    def close(self) -> None:
        """Close the kept connections. Calls under way end as usual; later ones raise RuntimeError."""
        self._is_closed = True
        self._here().pool.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({[str(server) for server in self._servers]})"

    def _submit(self, body: Body, key: str) -> str:
        deadline = Deadline(self._timeout)
        here = self._here()
        pause_max = _PAUSE_BASE_S
        while True:
            for server in here.rotation.order():
                request = build_request(server, self._token, key, body)
                outcome = self._attempt(here, server, request, deadline)
                if isinstance(outcome, Stored):
                    return outcome.id
                failure = outcome
                _log.info("not acknowledged: %s", failure.reason)
                if not deadline.allows(0):
                    break
            # Full jitter, after Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
            pause = random.uniform(0, pause_max)  # noqa: S311
            if not deadline.allows(pause):
                message = f"not acknowledged within {self._timeout:g} s: {failure.reason}"
                raise Unavailable(message, status=failure.status, idempotency_key=key) from failure.cause
            time.sleep(pause)
            pause_max = min(2 * pause_max, _PAUSE_MAX_S)

    def _attempt(
        self, here: _Process, server: Server, request: Sequence[bytes], deadline: Deadline
    ) -> Stored | NotAcknowledged:
        here.rotation.attempting(server)
        outcome: Stored | NotAcknowledged
        try:
            answer = self._exchange(here, server, request, deadline)
        except (OSError, HTTPException) as error:
            outcome = NotAcknowledged(f"{server} {_describe(error)}", cause=error)
        else:
            outcome = read_answer(server, answer)
        if isinstance(outcome, Stored):
            here.rotation.worked(server)
        else:
            here.rotation.failed(server)
        return outcome

    def _exchange(
        self, here: _Process, server: Server, request: Sequence[bytes], deadline: Deadline
    ) -> Answer:
        attempt = Deadline(self._attempt_timeout, within=deadline)
        kept = here.pool.take(server)
        if kept is not None:
            try:
                return self._run(here, server, kept, request, attempt)
            except (OSError, HTTPException):
                here.pool.drop(server)
                if kept.has_heard:
                    raise
                # The server closed it while it was idle: it is replaced at once.
        tls = self._tls if server.is_https else None
        connection = Connection(server, here.resolver, tls, attempt)
        return self._run(here, server, connection, request, attempt)

    def _run(
        self,
        here: _Process,
        server: Server,
        connection: Connection,
        request: Sequence[bytes],
        deadline: Deadline,
    ) -> Answer:
        try:
            answer = connection.exchange(request, deadline)
        except BaseException:
            # Also KeyboardInterrupt: the answer that is still to come belongs to nobody.
            connection.close()
            raise
        if answer.keeps_connection:
            here.pool.keep(server, connection)
        else:
            connection.close()
        return answer

    def _here(self) -> _Process:
        """Return what belongs to this process. Nothing of it may be shared with a parent, locks included."""
        if self._process.pid != os.getpid():
            self._process.pool.abandon()
            self._process = _Process(self._servers)
        return self._process


class _Process:
    """What the client has in one process."""

    def __init__(self, servers: list[Server]) -> None:
        self.pid = os.getpid()
        self.pool = Pool()
        self.rotation = Rotation(servers)
        self.resolver = Resolver()


def _describe(error: OSError | HTTPException) -> str:
    """Return what went wrong, without anything that the other side sent."""
    if isinstance(error, (TimeoutError, socket.timeout)):
        return "did not answer in time"
    if isinstance(error, RemoteDisconnected):
        return "closed the connection without an answer"
    if isinstance(error, HTTPException):
        return f"sent no valid answer ({type(error).__name__})"
    return f"could not be reached ({error.strerror or error})"
