"""Connections: kept between calls, replaced when they are found closed, never shared with a forked child."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import ssl
import subprocess
import tempfile
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

from reliable_email import Client, Unavailable
from reliable_email.pool import KEPT_MAX

from .scripted_server import (
    EMAIL,
    Action,
    Call,
    ScriptedServer,
    ServerTest,
    close,
    hang,
    no_pause,
    one_round,
    stored,
)


def echo(call: Call) -> bool:
    """Answer with the subject as the id."""
    return stored(call.request.fields["subject"])(call)


class KeptConnections(ServerTest):
    def test_serve_one_call_after_another(self) -> None:
        server = self.serve(stored())
        with Client(server.url) as client:
            for _ in range(5):
                client.submit(**EMAIL)
        self.assertEqual([request.connection for request in server.requests], [1] * 5)

    def test_that_the_server_has_closed_are_replaced_without_a_failure(self) -> None:
        server = self.serve(stored(then_close=True))
        with no_pause(), Client(server.url) as client:
            for _ in range(3):
                client.submit(**EMAIL)
        self.assertEqual([request.connection for request in server.requests], [1, 2, 3])

    def test_that_close_on_a_request_are_replaced_without_a_failure(self) -> None:
        server = self.serve(stored(), close, stored("an-id"))
        with no_pause(), Client(server.url) as client:
            client.submit(**EMAIL)
            self.assertEqual(client.submit(**EMAIL), "an-id")
        self.assertEqual([request.connection for request in server.requests], [1, 1, 2])
        self.assertEqual(len({request.headers["idempotency-key"] for request in server.requests}), 2)

    def test_of_a_server_that_has_restarted_are_replaced_without_a_failure(self) -> None:
        first = self.serve(echo)
        with Client(first.url) as client:
            with ThreadPoolExecutor(8) as threads:
                list(
                    threads.map(
                        lambda i: client.submit(to="a@example.org", subject=str(i), body="b"), range(64)
                    )
                )
            first.close()
            second = self.serve(echo, port=first.port)
            with no_pause():
                client.submit(**EMAIL)
        self.assertEqual(second.connection_count, 1)

    def test_that_were_idle_for_long_are_not_used(self) -> None:
        server = self.serve(stored())
        with Client(server.url) as client, mock.patch("reliable_email.pool.IDLE_MAX_S", 0):
            client.submit(**EMAIL)
            client.submit(**EMAIL)
        self.assertEqual([request.connection for request in server.requests], [1, 2])

    def test_with_something_unasked_on_them_are_not_used(self) -> None:
        def answer_twice(call: Call) -> bool:
            answers = [f'{{"ok":true,"id":"{email_id}"}}' for email_id in ("first", "unasked")]
            call.sock.sendall(
                "".join(f"HTTP/1.1 200 OK\r\nContent-Length: {len(a)}\r\n\r\n{a}" for a in answers).encode()
            )
            return True

        server = self.serve(answer_twice, stored("second"))
        with Client(server.url) as client:
            self.assertEqual(client.submit(**EMAIL), "first")
            self.assertEqual(client.submit(**EMAIL), "second")

    def test_on_which_something_unasked_arrives_later_are_not_used(self) -> None:
        go_on = threading.Event()

        def answer_and_go_on(call: Call) -> bool:
            stored("first")(call)
            go_on.wait()
            return stored("unasked")(call)

        server = self.serve(answer_and_go_on, stored("second"))
        with Client(server.url) as client:
            self.assertEqual(client.submit(**EMAIL), "first")
            go_on.set()
            select.select([client._process.pool._idle[0][2]._socket], [], [])
            self.assertEqual(client.submit(**EMAIL), "second")
        self.assertEqual([request.connection for request in server.requests], [1, 2])

    def test_are_at_most_16(self) -> None:
        together = threading.Barrier(KEPT_MAX + 8)

        def wait_for_all(call: Call) -> bool:
            together.wait()
            return stored()(call)

        server = self.serve(wait_for_all)
        with Client(server.url) as client:
            with ThreadPoolExecutor(together.parties) as threads:
                calls = [threads.submit(client.submit, **EMAIL) for _ in range(together.parties)]
            for call in calls:
                call.result()
            self.assertEqual(len(client._process.pool._idle), KEPT_MAX)
        self.assertEqual(server.connection_count, KEPT_MAX + 8)
        self.assertEqual(client._process.pool._idle, [])

    def test_end_with_the_client(self) -> None:
        ended = threading.Event()

        def watch(call: Call) -> bool:
            stored()(call)
            if call.sock.recv(1) == b"":
                ended.set()
            return False

        server = self.serve(watch)
        with Client(server.url) as client:
            client.submit(**EMAIL)
        ended.wait()
        self.assertRaisesRegex(RuntimeError, "the client is closed", client.submit, **EMAIL)
        client.close()

    def test_are_not_left_behind_by_a_call_that_ends_after_the_client(self) -> None:
        arrived, go_on = threading.Event(), threading.Event()

        def wait(call: Call) -> bool:
            arrived.set()
            go_on.wait()
            return stored("an-id")(call)

        server = self.serve(wait)
        client = Client(server.url)
        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(client.submit, **EMAIL)
            arrived.wait()
            client.close()
            go_on.set()
            self.assertEqual(call.result(), "an-id")
        self.assertEqual(client._process.pool._idle, [])


class Threads(ServerTest):
    def test_share_a_client_and_get_their_own_answers(self) -> None:
        servers = [self.serve(echo), self.serve(echo)]
        subjects = [f"subject {i}" for i in range(400)]
        with Client([server.url for server in servers]) as client, ThreadPoolExecutor(8) as threads:
            ids = list(
                threads.map(lambda s: client.submit(to="a@example.org", subject=s, body="b"), subjects)
            )
        self.assertEqual(ids, subjects)


class Interrupts(ServerTest):
    def test_leave_the_client_usable(self) -> None:
        self.allow_interrupts()

        # It is ignored where the tests run in the background of a shell.
        self.addCleanup(
            signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler)
        )

        left = threading.Event()

        def interrupt(call: Call) -> bool:
            os.kill(os.getpid(), signal.SIGINT)
            if call.sock.recv(1) == b"":
                left.set()
            return False

        server = self.serve(stored("first"), interrupt, stored("third"))
        with Client(server.url) as client:
            self.assertEqual(client.submit(**EMAIL), "first")
            with self.assertRaises(KeyboardInterrupt):
                client.submit(**EMAIL)
            left.wait()
            self.assertEqual(client.submit(**EMAIL), "third")
        self.assertEqual([request.connection for request in server.requests], [1, 1, 2])


class Forks(ServerTest):
    def submit_in_child(self, client: Client) -> None:
        with warnings.catch_warnings():
            # Since Python 3.12 it warns of other threads, which this is about.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                client.submit(**EMAIL)
                client.submit(**EMAIL)
                code = 0
            os._exit(code)
        self.assertEqual(os.waitpid(child, 0)[1], 0)

    def test_have_connections_of_their_own(self) -> None:
        server = self.serve(stored())
        with Client(server.url) as client:
            client.submit(**EMAIL)
            self.submit_in_child(client)
            client.submit(**EMAIL)
        self.assertEqual([request.connection for request in server.requests], [1, 2, 2, 1])

    def test_do_not_wait_for_a_lock_that_another_thread_held(self) -> None:
        server = self.serve(stored())
        with Client(server.url) as client:
            client.submit(**EMAIL)
            held, release = threading.Event(), threading.Event()

            def hold() -> None:
                process = client._process
                with process.pool._lock, process.resolver._lock:
                    held.set()
                    release.wait()

            holder = threading.Thread(target=hold)
            holder.start()
            held.wait()
            self.submit_in_child(client)
            release.set()
            holder.join()


class Ipv6(ServerTest):
    def test_addresses_are_reached(self) -> None:
        server = self.serve(stored("an-id"), host="::1")
        with Client(server.url) as client:
            self.assertEqual(client.submit(**EMAIL), "an-id")
        self.assertEqual(server.requests[0].headers["host"], f"[::1]:{server.port}")


class Tls(ServerTest):
    certificate: Path
    key: Path

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.certificate, cls.key = Path(folder.name, "certificate.pem"), Path(folder.name, "key.pem")
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=a"
        names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        files = ["-keyout", str(cls.key), "-out", str(cls.certificate)]
        subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)

    def serve_tls(self, action: Action) -> ScriptedServer:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return self.serve(action, tls=context)

    def test_is_spoken_on_kept_connections_too(self) -> None:
        server = self.serve_tls(stored("an-id"))
        trusted = ssl.create_default_context(cafile=str(self.certificate))
        for url in (server.url, f"https://localhost:{server.port}"):
            with Client(url, ssl_context=trusted) as client:
                for _ in range(3):
                    self.assertEqual(client.submit(**EMAIL), "an-id")
        self.assertEqual([request.connection for request in server.requests], [1, 1, 1, 2, 2, 2])

    def test_ends_in_time_although_the_server_hangs(self) -> None:
        server = self.serve_tls(hang)
        trusted = ssl.create_default_context(cafile=str(self.certificate))
        with Client(server.url, ssl_context=trusted, timeout=0.5) as client:
            self.assertRaisesRegex(Unavailable, "did not answer in time", client.submit, **EMAIL)

    def test_to_a_server_of_unknown_authority_sends_nothing(self) -> None:
        server = self.serve_tls(stored())
        with one_round(), Client(server.url, token="0123456789abcdef") as client:
            self.assertRaisesRegex(Unavailable, "certificate verify failed", client.submit, **EMAIL)
        self.assertEqual(server.requests, [])
