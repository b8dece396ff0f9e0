"""``oubliette keys``: where epoch keys are, and how they move to another provider.

They work on the settings, as the vault's operator; servers may run meanwhile.
"""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from api.cli_output import REFUSED, AsJson, ending_well, progress_bar, show
from api.settings import load_settings

app = typer.Typer(help="Epoch keys: where they are, and moving them (operator).")


@app.command("list")
def list_keys(*, as_json: AsJson = False) -> None:
    """List each controller's epoch, its age and its key provider; never key material."""
    from api import operate_keys  # noqa: PLC0415 - it takes seconds, and help should not

    with ending_well():
        rows = operate_keys.list_keys(load_settings(os.environ))
    show({"items": rows}, as_json=as_json, lines=[_line(row) for row in rows] or ["none"])


@app.command()
def migrate(
    to: Annotated[str, typer.Option(help="Provider to move into, as it stands in KEYS_URI.")],
    *,
    controller: Annotated[str, typer.Option(help="Slug (every one, and the ledger).")] = "",
    as_json: AsJson = False,
) -> None:
    """Move epoch keys to another provider and empty the old one; run again after a failure."""
    from api import operate_keys  # noqa: PLC0415 - see above

    with ending_well(), progress_bar() as bar:
        task = bar.add_task("controllers", total=None)

        def tell(slug: str, done: int) -> None:
            bar.update(task, description=f"controllers, {slug}", completed=done)

        report = operate_keys.migrate_keys(load_settings(os.environ), to, controller, tell)
    show(report, as_json=as_json, lines=_moved(report))
    if report["failures"]:
        raise typer.Exit(REFUSED)


def _line(row: dict[str, Any]) -> str:
    living = ", ".join(f"{uri} {count}" for uri, count in row["living_keys"].items())
    older = "" if row["older_destroyed"] else "  older keys not confirmed destroyed"
    days = row["age_s"] // 86_400
    return (
        f"{row['controller']:24} epoch {row['epoch']:<6} {days} days old  {row['provider']}"
        f"  (living keys: {living}){older}"
    )


def _moved(report: dict[str, Any]) -> list[str]:
    lines = [
        f"{one['controller']}: {one['from']} -> {one['to']}, epoch {one['epoch']}, "
        f"{one['keys_destroyed']} keys destroyed"
        + ("" if one["moved"] else " (it was there already)")
        for one in report["controllers"]
    ]
    lines += [f"{one['controller']}: waits, {one['what']}" for one in report["failures"]]
    if report["failures"]:
        lines.append("run the same command again once the cause is gone: what moved stays moved")
    return lines
