"""How the flows are joined: keys and ledger first, then what takes, plays and ends recordings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from api.observability import fault_fields, log
from api.service import Ports
from api.settings import Settings
from api.wiring_rights import Entitling
from keys import labels
from keys.keyring import Keyring
from keys.recovery import Recovery
from keys.shred import Shredder
from retention.brake import Brake
from retention.deletion import Deletion
from retention.erase import Erase
from retention.expiry import Expiry
from retention.four_eyes import FourEyes
from retention.gate import Gate
from retention.hold import Holds
from retention.policies import Policies
from retention.restore import Restore
from retention.set_aside_decision import SetAsides
from retention.sweep import Sweep
from retention.upkeep import Upkeep
from vault.approval import Approvals
from vault.attempt import Attempts
from vault.campaign import Campaigns
from vault.catalogue import Catalogue
from vault.cursor import Cursors
from vault.deposit import Deposit
from vault.deposit_keys import DepositKeys
from vault.export import Exports
from vault.incident import Incidents
from vault.ledger.anchor import Anchoring
from vault.ledger.append import Ledger
from vault.ledger.audit import Audit
from vault.ledger.entry import Event
from vault.ledger.journal import LedgerJournal
from vault.ledger.sequence import Sequencer
from vault.listen import Listens
from vault.listen_account import ListenAccounts
from vault.listen_history import ListenHistory
from vault.listen_receipts import ListenReceipts
from vault.open_audio import Player
from vault.receipt import Receipts
from vault.search import Searches
from vault.stream_turns import StreamTurns
from vault.streams import Streams

_OWNER_BYTES: Final = 16


@dataclass(frozen=True)
class Core:
    """Keys and ledger, on which everything stands."""

    keyring: Keyring
    shredder: Shredder
    recovery: Recovery
    ledger: Ledger
    sequencer: Sequencer
    anchoring: Anchoring
    receipts: Receipts
    gate: Gate
    cursors: Cursors


@dataclass(frozen=True)
class Taking:
    """Campaigns, and what comes into them."""

    campaigns: Campaigns
    deposit_keys: DepositKeys
    attempts: Attempts
    deposit: Deposit
    catalogue: Catalogue
    policies: Policies


@dataclass(frozen=True)
class Listening:
    """Listens, their streams and accounts."""

    streams: Streams
    listens: Listens
    listen_accounts: ListenAccounts
    listen_history: ListenHistory
    listen_receipts: ListenReceipts
    audit: Audit
    incidents: Incidents
    player: Player


@dataclass(frozen=True)
class Ending:
    """Holds, erasures and the sweep."""

    holds: Holds
    erase: Erase
    sweep: Sweep
    restore: Restore
    set_asides: SetAsides


def core(ports: Ports, on_entry: Callable[[Event], None]) -> Core:
    """Join keys and ledger; ``on_entry`` is told each entry once it is durable."""
    # long: one line for each collaborator
    owner = "run-" + ports.clock.random_bytes(_OWNER_BYTES).hex()
    keyring = Keyring(ports.database, ports.providers, ports.places, ports.clock, owner)
    ledger_id = ports.vault.ledger_controller_id
    ledger = Ledger(
        ports.database, keyring, ports.clock, ledger_id, ports.ledger_store, on_entry=on_entry
    )
    journal = LedgerJournal(ledger)
    sequencer = Sequencer(
        ports.database, ports.ledger_store, ports.signer, ledger, report=_report_round
    )
    return Core(
        keyring=keyring,
        shredder=Shredder(
            ports.database, ports.providers, ports.places, keyring, ports.clock, journal, owner
        ),
        recovery=Recovery(
            ports.database, ports.providers, ports.places, ports.clock, journal, ledger_id
        ),
        ledger=ledger,
        sequencer=sequencer,
        anchoring=Anchoring(
            sequencer, ports.anchor, ports.anchor_notes, ports.clock, report=_report_anchor
        ),
        receipts=Receipts(ports.database, ledger, ports.signer),
        gate=Gate(),
        cursors=Cursors(ports.pseudonyms.mac_key(labels.CURSOR)),
    )


def taking(ports: Ports, settings: Settings, core: Core) -> Taking:
    """Join what makes campaigns and takes recordings."""
    campaigns = Campaigns(
        ports.database, core.ledger, ports.clock, core.gate, settings.store_country
    )
    attempts = Attempts(ports.database, ports.clock, core.keyring.owner)
    return Taking(
        campaigns=campaigns,
        deposit_keys=DepositKeys(ports.database, core.ledger, ports.clock),
        attempts=attempts,
        deposit=Deposit(
            database=ports.database,
            campaigns=campaigns,
            attempts=attempts,
            keyring=core.keyring,
            store=ports.store,
            ledger=core.ledger,
            gate=core.gate,
            clock=ports.clock,
            recording_max_bytes=settings.recording_max_bytes,
        ),
        catalogue=Catalogue(ports.database, core.keyring, core.ledger, core.gate, core.cursors),
        policies=Policies(ports.database, core.ledger, ports.clock),
    )


def listening(ports: Ports, settings: Settings, core: Core) -> Listening:
    """Join what grants, streams and accounts for listens."""
    # long: one line for each collaborator
    required = settings.grants == "required"
    streams = Streams()
    accounts = ListenAccounts(ports.database, core.ledger, ports.clock, streams)
    return Listening(
        streams=streams,
        listens=Listens(
            ports.database,
            core.ledger,
            core.gate,
            ports.clock,
            grants_required=required,
            review_share=settings.review_share,
        ),
        listen_accounts=accounts,
        listen_history=ListenHistory(ports.database, core.ledger),
        listen_receipts=ListenReceipts(
            ports.database,
            core.ledger,
            ports.signer,
            names=settings.receipts_name_listeners,
            retention_months=settings.ledger_retention_months,
        ),
        audit=Audit(ports.database, core.ledger, core.cursors),
        incidents=Incidents(ports.database, core.keyring, core.ledger, settings.phone_region),
        player=Player(
            ports.database,
            core.keyring,
            ports.store,
            accounts,
            streams,
            ports.clock,
            StreamTurns(ports.database, ports.clock, core.keyring.owner),
            grants_required=required,
        ),
    )


def exporting(
    ports: Ports, settings: Settings, core: Core, listening: Listening, rights: Entitling
) -> Exports:
    """Join what lets recordings leave, rarely."""
    return Exports(
        database=ports.database,
        keyring=core.keyring,
        ledger=core.ledger,
        store=ports.store,
        gate=core.gate,
        rights=listening.listens.rights,
        approvals=rights.approvals,
        receipts=core.receipts,
        clock=ports.clock,
        clear_bytes_max=settings.export_max_bytes,
    )


def ending(
    ports: Ports, settings: Settings, core: Core, *, taking: Taking, listening: Listening
) -> Ending:
    """Join what protects, erases and sweeps."""
    # long: one line for each collaborator
    database, clock, region = ports.database, ports.clock, settings.phone_region
    keyring, ledger, accounts = core.keyring, core.ledger, listening.listen_accounts
    four_eyes = FourEyes(Approvals(database, ledger, clock), settings.four_eyes_above)
    erase = Erase.of(
        database=database,
        keyring=keyring,
        shredder=core.shredder,
        ledger=ledger,
        listens=accounts,
        signer=ports.signer,
        clock=clock,
        region=region,
        anchoring=core.anchoring,
        four_eyes=four_eyes,
        hsm_backup_policy=settings.hsm_backup_policy,
    )
    brake = Brake(settings.sweep_brake_min, settings.sweep_brake_share)
    return Ending(
        holds=Holds(database, keyring, ledger, accounts, clock, region, four_eyes),
        erase=erase,
        sweep=Sweep(
            database=database,
            erase=erase,
            expiry=Expiry(database, ledger, erase.first_step, clock, brake),
            upkeep=Upkeep(database, keyring, core.shredder, ledger, taking.attempts),
            deletion=Deletion(database, ports.store),
            listens=accounts,
            ledger_retention_months=settings.ledger_retention_months,
        ),
        restore=_restore(ports, core),
        set_asides=SetAsides(database, ports.store, keyring, core.shredder, ledger),
    )


def _restore(ports: Ports, core: Core) -> Restore:
    return Restore(
        database=ports.database,
        store=ports.store,
        keyring=core.keyring,
        recovery=core.recovery,
        providers=ports.providers,
        ledger=core.ledger,
        sequencer=core.sequencer,
        clock=ports.clock,
        anchoring=core.anchoring,
    )


def searches(ports: Ports, settings: Settings, core: Core) -> Searches:
    """Join what opens sealed metadata in search of a person."""
    return Searches(
        database=ports.database,
        keyring=core.keyring,
        ledger=core.ledger,
        gate=core.gate,
        cursors=core.cursors,
        clock=ports.clock,
        phone_region=settings.phone_region,
        grants_required=settings.grants == "required",
    )


def _report_round(error: Exception) -> None:
    log().warning("sequencer-round-failed", **fault_fields(error))


def _report_anchor(error: Exception) -> None:
    log().error("anchor-failed", **fault_fields(error))
