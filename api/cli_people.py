"""``oubliette listen`` and ``oubliette search``: for people, with a purpose and a reason."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer

from api.cli_http import Remote, refusal, remote
from api.cli_output import (
    REFUSED,
    USAGE,
    AsJson,
    exit_code,
    fail,
    progress_bar,
    show,
    told_in_private,
)

_POLL_S: Final = 0.5

Purpose = Annotated[str, typer.Option(help="One of the known purposes.")]
Reason = Annotated[str, typer.Option(help="10 to 500 characters, two words at least.")]


def _said(what: str) -> Any:
    """Make an option whose value, for ``-``, is a line of standard input."""
    return typer.Option(help=what, callback=told_in_private)


def listen(
    recording: Annotated[str, typer.Argument(help="Id of the recording, rec_...")],
    purpose: Purpose,
    reason: Reason,
    *,
    output: Annotated[
        Path | None, typer.Option(help="A new file (standard output, for a player).")
    ] = None,
) -> None:
    """Hear a recording: the reason goes into the ledger first, then the sound comes."""
    if output is None and sys.stdout.isatty():
        fail("standard output is a terminal: pipe it into a player, or give --output", USAGE)
    with remote() as vault:
        asked = {"purpose": purpose, "reason": reason}
        granted = vault.json("POST", f"/v1/recordings/{recording}/listens", json=asked)
        try:
            if output is None:
                _stream(vault, granted["audio_url"], sys.stdout.buffer)
            else:
                with open(output, "xb", opener=_for_its_owner) as file:
                    _stream(vault, granted["audio_url"], file)
        except FileExistsError:
            fail("the file exists already and was left as it is", USAGE)
        finally:
            vault.try_send("DELETE", f"/v1/listens/{granted['id']}")


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _stream(vault: Remote, url: str, out: BinaryIO) -> None:
    with vault.client.stream("GET", url) as answer, progress_bar() as bar:
        if not answer.is_success:
            answer.read()
            fail(refusal(answer), exit_code(answer.status_code))
        total = int(answer.headers["content-length"])
        task, received = bar.add_task("bytes", total=total), 0
        for piece in answer.iter_bytes():
            out.write(piece)
            received += len(piece)
            bar.advance(task, len(piece))
    out.flush()
    if received != total:
        fail("the stream was cut before its end", REFUSED)


def search(
    purpose: Purpose,
    reason: Reason,
    *,
    number: Annotated[str, _said("A telephone number.")] = "",
    agent: Annotated[str, _said("The agent's name.")] = "",
    reference: Annotated[str, _said("Your reference of the contact.")] = "",
    external_id: Annotated[str, _said("The platform's id of the call.")] = "",
    campaign: Annotated[str, typer.Option(help="Id or slug (the whole vault, DPO only).")] = "",
    since: Annotated[str, typer.Option("--from", help="RFC 3339.")] = "",
    until: Annotated[str, typer.Option("--to", help="RFC 3339, excluded.")] = "",
    as_json: AsJson = False,
) -> None:
    """Find recordings of a person; what is given as - is read from stdin instead."""
    wanted = {
        "number": number,
        "agent": agent,
        "reference": reference,
        "external_id": external_id,
        "campaign": campaign,
        "from": since,
        "to": until,
        "purpose": purpose,
        "reason": reason,
    }
    asked = {name: value for name, value in wanted.items() if value}
    with remote() as vault:
        found = vault.json("POST", "/v1/searches", json=asked)
        is_job = "state" in found
        found = _wait(vault, found) if is_job else _every_page(vault, found, asked)
    show(found, as_json=as_json, lines=_hits(found))


def _wait(vault: Remote, job: dict[str, Any]) -> dict[str, Any]:
    with progress_bar() as bar:
        task = bar.add_task("rows", total=job["rows_total"])
        while job["state"] == "running":
            time.sleep(_POLL_S)
            job = vault.json("GET", f"/v1/searches/{job['id']}")
            bar.update(task, completed=job["rows_done"])
    if job["state"] == "failed":
        fail("the search ended before it was complete; start it again", REFUSED)
    return job


def _every_page(vault: Remote, page: dict[str, Any], asked: dict[str, str]) -> dict[str, Any]:
    items = list(page["items"])
    while page.get("next"):
        page = vault.json("POST", page["next"], json=asked)
        items += page["items"]
    return {**page, "items": items}


def _hits(found: dict[str, Any]) -> list[str]:
    if "recording_ids" in found:
        return list(found["recording_ids"]) or ["nothing found"]
    lines = [
        f"{one['id']}  {one['started_at']}  {one['campaign_slug']}  {one['contact'] or '-'}"
        for one in found["items"]
    ]
    return lines or ["nothing found"]
