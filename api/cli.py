"""``oubliette``: the command line.

Commands for people and machines speak HTTP (``OUBLIETTE_URL``, ``OUBLIETTE_TOKEN``); commands for
the operator work on the settings (``OUBLIETTE_*``). ``docs/cli.md`` is this program's own help.
"""

from __future__ import annotations

from typing import Annotated

import typer

from api import (
    cli_audit,
    cli_campaign,
    cli_deposit,
    cli_erase,
    cli_export,
    cli_people,
    cli_restore,
    cli_rights,
    cli_vault,
)
from api.cli_incident import app as incident_app
from api.cli_keys import app as keys_app
from api.version import program_version
from core.scope import for_all_controllers

app = typer.Typer(
    name="oubliette",
    help="A call recording vault that can forget, and can prove it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=(
        "Exit codes: 0 done, 1 refused or not verified, 2 wrong usage or settings, 3 no answer or "
        "busy, 4 not allowed, 5 no such thing, 6 a part of an archive could not be deposited."
    ),
)


@app.callback(invoke_without_command=True)
def main_options(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """A call recording vault that can forget, and can prove it."""
    if version:
        typer.echo(program_version())
        raise typer.Exit


def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the service running.")] = False,
) -> None:
    """Play the main job on made-up calls, told as a page a person can follow."""
    from api.demo import run_demo  # noqa: PLC0415 - it needs the extra "demo", others do not

    raise typer.Exit(run_demo(keep=keep))


app.command()(cli_vault.init)
app.command()(cli_vault.serve)
app.command()(demo)
app.command()(cli_vault.token)
app.command()(cli_vault.migrate)
app.command()(cli_vault.doctor)
app.command()(cli_vault.sweep)
app.command()(cli_restore.backup)
app.command()(cli_restore.restore)
app.command()(cli_restore.rebuild)
app.command()(cli_vault.verify)
app.command("anchor-line")(cli_vault.anchor_line)
app.command("rotate-signing-key")(cli_vault.rotate_signing_key)
app.command("verify-certificate")(cli_vault.verify_certificate)
app.command("verify-receipt")(cli_vault.verify_receipt)
app.command("verify-receipts")(cli_vault.verify_receipts)
app.add_typer(cli_campaign.app, name="campaign")
app.command()(cli_deposit.deposit)
app.command()(cli_people.listen)
app.command()(cli_people.search)
app.command()(cli_audit.audit)
app.command()(cli_audit.receipts)
app.add_typer(cli_erase.erase_app, name="erase")
app.add_typer(cli_erase.hold_app, name="hold")
app.add_typer(cli_export.app, name="export")
app.add_typer(cli_rights.grant_app, name="grant")
app.add_typer(cli_rights.approval_app, name="approval")
app.add_typer(cli_rights.account_app, name="account")
app.add_typer(cli_rights.freeze_app, name="freeze")
app.add_typer(cli_rights.review_app, name="review")
app.add_typer(cli_restore.set_aside_app, name="set-aside")
app.add_typer(incident_app, name="incident")
app.add_typer(keys_app, name="keys")


def main() -> None:
    """Run the program; a command works for every controller, a request for its caller's."""
    with for_all_controllers():
        app(prog_name="oubliette")


if __name__ == "__main__":
    main()
