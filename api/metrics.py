"""Figures for Prometheus, each with its unit in its name and no id or person in a label.

Labels have few values: method, route template, status, code, thread. ``docs/logs.md`` lists all.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_DURATION_BUCKETS_S: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600)


class Metrics:
    """Every figure of one service; a registry of its own, so that two services do not mix."""

    def __init__(self) -> None:
        # long: one figure after another
        self.registry: Final = CollectorRegistry()
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
            "oubliette_slots_taken", "Uploads and streams under way.", "kind"
        )
        self.thread_up = self._gauge(
            "oubliette_thread_up", "1 while a background thread does its work.", "thread"
        )
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

    def text(self) -> bytes:
        """Return every figure in the text format of Prometheus."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)
