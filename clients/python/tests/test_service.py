"""The real service, which tests/clients/python.test.ts of the project starts: emails arrive, once."""

from __future__ import annotations

import email
import email.policy
import os
import signal
import subprocess
import sys
import threading
import time
import unittest
import uuid
from datetime import datetime, timedelta, timezone
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reliable_email import Attachment, Client, InvalidEmail, Unauthorized
from reliable_email.reclient import ReClient

from .scripted_server import (
    Call,
    ServerTest,
    close,
    content_of,
    failed,
    name_of,
    parts_of,
    refused_url,
    stored,
)

OPEN_URL = os.environ.get("RELIABLE_EMAIL_TEST_URL", "")
GUARDED_URL = os.environ.get("RELIABLE_EMAIL_TEST_GUARDED_URL", "")
TOKEN = os.environ.get("RELIABLE_EMAIL_TEST_TOKEN", "")
OUTBOX = os.environ.get("RELIABLE_EMAIL_TEST_OUTBOX", "")


@unittest.skipUnless(OPEN_URL, "needs the service: npm test -- tests/clients")
class ServiceTest(ServerTest):
    def setUp(self) -> None:
        self.subject = f"Subject {uuid.uuid4()}"

    def arrived(self, count: int = 1) -> list[Any]:
        """Wait until so many emails of this test have arrived, and a later one too, and return all of them."""
        with Client(OPEN_URL) as client:
            marker = client.submit(to="jane@example.org", subject="later", body="later")
        while True:
            has_marker = bool(list(Path(OUTBOX).glob(f"{marker}.*.eml")))
            messages: list[Any] = [
                email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
                for path in Path(OUTBOX).glob("*.eml")
            ]
            found = [message for message in messages if message["Subject"] == self.subject]
            if has_marker and len(found) >= count:
                return found
            time.sleep(0.02)


