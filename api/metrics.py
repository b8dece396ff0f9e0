"""Figures for Prometheus, each with its unit in its name and no id or person in a label.

Labels have few values: method, route template, status, code, thread, type of entry, state.
``docs/logs.md`` lists all. A scrape reads memory only: what stands in the database is looked up by
``api.figures`` every few seconds, with statements that follow an index.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from api.observability import LineLogger
from api.version import program_version
from vault.ledger.entry import Event
from vault.ledger.leaf import EVENT_CODES

STORES: Final = ("objects", "ledger")
MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_DURATION_BUCKETS_S: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600)


class Metrics:
    """Every figure of one service; a registry of its own, so that two services do not mix."""

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        self._count_requests()
        self._watch_threads()
        self._count_work()
        self._look_at_erasures()
        self._look_at_keys()
        ProcessCollector(registry=self.registry)
        self._gauge("oubliette_build_info", "1; the label names the version.", "version").labels(
            program_version()
        ).set(1)

    def _count_requests(self) -> None:
        """Make the figures of what callers asked."""
        self.requests = self._counter(
            "oubliette_http_requests", "Requests answered.", "method", "route", "status"
        )
        self.duration_seconds = Histogram(
            "oubliette_http_request_duration_seconds",
            "Time from the first header to the last byte of the answer.",
            ("method", "route"),
            buckets=_DURATION_BUCKETS_S,
            registry=self.registry,
        )
        self.in_flight = self._gauge("oubliette_http_requests_in_flight", "Requests under way.")
        self.received_bytes = self._counter("oubliette_http_received_bytes", "Bytes received.")
        self.sent_bytes = self._counter("oubliette_http_sent_bytes", "Bytes of response bodies.")
        self.refusals = self._counter("oubliette_refusals", "Problem answers by code.", "code")
        self.unknown_roles = self._counter(
            "oubliette_token_unknown_roles", "Roles in tokens that are not known and were ignored."
        )
        self.slots_taken = self._gauge(
            "oubliette_slots_taken", "Uploads, streams and whole searches under way.", "kind"
        )

    def _watch_threads(self) -> None:
        """Make the figures of the work behind the requests."""
        self.thread_up = self._gauge(
            "oubliette_thread_up", "1 while a background thread does its work.", "thread"
        )
        self._gauge(
            "oubliette_log_lines_lost", "Lines of the log that could not be written."
        ).set_function(lambda: LineLogger.lost)
        self.thread_failures = self._counter(
            "oubliette_thread_failures", "Rounds of a background thread that failed.", "thread"
        )
        self.recordings_overdue = self._gauge(
            "oubliette_recordings_overdue",
            "Unprotected and past their retention, at the last sweep.",
        )
        self.ledger_lag_seconds = self._gauge(
            "oubliette_ledger_queue_lag_seconds", "Age of the oldest ledger entry without an index."
        )
        self.ledger_alarm = self._gauge("oubliette_ledger_alarm", "1 while the ledger is closed.")
        self.anchor_behind_seconds = self._gauge(
            "oubliette_anchor_behind_seconds", "Age of the oldest checkpoint not anchored yet."
        )
        self.check_up = self._gauge("oubliette_ready_check_up", "1 while a check passes.", "check")
        self.admins = self._gauge(
            "oubliette_accounts_admins", "Accounts with the role admin, not suspended."
        )

    def _count_work(self) -> None:
        """Make the figures of what this process did, counted once it is committed."""
        # long: one figure after another
        self.ledger_entries = self._counter(
            "oubliette_ledger_entries", "Entries this process committed, by type.", "type"
        )
        for kind in EVENT_CODES:
            self.ledger_entries.labels(kind)  # an alert on a rise needs the zero before it
        self.deposited_bytes = self._counter(
            "oubliette_deposited_audio_bytes", "Clear bytes of the recordings taken."
        )
        self.deposited_seconds = self._counter(
            "oubliette_deposited_audio_seconds", "Length of the recordings taken."
        )
        self.delivered_seconds = self._counter(
            "oubliette_delivered_audio_seconds", "Audio that listens were given, when they closed."
        )
        self.store_errors = self._counter(
            "oubliette_store_errors", "Operations of an object store that failed.", "store"
        )
        for store in STORES:
            self.store_errors.labels(store)
        self.key_providers_down = self._gauge(
            "oubliette_key_providers_down", "Key providers whose newest call was not answered."
        )
        self.key_lease_left_seconds = self._gauge(
            "oubliette_key_lease_left_seconds", "Least time left on a cover in use; 30 without one."
        )
        self.database_connections = self._gauge(
            "oubliette_database_connections", "Connections of the pool that are in use."
        )

    def _look_at_erasures(self) -> None:
        """Make figures of what stands in the shared database: the same in every process."""
        # long: one figure after another
        self.looked_age_seconds = self._gauge(
            "oubliette_figures_age_seconds", "Age of the figures that come from the database."
        )
        self.erasures_waiting = self._gauge(
            "oubliette_erasures_waiting", "Erasures that are not done, by state.", "state"
        )
        self.erasure_oldest_seconds = self._gauge(
            "oubliette_erasure_oldest_seconds", "Age of the oldest approved erasure not done."
        )
        self.brakes_engaged = self._gauge(
            "oubliette_sweep_brakes_engaged", "Sweeps stopped by the brake, waiting for an officer."
        )
        self.sweep_age_seconds = self._gauge(
            "oubliette_sweep_age_seconds", "Time since a sweep last believed the clock and ran."
        )
        self.attempts_waiting = self._gauge(
            "oubliette_attempts", "Deposits that are no recordings, by state.", "state"
        )
        self.objects_to_delete = self._gauge(
            "oubliette_objects_to_delete",
            "Shredded recordings whose object is still stored; counted up to 10 000.",
        )
        self.listens_open = self._gauge("oubliette_listens_open", "Tickets that have not ended.")

    def _look_at_keys(self) -> None:
        """Make more of them."""
        self.ledger_size = self._gauge("oubliette_ledger_size_entries", "Entries with an index.")
        self.ledger_unpublished_seconds = self._gauge(
            "oubliette_ledger_unpublished_seconds",
            "Age of the newest checkpoint while it is not published.",
        )
        self.epoch_age_seconds = self._gauge(
            "oubliette_key_epoch_age_seconds", "Age of the oldest epoch key in use."
        )
        self.destructions_due = self._gauge(
            "oubliette_key_destructions_due", "Key trees with an old epoch key to destroy."
        )
        self.work_lease_age_seconds = self._gauge(
            "oubliette_work_lease_age_seconds", "Time since single-runner work was renewed.", "work"
        )
        self.blob_place_age_seconds = self._gauge(
            "oubliette_blob_place_age_seconds",
            "How long a place has not held every current key blob.",
            "place",
        )

    def entry_committed(self, event: Event) -> None:
        """Count one entry that is durable now."""
        self.ledger_entries.labels(event.type).inc()
        if event.type == "listen-closed" and event.facts.get("amends") is None:
            delivered_ms = event.facts.get("delivered_ms")
            if isinstance(delivered_ms, int | float):
                self.delivered_seconds.inc(delivered_ms / 1000)

    def recording_taken(self, *, clear_bytes: int, duration_ms: int) -> None:
        """Count one new recording."""
        self.deposited_bytes.inc(clear_bytes)
        self.deposited_seconds.inc(duration_ms / 1000)

    def watch_process(
        self, *, lease_left_s: Callable[[], float], connections: Callable[[], float]
    ) -> None:
        """Read at each scrape what costs nothing to read."""
        self.key_lease_left_seconds.set_function(lease_left_s)
        self.database_connections.set_function(connections)

    def text(self) -> bytes:
        """Return every figure in the text format of Prometheus."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)
