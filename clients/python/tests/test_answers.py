"""What follows from each answer: repeated under the same key, or raised at once."""

from __future__ import annotations

import pickle
from queue import Queue

from reliable_email import (
    Client,
    InvalidEmail,
    ReliableEmailError,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
)

from .scripted_server import (
    EMAIL,
    Action,
    Call,
    ServerTest,
    answer,
    close,
    failed,
    one_round,
    raw,
    short_pauses,
    stored,
)

HTML = "<html><h1>It works!</h1></html>"
NESTED = "[" * 30_000


class Answers(ServerTest):
    def test_that_may_change_are_repeated_under_one_key(self) -> None:
        table: dict[str, Action] = {
            "500": failed(500),
            "500 of a proxy": answer(500, HTML),
            "502": answer(502, HTML),
            "503": answer(503, ""),
            "504": answer(504, HTML),
            "408": answer(408, ""),
            "429": answer(429, '{"ok":false}'),
            "200 of a proxy": answer(200, HTML),
            "204": answer(204, ""),
            "200 without an id": answer(200, {"ok": True}),
            "200 with an id that is no text": answer(200, {"ok": True, "id": 1}),
            "200 with an empty id": answer(200, {"ok": True, "id": ""}),
            "200 that is not ok": answer(200, {"ok": False, "id": "x"}),
            "200 with a list": answer(200, '["ok"]'),
            "200 that is not UTF-8": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\x00"),
            "200 nested too deeply": answer(200, NESTED),
            "200 too long": answer(200, " " * 100_000 + '{"ok":true,"id":"x"}'),
            "200 cut off": raw(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"ok":true,"id":"x"}'),
            "chunks cut off": raw(
                b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n{"ok":true,"id":"x"}\r\n'
            ),
            "a negative chunk": raw(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n" + b"x" * 100_000
            ),
            "another negative chunk": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n"),
            "a huge chunk": raw(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"
            ),
            "a huge length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"),
            "endless headers": raw(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200),
            "an interim answer alone": raw(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
            "no HTTP": raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
            "nothing": close,
        }
        for name, action in table.items():
            with self.subTest(name):
                server = self.serve(action, action, stored("an-id"))
                with (
                    short_pauses(),
                    Client(server.url) as client,
                    self.assertLogs("reliable_email", "INFO") as log,
                ):
                    self.assertEqual(client.submit(**EMAIL), "an-id")
                self.assertEqual(len(log.output), 2)
                self.assertRegex(log.output[0], f"not acknowledged: {server.url}/ ")
                self.assertEqual(len(server.requests), 3)
                self.assertEqual(len({request.headers["idempotency-key"] for request in server.requests}), 1)
                self.assertEqual(len({request.body for request in server.requests}), 1)

    def test_that_will_not_change_are_raised_at_once(self) -> None:
        table: dict[str, tuple[Action, type[ReliableEmailError], str]] = {
            "400": (failed(400, "to: is not an email address"), InvalidEmail, "to: is not an email address"),
            "401": (
                failed(401, "Authorization: must be Bearer"),
                Unauthorized,
                "Authorization: must be Bearer",
            ),
            "401 of a proxy": (
                answer(401, HTML),
                Unauthorized,
                "URL answered 401, but not as this service does",
            ),
            "400 of a proxy": (
                answer(400, HTML),
                UnexpectedAnswer,
                "URL answered 400, but not as this service does",
            ),
            "403": (answer(403, HTML), UnexpectedAnswer, "URL answered 403, but not as this service does"),
            "404": (
                failed(404, "there is nothing here"),
                UnexpectedAnswer,
                "URL answered 404: there is nothing here",
            ),
            "405": (failed(405, "must be POST"), UnexpectedAnswer, "URL answered 405: must be POST"),
            "407": (answer(407, ""), UnexpectedAnswer, "URL answered 407, but not as this service does"),
            "413": (answer(413, HTML), UnexpectedAnswer, "URL answered 413, but not as this service does"),
        }
        for name, (action, kind, message) in table.items():
            with self.subTest(name):
                server = self.serve(action)
                with Client(server.url) as client, self.assertRaises(ReliableEmailError) as caught:
                    client.submit(**EMAIL)
                self.assertIs(type(caught.exception), kind)
                self.assertEqual(str(caught.exception), message.replace("URL", f"{server.url}/"))
                self.assertEqual(str(caught.exception.status), name[:3])
                self.assertEqual(len(server.requests), 1)

    def test_that_redirect_are_not_followed(self) -> None:
        target = self.serve(stored())
        for status in (301, 302, 303, 307, 308):
            with self.subTest(status):
                server = self.serve(answer(status, "", f"Location: {target.url}/\r\n"))
                with (
                    Client(server.url) as client,
                    self.assertRaisesRegex(UnexpectedAnswer, f"answered {status}"),
                ):
                    client.submit(**EMAIL)
        self.assertEqual(target.connection_count, 0)

    def test_in_chunks_or_until_the_connection_ends_are_read(self) -> None:
        for name, head in (("chunks", b"Transfer-Encoding: chunked\r\n\r\n14\r\n"), ("to the end", b"\r\n")):
            with self.subTest(name):
                end = b"\r\n0\r\n\r\n" if name == "chunks" else b""
                server = self.serve(raw(b"HTTP/1.1 200 OK\r\n" + head + b'{"ok":true,"id":"x"}' + end))
                with Client(server.url) as client:
                    self.assertEqual(client.submit(**EMAIL), "x")

    def test_that_never_end_are_not_read_to_the_end(self) -> None:
        ends: Queue[str] = Queue()

        def flood(call: Call) -> bool:
            call.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n")
            try:
                for _ in range(1000):
                    call.sock.sendall(b"x" * 100_000)
                ends.put("by the server")
            except OSError:
                ends.put("by the client")
            return False

        server = self.serve(flood, stored("an-id"))
        with Client(server.url) as client:
            self.assertEqual(client.submit(**EMAIL), "an-id")
        self.assertEqual(ends.get(), "by the client")


class Unacknowledged(ServerTest):
    def test_says_why_and_under_which_key(self) -> None:
        server = self.serve(failed(500, "the email may not have been stored"))
        with one_round(), Client(server.url) as client, self.assertRaises(Unavailable) as caught:
            client.submit(**EMAIL)
        error = caught.exception
        self.assertEqual(
            str(error),
            f"not acknowledged within 60 s: {server.url}/ answered 500: the email may not have been stored",
        )
        self.assertEqual(error.status, 500)
        self.assertEqual(
            {request.headers["idempotency-key"] for request in server.requests}, {error.idempotency_key}
        )

    def test_keeps_its_cause(self) -> None:
        server = self.serve(close)
        with one_round(), Client(server.url) as client, self.assertRaises(Unavailable) as caught:
            client.submit(**EMAIL)
        self.assertIsInstance(caught.exception.__cause__, ConnectionResetError)

    def test_crosses_processes(self) -> None:
        for error in (
            InvalidEmail("to: is required", status=400),
            Unavailable("not acknowledged", status=500, idempotency_key="k"),
        ):
            copy = pickle.loads(pickle.dumps(error))
            self.assertEqual((str(copy), vars(copy)), (str(error), vars(error)))
