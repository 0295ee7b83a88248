"""Submits one email after another from several threads until stdin ends, and prints a line with each id."""

from __future__ import annotations

import os
import sys
import threading
import time

from reliable_email import Client

THREADS = 8
PAUSE_S = 0.02
# A busy machine may take long to start a server again.
TIMEOUT_S = 600
# Shorter than a server may take: an attempt at a frozen one is over soon, and others are repeated in vain.
ATTEMPT_TIMEOUT_S = 5


def stream(client: Client, name: str, ended: threading.Event) -> None:
    """Submit emails that differ."""
    count = 0
    while not ended.is_set():
        count += 1
        email_id = client.submit(to="jane@example.org", subject=f"{name}.{count}", body="Hello")
        # One write, so that lines of threads do not mix.
        os.write(1, f"{email_id}\n".encode())
        time.sleep(PAUSE_S)


def main() -> None:
    """Run the threads."""
    ended = threading.Event()
    with Client(
        os.environ["RELIABLE_EMAIL_URL"].split(","), timeout=TIMEOUT_S, attempt_timeout=ATTEMPT_TIMEOUT_S
    ) as client:
        threads = [
            threading.Thread(target=stream, args=(client, f"thread {number}", ended))
            for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        ended.set()
        for thread in threads:
            thread.join()


main()
