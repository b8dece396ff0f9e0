"""An answer to a request that is still coming: its connection is read on a little, then closed.

A socket that is closed with unread bytes in it is reset by the kernel, and the reset may overtake
the answer: a balancer then says 502 where we said when to send again (RFC 9112 section 9.6).
"""

from __future__ import annotations

from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.upload_body import UploadBody

LINGER_S: Final = 2.0


class LingeringAnswer(Response):
    """The same answer, which ends once its sender does."""

    def __init__(self, answer: Response, upload: UploadBody) -> None:
        """Take an answer that says ``Connection: close``, and the body it does not wait for."""
        super().__init__(answer.body, answer.status_code)
        self.raw_headers = answer.raw_headers
        self._upload = upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the whole answer, take what still comes for 2 s, end the exchange."""
        del scope, receive  # what comes is read by the upload
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await self._upload.drain(LINGER_S)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
