"""``python -m reliable_email``: submits one email, whose body is read from stdin, and prints its id."""

from __future__ import annotations

import argparse
import os
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

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
        html = None if options.html_file is None else Path(options.html_file).read_bytes()
    except (ValueError, OSError) as error:
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
    parser.add_argument("--idempotency-key", metavar="KEY", help="queues the same email once in 24 hours")
    parser.add_argument("--timeout", type=float, default=60, metavar="SECONDS", help="for all attempts (60)")
    parser.add_argument("--version", action="version", version=version)
    return parser


def _create_client(timeout: float) -> Client:
    urls = os.environ.get("RELIABLE_EMAIL_URL", "")
    if not urls:
        raise ValueError(
            "RELIABLE_EMAIL_URL: is not set: it must be an address such as http://localhost:3000"
        )
    return Client(urls.split(","), token=os.environ.get("RELIABLE_EMAIL_TOKEN") or None, timeout=timeout)


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
