"""Every call ends: whatever a server, a resolver or a clock does, ``timeout`` bounds it.

None of these measures the machine: without the bound, the calls would never return.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import unittest
from unittest import mock

from reliable_email import Client, Unavailable
from reliable_email.deadline import Deadline

from .scripted_server import EMAIL, Call, ServerTest, drip, hang, one_round, refused_url, stored


class Calls(ServerTest):
    def test_end_although_a_server_drips(self) -> None:
        server = self.serve(drip)
        with Client(server.url, timeout=0.5) as client:
            self.assertRaisesRegex(Unavailable, "did not answer in time", client.submit, **EMAIL)

    def test_end_although_a_server_drips_its_body(self) -> None:
        def drip_body(call: Call) -> bool:
            call.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
            return drip(call)

        server = self.serve(drip_body)
        with Client(server.url, timeout=0.5) as client:
            self.assertRaisesRegex(Unavailable, "did not answer in time", client.submit, **EMAIL)

    def test_end_although_a_server_hangs(self) -> None:
        server = self.serve(hang)
        with Client(server.url, timeout=0.3) as client:
            self.assertRaisesRegex(Unavailable, "did not answer in time", client.submit, **EMAIL)

    def test_name_the_server_that_used_up_the_time(self) -> None:
        servers = [self.serve(hang), self.serve(hang)]
        client = Client([server.url for server in servers], timeout=0.5)
        with client, self.assertRaises(Unavailable) as caught:
            client.submit(**EMAIL)
        [other] = [server for server in servers if server.url not in str(caught.exception)]
        self.assertEqual(other.connection_count, 0)

    def test_end_although_nobody_reads_a_large_email(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with (
                Client(url, timeout=0.3) as client,
                self.assertRaisesRegex(Unavailable, "did not answer in time"),
            ):
                client.submit(to="jane@example.org", subject="Hi", body="x" * 50_000_000)

    def test_end_although_no_tls_follows(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"https://127.0.0.1:{listener.getsockname()[1]}"
            with Client(url, timeout=0.3) as client:
                self.assertRaisesRegex(Unavailable, "did not answer in time", client.submit, **EMAIL)

    def test_end_although_name_resolution_hangs(self) -> None:
        ended = threading.Event()
        self.addCleanup(ended.set)
        with mock.patch("socket.getaddrinfo", side_effect=lambda *_, **__: ended.wait()) as look_up:
            with Client("http://mail.example.com", timeout=0.5, attempt_timeout=0.1) as client:
                self.assertRaisesRegex(Unavailable, "did not answer in time", client.submit, **EMAIL)
            # However many attempts wait for it.
            self.assertEqual(look_up.call_count, 1)

    def test_end_although_nobody_listens(self) -> None:
        with Client(refused_url(), timeout=0.3) as client:
            self.assertRaises(Unavailable, client.submit, **EMAIL)
        with one_round(), Client(refused_url()) as client:
            self.assertRaisesRegex(Unavailable, "Connection refused", client.submit, **EMAIL)

    def test_end_although_the_name_is_unknown(self) -> None:
        with one_round(), Client("http://no-such-host.invalid") as client:
            self.assertRaisesRegex(Unavailable, "could not be reached", client.submit, **EMAIL)

    def test_repeat_after_an_attempt_that_hangs(self) -> None:
        server = self.serve(hang, stored("an-id"))
        with Client(server.url, attempt_timeout=0.3) as client:
            self.assertEqual(client.submit(**EMAIL), "an-id")

    def test_try_the_next_address_of_a_host(self) -> None:
        server = self.serve(stored("an-id"))
        closed = int(refused_url().rpartition(":")[2])
        addresses = [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for port in (closed, server.port)
        ]
        url = f"http://mail.example.com:{server.port}"
        with mock.patch("socket.getaddrinfo", return_value=addresses), Client(url) as client:
            self.assertEqual(client.submit(**EMAIL), "an-id")
        self.assertEqual(server.requests[0].headers["host"], f"mail.example.com:{server.port}")

    def test_leave_an_address_that_is_silent(self) -> None:
        server = self.serve(stored("an-id"))
        with contextlib.ExitStack() as stack:
            # Its backlog is full: it answers no further connection.
            silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(silent.getsockname())
            addresses = [
                (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))
                for port in (silent.getsockname()[1], server.port)
            ]
            stack.enter_context(mock.patch("socket.getaddrinfo", return_value=addresses))
            client = stack.enter_context(Client("http://mail.example.com", attempt_timeout=2))
            self.assertEqual(client.submit(**EMAIL), "an-id")

    def test_find_a_host_while_the_interpreter_exits(self) -> None:
        server = self.serve(stored("an-id"))
        with Client(f"http://localhost:{server.port}") as client:
            # No thread can be started then.
            with mock.patch("reliable_email.resolver.threading") as threading_module:
                threading_module.Thread.return_value.start.side_effect = RuntimeError(
                    "can't start new thread"
                )
                self.assertEqual(client.submit(**EMAIL), "an-id")
            threading_module.Thread.return_value.start.assert_called_once()


class DeadlineTest(unittest.TestCase):
    def test_is_not_moved_by_the_wall_clock(self) -> None:
        deadline = Deadline(60)
        with mock.patch("time.time", return_value=0):
            self.assertTrue(deadline.allows(1))

    def test_is_never_behind_the_one_around_it(self) -> None:
        with mock.patch("time.monotonic", return_value=100.0):
            outer = Deadline(5)
            self.assertEqual(Deadline(20, within=outer).left(), 5)
            self.assertEqual(Deadline(2, within=outer).left(), 2)
        with mock.patch("time.monotonic", return_value=105.0):
            self.assertRaises(TimeoutError, outer.left)
            self.assertFalse(outer.allows(0))
