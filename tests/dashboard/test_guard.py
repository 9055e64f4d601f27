"""Who gets an answer: the token, the names in Host and Origin, methods and paths; and what every answer forbids."""

from __future__ import annotations

from typing import Any

import pytest
from asgi import TOKEN, Answer, asked, get

from hpcnas.dashboard.guard import Guard

SECRET = "what only those with the token may read"


async def inner(scope: Any, receive: Any, send: Any) -> None:
    """Answers whatever reaches it, with the path that it sees."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-path", scope["path"].encode())]})
    await send({"type": "http.response.body", "body": SECRET.encode()})


GUARD = Guard(inner, TOKEN, ["portal.example.org"])
PROXIED = Guard(inner, TOKEN, ["portal.example.org"], "/user/ada")


def refused(answer: Answer, status: int) -> None:
    assert answer.status == status
    assert SECRET not in answer.text and TOKEN not in answer.text + str(answer.headers)
    assert answer.text.count("\n") == 1 and answer.headers["content-type"].startswith("text/plain")


def test_the_token_becomes_a_cookie_and_leaves_the_address() -> None:
    first = get(GUARD, "/", {"token": TOKEN})
    assert (first.status, first.headers["location"], first.body) == (303, "./", b"")
    cookie, *attributes = first.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
    assert get(GUARD, "/", cookie=cookie).text == SECRET
    assert get(GUARD, "/", cookie=f"other=1; {cookie}; more=2").text == SECRET
    also = get(GUARD, "/api/search", {"token": TOKEN, "run": "a b"})
    assert also.headers["location"] == "./search?run=a+b"


def test_two_servers_of_one_host_have_cookies_of_two_names() -> None:
    names = [
        get(Guard(inner, token, []), "/", {"token": token}).headers["set-cookie"].partition("=")[0]
        for token in ("one-token-of-these-tests", "another-token-of-these-tests")
    ]
    assert names[0] != names[1]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"cookie": "hpcnas=x"},
        {"cookie": "="},
        {"cookie": "a" * 5000},
        {"authorization": "token"},
        {"authorization": "token x"},
        {"authorization": f"basic {TOKEN}"},
        {"authorization": f"token {TOKEN}x"},
        {"authorization": "token \xe9"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/overview", "/static/main.js", "/nothing"])
def test_without_the_token_there_is_nothing(path: str, headers: dict[str, str]) -> None:
    refused(get(GUARD, path, **headers), 403)


@pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], TOKEN + "x", "\ud800", "é"])
def test_a_wrong_token_is_refused_even_beside_the_right_cookie(token: str) -> None:
    cookie = get(GUARD, "/", {"token": TOKEN}).headers["set-cookie"].partition(";")[0]
    refused(get(GUARD, "/", {"token": token.encode(errors="surrogatepass")}, cookie=cookie), 403)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9999", "[::1]:8765", "LOCALHOST", "portal.example.org"])
def test_names_of_this_host_are_answered(host: str) -> None:
    assert asked(GUARD, "/", host=host).text == SECRET


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8765", "", "[", "127.0.0.1@evil.example"]
)
def test_a_name_that_was_made_to_lead_here_is_refused(host: str) -> None:
    refused(asked(GUARD, "/", host=host), 403)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "file://"])
def test_requests_of_other_pages_are_refused(origin: str) -> None:
    refused(asked(GUARD, "/api/overview", origin=origin), 403)
    assert asked(GUARD, "/api/overview", origin="http://localhost:9999").text == SECRET


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_nothing_can_be_changed(method: str) -> None:
    refused(get(GUARD, "/", method=method, authorization=f"token {TOKEN}"), 405)


def test_a_base_path_is_taken_away_or_was_already() -> None:
    assert asked(PROXIED, "/user/ada/api/overview").headers["x-path"] == "/api/overview"
    assert asked(PROXIED, "/user/ada/").headers["x-path"] == "/"
    assert asked(PROXIED, "/api/overview").headers["x-path"] == "/api/overview"
    first = get(PROXIED, "/user/ada/", {"token": TOKEN})
    assert first.headers["location"] == "./" and "Path=/user/ada/" in first.headers["set-cookie"]
    without = get(PROXIED, "/user/ada", {"token": TOKEN})
    assert (without.status, without.headers["location"]) == (303, f"./ada/?token={TOKEN}")


def test_every_answer_forbids_what_the_page_does_not_need() -> None:
    for answer in (asked(GUARD, "/"), get(GUARD, "/"), get(GUARD, "/", {"token": TOKEN})):
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
