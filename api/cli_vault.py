"""Commands on the settings: make a vault, run it, look after it, verify it.

They work on the vault's own database, keys and stores, as its operator; no token is asked for. Only
``verify-certificate`` and ``verify-receipt`` need nothing but a file and the public key. What they
do is in ``api.operate``, imported when a command runs: it takes seconds, and help should not.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from api.cli_http import DEFAULT_URL
from api.cli_output import REFUSED, USAGE, AsJson, by_part, ending_well, fail, progress_bar, show
from api.roles import ROLES as SERVE_ROLES
from api.settings import Settings, load_settings
from vault.access import ROLES

Key = Annotated[str, typer.Option("--key", help="The verifier key, or @FILE with one a line.")]
TextFile = Annotated[Path, typer.Argument(help="The file to verify.", exists=True, dir_okay=False)]


def init(
    controller: Annotated[str, typer.Option(help="Slug of the first controller.")],
    name: Annotated[str, typer.Option(help="Its name for people.")] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Make a vault: schema, keys, ledger, first controller; prints the verifier key."""
    with ending_well():
        settings = _settings()
        made = _operate().init(settings, slug=controller, name=name or controller)
    show(made, as_json=as_json, lines=_welcome(settings, made))


def serve(
    role: Annotated[
        str, typer.Option(help="all; or api (takes requests) or worker (sweep, erasures, anchor).")
    ] = "all",
) -> None:
    """Run the service until it is told to stop (SIGTERM or SIGINT)."""
    if role not in SERVE_ROLES:
        fail("a process is one of " + ", ".join(SERVE_ROLES), USAGE)
    with ending_well():
        code = _operate().serve(_settings(), role)
    raise typer.Exit(code)


def token(
    role: Annotated[list[str], typer.Option(help="One of the roles; repeat for more.")],
    *,
    subject: Annotated[str, typer.Option(help="Whom it speaks for (the role).")] = "",
    controller: Annotated[str, typer.Option(help="Slug (the only one).")] = "",
    campaigns: Annotated[
        list[str] | None, typer.Option(help="Slug; repeat for more (all).")
    ] = None,
    company: Annotated[str, typer.Option(help="Slug of the company.")] = "",
    browser: Annotated[
        bool, typer.Option("--browser", help="Print a link that logs in at the console, once.")
    ] = False,
) -> None:
    """Print a token of the embedded issuer, good for 15 minutes (not in production mode)."""
    if not set(role) <= ROLES:
        fail("roles are " + ", ".join(sorted(ROLES)), USAGE)
    wanted = {
        "subject": subject or "-".join(sorted(role)),
        "roles": role,
        "controller": controller,
        "campaigns": campaigns or ["*"],
        "company": company,
        "service": set(role) == {"intake"},
    }
    with ending_well():
        settings = _settings()
        if not settings.embedded_issuer:
            fail("tokens come from the issuer that OUBLIETTE_OIDC_ISSUER names", USAGE)
        made = _operate().browser_link if browser else _operate().token
        typer.echo(made(settings, wanted))


def migrate(*, as_json: AsJson = False) -> None:
    """Bring the database to this program's schema."""
    with ending_well():
        show(_operate().migrate(_settings()), as_json=as_json)


def doctor(*, as_json: AsJson = False) -> None:
    """Examine the vault and the machine it is on; exit code 1 when something must be done."""
    with ending_well():
        findings = _operate().doctor(_settings())
    lines = [
        f"{one['verdict']:5} {one['check']}: {one['text']}"
        + (f"; {one['todo']}" if one["todo"] else "")
        for one in findings
    ]
    show({"findings": findings}, as_json=as_json, lines=lines)
    if any(one["verdict"] == "fail" for one in findings):
        raise typer.Exit(REFUSED)


