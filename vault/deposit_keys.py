"""What a telephony platform shows instead of a token: deposit keys, and addresses for one upload.

A deposit key (kind ``key``) is a secret a PBX can keep, ``okd_`` and 256 random bits, good for
deposits into one campaign until it is revoked. An upload address (kind ``url``) carries a token of
the same strength in its query, good for one external id of one campaign and for minutes, because
some platforms can add neither headers nor credentials.

Rows hold SHA-256 of the secret (256 random bits need no slow hash) and, for an address, an HMAC of
its external id keyed with the token: a bare hash of an id, which may be a phone number, could be
guessed. Neither secret is ever shown again.

Does not protect against: whoever learns a key may deposit until it is revoked; it can never listen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from core import ids
from core.canonical import Json
from core.clock import to_text
from core.db import Database
from core.errors import InvalidRequest
from core.ports import Clock
from core.scope import for_all_controllers
from vault.access import Actor
from vault.campaign import Campaign, find_in_scope
from vault.deposit_secret import (
    KEY_PREFIX,
    SECRET_BYTES,
    URL_PREFIX,
    KeptSecret,
    check_spelling,
    external_id_mac,
    fingerprint,
    spell,
)
from vault.errors import DepositKeyNotFound
from vault.external_id import check_external_id
from vault.ledger.append import Ledger
from vault.ledger.entry import Event
from vault.tables import campaigns, deposit_keys

URL_LIFETIME_MIN_S: Final = 60
URL_LIFETIME_MAX_S: Final = 24 * 3600
LABEL_CHARACTERS_MAX: Final = 80
_USED_EVERY: Final = timedelta(hours=1)
_KEEP_EXPIRED: Final = timedelta(days=1)
# built once: every upload with a deposit key runs it
_RECOGNISE: Final = (
    sa.select(deposit_keys, campaigns.c.slug)
    .join_from(deposit_keys, campaigns)
    .where(deposit_keys.c.secret_sha256 == sa.bindparam("fingerprint"))
)


@dataclass(frozen=True)
class IssuedKey:
    """A new deposit key; its secret is shown this once."""

    id: str
    campaign_id: str
    label: str
    secret: str = field(repr=False)
    created_at: datetime


@dataclass(frozen=True)
class IssuedUrl:
    """A new upload address: ``PUT`` the recording there, with ``?token=``, before it expires."""

    id: str
    campaign_id: str
    campaign_slug: str
    external_id: str = field(repr=False)
    token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True)
class DepositKey:
    """A deposit key as lists show it; instants are aware UTC."""

    id: str
    campaign_id: str
    label: str
    created_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True)
class DepositKeys:
    """Issues, shows, revokes and recognises what platforms deposit with."""

    database: Database
    ledger: Ledger
    clock: Clock

    def issue(self, actor: Actor, ref: str, label: str) -> IssuedKey:
        """Make a deposit key of a campaign.

        Raises:
            CampaignNotFound: not in the actor's scope. InvalidRequest: the label cannot be.
        """
        if not 1 <= len(label.strip()) <= LABEL_CHARACTERS_MAX or not label.isprintable():
            raise InvalidRequest(what="label")
        secret = spell(KEY_PREFIX, self.clock.random_bytes(SECRET_BYTES))
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            campaign = find_in_scope(connection, actor, ref)
            now = self.database.now(connection)
            row = self._row(actor, campaign, kind="key", label=label, secret=secret, now=now)
            connection.execute(deposit_keys.insert().values(**row))
            facts = issued_facts(row)
            self._record(connection, actor, campaign, event="deposit-key-issued", facts=facts)
        return IssuedKey(row["id"], campaign.id, label, secret, now)

    def issue_url(self, actor: Actor, ref: str, external_id: str, lifetime_s: int) -> IssuedUrl:
        """Make an upload address for one external id of a campaign.

        Raises:
            CampaignNotFound: not in the actor's scope.
            InvalidRequest: the external id cannot be, or the lifetime is not 60 s to a day.
        """
        check_external_id(external_id)
        if not URL_LIFETIME_MIN_S <= lifetime_s <= URL_LIFETIME_MAX_S:
            raise InvalidRequest(what="lifetime")
        token = spell(URL_PREFIX, self.clock.random_bytes(SECRET_BYTES))
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            campaign = find_in_scope(connection, actor, ref)
            now = self.database.now(connection)
            row = self._row(actor, campaign, kind="url", label="", secret=token, now=now)
            row["expires_at"] = now + timedelta(seconds=lifetime_s)
            row["external_id_mac"] = external_id_mac(token, external_id)
            _drop_expired(connection, campaign.id, before=now - _KEEP_EXPIRED)
            connection.execute(deposit_keys.insert().values(**row))
            facts = issued_facts(row)
            self._record(connection, actor, campaign, event="deposit-key-issued", facts=facts)
        return IssuedUrl(
            row["id"], campaign.id, campaign.slug, external_id, token, row["expires_at"]
        )

    def list(self, actor: Actor, ref: str) -> tuple[DepositKey, ...]:
        """Return a campaign's deposit keys, revoked ones too, newest first; no upload addresses.

        Raises:
            CampaignNotFound: not in the actor's scope.
        """
        with self.database.read() as connection:
            campaign = find_in_scope(connection, actor, ref)
            query = (
                sa.select(deposit_keys)
                .where(deposit_keys.c.campaign_id == campaign.id, deposit_keys.c.kind == "key")
                .order_by(deposit_keys.c.created_at.desc(), deposit_keys.c.id.desc())
            )
            return tuple(_shown(row) for row in connection.execute(query).mappings())

    def revoke(self, actor: Actor, ref: str, key_id: str) -> None:
        """End a deposit key or an upload address for good; again, nothing happens.

        Uploads that it began may end; each new request is refused.

        Raises:
            CampaignNotFound: not in the actor's scope.
            DepositKeyNotFound: the campaign has no such key.
        """
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            campaign = find_in_scope(connection, actor, ref)
            mine = sa.and_(deposit_keys.c.id == key_id, deposit_keys.c.campaign_id == campaign.id)
            row = connection.execute(sa.select(deposit_keys).where(mine)).mappings().one_or_none()
            if row is None:
                raise DepositKeyNotFound
            revoked = connection.execute(
                deposit_keys.update()
                .where(mine, deposit_keys.c.revoked_at.is_(None))
                .values(revoked_at=self.database.now(connection))
            )
            if revoked.rowcount:
                facts: dict[str, Json] = {"deposit_key_id": key_id}
                self._record(connection, actor, campaign, event="deposit-key-revoked", facts=facts)

    def authenticate(self, secret: str, external_id: str | None = None) -> Actor:
        """Return the actor that a deposit key's secret, or an upload address's token, stands for.

        The actor has the role ``intake`` and one campaign. Its pseudonym is the key's own id.

        Args:
            secret: as the platform sent it.
            external_id: the id uploaded to; an address takes its own only.

        Raises:
            DepositKeyNotFound: unknown, revoked, expired, or another external id: all alike.
        """
        check_spelling(secret)
        with for_all_controllers():  # whose it is, only the row tells
            return self._recognise(secret, external_id)

    def _recognise(self, secret: str, external_id: str | None) -> Actor:
        asked = {"fingerprint": fingerprint(secret)}
        with self.database.read() as connection:
            row = connection.execute(_RECOGNISE, asked).mappings().one_or_none()
            now = self.database.now(connection)
        if row is None or not _kept(row).is_valid(secret, external_id=external_id, now=now):
            raise DepositKeyNotFound
        self._note_use(row, now)
        return _actor(row)

    def _note_use(self, row: RowMapping, now: datetime) -> None:
        """Keep the hour of the last use: a key nobody uses should be revoked."""
        if row["used_at"] is not None and now - row["used_at"] < _USED_EVERY:
            return
        with self.database.transaction() as connection:
            connection.execute(
                deposit_keys.update().where(deposit_keys.c.id == row["id"]).values(used_at=now)
            )

    def _row(
        self, actor: Actor, campaign: Campaign, *, kind: str, label: str, secret: str, now: datetime
    ) -> dict[str, Any]:
        return {
            "id": ids.from_bits("dky_", self.clock.random_bytes(ids.ID_BYTES)),
            "controller_id": campaign.controller_id,
            "campaign_id": campaign.id,
            "kind": kind,
            "label": label,
            "secret_sha256": fingerprint(secret),
            "created_at": now,
            "created_by": actor.id,
        }

    def _record(
        self,
        connection: Connection,
        actor: Actor,
        campaign: Campaign,
        *,
        event: str,
        facts: dict[str, Json],
    ) -> None:
        self.ledger.append(
            connection,
            Event(
                type=event,
                actor=actor,
                controller_id=campaign.controller_id,
                campaign_id=campaign.id,
                facts=facts,
            ),
        )


def issued_facts(row: Mapping[str, Any]) -> dict[str, Json]:
    """Return what the entry of a new key tells: all of its row, so that a restore knows it.

    The secret is 256 random bits: its SHA-256 helps nobody to guess it.
    """
    expires_at, mac = row.get("expires_at"), row.get("external_id_mac")
    return {
        "deposit_key_id": row["id"],
        "kind": row["kind"],
        "label": row["label"],
        "secret_sha256": row["secret_sha256"].hex(),
        "external_id_mac": None if mac is None else mac.hex(),
        "expires_at": None if expires_at is None else to_text(expires_at),
    }


def _drop_expired(connection: Connection, campaign_id: str, *, before: datetime) -> None:
    connection.execute(
        deposit_keys.delete().where(
            deposit_keys.c.campaign_id == campaign_id,
            deposit_keys.c.kind == "url",
            deposit_keys.c.expires_at < before,
        )
    )


def _kept(row: RowMapping) -> KeptSecret:
    return KeptSecret(row["kind"], row["revoked_at"], row["expires_at"], row["external_id_mac"])


def _actor(row: RowMapping) -> Actor:
    return Actor(
        id=ids.from_bits("act_", ids.to_bits(row["id"], "dky_")),
        subject=row["id"],
        kind="service",
        roles=frozenset({"intake"}),
        controller_id=row["controller_id"],
        campaigns=frozenset({row["slug"]}),
        deposit_campaign_id=row["campaign_id"],
    )


def _shown(row: RowMapping) -> DepositKey:
    return DepositKey(**{name: row[name] for name in DepositKey.__dataclass_fields__})
