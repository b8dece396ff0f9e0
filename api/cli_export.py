"""``oubliette export``: recordings that leave, approved by another person, sealed to one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli_http import Remote, refusal, remote
from api.cli_output import REFUSED, USAGE, AsJson, exit_code, fail, progress_bar, show

app = typer.Typer(
    help="Exports: asked for, approved by another person, sealed to one receiver.",
    no_args_is_help=True,
)


@app.command()
def ask(
    recording: Annotated[list[str], typer.Argument(help="Ids of recordings, rec_...")],
    recipient: Annotated[str, typer.Option(help="The receiver's age public key, age1...")],
    purpose: Annotated[str, typer.Option(help="One of the known purposes.")],
    reason: Annotated[str, typer.Option(help="10 to 500 characters, two words at least.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Ask for an export; a second person then agrees or refuses."""
    asked = {
        "recording_ids": recording,
        "recipient": recipient,
        "purpose": purpose,
        "reason": reason,
    }
    with remote() as vault:
        made = vault.json("POST", "/v1/exports", json=asked)
    show(made, as_json=as_json, lines=[f"{made['id']}  waits for approval {made['approval_id']}"])


@app.command("list")
def listed(*, as_json: AsJson = False) -> None:
    """List exports: one's own, or everybody's for who supervises every campaign."""
    with remote() as vault:
        found = vault.json("GET", "/v1/exports")
    lines = [_line(one) for one in found["items"]] or ["no exports"]
    show(found, as_json=as_json, lines=lines)


@app.command()
def fetch(
    export: Annotated[str, typer.Argument(help="Id of the export, exp_...")],
    output: Annotated[Path, typer.Option(help="A new file, sealed: the receiver opens it.")],
) -> None:
    """Fetch an approved export as one age file; nothing of it is clear on the way."""
    part = output.with_name(output.name + ".part")
    if output.exists():
        fail("the file exists already and was left as it is", USAGE)
    with remote() as vault:
        about = vault.json("GET", f"/v1/exports/{export}")
        try:
            with open(part, "xb", opener=_for_its_owner) as file:
                _receive(vault, about, file)
        except FileExistsError:
            fail(f"{part} exists already: an earlier fetch was cut, remove it", USAGE)
    part.rename(output)


def _receive(vault: Remote, about: dict[str, Any], file: Any) -> None:
    path = f"/v1/exports/{about['id']}/file"
    with vault.client.stream("GET", path) as answer, progress_bar() as bar:
        if not answer.is_success:
            answer.read()
            Path(file.name).unlink()
            fail(refusal(answer), exit_code(answer.status_code))
        task = bar.add_task("bytes", total=about["clear_bytes"])
        try:
            for piece in answer.iter_raw():
                file.write(piece)
                bar.advance(task, len(piece))
        except Exception:  # noqa: BLE001 - whatever broke, the file is no whole one
            Path(file.name).unlink()
            fail("the export was cut before its end; it may be fetched again", REFUSED)


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _line(one: dict[str, Any]) -> str:
    count = len(one["recording_ids"])
    return f"{one['id']}  {one['state']}  {one['created_at']}  {count} recordings  {one['purpose']}"
