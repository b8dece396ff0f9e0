"""A person's browser as tests need it: cookies by host, one step of a redirect at a time."""

from __future__ import annotations

import re
from http.cookies import SimpleCookie
from typing import Any, Final, Self
from urllib.parse import urljoin, urlsplit

import httpx2

SESSION: Final = "__Host-oubliette-session"
LOG_IN: Final = "__Host-oubliette-log-in"
_STEPS_MAX: Final = 12


class Visitor:
    """Keeps cookies as a browser does (a loopback counts as secure), and shows each step."""

    def __init__(self, url: str) -> None:
        self.url: Final = url
        self.cookies: Final[dict[str, dict[str, str]]] = {}
        self.attributes: Final[dict[str, str]] = {}
        self._client = httpx2.Client(follow_redirects=False, timeout=60, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def jar(self) -> dict[str, str]:
        """Return the cookies of the vault's host."""
        return self.cookies.setdefault(urlsplit(self.url).netloc, {})

    def send(self, method: str, url: str, **request: Any) -> httpx2.Response:
        """Send one request with the cookies of its host, and keep what comes back."""
        where = urljoin(self.url, url)
        kept = self.cookies.setdefault(urlsplit(where).netloc, {})
        headers = dict(request.pop("headers", {}))
        if kept and "Cookie" not in headers:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in kept.items())
        answer = self._client.request(method, where, headers=headers, **request)
        for line in answer.headers.get_list("set-cookie"):
            self._keep(kept, line)
        return answer

    def get(self, url: str, **request: Any) -> httpx2.Response:
        return self.send("GET", url, **request)

    def api(self, method: str, path: str, **request: Any) -> httpx2.Response:
        """Send what the console's page would send."""
        headers = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
        if method != "GET":
            headers |= {"Origin": self.url, "Oubliette-CSRF": self.page_token()}
        return self.send(method, path, headers=headers | request.pop("headers", {}), **request)

    def page_token(self) -> str:
        """Return the token that the console's page holds."""
        found = re.search(r'data-token="([^"]+)"', self.get("/console").text)
        assert found, "not logged in"
        return found[1]

    def to_callback(self, user: str, start: str = "/console/login") -> str:
        """Log in at the provider; return the address that it sends the browser back to."""
        answer = self.get(start)
        for _ in range(_STEPS_MAX):
            if answer.status_code not in {302, 303}:
                answer = self._choose(answer, user)
                continue
            where = urljoin(str(answer.url), answer.headers["location"])
            if where.startswith(f"{self.url}/console/callback"):
                return where
            answer = self.get(where)
        raise AssertionError("the provider sends the browser round in circles")

    def log_in(self, user: str, start: str = "/console/login") -> httpx2.Response:
        """Log in and come back."""
        return self.get(self.to_callback(user, start))

    def _choose(self, answer: httpx2.Response, user: str) -> httpx2.Response:
        assert answer.status_code == 200, answer.text
        found = re.search(r'action="([^"]+)"', answer.text)
        assert found, answer.text
        where = urljoin(str(answer.url), found[1])
        return self.send("POST", where, data={"login": user})

    def _keep(self, kept: dict[str, str], line: str) -> None:
        for name, morsel in SimpleCookie(line).items():
            self.attributes[name] = line
            if morsel.value and morsel["max-age"] != "0":
                kept[name] = morsel.value
            else:
                kept.pop(name, None)
