"""The composition root: the one place that joins the packages into a service.

``open_ports`` opens what lies outside the process; ``assemble`` builds every flow on top of it and
touches nothing. Tests put their own port between the two with ``dataclasses.replace``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from api import wiring_flows as flows
from api.auth import Authenticator
from api.background import RecoveryJob, SweepJob, readiness_checks, scheduled, watched_threads
from api.blob_watch import BlobWatch
from api.claims import TokenRules
from api.console.login import CALLBACK
from api.console.provider import Client, Provider
from api.console.sessions import BrowserSessions, SessionRules
from api.counted_store import CountedStore
from api.database import open_vault_database
from api.directory import Directory, controller_slugs, find_vault
from api.documents import HttpDocuments
from api.figures import connections_taken
from api.instance import Claim
from api.issuer import EmbeddedIssuer
from api.jwks import FixedKeys, IssuerKeys
from api.limits import LIMITS, PersonalRate
from api.metrics import Metrics
from api.ports import TokenKeys
from api.rates import shared_windows
from api.readiness import Readiness
from api.rights_job import RightsJob
from api.roles import Role
from api.service import Ports, Service
from api.settings import Settings
from api.slots import SharedSlots, Slots
from api.store_place import open_blob_place
from api.wiring_rights import Entitling, entitling
from core.clock import SystemClock
from core.errors import InvalidRequest
from keys.blobs import Places
from keys.providers.apart import open_apart
from keys.providers.registry import Providers
from keys.signing import NoteSigner, Pseudonyms
from retention.scheduler import Scheduler
from retention.work_lease import WorkLease
from vault.deposit_keys import DepositKeys
from vault.search import Searches
from vault.search_job import JOBS_MAX, JOBS_MAX_EACH, SearchJobs
from vault.stores.anchors import open_anchor
from vault.stores.registry import open_store

__all__ = ["Ports", "Service", "assemble", "open_ports"]


def open_ports(settings: Settings) -> Ports:
    """Open database, stores, key providers, places and signing key of an initialised vault.

    Raises:
        NotInitialised: ``oubliette init`` has not run.
        SchemaMismatch, UnsafeDatabase, InvalidRequest, KeyUnavailable, StoreUnavailable.
    """
    database = open_vault_database(settings)
    vault = find_vault(database)
    return Ports(
        database=database,
        store=open_store(settings.store_uri),
        ledger_store=open_store(settings.ledger_uri),
        providers=Providers(
            tuple(
                open_apart(uri, timeout_s=settings.key_provider_timeout_s)
                for uri in settings.keys_uris
            )
        ),
        places=Places(tuple(open_blob_place(uri, database) for uri in settings.blob_places)),
        vault=vault,
        signer=NoteSigner.load_or_create(settings.signing_key_uri, vault.ledger_origin),
        pseudonyms=Pseudonyms.load_or_create(settings.signing_key_uri),
        clock=SystemClock(),
        anchor=open_anchor(settings.anchor_uri),
        anchor_notes=open_store(f"file://{settings.data_dir / 'anchor'}"),
    )


def assemble(ports: Ports, settings: Settings, role: Role = "all") -> Service:
    """Build every flow of a service; nothing runs and nothing is touched before ``start``."""
    # long: one line for each collaborator
    metrics = Metrics()
    watched = _counted(ports, metrics)
    metrics.key_providers_down.set_function(lambda: len(ports.providers.down()))
    core = flows.core(watched, metrics.entry_committed)
    taking = flows.taking(watched, settings, core)
    listening = flows.listening(watched, settings, core)
    ending = flows.ending(watched, settings, core, taking=taking, listening=listening)
    searches = flows.searches(ports, settings, core)
    rights = entitling(ports, settings, core.ledger, listening.listen_accounts, core.cursors)
    lease = WorkLease(ports.database, ports.clock, core.keyring.owner, "upkeep")
    windows = shared_windows(ports.database)
    authenticator = _authenticator(ports, settings, metrics, taking.deposit_keys)
    service = Service(
        settings=settings,
        role=role,
        ports=ports,
        metrics=metrics,
        claim=Claim(None if settings.production else settings.data_dir / "serve.lock"),
        authenticator=authenticator,
        browser_sessions=_browser_sessions(ports, settings, authenticator),
        listen_rate=PersonalRate("listens", LIMITS.listens_a_minute, windows),
        search_rate=PersonalRate("searches", LIMITS.searches_a_minute, windows),
        upload_slots=Slots(
            "uploads", settings.uploads_max, metrics.slots_taken.labels("uploads").set
        ),
        searches=searches,
        search_jobs=_search_jobs(ports, searches, metrics, core.keyring.owner),
        scheduler=_jobs(watched, settings, metrics, core=core, ending=ending, rights=rights)(lease),
        work_lease=lease,
        readiness=Readiness({}, metrics),
        **vars(core),
        **vars(taking),
        **vars(listening),
        **vars(rights),
        exports=flows.exporting(watched, settings, core, listening, rights),
        **vars(ending),
    )
    return _watched(service)


def _jobs(
    ports: Ports,
    settings: Settings,
    metrics: Metrics,
    *,
    core: flows.Core,
    ending: flows.Ending,
    rights: Entitling,
) -> Callable[[WorkLease], Scheduler]:
    """Return what makes the scheduler of a process, given the lease that its jobs run under."""
    return partial(
        scheduled,
        SweepJob(ending.sweep, metrics),
        RecoveryJob(core.recovery, BlobWatch(ports.database, ports.places, metrics)),
        RightsJob(ports.database, rights),
        sweep_every_s=settings.sweep_every_s,
    )


def _search_jobs(ports: Ports, searches: Searches, metrics: Metrics, owner: str) -> SearchJobs:
    slots = Slots("searches", JOBS_MAX, metrics.slots_taken.labels("searches").set)
    shared = SharedSlots(slots, JOBS_MAX_EACH)
    return SearchJobs(ports.database, searches, ports.clock, owner, shared.take)


def _watched(service: Service) -> Service:
    """Let threads, readiness and figures look at what they are about."""
    service.metrics.watch_process(
        lease_left_s=service.keyring.left_s,
        connections=partial(connections_taken, service.ports.database),
    )
    service.threads.watched.extend(watched_threads(service))
    service.readiness.checks.update(readiness_checks(service))
    return service


def _browser_sessions(
    ports: Ports, settings: Settings, authenticator: Authenticator
) -> BrowserSessions:
    client = Client(
        id=settings.oidc_client_id,
        secret=settings.oidc_client_secret,
        scopes=settings.oidc_scopes,
        redirect_uri=settings.public_url + CALLBACK,
    )
    documents = HttpDocuments()
    provider = Provider(settings.oidc_issuer, client, documents, documents, ports.clock)
    return BrowserSessions(
        database=ports.database,
        clock=ports.clock,
        authenticator=authenticator,
        provider=provider if client.id else None,
        rules=SessionRules(
            settings.session_idle_s, settings.session_max_s, settings.session_refresh_s
        ),
    )


def _counted(ports: Ports, metrics: Metrics) -> Ports:
    """Return the ports with stores that tell of their failures."""
    return replace(
        ports,
        store=CountedStore(ports.store, metrics.store_errors.labels("objects").inc),
        ledger_store=CountedStore(ports.ledger_store, metrics.store_errors.labels("ledger").inc),
    )


def _authenticator(
    ports: Ports, settings: Settings, metrics: Metrics, deposit_keys: DepositKeys
) -> Authenticator:
    rules = TokenRules(
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience,
        algorithms=settings.oidc_algorithms,
        lifetime_max_s=settings.oidc_token_lifetime_max_s,
        roles=settings.oidc_claim_roles,
        controller=settings.oidc_claim_controller,
        company=settings.oidc_claim_company,
        campaigns=settings.oidc_claim_campaigns,
    )
    return Authenticator(
        rules=rules,
        keys=_token_keys(ports, settings),
        secrets=deposit_keys,
        controllers=Directory(ports.database, ports.clock),
        actor_id=ports.pseudonyms.actor_id,
        clock=ports.clock,
        on_unknown_role=metrics.unknown_roles.inc,
    )


def _token_keys(ports: Ports, settings: Settings) -> TokenKeys:
    if not settings.embedded_issuer:
        return IssuerKeys(settings.oidc_issuer, HttpDocuments(), ports.clock)
    return FixedKeys(embedded_issuer(settings).keys())


def sole_controller(settings: Settings) -> str:
    """Return the slug of the vault's controller when it has just one.

    Raises:
        InvalidRequest: it has several, or none: name one.
    """
    database = open_vault_database(settings)
    try:
        slugs = controller_slugs(database)
    finally:
        database.close()
    if len(slugs) != 1:
        raise InvalidRequest(what="controller", count=len(slugs))
    return slugs[0]


def embedded_issuer(settings: Settings) -> EmbeddedIssuer:
    """Return the issuer of an embedded vault, its key made when it is new."""
    return EmbeddedIssuer.load_or_create(
        settings.signing_key_uri,
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience,
    )
