"""An S3 store in memory that keeps its word until it is told to lie, to stall or to be away.

It knows what the product asks for: conditional PUT, ranged GET, HEAD, DELETE of a version, listings
and multipart uploads. Signatures are not looked at; what it does not know it refuses.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

_ERROR: Final = "<Error><Code>{}</Code><Message>planted</Message></Error>"
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d+)")
PUT_LIES: Final = ("keeps-nothing", "keeps-less", "keeps-another-end", "keeps-no-id")


@dataclass
class Kept:
    body: bytes
    write_id: str


@dataclass(frozen=True)
class Said:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class LyingS3:
    """One bucket.

    Attributes:
        lies: names of what it does wrong from now on; each method below names its own.
        stalls: methods (``PUT``, ``GET``, ...) or object names whose requests stand still.
        down: every request is cut.
    """

    url: str = ""
    objects: dict[str, Kept] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    lies: set[str] = field(default_factory=set)
    stalls: set[str] = field(default_factory=set)
    down: bool = False
    waiting: int = 0
    _go_on: threading.Event = field(default_factory=threading.Event)

    def heal(self) -> None:
        """Keep its word again; what stood still is cut."""
        self.lies.clear()
        self.stalls.clear()
        self.down = False
        self._go_on.set()
        self._go_on = threading.Event()

    def stands_still(self, method: str, name: str) -> bool:
        """Wait where it was told to; tell whether the request is lost for it."""
        if not {method, name} & self.stalls:
            return self.down
        self.waiting += 1
        self._go_on.wait(60)
        self.waiting -= 1
        return True

    def answer(
        self, method: str, name: str, body: bytes, headers: Any, query: dict[str, list[str]]
    ) -> Said:
        """Answer one request."""
        answers = {
            "PUT": lambda: self.put(name, body, headers, query),
            "POST": lambda: self.post(name, headers, query),
            "DELETE": lambda: self.delete(name, query),
            "HEAD": lambda: self.head(name),
            "GET": lambda: self.get(name, headers, query),
        }
        return answers[method]()

    def put(self, name: str, body: bytes, headers: Any, query: dict[str, list[str]]) -> Said:
        if "uploadId" in query:
            self.uploads[query["uploadId"][0]][int(query["partNumber"][0])] = body
            return Said(200, headers={"ETag": _etag(body)})
        if "slow-down" in self.lies:
            return _error(503, "SlowDown")
        if headers.get("If-None-Match") == "*" and name in self.objects:
            return _error(412, "PreconditionFailed")
        self._keep(name, body, headers.get("x-amz-meta-write-id", ""))
        tag = _etag(b"another") if "another-etag" in self.lies else _etag(body)
        return Said(200, headers={"ETag": tag})

    def post(self, name: str, headers: Any, query: dict[str, list[str]]) -> Said:
        if "uploads" in query:
            upload = f"upload-{len(self.ids)}"
            self.uploads[upload] = {}
            self.ids[upload] = headers.get("x-amz-meta-write-id", "")
            return _xml(f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId>"
                        "</InitiateMultipartUploadResult>")  # fmt: skip
        upload = query["uploadId"][0]
        if upload not in self.uploads:
            return _error(404, "NoSuchUpload")
        if "error-in-a-200" in self.lies:
            return _xml(_ERROR.format("InternalError"))
        parts = self.uploads.pop(upload)
        self._keep(name, b"".join(parts[one] for one in sorted(parts)), self.ids[upload])
        return _xml("<CompleteMultipartUploadResult/>")

    def get(self, name: str, headers: Any, query: dict[str, list[str]]) -> Said:
        if not name:
            return self._listing(query)
        kept = self._found(name)
        if kept is None:
            return _error(404, "NoSuchKey")
        asked = _RANGE.fullmatch(headers.get("Range", ""))
        assert asked, "the product asks for ranges alone"
        first, last = int(asked[1]), min(int(asked[2]), len(kept.body) - 1)
        body = kept.body[first : last + 1]
        if "flipped" in self.lies:
            body = bytes(one ^ 1 for one in body)
        said = {
            "Content-Range": f"bytes {first}-{last}/{len(kept.body)}",
            "x-amz-meta-write-id": kept.write_id,
        }
        return Said(206, body[:-1] if "truncated" in self.lies else body, said)

    def head(self, name: str) -> Said:
        kept = self._found(name)
        if kept is None:
            return Said(404)
        said = {"Content-Length": str(len(kept.body)), "x-amz-meta-write-id": kept.write_id}
        return Said(200, headers=said)

    def delete(self, name: str, query: dict[str, list[str]]) -> Said:
        if "uploadId" in query:
            gone = self.uploads.pop(query["uploadId"][0], None)
            return Said(204) if gone is not None else _error(404, "NoSuchUpload")
        self.objects.pop(name, None)
        return Said(204)

    def _found(self, name: str) -> Kept | None:
        """Look one up; ``another-object`` shows a neighbour, ``forgets`` shows nothing."""
        if "forgets" in self.lies:
            return None
        if "another-object" in self.lies:
            return next((one for other, one in self.objects.items() if other != name), None)
        return self.objects.get(name)

    def _keep(self, name: str, body: bytes, write_id: str) -> None:
        if "keeps-nothing" in self.lies:
            return
        if "keeps-less" in self.lies:
            body = body[:-1000]
        if "keeps-another-end" in self.lies:
            body = body[:-16] + bytes(16)
        self.objects[name] = Kept(body, "" if "keeps-no-id" in self.lies else write_id)

    def _listing(self, query: dict[str, list[str]]) -> Said:
        prefix = query.get("prefix", [""])[0]
        names = [one for one in sorted(self.objects) if one.startswith(prefix)]
        if "stale-listing" in self.lies:
            names = []
        if "versions" in query:
            each = "<Version><Key>{}</Key><VersionId>null</VersionId></Version>"
            return _xml(f"<ListVersionsResult>{_all(each, names)}</ListVersionsResult>")
        if "uploads" in query:
            return _xml("<ListMultipartUploadsResult/>")
        each = "<Contents><Key>{}</Key></Contents>"
        return _xml(f"<ListBucketResult>{_all(each, names)}</ListBucketResult>")


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def _all(each: str, names: list[str]) -> str:
    return "".join(each.format(one) for one in names)


def _xml(text: str) -> Said:
    return Said(200, text.encode(), {"Content-Type": "application/xml"})


def _error(status: int, code: str) -> Said:
    return Said(status, _ERROR.format(code).encode(), {"Content-Type": "application/xml"})


@contextmanager
def lying_s3() -> Iterator[LyingS3]:
    """Serve an empty bucket on the loopback interface until the block ends."""
    store = LyingS3()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            name = unquote(parts.path).partition("/")[2].partition("/")[2]
            query = parse_qs(parts.query, keep_blank_values=True)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if store.stands_still(self.command, name):
                self.close_connection = True
                return
            said = store.answer(self.command, name, body, self.headers, query)
            self._send(said)

        def _send(self, said: Said) -> None:
            self.send_response(said.status)
            for header, value in {"Content-Length": str(len(said.body)), **said.headers}.items():
                self.send_header(header, value)
            self.end_headers()
            self.wfile.write(said.body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815

        def log_message(self, *words: Any) -> None:
            del words

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield store
    finally:
        store.heal()
        server.shutdown()
        thread.join()
        server.server_close()
