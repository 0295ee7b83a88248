"""``python -m reliable_email``: submits one email, whose body is read from stdin, and prints its id."""

from __future__ import annotations

import argparse
import os
import sys
import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from .attachment import Attachment
from .client import Client
from .errors import InvalidEmail, Unauthorized, Unavailable, UnexpectedAnswer
from .version import version

# As in sysexits.h, which mail and batch systems understand, but for the usual 2.
_EX_USAGE = 2
_EX_DATAERR = 65
_EX_TEMPFAIL = 75
_EX_PROTOCOL = 76
_EX_NOPERM = 77
_EX_INTERRUPTED = 130

_TIME_EXAMPLE = "2026-12-24T18:00:00+01:00"

_EPILOG = """\
environment:
  RELIABLE_EMAIL_URL    the address of a server, or several, separated by commas
  RELIABLE_EMAIL_TOKEN  one of API_TOKENS, if the server has any

exit codes:
  0   the email is queued
  2   the command or the environment is wrong
  65  the email is invalid
  75  no server acknowledged the email: try later, with the key that is printed
  76  something other than this service answered
  77  the token is missing or wrong
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    key = str(uuid.uuid4()) if options.idempotency_key is None else options.idempotency_key
    again = f"the email may be queued: to repeat it, add --idempotency-key {key}"
    try:
        client = _create_client(options.timeout)
        html = None if options.html_file is None else _read("--html-file", options.html_file)
        attachments = [Attachment(Path(path).name, _read("--attach", path)) for path in options.attach]
    except ValueError as error:
        return _fail(_EX_USAGE, str(error))
    try:
        with client:
            email_id = client.submit(
                to=options.to,
                subject=options.subject,
                body=_decode("body", sys.stdin.buffer.read()),
                to_name=options.to_name,
                from_=options.from_,
                from_name=options.from_name,
                html=None if html is None else _decode("html", html),
                reply_to=options.reply_to,
                cc=options.cc,
                bcc=options.bcc,
                attachments=attachments,
                headers=options.header,
                tags=options.tag,
                send_at=options.send_at,
                idempotency_key=key,
            )
    except InvalidEmail as error:
        return _fail(_EX_DATAERR, str(error))
    except Unauthorized as error:
        return _fail(_EX_NOPERM, str(error))
    except UnexpectedAnswer as error:
        return _fail(_EX_PROTOCOL, str(error))
    except Unavailable as error:
        return _fail(_EX_TEMPFAIL, f"{error}\n{again}")
    except KeyboardInterrupt:
        # Python reports behind it that an object of http.client is incomplete, if it interrupted the making of one.
        sys.unraisablehook = lambda _: None
        return _fail(_EX_INTERRUPTED, f"interrupted\n{again}")
    print(email_id)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reliable_email",
        description="Submit an email, with its plain text from stdin, and print its id.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--to", required=True, metavar="ADDRESS", help="the recipient")
    parser.add_argument("--subject", required=True, metavar="TEXT")
    parser.add_argument("--to-name", metavar="NAME", help="display name of the recipient")
    parser.add_argument("--from", dest="from_", metavar="ADDRESS", help="sender, if not DEFAULT_FROM")
    parser.add_argument("--from-name", metavar="NAME", help="display name of the sender")
    parser.add_argument("--reply-to", metavar="ADDRESS")
    parser.add_argument("--html-file", metavar="PATH", help="HTML alternative to the plain text")
    for name in ("--cc", "--bcc"):
        parser.add_argument(name, action="append", metavar="ADDRESS", help="may be repeated")
    parser.add_argument(
        "--attach", action="append", default=[], metavar="FILE", help="a file to attach; may be repeated"
    )
    parser.add_argument("--header", action=_PairAction, metavar="NAME:VALUE", help="may be repeated")
    parser.add_argument("--tag", action=_PairAction, metavar="NAME=VALUE", help="may be repeated")
    parser.add_argument(
        "--send-at", type=_parse_time, metavar="TIME", help=f"do not send before, such as {_TIME_EXAMPLE}"
    )
    parser.add_argument("--idempotency-key", metavar="KEY", help="queues the same email once in 24 hours")
    parser.add_argument("--timeout", type=float, default=60, metavar="SECONDS", help="for all attempts (60)")
    parser.add_argument("--version", action="version", version=version)
    return parser


class _PairAction(argparse.Action):
    """Collects pairs of name and value, separated as the option's metavar shows."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: object, option: object = None
    ) -> None:
        separator = str(self.metavar)[len("NAME")]
        name, found, value = str(values).partition(separator)
        pairs = getattr(namespace, self.dest) or {}
        if not found:
            raise argparse.ArgumentError(self, f"must be {self.metavar}")
        if name in pairs:
            raise argparse.ArgumentError(self, f"{name} is given twice")
        setattr(namespace, self.dest, {**pairs, name: value.strip()})


def _parse_time(text: str) -> datetime:
    try:
        # Python before 3.11 does not know the Z.
        time = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as {_TIME_EXAMPLE}") from None
    if time.utcoffset() is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no time zone, unlike {_TIME_EXAMPLE}")
    return time


def _create_client(timeout: float) -> Client:
    urls = os.environ.get("RELIABLE_EMAIL_URL", "")
    if not urls:
        raise ValueError(
            "RELIABLE_EMAIL_URL: is not set: it must be an address such as http://localhost:3000"
        )
    return Client(urls.split(","), token=os.environ.get("RELIABLE_EMAIL_TOKEN") or None, timeout=timeout)


def _read(option: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{option}: {path} cannot be read: {error.strerror}") from None


def _decode(field: str, text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise InvalidEmail(f"{field}: is not valid UTF-8") from None


def _fail(code: int, message: str) -> int:
    print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
