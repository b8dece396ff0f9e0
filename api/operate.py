"""What the operator's commands do: heavy to import, so ``api.cli_vault`` asks for it when it must.

Each function opens what it needs from the settings and closes it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from api.auth import TYPES
from api.database import open_bare_database
from api.doctor import examine
from api.errors import EntryNotFound, SettingsInvalid
from api.init import initialise
from api.issuer import TokenRequest
from api.observability import configure_logging
from api.roles import Role
from api.server import Server
from api.service import Service
from api.settings import Settings
from api.wiring import assemble, embedded_issuer, open_ports, sole_controller
from core.migrate import migrate as migrate_schema
from core.migrate import schema_state
from core.scope import for_all_controllers
from retention.certificate import verify_certificate
from vault.ledger.checkpoint import Checkpoint
from vault.ledger.known import checkpoint_line, read_known
from vault.ledger.reader import open_source
from vault.ledger.rotate import rotate
from vault.ledger.verify import VerifyReport
from vault.ledger.verify import verify as verify_ledger
from vault.listen_receipts import verify_listens
from vault.receipt import verify_receipt

Told = Callable[[str, int], None]
ToldOf = Callable[[int, int], None]


def init(settings: Settings, *, slug: str, name: str) -> dict[str, Any]:
    """Make the vault and its first controller."""
    return dict(initialise(settings, slug=slug, name=name).shown())


def serve(settings: Settings, role: Role = "all") -> int:
    """Serve until told to stop; returns the exit code.

    Raises:
        SettingsInvalid: an embedded vault has one process for everything.
    """
    if role != "all" and not settings.production:
        raise SettingsInvalid(setting="OUBLIETTE_MODE", what=f"role {role} wants production mode")
    configure_logging()
    return Server(assemble(open_ports(settings), settings, role)).run()


def token(settings: Settings, wanted: dict[str, Any]) -> str:
    """Sign a token; without a controller it is for the only one."""
    wanted["controller"] = wanted["controller"] or sole_controller(settings)
    return embedded_issuer(settings).issue(TokenRequest(**wanted), now=datetime.now(tz=UTC))


def browser_link(settings: Settings, wanted: dict[str, Any]) -> str:
    """Make a link that logs in at the console once, within 5 minutes.

    What logs in stands behind the ``#``, which browsers send to nobody.
    """
    signed = token(settings, wanted)
    service = assemble(open_ports(settings), settings)
    try:
        with for_all_controllers():
            claims = service.authenticator.genuine_claims(signed, TYPES)
            code = service.browser_sessions.offer(claims)
    finally:
        service.ports.database.close()
    return f"{settings.public_url}/console/enter#{code}"


def migrate(settings: Settings) -> dict[str, Any]:
    """Bring the schema forward; returns its state before and now, and that of its walls."""
    database = open_bare_database(settings)
    try:
        before = schema_state(database)
        walls = migrate_schema(database)
        return {"before": before, "now": schema_state(database), "walls": walls}
    finally:
        database.close()


def doctor(settings: Settings) -> list[dict[str, str]]:
    """Return every finding."""
    return [one.shown() for one in examine(settings)]


def sweep(settings: Settings, tell: Told, *, trust_clock: bool) -> dict[str, Any]:
    """Run the sweep once, and finish what it began."""
    with opened(settings) as service:
        report = service.sweep.run(tell, trust_clock=trust_clock)
        service.erase.resume_all()
    return asdict(report)


def verify(settings: Settings, key: str, tell: ToldOf, kept: Sequence[str]) -> dict[str, Any]:
    """Verify the vault's own ledger: files, rows, texts, and what was anchored or kept of it."""
    service = assemble(open_ports(settings), settings)
    try:
        service.keyring.warm(service.ports.vault.ledger_controller_id)
        vkeys = tuple(key.split()) or service.sequencer.vkeys
        anchored = service.anchoring.last_known()
        report = verify_ledger(
            open_source(settings.ledger_uri),
            *vkeys,
            known=_known(kept, *vkeys) + ([] if anchored is None else [anchored.checkpoint]),
            database=service.ports.database,
            sealer=service.ledger.sealer,
            progress=tell,
        )
    finally:
        service.keyring.close()
        service.ports.database.close()
    return _verified(report)


def verify_files(
    source: str, key: str, tell: ToldOf, kept: Sequence[str], *, token: str = ""
) -> dict[str, Any]:
    """Verify a ledger from its files, the public key and what was kept of it.

    ``token`` goes to an ``http(s)://`` source: a vault's own ``/v1/ledger`` asks for one.
    """
    files = open_source(source, token=token)
    vkeys = key.split()
    return _verified(verify_ledger(files, *vkeys, known=_known(kept, *vkeys), progress=tell))


def anchor_line(settings: Settings) -> str:
    """Return the newest published checkpoint on one line.

    Raises:
        EntryNotFound: nothing has been published yet.
    """
    service = assemble(open_ports(settings), settings)
    try:
        published = service.sequencer.publisher.published()
    finally:
        service.keyring.close()
        service.ports.database.close()
    if published is None:
        raise EntryNotFound(what="checkpoint")
    return checkpoint_line(published.note)


def rotate_signing_key(settings: Settings) -> dict[str, Any]:
    """Put a new signing key in place, with no server on the vault."""
    configure_logging()
    service = assemble(open_ports(settings), settings)
    try:
        service.claim.take()
        service.open_up()
        return asdict(rotate(service.sequencer, settings.signing_key_uri))
    finally:
        service.stop()


def _known(kept: Sequence[str], *vkeys: str) -> list[Checkpoint]:
    return [one for text in kept for one in read_known(text, *vkeys)]


def certificate(text: str, key: str) -> dict[str, Any]:
    """Verify an erasure's certificate; return what it proves."""
    return asdict(verify_certificate(text, *key.split()))


def receipt(text: str, key: str) -> dict[str, Any]:
    """Verify a deposit's receipt; return what it proves."""
    facts = verify_receipt(text, *key.split())
    size = None if facts.checkpoint is None else facts.checkpoint.size
    return {"day": facts.leaf.day.isoformat(), "event": facts.event, "ledger_size": size}


def receipts(text: str, key: str) -> dict[str, Any]:
    """Verify the file of a recording's listens; return what it proves, and lines for people."""
    facts = verify_listens(text, *key.split())
    head, _, _ = text.partition("\n{")
    unproven = sum(one.ledger_size is None for one in facts.entries)
    lines = [*head.splitlines(), f"verified: {len(facts.entries)} entries, {unproven} unproven"]
    return asdict(facts) | {"lines": lines}


def _verified(report: VerifyReport) -> dict[str, Any]:
    return {
        "origin": report.checkpoint.origin,
        "entries": report.checkpoint.size,
        "root_hash": report.checkpoint.root_hash.hex(),
        "earlier_checkpoints": report.known,
        "rows": None if report.rows is None else asdict(report.rows),
    }


@contextmanager
def opened(settings: Settings) -> Iterator[Service]:
    """Open the vault for one command, with the threads that its work needs."""
    configure_logging()
    service = assemble(open_ports(settings), settings)
    try:
        service.open_up()
        service.start_threads("leases", "lease-ends", "sequencer")
        yield service
    finally:
        service.stop()
