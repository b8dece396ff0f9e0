"""Walks every operation of the OpenAPI description with the ids of another controller.

For each operation, each caller and each parameter that names something, two requests are sent: one
with what exists in the foreign house, one with a made-up name of the same spelling. They must look
alike, must not be a success about the foreign thing, and must hold no word of the foreign house.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from tests.fakes.asgi_caller import Reply
from tests.fakes.speech import wav
from tests.fakes.two_houses import THEIRS, Houses, basic

ROLES: Final = ("admin", "dpo", "quality-manager", "auditor", "intake", "operator")
METHODS: Final = ("get", "head", "post", "put", "delete")
# routes without a caller: the same for everybody, or a probe of the process
PUBLIC: Final = frozenset(
    {"/healthz", "/readyz", "/metrics", "/v1/version", "/.well-known/oubliette-vkey"}
)
# paths of one ledger for the whole vault: leaves are commitments, which name nobody
SHARED: Final = frozenset({"/v1/ledger/checkpoint", "/v1/ledger/tile/{path}"})
_NAMES: Final = re.compile(r"[a-z]{3}_[0-9a-z]{26}|req_[0-9a-f]{16}|okd_[\w-]{43}")
_INSTANTS: Final = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    described: Mapping[str, Any]

    @property
    def label(self) -> str:
        return f"{self.method.upper()} {self.path}"

    @property
    def path_names(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.path)

    @property
    def query_names(self) -> list[str]:
        listed = self.described.get("parameters", [])
        return [one["name"] for one in listed if one["in"] == "query"]


@dataclass
class Walk:
    """What was walked, and what leaked."""

    houses: Houses
    document: Mapping[str, Any]
    routes: int = 0
    requests: int = 0
    leaks: list[str] = field(default_factory=list)
    fresh: Iterator[int] = field(default_factory=itertools.count)

    def run(self) -> None:
        """Walk every operation as every caller."""
        for operation in self.operations():
            self.routes += 1
            self.houses.order_entries()
            for who, headers in self.callers().items():
                for asked in self.questions(operation):
                    self.ask(operation, who, headers, asked)

    def operations(self) -> Iterator[Operation]:
        for path, item in sorted(self.document["paths"].items()):
            for method in METHODS:
                if method in item:
                    yield Operation(method, path, item[method])

    def callers(self) -> dict[str, dict[str, str]]:
        """Return everybody of our own house, the one who has every role, and a deposit key."""
        ours = self.houses.ours
        made = {role: ours.headers(role, subject=f"walker-{role}") for role in ROLES}
        made["officer"] = ours.headers("dpo", "quality-manager", "auditor", subject="walker-all")
        made["everything"] = ours.headers(*ROLES, subject="walker")
        made["deposit-key"] = basic(ours.known["secret"])
        return made

    def questions(self, operation: Operation) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield pairs: what names the foreign thing, and the same with made-up names."""
        foreign, made_up = self.foreign(), self.made_up()
        if operation.path_names:
            unknown = [one for one in operation.path_names if one not in foreign]
            if unknown and operation.path not in SHARED:
                raise LookupError(f"{operation.label}: nothing foreign is known for {unknown}")
        for alias in ("campaign", "campaign_id"):
            yield (
                self.filled(operation, {**foreign, "campaign": foreign[alias]}),
                self.filled(operation, {**made_up, "campaign": made_up[alias]}),
            )
            if "campaign" not in json.dumps(operation.described) + operation.path:
                return

    def foreign(self) -> dict[str, str]:
        """Return what a stranger may have learnt: every name, and no secret but its own."""
        return {**self.houses.foreign, **self.own_secrets()}

    def made_up(self) -> dict[str, str]:
        """Return names spelt like the foreign ones, of things that are nowhere."""
        made = {name: _made_up(value) for name, value in self.houses.foreign.items()}
        return {**made, **self.own_secrets()}

    def own_secrets(self) -> dict[str, str]:
        known = self.houses.ours.known
        return {name: known[name] for name in ("ticket", "secret", "plan_digest")}

    def filled(self, operation: Operation, names: Mapping[str, str]) -> dict[str, Any]:
        """Return a whole request in which every name is one of ``names``."""
        path = operation.path
        for one in operation.path_names:
            path = path.replace(f"{{{one}}}", quote(names.get(one, "0/000"), safe="/"))
        query = {one: names[one] for one in operation.query_names if one in names}
        if "retention" in operation.query_names:
            query["retention"] = "P3M"
        headers, body = self.body(operation, names)
        return {"path": path, "query": query, "headers": headers, "body": body}

    def body(self, operation: Operation, names: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
        content = operation.described.get("requestBody", {}).get("content", {})
        if "application/json" in content:
            example = named(self.example(content["application/json"]), names)
            if "slug" in example:  # something new each time
                example["slug"] = f"walk-{self.requests}-{next(self.fresh)}"
            return {"Content-Type": "application/json"}, json.dumps(example).encode()
        if "audio/wav" in content:
            return {"Content-Type": "audio/wav"}, wav(0.2, 3)
        if "multipart/form-data" in content:
            return {"Content-Type": "multipart/form-data; boundary=b"}, FORM
        return {}, b""

    def example(self, content: Mapping[str, Any]) -> Any:
        schema = content["schema"]
        while "$ref" in schema:
            schema = self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        if "examples" in schema:
            return schema["examples"][0]
        return content.get("example", {})

    def ask(
        self,
        operation: Operation,
        who: str,
        headers: Mapping[str, str],
        asked: tuple[dict[str, Any], dict[str, Any]],
    ) -> None:
        foreign, made_up = (self.send(operation, headers, one) for one in asked)
        where = f"{operation.label} as {who}"
        if found := self.words_of_theirs(foreign, asked[0]):
            self.leaks.append(f"{where}: {foreign.status} holds {found}")
        if operation.path in PUBLIC | SHARED or asked[0] == asked[1]:
            return
        if shape(foreign) != shape(made_up):
            self.leaks.append(f"{where}: {shape(foreign)} is not {shape(made_up)}")
        if operation.path_names and not foreign.status >= 400:
            self.leaks.append(f"{where}: {foreign.status} for a foreign name")

    def send(
        self, operation: Operation, headers: Mapping[str, str], asked: Mapping[str, Any]
    ) -> Reply:
        self.requests += 1
        return self.houses.caller.send(
            operation.method.upper(),
            asked["path"],
            headers={**headers, **asked["headers"]},
            body=asked["body"],
            query=asked["query"],
        )

    def words_of_theirs(self, reply: Reply, asked: Mapping[str, Any]) -> list[str]:
        """Return what an answer holds of the foreign house that the request did not say itself."""
        said = asked["path"] + json.dumps(asked["query"]) + asked["body"].decode("latin-1")
        words = {THEIRS, *self.houses.foreign.values()}
        text = reply.text + json.dumps(reply.headers)
        return sorted(word for word in words if word in text and word not in said)


FORM: Final = (
    b'--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{}\r\n'
    b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a.wav"\r\n'
    b"Content-Type: audio/wav\r\n\r\n" + wav(0.2, 3) + b"\r\n--b--\r\n"
)


def named(value: Any, names: Mapping[str, str]) -> Any:
    """Put foreign names into an example wherever a member of that name, or an id, stands."""
    if isinstance(value, dict):
        return {
            member: names[member]
            if member in names and isinstance(inner, str)
            else named(inner, names)
            for member, inner in value.items()
        }
    if isinstance(value, list):
        return [named(one, names) for one in value]
    if isinstance(value, str) and re.fullmatch(r"[a-z]{3}_[0-9a-z]{20,26}", value):
        of_kind = [one for one in names.values() if one[:4] == value[:4]]
        return of_kind[0] if of_kind else value
    return value


def shape(reply: Reply) -> tuple[int, Any]:
    """Return what an answer looks like once names, instants and request ids are taken out."""
    text = _INSTANTS.sub("<instant>", _NAMES.sub("<name>", reply.text))
    try:
        read = json.loads(text)
    except ValueError:
        return reply.status, len(text) > 0
    if isinstance(read, dict) and "code" in read:
        return reply.status, sorted(
            (name, str(value))
            for name, value in read.items()
            if name not in {"instance", "request_id"}
        )
    return reply.status, sorted(read) if isinstance(read, dict) else read


def _made_up(value: str) -> str:
    """Spell something like ``value`` that exists nowhere."""
    swapped = str.maketrans("abcdefghjkmnpqrstvwxyz0123456789", "bcdefghjkmnpqrstvwxyza1234567890")
    head, tail = (value[:4], value[4:]) if value[3:4] == "_" else ("", value)
    return head + tail.translate(swapped)
