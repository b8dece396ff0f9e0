"""``oubliette erase`` and ``oubliette hold``: what ends recordings, and what protects them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from api.cli_http import Remote, remote
from api.cli_output import REFUSED, TRY_AGAIN, USAGE, AsJson, fail, only_one, show, told_in_private

erase_app = typer.Typer(help="Plan, execute and certify erasures (DPO).", no_args_is_help=True)
hold_app = typer.Typer(help="Legal holds and restrictions (DPO).", no_args_is_help=True)
WAIT_S: Final = 120.0
_POLL_S: Final = 0.5

ErasureId = Annotated[str, typer.Argument(help="Id of the erasure, era_...", metavar="ERASURE")]
Reason = Annotated[str, typer.Option(help="10 to 500 characters, two words at least.")]


@erase_app.command()
def plan(
    reason: Reason,
    legal_ground: Annotated[str, typer.Option(help="For example objection.")],
    *,
    recording: Annotated[str, typer.Option(help="One recording, rec_...")] = "",
    list_file: Annotated[Path | None, typer.Option("--list", help="A file, an id a line.")] = None,
    number: Annotated[
        str,
        typer.Option(
            help="Every recording of a telephone number (- reads it from stdin).",
            callback=told_in_private,
        ),
    ] = "",
    campaign: Annotated[str, typer.Option(help="A closed campaign as a whole.")] = "",
    as_json: AsJson = False,
) -> None:
    """Freeze what would be erased and show what is protected; nothing changes."""
    target = _target(recording, list_file, number, campaign)
    wanted = {"target": target, "legal_ground": legal_ground, "reason": reason}
    with remote() as vault:
        show_erasure(vault.json("POST", "/v1/erasures", json=wanted), as_json=as_json)


@erase_app.command()
def execute(
    erasure: ErasureId,
    digest: Annotated[str, typer.Option(help="The plan's digest, as it was shown.")],
    *,
    wait: Annotated[bool, typer.Option(help="Wait for the end, at most two minutes.")] = True,
    as_json: AsJson = False,
) -> None:
    """Execute a plan: its recordings are inaccessible at once and for good."""
    with remote() as vault:
        path = f"/v1/erasures/{erasure}"
        found = vault.json("POST", f"{path}/execution", json={"plan_digest": digest})
        if wait:
            found = _wait(vault, path)
        show_erasure(found, as_json=as_json)


@erase_app.command("list")
def list_erasures(
    state: Annotated[str, typer.Option(help="planned, running, done ...")] = "planned",
    *,
    as_json: AsJson = False,
) -> None:
    """List erasures in a state; those that the brake stopped are planned."""
    with remote() as vault:
        found = vault.json("GET", "/v1/erasures", params={"state": state})
    lines = [_line(one) for one in found["items"]] or ["none"]
    show(found, as_json=as_json, lines=lines)


@erase_app.command("show")
def show_one(erasure: ErasureId, *, as_json: AsJson = False) -> None:
    """Show how far an erasure is."""
    with remote() as vault:
        show_erasure(vault.json("GET", f"/v1/erasures/{erasure}"), as_json=as_json)


@erase_app.command()
def certificate(
    erasure: ErasureId,
    *,
    output: Annotated[Path | None, typer.Option(help="A new file (standard output).")] = None,
) -> None:
    """Get the signed certificate of a finished erasure."""
    with remote() as vault:
        text = vault.text(f"/v1/erasures/{erasure}/certificate")
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        fail("the file exists already and was left as it is", USAGE)


@hold_app.command("place")
def place(
    reason: Reason,
    *,
    kind: Annotated[str, typer.Option(help="hold or restriction.")] = "hold",
    recording: Annotated[str, typer.Option(help="One recording, rec_...")] = "",
    number: Annotated[
        str,
        typer.Option(
            help="What a telephone number matches now (- reads it from stdin).",
            callback=told_in_private,
        ),
    ] = "",
    campaign: Annotated[str, typer.Option(help="A campaign, later recordings too.")] = "",
    vault_wide: Annotated[bool, typer.Option("--vault", help="Everything.")] = False,
    review_on: Annotated[str, typer.Option(help="When to look again, YYYY-MM-DD.")] = "",
    as_json: AsJson = False,
) -> None:
    """Protect recordings from expiry and erasure; a restriction stops listening too."""
    named = {"recording": recording, "person": number, "campaign": campaign}
    scope = only_one({**named, "vault": vault_wide}, "--recording, --number, --campaign, --vault")
    wanted: dict[str, Any] = {"kind": kind, "scope": scope, "reason": reason}
    member = {"recording": "recording_id", "person": "number", "campaign": "campaign"}
    if scope in member:
        wanted[member[scope]] = named[scope]
    if review_on:
        wanted["review_on"] = review_on
    with remote() as vault:
        show(vault.json("POST", "/v1/holds", json=wanted), as_json=as_json)


@hold_app.command("list")
def list_holds(
    *,
    lifted: Annotated[bool, typer.Option("--lifted", help="Those of the past too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List holds and restrictions."""
    with remote() as vault:
        found = vault.json("GET", "/v1/holds", params={"lifted": lifted})
    lines = [
        f"{one['id']}  {one['kind']}  {one['scope']}  {one['placed_at']}  "
        f"{'lifted' if one['lifted_at'] else 'in force'}"
        for one in found["items"]
    ]
    show(found, as_json=as_json, lines=lines or ["none"])


@hold_app.command()
def lift(
    hold: Annotated[str, typer.Argument(help="Id of the hold, hld_...")], *, as_json: AsJson = False
) -> None:
    """End a hold or a restriction."""
    with remote() as vault:
        show(vault.json("DELETE", f"/v1/holds/{hold}"), as_json=as_json)


def _target(recording: str, list_file: Path | None, number: str, campaign: str) -> dict[str, Any]:
    named = {"recording": recording, "list": list_file, "person": number, "campaign": campaign}
    only_one(named, "--recording, --list, --number, --campaign")
    if recording:
        return {"kind": "recording", "recording_id": recording}
    if list_file is not None:
        return {"kind": "list", "recording_ids": list_file.read_text(encoding="utf-8").split()}
    if number:
        return {"kind": "person", "number": number}
    return {"kind": "campaign", "campaign": campaign}


def _wait(vault: Remote, path: str) -> dict[str, Any]:
    give_up = time.monotonic() + WAIT_S
    found: dict[str, Any] = vault.json("GET", path)
    while not (found["state"] == "done" and found["certificate_id"]):
        if found["state"] == "refused":
            fail("the erasure was refused", REFUSED)
        if time.monotonic() > give_up:
            fail("not finished yet; it goes on by itself (oubliette erase show)", TRY_AGAIN)
        time.sleep(_POLL_S)
        found = vault.json("GET", path)
    return found


def show_erasure(found: dict[str, Any], *, as_json: bool) -> None:
    """Print an erasure: its counts for people, everything as JSON."""
    lines = [
        f"{found['id']}  {found['state']}",
        f"goes: {found['planned_count']}  protected: {found['refused_count']}",
        f"digest: {found['plan_digest']}",
    ]
    lines += [f"{one['recording_id']}  {one['refusal'] or 'goes'}" for one in found["items"]]
    lines += [f"destroyed at: {found['destroyed_at']}"] if found["destroyed_at"] else []
    lines += [f"certificate: {found['certificate_id']}"] if found["certificate_id"] else []
    show(found, as_json=as_json, lines=lines)


def _line(one: dict[str, Any]) -> str:
    braked = "  stopped by the brake" if one["braked"] else ""
    return f"{one['id']}  {one['kind']}  {one['planned_count']} recordings{braked}"
