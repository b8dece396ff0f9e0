"""The service as the command line sees it: one address, one token, problems as exit codes.

``OUBLIETTE_URL`` and ``OUBLIETTE_TOKEN`` say where and who. The token is never an argument, because
arguments can be read by everyone on the machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx2

from api.cli_output import NOT_ALLOWED, TRY_AGAIN, exit_code, fail

DEFAULT_URL: Final = "http://127.0.0.1:8080"
TIMEOUT_S: Final = 60.0


class Remote:
    """Sends requests and ends the program when one is refused."""

    def __init__(self, client: httpx2.Client) -> None:
        self.client: Final = client

    def json(self, method: str, path: str, **request: Any) -> Any:
        """Send a request and return the JSON of its 2xx answer (None for an empty one)."""
        answer = self.send(method, path, **request)
        return answer.json() if answer.content else None

    def text(self, path: str) -> str:
        """Return the text of a GET."""
        return self.send("GET", path).text

    def send(self, method: str, path: str, **request: Any) -> httpx2.Response:
        """Send a request; ends the program unless the answer is a success."""
        answer = self.try_send(method, path, **request)
        if not answer.is_success:
            fail(refusal(answer), exit_code(answer.status_code))
        return answer

    def try_send(self, method: str, path: str, **request: Any) -> httpx2.Response:
        """Send a request and return whatever is answered; ends the program when nothing is."""
        try:
            return self.client.request(method, path, **request)
        except httpx2.TransportError as err:
            fail(f"no answer from {self.client.base_url}: {type(err).__name__}", TRY_AGAIN)

    def items(self, path: str, **params: Any) -> Iterator[Any]:
        """Yield every item of a list, page after page."""
        page = self.json("GET", path, params={k: v for k, v in params.items() if v is not None})
        yield from page["items"]
        while page.get("next"):
            page = self.json("GET", page["next"])
            yield from page["items"]


def refusal(answer: httpx2.Response) -> str:
    """Spell a problem document as one line."""
    try:
        problem = answer.json()
        facts = {k: v for k, v in problem.items() if k not in {"type", "title", "status", "code"}}
        shown = ", ".join(f"{name}={value}" for name, value in sorted(facts.items()))
        line = f"{problem['code']}: {problem['title']}" + (f" ({shown})" if shown else "")
    except (ValueError, KeyError, TypeError):
        line = f"the answer was {answer.status_code}"
    request_id = answer.headers.get("x-request-id", "")
    return f"{line} [{request_id}]" if request_id else line


@contextmanager
def remote() -> Iterator[Remote]:
    """Connect as the environment says."""
    token = os.environ.get("OUBLIETTE_TOKEN", "").strip()
    if not token:
        fail("set OUBLIETTE_TOKEN to a token (oubliette token, or your issuer's)", NOT_ALLOWED)
    url = os.environ.get("OUBLIETTE_URL", "").strip() or DEFAULT_URL
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    with httpx2.Client(base_url=url, headers=headers, timeout=TIMEOUT_S) as client:
        yield Remote(client)
