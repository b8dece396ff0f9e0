"""``oubliette audit`` and ``oubliette receipts``: what the ledger tells auditors and officers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final
from urllib.parse import quote

import httpx2
import typer

from api.cli_http import Remote, refusal, remote
from api.cli_output import TRY_AGAIN, USAGE, AsJson, exit_code, fail, show

_FORMS: Final = ("jsonl", "csv")
NewFile = Annotated[Path | None, typer.Option(help="A new file (standard output).")]


def audit(
    *,
    campaign: Annotated[str, typer.Option(help="Id or slug.")] = "",
    actor: Annotated[str, typer.Option(help="Who, as act_ id.")] = "",
    purpose: Annotated[str, typer.Option(help="One of the known purposes.")] = "",
    type_: Annotated[str, typer.Option("--type", help="Of entry, as listen-denied.")] = "",
    since: Annotated[str, typer.Option("--from", help="RFC 3339.")] = "",
    until: Annotated[str, typer.Option("--to", help="RFC 3339, excluded.")] = "",
    export: Annotated[str, typer.Option(help="jsonl or csv: everything, as a file.")] = "",
    output: NewFile = None,
    as_json: AsJson = False,
) -> None:
    """Read the ledger: who did what, when, for which purpose and why (auditor, DPO)."""
    named = {"campaign": campaign, "actor": actor, "purpose": purpose, "type": type_}
    wanted = named | {"from": since, "to": until}
    asked = {name: value for name, value in wanted.items() if value}
    if export and export not in _FORMS:
        fail("--export is one of " + ", ".join(_FORMS), USAGE)
    with remote() as vault:
        if export:
            save(output, _stream(vault, "/v1/ledger/export", asked | {"format": export}))
        else:
            found = list(vault.items("/v1/ledger/entries", **asked))
            show({"items": found}, as_json=as_json, lines=[_line(one) for one in found])


def receipts(
    recording: Annotated[str, typer.Argument(help="Id of the recording, rec_...")],
    *,
    output: NewFile = None,
) -> None:
    """Who listened to a recording: a signed file that anyone can check offline (DPO, auditor)."""
    path = f"/v1/recordings/{quote(recording, safe='')}/listens/receipts"
    with remote() as vault:
        save(output, iter([vault.text(path).encode()]))


def _stream(vault: Remote, path: str, params: dict[str, str]) -> Iterator[bytes]:
    with vault.client.stream("GET", path, params=params) as answer:
        if not answer.is_success:
            answer.read()
            fail(refusal(answer), exit_code(answer.status_code))
        yield from answer.iter_bytes()


def save(output: Path | None, pieces: Iterator[bytes]) -> None:
    """Write what the service sent to a new file, or to standard output."""
    if output is None:
        _write(sys.stdout.buffer, pieces)
        return
    try:
        with output.open("xb") as file:
            _write(file, pieces)
    except FileExistsError:
        fail("the file exists already and was left as it is", USAGE)


def _write(out: BinaryIO, pieces: Iterator[bytes]) -> None:
    try:
        out.writelines(pieces)
    except httpx2.TransportError as err:
        fail(f"the answer was cut before its end: {type(err).__name__}", TRY_AGAIN)
    out.flush()


def _line(one: dict[str, Any]) -> str:
    who = one["actor"] or {"subject": "-", "id": "-"}
    parts = [one["at"], one["type"], who["subject"] or who["id"], one["purpose"] or "-"]
    parts += [one["recording_id"] or "-", one["reason"] or ""]
    line = "  ".join(parts)
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in line)