class Service(ServiceTest):
    def test_delivers_every_field(self) -> None:
        with Client(OPEN_URL) as client:
            email_id = client.submit(
                to="jane@example.org",
                to_name="Jane Doe",
                subject=self.subject,
                body="Grüße\n",
                from_="shop@example.com",
                from_name="The Shop",
                html="<p>Grüße</p>",
                reply_to="reply@example.com",
            )
        self.assertEqual(uuid.UUID(email_id).version, 7)
        [message] = self.arrived()
        self.assertEqual(message["To"], "Jane Doe <jane@example.org>")
        self.assertEqual(message["From"], "The Shop <shop@example.com>")
        self.assertEqual(message["Reply-To"], "reply@example.com")
        self.assertEqual(message.get_body(["plain"]).get_content().strip(), "Grüße")
        self.assertEqual(message.get_body(["html"]).get_content().strip(), "<p>Grüße</p>")

    def test_delivers_copies_files_headers_and_a_scheduled_time(self) -> None:
        names = ("report.csv", "Grüße \U0001f600.txt", 'a "quoted" name.txt', "100%41.txt")
        files = [Attachment(name, name.encode() + bytes(range(256))) for name in names]
        logo = Attachment("logo.png", b"\x89PNG", content_id="logo.png")
        # As a form, and as JSON.
        for image in (logo, Attachment("Logo 1.png", b"\x89PNG", content_id="logo.png")):
            with self.subTest(image), Client(OPEN_URL) as client:
                self.subject = f"Subject {uuid.uuid4()}"
                client.submit(
                    to="jane@example.org",
                    subject=self.subject,
                    body="Hello\n",
                    html='<img src="cid:logo.png">',
                    cc=["ada@example.org", "bob@example.org"],
                    bcc="eve@example.org",
                    headers={"X-Order": "17"},
                    tags={"campaign": "spring"},
                    attachments=[*files, image],
                    send_at=datetime.now(timezone.utc) + timedelta(seconds=0.5),
                )
                [message] = self.arrived()
                self.assertEqual(message["Cc"], "ada@example.org, bob@example.org")
                self.assertIsNone(message["Bcc"])
                self.assertEqual(message["X-Order"], "17")
                found = {part.get_filename(): part for part in message.walk() if part.get_filename()}
                self.assertEqual(found.keys(), {*names, image.filename})
                for file in (*files, image):
                    self.assertEqual(content_of(found[file.filename]), file.content)
                self.assertEqual(found[image.filename]["Content-ID"], "<logo.png>")

    def test_queues_once_what_is_submitted_twice_under_a_key(self) -> None:
        with Client(OPEN_URL) as client:
            first = client.submit(
                to="jane@example.org", subject=self.subject, body="b", idempotency_key=self.subject[8:]
            )
            again = client.submit(
                to="jane@example.org", subject=self.subject, body="b", idempotency_key=self.subject[8:]
            )
            self.assertEqual(first, again)
            with self.assertRaisesRegex(InvalidEmail, "^Idempotency-Key: belongs to another email$"):
                client.submit(
                    to="jane@example.org", subject="other", body="b", idempotency_key=self.subject[8:]
                )
        self.assertEqual(len(self.arrived()), 1)

    def test_queues_once_what_was_stored_although_the_answer_was_lost(self) -> None:
        answers: list[bytes] = []

        def lose_the_answer(call: Call) -> bool:
            parts = urlsplit(OPEN_URL)
            service = HTTPConnection(str(parts.hostname), parts.port)
            service.request("POST", "/", call.request.body, dict(call.request.headers))
            answers.append(service.getresponse().read())
            service.close()
            return False

        gateway = self.serve(lose_the_answer)
        with Client([gateway.url, OPEN_URL]) as client:
            ids = [client.submit(to="jane@example.org", subject=self.subject, body=str(i)) for i in range(2)]
        # One of two calls begins with each URL.
        self.assertEqual(len(answers), 1)
        self.assertTrue(any(email_id.encode() in answers[0] for email_id in ids))
        self.assertEqual(len(self.arrived(2)), 2)

    def test_names_every_invalid_field(self) -> None:
        with Client(OPEN_URL) as client, self.assertRaises(InvalidEmail) as caught:
            client.submit(to="jane", subject="a\nb", body=" ")
        self.assertEqual(caught.exception.status, 400)
        for field in ("to", "subject", "body"):
            self.assertIn(f"{field}: ", str(caught.exception))

    def test_refuses_a_large_body_as_invalid(self) -> None:
        with Client(OPEN_URL) as client, self.assertRaisesRegex(InvalidEmail, "the body is over "):
            client.submit(to="jane@example.org", subject=self.subject, body="x" * 20_000_000)

    def test_with_tokens_wants_one_of_them(self) -> None:
        for token in (None, "0123456789abcdef-wrong"):
            with Client(GUARDED_URL, token=token) as client, self.assertRaises(Unauthorized) as caught:
                client.submit(to="jane@example.org", subject=self.subject, body="b")
            self.assertEqual(caught.exception.status, 401)
            self.assertNotIn("0123456789abcdef", str(caught.exception))
        with Client(GUARDED_URL, token=TOKEN) as client:
            client.submit(to="jane@example.org", subject=self.subject, body="b")
        self.assertEqual(len(self.arrived()), 1)


class OriginalClient(ServiceTest):
    def create(self, url: str) -> ReClient:
        client = ReClient(url)
        # The original has nothing to close.
        self.addCleanup(client._client.close)
        return client

    def test_submits_with_the_arguments_of_the_original(self) -> None:
        client = self.create(OPEN_URL)
        self.assertIs(client.submit(self.subject, "body", "jane@example.org"), True)
        self.assertIs(
            client.submit(self.subject, "body", "jane@example.org", "Jane", "shop@example.com", "Shop"), True
        )
        self.assertIs(
            client.submit(
                subject=self.subject,
                body="body",
                to_email="jane@example.org",
                to_name="",
                from_email="",
                from_name="",
            ),
            True,
        )
        self.assertEqual(len(self.arrived(3)), 3)

    def test_returns_false_whatever_is_wrong(self) -> None:
        self.assertIs(self.create(OPEN_URL).submit("Hi", "body", "jane"), False)
        self.assertIs(self.create(OPEN_URL).submit("Hi", "\udc80", "jane@example.org"), False)
        self.assertIs(self.create(GUARDED_URL).submit("Hi", "body", "jane@example.org"), False)


