"""``oubliette incident``: what an account touched, for the notice that is due within 24 hours."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from api.cli_audit import NewFile, save
from api.cli_http import remote
from api.cli_output import AsJson, show

app = typer.Typer(help="The incident kit: what an account touched (DPO, auditor).")


@app.callback()
def _group() -> None:
    """Keep the group a group while it has one command."""


@app.command()
def report(
    account: Annotated[str, typer.Argument(help="act_ id, or the name at the issuer.")],
    since: Annotated[str, typer.Option("--from", help="RFC 3339.")],
    until: Annotated[str, typer.Option("--to", help="RFC 3339, excluded.")],
    *,
    as_csv: Annotated[bool, typer.Option("--csv", help="One line a listen.")] = False,
    output: NewFile = None,
    as_json: AsJson = False,
) -> None:
    """List recordings and listens that an account touched between two instants."""
    member = "actor_id" if account.startswith("act_") else "subject"
    asked = {member: account, "from": since, "to": until}
    path = "/v1/incidents/report"
    with remote() as vault:
        if as_csv:
            answer = vault.send("POST", path, json=asked, params={"format": "csv"})
            save(output, iter([answer.content]))
            return
        found = vault.json("POST", path, json=asked)
        show(found, as_json=as_json, lines=_lines(found))


def _lines(found: dict[str, Any]) -> list[str]:
    counts = found["counts"]
    said = [f"{name.replace('_', ' ')}: {counts[name]}" for name in sorted(counts)]
    freezes = " ".join(found["freezes"]) or "none"
    return [
        f"account {found['actor_id']}",
        *said,
        f"freezes in force: {freezes}",
        *(f"{one['recording_id']}  {' '.join(one['acts'])}" for one in found["recordings"]),
        f"ledger entry {found['entry_id']}",
    ]
