"""Who may see the page: what every request has to show before anything answers it, and what every answer tells the
browser. An ASGI middleware of its own, which knows neither runs nor files.

    Host of another name      403   a page elsewhere that made its own name lead here (DNS rebinding) has its name there
    Origin of another name    403
    other than GET and HEAD   405   nothing here changes anything
    no token                  403   ?token=… once, which becomes a cookie; or a header `Authorization: token …`
    outside of the base path  404

A refusal says what was expected and nothing of any run. The token is compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

LOCAL = ("127.0.0.1", "localhost", "::1")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_YEAR = 365 * 24 * 3600


class Guard:
    """Lets through what it should, under a base path that it takes away."""

    def __init__(self, inner: Application, token: str, hosts: Iterable[str], base: str = "") -> None:
        """`hosts`: names by which this server may be called, beside those of this machine itself; `base`: "" or a path
        such as `/user/ada`, which a proxy may have taken away already."""
        self._inner = inner
        self._token = token.encode()
        self._hosts = {name.lower() for name in (*LOCAL, *hosts)}
        self._base = base
        self._cookie = f"hpcnas-{hashlib.sha256(self._token).hexdigest()[:12]}"  # two servers on one host have two

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or has it answered."""
        if scope["type"] != "http":  # no websockets; a lifespan is nobody's
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        path = self._inside(scope["path"])
        if path is None:
            await _answer(send, 404, "expected an address of this page")
            return
        if not path:
            target = f"./{self._base.rpartition('/')[2]}/"
            query = scope["query_string"]
            await _answer(send, 303, "", [(b"location", target.encode() + (b"?" + query if query else b""))])
            return
        given = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if "token" in given:
            if not self._is_token(given["token"][-1]):
                await _answer(send, 403, _EXPECTED_TOKEN)
                return
            await self._welcome(send, path, given)
            return
        if not self._is_known(headers):
            await _answer(send, 403, _EXPECTED_TOKEN)
            return

        async def sent(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await self._inner({**scope, "path": path, "raw_path": path.encode(), "root_path": ""}, receive, sent)

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """Why a request is refused before it is looked at; None where it is not."""
        if scope["method"] not in ("GET", "HEAD"):
            return 405, "expected GET: this page changes nothing"
        if _host_name(headers.get(b"host", b"")) not in self._hosts:
            return 403, "expected an address of this host; hpcnas serve --allow-host NAME lets in another name"
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin.decode("latin-1")).hostname not in self._hosts:
            return 403, "expected a request of this page itself"
        return None

    def _inside(self, path: str) -> str | None:
        """The path below the base path, "" for the base path without its last slash; None for what is no path."""
        if self._base and path == self._base:
            return ""
        if self._base and path.startswith(f"{self._base}/"):
            return path[len(self._base) :]
        return path if path.startswith("/") else None

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(errors="replace"), self._token)

    def _is_known(self, headers: dict[bytes, bytes]) -> bool:
        """Whether a request shows the token, by its cookie or by a header."""
        word, _, given = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if word.lower() in ("token", "bearer") and self._is_token(given.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(self._cookie)
        except CookieError:
            return False
        return cookie is not None and self._is_token(cookie.value)

    async def _welcome(self, send: Send, path: str, given: dict[str, list[str]]) -> None:
        """Gives the cookie, and sends the browser to the same address without the token, which would stay in its
        history; what stands after # goes along by itself."""
        others = {name: values for name, values in given.items() if name != "token"}
        name = path.rpartition("/")[2]  # a proxy may have taken the base path away: the address stays relative
        target = (f"./{name}" if name else "./") + (f"?{urlencode(others, doseq=True)}" if others else "")
        cookie = f"{self._cookie}={self._token.decode()}; Path={self._base or ''}/; HttpOnly; SameSite=Strict"
        headers = [(b"location", target.encode()), (b"set-cookie", f"{cookie}; Max-Age={_YEAR}".encode())]
        await _answer(send, 303, "", headers)


_EXPECTED_TOKEN = "expected the whole address that hpcnas serve has printed, with its token"


def _host_name(host: bytes) -> str:
    """Of a Host header, without the port, in small letters."""
    try:
        return urlsplit(f"//{host.decode('latin-1')}").hostname or ""
    except ValueError:
        return ""


async def _answer(send: Send, status: int, text: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """A line of text."""
    body = f"{text}\n".encode() if text else b""
    more = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    more += [(b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": [*more, *headers, *HEADERS]})
    await send({"type": "http.response.body", "body": body})
