"""Files: how an email with files is sent, whole and not to be misread, whatever a name or a content holds."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from typing import Any

from reliable_email import Attachment, Client, InvalidEmail

from .scripted_server import (
    EMAIL,
    Received,
    ServerTest,
    close,
    content_of,
    failed,
    name_of,
    one_round,
    parts_of,
    short_pauses,
    stored,
)

EVERY_BYTE = bytes(range(256))


class Files(ServerTest):
    def submit(self, *attachments: Attachment, **fields: Any) -> Received:
        server = self.serve(stored())
        with Client(server.url) as client:
            client.submit(**{**EMAIL, **fields}, attachments=attachments)
        return server.requests[0]

    def test_are_parts_of_a_form_behind_the_fields(self) -> None:
        request = self.submit(
            Attachment("every.bin", EVERY_BYTE, content_type="application/x-every"),
            Attachment("logo.png", b"\x89PNG", content_id="logo.png"),
            cc=["ada@example.org", "bob@example.org"],
            headers={"X-Order": "17"},
            tags={"campaign": "spring"},
            body="Grüße\r\n--\n",
        )
        *texts, every, logo = parts_of(request)
        self.assertEqual(
            [(name_of(part), content_of(part).decode()) for part in texts],
            [
                ("to", "jane@example.org"),
                ("subject", "Hi"),
                ("body", "Grüße\r\n--\n"),
                ("cc", "ada@example.org"),
                ("cc", "bob@example.org"),
                ("headers[X-Order]", "17"),
                ("tags[campaign]", "spring"),
            ],
        )
        self.assertEqual((name_of(every), every.get_filename()), ("attachment", "every.bin"))
        self.assertEqual(every.get_content_type(), "application/x-every")
        self.assertEqual((name_of(logo), logo.get_filename()), ("inline", "logo.png"))
        self.assertNotIn("Content-Type", logo)
        for content in (EVERY_BYTE, b"\x89PNG"):
            self.assertIn(b"\r\n\r\n" + content + b"\r\n--", request.body)

    def test_have_names_that_arrive_as_they_are(self) -> None:
        for name in ("Grüße \U0001f600.pdf", 'a "quoted" name', "100%41.txt", "a;b=c'd", "a\r\nX-Evil: 1"):
            with self.subTest(name):
                *_, part = parts_of(self.submit(Attachment(name, b"x")))
                self.assertEqual(part.get_filename(), name)
                self.assertNotIn("X-Evil", part)

    def test_are_json_where_a_content_id_is_not_the_name(self) -> None:
        request = self.submit(
            Attachment("Logo.png", b"\x00\xff", content_id="logo"), Attachment("a.x", b"a", "text/x", None)
        )
        self.assertEqual(
            request.fields["attachments"],
            [
                {"filename": "Logo.png", "content": "AP8=", "content_id": "logo"},
                {"filename": "a.x", "content": "YQ==", "content_type": "text/x"},
            ],
        )

    def test_are_sent_again_with_the_same_bytes(self) -> None:
        server = self.serve(failed(500), close, stored())
        with Client(server.url) as client, short_pauses():
            client.submit(**EMAIL, attachments=[Attachment("a.bin", EVERY_BYTE * 10_000)])
        self.assertEqual(len({(one.headers["content-type"], one.body) for one in server.requests}), 1)
        self.assertEqual(len(server.requests), 3)

    def test_have_another_boundary_in_each_call(self) -> None:
        types = {self.submit(Attachment("a", b"a")).headers["content-type"] for _ in range(2)}
        self.assertEqual(len(types), 2)

    def test_cannot_inject_a_field(self) -> None:
        request = self.submit(
            Attachment("a", b"a"), headers={'a"\r\n\r\nto: x': "b"}, tags={"c": "\r\n--x\r\n"}
        )
        self.assertEqual(
            [name_of(part) for part in parts_of(request)],
            ["to", "subject", "body", "headers[a%22%0D%0A%0D%0Ato: x]", "tags[c]", "attachment"],
        )

    def test_with_a_type_that_would_inject_a_header_are_invalid_and_not_sent(self) -> None:
        for declared in ("", "text/plain\r\nX-Evil: 1", "tëxt/plain"):
            attachments = [Attachment("a", b"a", declared)]
            with self.subTest(declared), self.assertRaises(InvalidEmail) as caught:
                Client("http://localhost:1").submit(**EMAIL, attachments=attachments)
            self.assertEqual(str(caught.exception), "attachments[0].content_type: must be printable ASCII")

    def test_with_a_lone_surrogate_are_invalid_and_not_sent(self) -> None:
        with self.assertRaises(InvalidEmail) as caught, one_round():
            Client("http://localhost:1").submit(
                **EMAIL, attachments=[Attachment("a", b"a"), Attachment("\ud83d", b"a", None, "\ud83d")]
            )
        self.assertEqual(
            str(caught.exception),
            "attachments[1].filename: has a lone surrogate; attachments[1].content_id: has a lone surrogate",
        )


class AnAttachment(unittest.TestCase):
    def test_is_read_from_a_file(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "report.csv")
            path.write_bytes(EVERY_BYTE)
            self.assertEqual(Attachment.from_path(path), Attachment("report.csv", EVERY_BYTE))
            self.assertEqual(
                Attachment.from_path(str(path), filename="b", content_type="text/x", content_id="c"),
                Attachment("b", EVERY_BYTE, "text/x", "c"),
            )
            with self.assertRaises(OSError):
                Attachment.from_path(Path(folder, "missing"))

    def test_does_not_change_with_the_buffer_that_it_was_made_of(self) -> None:
        buffer = bytearray(b"before")
        attachment = Attachment("a", buffer)
        buffer[:] = b"after."
        self.assertEqual(attachment.content, b"before")

    def test_does_not_copy_bytes(self) -> None:
        self.assertIs(Attachment("a", EVERY_BYTE).content, EVERY_BYTE)

    def test_of_something_other_than_bytes_is_a_type_error(self) -> None:
        values: tuple[Any, ...] = ("text", 5, None, [1])
        for value in values:
            with self.subTest(value), self.assertRaisesRegex(TypeError, "^content: must be bytes, not "):
                Attachment("a", value)

    def test_shows_nothing_of_its_content(self) -> None:
        self.assertNotIn("secret", repr(Attachment("a", b"secret")))