class Command(ServiceTest):
    def run_command(
        self, *arguments: str, body: bytes = b"Hello\n", url: str = OPEN_URL, token: str = ""
    ) -> subprocess.CompletedProcess[bytes]:
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "RELIABLE_EMAIL_URL": url,
            "RELIABLE_EMAIL_TOKEN": token,
        }
        command = [sys.executable, "-m", "reliable_email", *arguments]
        return subprocess.run(command, input=body, env=environment, capture_output=True, check=False)

    def test_submits_stdin_and_prints_the_id(self) -> None:
        html = Path(OUTBOX, "..", f"{self.subject}.html").resolve()
        html.write_text("<p>Hello</p>", encoding="utf-8")
        ran = self.run_command(
            "--to=jane@example.org",
            f"--subject={self.subject}",
            "--to-name=Jane",
            "--from=shop@example.com",
            "--from-name=Shop",
            "--reply-to=reply@example.com",
            f"--html-file={html}",
            body="Grüße\n".encode(),
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, b""))
        self.assertEqual(uuid.UUID(ran.stdout.decode().strip()).version, 7)
        [message] = self.arrived()
        self.assertEqual(message["To"], "Jane <jane@example.org>")
        self.assertEqual(message.get_body(["plain"]).get_content().strip(), "Grüße")
        self.assertEqual(message.get_body(["html"]).get_content().strip(), "<p>Hello</p>")

    def test_sends_copies_files_headers_tags_and_a_time(self) -> None:
        server = self.serve(stored())
        path = Path(OUTBOX, "..", f"{self.subject}.csv").resolve()
        path.write_bytes(b"a,b\r\n")
        ran = self.run_command(
            "--to=jane@example.org",
            "--subject=Hi",
            *("--cc=ada@example.org", "--cc=bob@example.org", "--bcc=eve@example.org"),
            *(f"--attach={path}", f"--attach={path}"),
            *("--header=X-Order: 17", "--header=X-Time:10:00", "--tag=campaign=spring"),
            "--send-at=2026-12-24T18:00:00+01:00",
            url=server.url,
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, b""))
        parts = parts_of(server.requests[0])
        self.assertEqual(
            [(name_of(part), content_of(part)) for part in parts],
            [
                ("to", b"jane@example.org"),
                ("subject", b"Hi"),
                ("body", b"Hello\n"),
                ("cc", b"ada@example.org"),
                ("cc", b"bob@example.org"),
                ("bcc", b"eve@example.org"),
                ("headers[X-Order]", b"17"),
                ("headers[X-Time]", b"10:00"),
                ("tags[campaign]", b"spring"),
                ("send_at", b"2026-12-24T17:00:00.000Z"),
                ("attachment", b"a,b\r\n"),
                ("attachment", b"a,b\r\n"),
            ],
        )
        self.assertEqual(parts[-1].get_filename(), path.name)

    def test_with_a_key_submits_once(self) -> None:
        arguments = [
            "--to=jane@example.org",
            f"--subject={self.subject}",
            f"--idempotency-key={self.subject[8:]}",
        ]
        first, again = self.run_command(*arguments), self.run_command(*arguments)
        self.assertEqual((first.returncode, first.stdout), (0, again.stdout))
        self.assertEqual(len(self.arrived()), 1)

    def test_of_an_invalid_email_ends_with_65(self) -> None:
        ran = self.run_command("--to=jane", "--subject=Hi")
        self.assertEqual((ran.returncode, ran.stdout), (65, b""))
        self.assertEqual(ran.stderr, b"to: is not an email address\n")
        ran = self.run_command("--to=jane@example.org", "--subject=Hi", body=b"\xff")
        self.assertEqual((ran.returncode, ran.stderr), (65, b"body: is not valid UTF-8\n"))

    def test_of_a_token_that_is_missing_or_wrong_ends_with_77(self) -> None:
        arguments = ["--to=jane@example.org", f"--subject={self.subject}"]
        for token in ("", "0123456789abcdef-wrong"):
            ran = self.run_command(*arguments, url=GUARDED_URL, token=token)
            self.assertEqual((ran.returncode, ran.stdout), (77, b""))
            self.assertNotIn(b"0123456789abcdef", ran.stderr)
        self.assertEqual(self.run_command(*arguments, url=GUARDED_URL, token=TOKEN).returncode, 0)

    def test_of_what_no_server_acknowledged_ends_with_75_and_names_the_key(self) -> None:
        server = self.serve(failed(500))
        ran = self.run_command("--to=jane@example.org", "--subject=Hi", "--timeout=3", url=server.url)
        key = server.requests[0].headers["idempotency-key"]
        self.assertEqual((ran.returncode, ran.stdout), (75, b""))
        self.assertRegex(ran.stderr.decode(), f"^not acknowledged .*\n.* --idempotency-key {key}\n$")

    def test_goes_to_the_next_of_several_servers(self) -> None:
        for urls in (f"{refused_url()},{OPEN_URL}", f"{OPEN_URL},{refused_url()}"):
            ran = self.run_command("--to=jane@example.org", f"--subject={self.subject}", url=urls)
            self.assertEqual(ran.returncode, 0)

    def test_of_an_answer_by_another_program_ends_with_76(self) -> None:
        ran = self.run_command("--to=jane@example.org", "--subject=Hi", url=f"{OPEN_URL}/elsewhere")
        self.assertEqual((ran.returncode, ran.stdout), (76, b""))
        self.assertIn(b"answered 404", ran.stderr)

    def test_of_wrong_usage_ends_with_2(self) -> None:
        email = ["--to=jane@example.org", "--subject=Hi"]
        for arguments in (
            ["--subject=Hi"],
            [*email, "--token=x"],
            [*email, "--header=X-A"],
            [*email, "--header=X-A:1", "--header=X-A:2"],
            [*email, "--tag=a:1"],
            [*email, "--send-at=tomorrow"],
            [*email, "--send-at=2026-12-24T18:00:00"],
        ):
            with self.subTest(arguments[-1]):
                self.assertEqual(self.run_command(*arguments).returncode, 2)
        for url in ("", "localhost", "http://geheim@host"):
            ran = self.run_command("--to=jane@example.org", "--subject=Hi", url=url)
            self.assertEqual((ran.returncode, ran.stdout), (2, b""))
            self.assertNotIn(b"geheim", ran.stderr)

    def test_with_a_file_that_cannot_be_read_names_it(self) -> None:
        email = ("--to=jane@example.org", "--subject=Hi")
        for option in ("--attach", "--html-file"):
            for path, reason in (("/missing", "No such file or directory"), ("/", "Is a directory")):
                with self.subTest(option, path=path):
                    ran = self.run_command(*email, f"{option}={path}")
                    self.assertEqual((ran.returncode, ran.stdout), (2, b""))
                    self.assertEqual(ran.stderr.decode(), f"{option}: {path} cannot be read: {reason}\n")

    def test_that_is_interrupted_names_the_key(self) -> None:
        self.allow_interrupts()
        arrived = threading.Event()

        def arrive(call: Call) -> bool:
            arrived.set()
            call.closing.wait()
            return close(call)

        server = self.serve(arrive)
        environment = {**os.environ, "RELIABLE_EMAIL_URL": server.url}
        command = [sys.executable, "-m", "reliable_email", "--to=jane@example.org", "--subject=Hi"]
        with subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as child:
            arrived.wait()
            child.send_signal(signal.SIGINT)
            _, stderr = child.communicate()
        self.assertEqual(child.returncode, 130)
        key = server.requests[0].headers["idempotency-key"]
        self.assertRegex(stderr.decode(), f"^interrupted\n.* --idempotency-key {key}\n$")

    def test_that_is_interrupted_within_http_client_says_nothing_else(self) -> None:
        server = self.serve(close)
        program = """if True:
            import http.client, runpy
            def interrupt(*_, **__):
                raise KeyboardInterrupt
            http.client.HTTPResponse.__init__ = interrupt
            runpy.run_module("reliable_email", run_name="__main__", alter_sys=True)
        """
        ran = subprocess.run(
            [sys.executable, "-c", program, "--to=jane@example.org", "--subject=Hi"],
            env={**os.environ, "RELIABLE_EMAIL_URL": server.url},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        self.assertEqual(ran.returncode, 130)
        self.assertRegex(ran.stderr.decode(), "^interrupted\n.* --idempotency-key \\S+\n$")
