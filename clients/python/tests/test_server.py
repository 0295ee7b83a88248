"""URLs: which are taken, how they are taken apart, and that none reveals a password."""

from __future__ import annotations

import unittest

from reliable_email import Client
from reliable_email.server import parse_server


class ParseServer(unittest.TestCase):
    def test_takes_urls_apart(self) -> None:
        table = {
            "http://localhost:3000": (False, "localhost", 3000, "/", "localhost:3000"),
            "http://localhost:3000/": (False, "localhost", 3000, "/", "localhost:3000"),
            "http://MAIL.example.com": (False, "mail.example.com", 80, "/", "mail.example.com"),
            "https://mail.example.com": (True, "mail.example.com", 443, "/", "mail.example.com"),
            "HTTPS://mail.example.com:80": (True, "mail.example.com", 80, "/", "mail.example.com:80"),
            "http://[::1]:3000": (False, "::1", 3000, "/", "[::1]:3000"),
            "https://[2001:db8::1]/": (True, "2001:db8::1", 443, "/", "[2001:db8::1]"),
            "http://gateway/mail/": (False, "gateway", 80, "/mail/", "gateway"),
        }
        for url, (is_https, host, port, path, authority) in table.items():
            with self.subTest(url):
                server = parse_server(url)
                self.assertEqual(server, (is_https, host, port, path))
                self.assertEqual(server.authority, authority)
                self.assertEqual(parse_server(str(server)), server)

    def test_refuses_what_is_no_address_of_a_server(self) -> None:
        for url in (
            "",
            "localhost:3000",
            "//localhost:3000",
            "ftp://localhost",
            "redis://localhost",
            "http://",
            "http://:3000",
            "http://host:none",
            "http://host:0",
            "http://host:70000",
            "http://[::1",
            "http://ho st",
            " http://host",
            "http://host\r\nX-Evil: 1",
            "http://host/\r\nX-Evil: 1",
            "http://bücher.example",
            "http://host/?a=b",
            "http://host/#a",
            "http://host?",
            "http://ho,st",
        ):
            with self.subTest(url):
                self.assertRaisesRegex(ValueError, "^url: ", parse_server, url)

    def test_refuses_a_password_without_repeating_it(self) -> None:
        for url in (
            "http://user:geheim@host",
            "http://geheim@host",
            "user:geheim@host",
            "http://geheim@host:x",
        ):
            with self.subTest(url):
                with self.assertRaisesRegex(ValueError, "use token") as caught:
                    parse_server(url)
                self.assertNotIn("geheim", str(caught.exception))


class Arguments(unittest.TestCase):
    def test_of_a_client_are_checked_at_once(self) -> None:
        url = "http://localhost:3000"
        self.assertRaisesRegex(ValueError, "^urls: ", Client, [])
        self.assertRaisesRegex(ValueError, "^url: ", Client, [url, "localhost"])
        for seconds in (0, -1, float("inf"), float("nan"), 86_401):
            with self.subTest(seconds):
                self.assertRaisesRegex(ValueError, "^timeout: ", Client, url, timeout=seconds)
                self.assertRaisesRegex(ValueError, "^attempt_timeout: ", Client, url, attempt_timeout=seconds)

    def test_a_token_that_would_inject_a_header_is_refused_without_repeating_it(self) -> None:
        for token in ("", "geheim\r\nX-Evil: 1", "geheim\n", "geheim token", "geheim,token", "gehéim"):
            with self.subTest(token):
                with self.assertRaisesRegex(ValueError, "^token: ") as caught:
                    Client("http://localhost:3000", token=token)
                self.assertNotIn("geh", str(caught.exception))

    def test_repr_names_the_servers_and_not_the_token(self) -> None:
        client = Client(["http://a:1", "https://b", "http://a:1/"], token="geheim-geheim-geheim")
        self.assertEqual(repr(client), "Client(['http://a:1/', 'https://b/'])")