def sweep(
    *,
    trust_clock: Annotated[
        bool, typer.Option("--trust-clock", help="The clock is right: no sweep ran for a month.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the sweep once: what is past its retention ends, what was left undone is finished."""
    with ending_well(), progress_bar() as bar:
        report = _operate().sweep(_settings(), by_part(bar), trust_clock=trust_clock)
    show(report, as_json=as_json)
    if report["failures"]:
        raise typer.Exit(REFUSED)


def verify(
    key: Key = "",
    *,
    source: Annotated[
        str, typer.Option("--from", help="Folder, store URI or web address of a ledger's files.")
    ] = "",
    known: Annotated[
        list[str] | None,
        typer.Option(help="A line of anchor-line, or a file with lines, checkpoints or receipts."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify the whole ledger; with --from only its files and the key are looked at."""
    kept = [_kept(one) for one in known or []]
    with ending_well(), progress_bar() as bar:
        task = bar.add_task("entries", total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if source and not key:
            fail("--from wants --key", USAGE)
        if source:
            token = _token_for(source)
            report = _operate().verify_files(source, _key(key), tell, kept, token=token)
        else:
            report = _operate().verify(_settings(), _key(key), tell, kept)
    show(report, as_json=as_json)


def anchor_line(*, as_json: AsJson = False) -> None:
    """Print the newest checkpoint as one line, to print, send or write down."""
    with ending_well():
        line = _operate().anchor_line(_settings())
    show({"line": line}, as_json=as_json, lines=[line])


def rotate_signing_key(*, as_json: AsJson = False) -> None:
    """Sign with a new key from now on; running servers follow it."""
    with ending_well():
        made = _operate().rotate_signing_key(_settings())
    lines = [
        f"entry: {made['entry_id']}",
        f"verifier key of before, to keep for what it signed: {made['old_vkey']}",
        f"verifier key, to write down and give to auditors: {made['vkey']}",
    ]
    show(made, as_json=as_json, lines=lines)


def verify_certificate(file: TextFile, key: Key, *, as_json: AsJson = False) -> None:
    """Verify an erasure's certificate offline, with the public key alone."""
    with ending_well():
        show(_operate().certificate(_text(file), _key(key)), as_json=as_json)


def verify_receipt(file: TextFile, key: Key, *, as_json: AsJson = False) -> None:
    """Verify a deposit's receipt offline, with the public key alone."""
    with ending_well():
        show(_operate().receipt(_text(file), _key(key)), as_json=as_json)


def verify_receipts(file: TextFile, key: Key, *, as_json: AsJson = False) -> None:
    """Verify offline who listened to a recording, with the public key alone."""
    with ending_well():
        report = _operate().receipts(_text(file), _key(key))
    show(report, as_json=as_json, lines=report.pop("lines"))


def _token_for(source: str) -> str:
    """Return the caller's token for a ledger below ``OUBLIETTE_URL``; no other place gets it."""
    own = os.environ.get("OUBLIETTE_URL", "").strip() or DEFAULT_URL
    is_own = source.startswith(f"{own.rstrip('/')}/")
    return os.environ.get("OUBLIETTE_TOKEN", "").strip() if is_own else ""


def _settings() -> Settings:
    return load_settings(os.environ)


def _operate() -> ModuleType:
    from api import operate  # noqa: PLC0415 - see the module

    return operate


def _key(given: str) -> str:
    return _text(Path(given[1:])).strip() if given.startswith("@") else given.strip()


def _kept(given: str) -> str:
    """Return what was kept: the words of a line, or the content of a file."""
    return given if " " in given.strip() else _text(Path(given))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        fail(f"cannot be read: {file}", USAGE)


def _welcome(settings: Settings, made: dict[str, Any]) -> list[str]:
    lines = [
        f"vault: {made['vault_id']}",
        f"controller: {made['controller_slug']} ({made['controller_id']})",
        f"verifier key, to write down and give to auditors: {made['vkey']}",
    ]
    if not settings.embedded_issuer:
        return [*lines, "tokens come from your issuer; see docs/configuration.md for the claims"]
    return [
        *lines,
        "start it:            oubliette serve",
        "a token as admin:    oubliette token --role admin --subject you",
        "a token as officer:  oubliette token --role dpo --subject somebody-else",
    ]
