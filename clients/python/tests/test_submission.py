"""What is sent: the fields as they were given, and never anything that could be read as another header."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from reliable_email import Client, InvalidEmail, ReliableEmailError
from reliable_email.version import version

from .scripted_server import EMAIL, ServerTest, stored


class Submission(ServerTest):
    def test_has_all_fields_under_their_names(self) -> None:
        server = self.serve(stored("an-id"))
        with Client(server.url) as client:
            email_id = client.submit(
                to="jane@example.org",
                subject="Grüße \U0001f600",
                body="line\r\nline\n\x01",
                to_name="Jane",
                from_="shop@example.com",
                from_name="",
                html="<p>",
                reply_to="reply@example.com",
                idempotency_key="order-17",
            )
        self.assertEqual(email_id, "an-id")
        [request] = server.requests
        self.assertEqual(
            request.fields,
            {
                "to": "jane@example.org",
                "subject": "Grüße \U0001f600",
                "body": "line\r\nline\n\x01",
                "to_name": "Jane",
                "from": "shop@example.com",
                "from_name": "",
                "html": "<p>",
                "reply_to": "reply@example.com",
            },
        )
        self.assertEqual(request.start, "POST / HTTP/1.1")
        self.assertEqual(
            {name: value for name, value in request.headers.items() if name != "content-length"},
            {
                "host": f"127.0.0.1:{server.port}",
                "user-agent": f"reliable-email-python/{version}",
                "accept": "application/json",
                "accept-encoding": "identity",
                "content-type": "application/json",
                "idempotency-key": "order-17",
            },
        )

    def test_omits_fields_that_are_not_given(self) -> None:
        server = self.serve(stored())
        with Client(server.url) as client:
            client.submit(**EMAIL)
        self.assertEqual(server.requests[0].fields, EMAIL)

    def test_of_an_email_with_old_fields_alone_has_the_bytes_of_the_first_release(self) -> None:
        server = self.serve(stored())
        with Client(server.url) as client:
            client.submit(**EMAIL, from_="a@b.cc", reply_to="", cc=[], headers={}, tags={}, attachments=[])
        self.assertEqual(
            server.requests[0].body,
            b'{"to":"jane@example.org","subject":"Hi","body":"Hello","from":"a@b.cc","reply_to":""}',
        )

    def test_has_recipients_headers_tags_and_a_time(self) -> None:
        server = self.serve(stored())
        tomorrow = datetime(2026, 12, 24, 18, 0, 0, 123_999, timezone(timedelta(hours=1)))
        with Client(server.url) as client:
            client.submit(
                **EMAIL,
                cc="ada@example.org",
                bcc=("bob@example.org", "eve@example.org"),
                headers={"X-Order": "17", "__proto__": "x"},
                tags={"campaign": "spring"},
                send_at=tomorrow,
            )
        self.assertEqual(
            server.requests[0].fields,
            {
                **EMAIL,
                "cc": ["ada@example.org"],
                "bcc": ["bob@example.org", "eve@example.org"],
                "headers": {"X-Order": "17", "__proto__": "x"},
                "tags": {"campaign": "spring"},
                "send_at": "2026-12-24T17:00:00.123Z",
            },
        )

    def test_has_a_key_of_its_own_for_each_call(self) -> None:
        server = self.serve(stored())
        with Client(server.url) as client:
            for _ in range(3):
                client.submit(**EMAIL)
        keys = {request.headers["idempotency-key"] for request in server.requests}
        self.assertEqual(len(keys), 3)
        self.assertTrue(all(len(key) == 36 for key in keys))

    def test_has_the_token(self) -> None:
        server = self.serve(stored())
        with Client(server.url, token="0123456789abcdef") as client:
            client.submit(**EMAIL)
        self.assertEqual(server.requests[0].headers["authorization"], "Bearer 0123456789abcdef")

    def test_goes_to_the_path_of_the_url(self) -> None:
        server = self.serve(stored())
        with Client(f"{server.url}/mail/") as client:
            client.submit(**EMAIL)
        self.assertEqual(server.requests[0].start, "POST /mail/ HTTP/1.1")

    def test_of_a_lone_surrogate_is_invalid_and_not_sent(self) -> None:
        server = self.serve(stored())
        with self.assertRaises(InvalidEmail) as caught:
            Client(server.url).submit(to="jane@example.org", subject="\ud83d", body="\udce9", to_name="Jane")
        self.assertEqual(str(caught.exception), "subject: has a lone surrogate; body: has a lone surrogate")
        self.assertIsNone(caught.exception.status)
        self.assertIsInstance(caught.exception, ReliableEmailError)
        self.assertIsInstance(caught.exception, ValueError)
        self.assertEqual(server.requests, [])

    def test_of_a_key_that_would_inject_a_header_is_invalid_and_not_sent(self) -> None:
        server = self.serve(stored())
        for key in ("", "a\r\nX-Evil: 1", "a\n", "order 17", "schlüssel", "x" * 256):
            with self.subTest(key), self.assertRaisesRegex(InvalidEmail, "^Idempotency-Key: must be"):
                Client(server.url).submit(**EMAIL, idempotency_key=key)
        self.assertEqual(server.requests, [])

    def test_names_the_place_of_each_lone_surrogate(self) -> None:
        half = "\ud83d"
        fields: Mapping[str, Any] = {"cc": ["a@b.cc", half], "headers": {"X-A": half}, "tags": {half: ""}}
        with self.assertRaises(InvalidEmail) as caught:
            Client("http://localhost:1").submit(**EMAIL, **fields)
        self.assertEqual(
            str(caught.exception),
            "cc[1]: has a lone surrogate; headers[X-A]: has a lone surrogate; tags: has a lone surrogate",
        )

    def test_of_a_time_without_a_zone_is_invalid_and_not_sent(self) -> None:
        naive = datetime(2026, 12, 24, 18)
        with self.assertRaisesRegex(ValueError, "^send_at: has no time zone"):
            Client("http://localhost:1").submit(**EMAIL, send_at=naive)

    def test_of_a_value_of_another_type_is_a_type_error(self) -> None:
        table: list[tuple[str, Any, str]] = [
            *(("to", value, "to: must be a str") for value in (b"jane@example.org", ["jane@example.org"], 1)),
            ("cc", {"a@b.cc"}, "cc: must be a str or a sequence"),
            ("bcc", b"a@b.cc", "bcc: must be a str or a sequence"),
            ("bcc", ["a@b.cc", 1], r"bcc\[1\]: must be a str"),
            ("headers", [("X-A", "b")], "headers: must be a mapping"),
            ("tags", {"a": 1}, r"tags\[a\]: must be a str"),
            ("tags", {1: "a"}, "tags: must be a str"),
            ("send_at", "2026-12-24T18:00:00Z", "send_at: must be a datetime"),
            ("attachments", b"content", r"attachments\[0\]: must be an Attachment"),
            ("attachments", [b"content"], r"attachments\[0\]: must be an Attachment"),
            ("attachments", iter([]), "attachments: must be a sequence"),
        ]
        for name, value, message in table:
            with self.subTest(name, value=value), self.assertRaisesRegex(TypeError, f"^{message}"):
                Client("http://localhost:1").submit(**{**EMAIL, name: value})
