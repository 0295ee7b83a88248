"""Several servers: calls are spread over them, and leave one that fails at once."""

from __future__ import annotations

import unittest
from concurrent.futures import ThreadPoolExecutor, wait
from unittest import mock

from reliable_email import Client
from reliable_email.rotation import REST_S, Rotation
from reliable_email.server import Server, parse_server

from .scripted_server import EMAIL, ServerTest, close, hang, no_pause, refused_url, stored


class Servers(ServerTest):
    def test_take_turns(self) -> None:
        servers = [self.serve(stored()), self.serve(stored()), self.serve(stored())]
        with Client([server.url for server in servers]) as client:
            for _ in range(12):
                client.submit(**EMAIL)
        self.assertEqual([len(server.requests) for server in servers], [4, 4, 4])

    def test_that_fail_are_left_at_once_and_avoided(self) -> None:
        well, ill = self.serve(stored("an-id")), self.serve(close)
        with no_pause(), Client([ill.url, well.url, refused_url()]) as client:
            for _ in range(9):
                self.assertEqual(client.submit(**EMAIL), "an-id")
        self.assertEqual(len(well.requests), 9)
        self.assertEqual(len(ill.requests), 1)

    def test_that_hang_are_left_after_an_attempt(self) -> None:
        well, ill = self.serve(stored("an-id")), self.serve(hang)
        with Client([ill.url, well.url], attempt_timeout=0.3) as client:
            for _ in range(4):
                self.assertEqual(client.submit(**EMAIL), "an-id")

    def test_that_failed_are_probed_by_one_call_at_a_time(self) -> None:
        well, ill = self.serve(stored("an-id")), self.serve(hang)
        with Client([ill.url, well.url]) as client, ThreadPoolExecutor(2) as threads:
            # As if it had failed long ago. Of two calls, one begins with it.
            client._process.rotation._rest_ends[parse_server(ill.url)] = 0
            probes = [threads.submit(client.submit, **EMAIL) for _ in range(2)]
            while not ill.requests:
                wait(probes, timeout=0.01)
            for _ in range(4):
                self.assertEqual(client.submit(**EMAIL), "an-id")
            self.assertEqual(len(ill.requests), 1)
            ill.close()
            for probe in probes:
                self.assertEqual(probe.result(), "an-id")

    def test_that_all_failed_are_tried_again_under_the_same_key(self) -> None:
        servers = [self.serve(close, stored("an-id")), self.serve(close, stored("an-id"))]
        with Client([server.url for server in servers]) as client:
            self.assertEqual(client.submit(**EMAIL), "an-id")
        self.assertEqual(sorted(len(server.requests) for server in servers), [1, 2])
        keys = {request.headers["idempotency-key"] for server in servers for request in server.requests}
        self.assertEqual(len(keys), 1)


class RotationTest(unittest.TestCase):
    now: float

    def setUp(self) -> None:
        self.servers = [parse_server(f"http://server-{i}") for i in range(3)]
        clock = mock.patch("reliable_email.rotation.time.monotonic", side_effect=lambda: self.now)
        clock.start()
        self.addCleanup(clock.stop)
        self.now = 1000.0
        self.rotation = Rotation(self.servers)

    def firsts(self) -> set[Server]:
        return {self.rotation.order()[0] for _ in self.servers}

    def test_begins_anywhere(self) -> None:
        firsts = {Rotation(self.servers).order()[0] for _ in range(200)}
        self.assertEqual(firsts, set(self.servers))

    def test_names_every_server_once(self) -> None:
        self.rotation.failed(self.servers[1])
        for _ in self.servers:
            self.assertEqual(set(self.rotation.order()), set(self.servers))

    def test_puts_one_that_failed_last_for_a_while(self) -> None:
        ill = self.servers[1]
        self.rotation.failed(ill)
        for _ in self.servers:
            self.assertEqual(self.rotation.order()[-1], ill)
        self.now += REST_S
        self.assertEqual(self.firsts(), set(self.servers))

    def test_lets_one_call_at_a_time_find_out_whether_it_works(self) -> None:
        ill = self.servers[1]
        self.rotation.failed(ill)
        self.now += REST_S
        self.rotation.attempting(ill)
        self.assertNotIn(ill, self.firsts())
        self.rotation.worked(ill)
        self.assertIn(ill, self.firsts())

    def test_of_servers_that_all_failed_begins_with_the_first_to_fail(self) -> None:
        for server in self.servers:
            self.rotation.failed(server)
            self.now += 1
        self.assertEqual(self.rotation.order(), self.servers)
