"""Keys in real SoftHSM tokens, two of them as two nodes of one provider."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from core.errors import IntegrityFailure, InvalidRequest
from keys.errors import DestructionUnconfirmed, KeyMissing, KeyUnavailable
from keys.ports import KeyTag, ListedKey
from keys.providers.registry import open_provider
from tests.fakes.hsm import PIN, drop_token, hsm_uri, make_token, pin_file
from tests.fakes.key_world import new_id

pytest.importorskip("pkcs11")  # the extra "pkcs11"
import pkcs11
from pkcs11 import exceptions as token_errors

from keys.providers import pkcs11 as door
from keys.providers.hsm import HsmProvider
from keys.providers.pkcs11 import Token
from keys.providers.pkcs11_uri import read_nodes

pytestmark = pytest.mark.needs_softhsm
CONTEXT: Final = b"whose and when"


@dataclass(frozen=True)
class Hsm:
    environment: dict[str, str]
    labels: list[str]
    pin: Path

    @property
    def uri(self) -> str:
        return hsm_uri(self.environment, self.labels, self.pin)

    def provider(self, *labels: str) -> HsmProvider:
        uri = hsm_uri(self.environment, list(labels) or self.labels, self.pin)
        return HsmProvider([Token(node) for node in read_nodes(uri.removeprefix("pkcs11:"))])

    def session(self, label: str) -> Any:
        """Return a session of our own, in the login that the process has."""
        token = pkcs11.lib(self.environment["PKCS11_MODULE"]).get_token(token_label=label)
        try:
            return token.open(rw=True, user_pin=PIN)
        except token_errors.UserAlreadyLoggedIn:
            return token.open(rw=True)

    def keys(self, label: str) -> list[Any]:
        session = self.session(label)
        found = session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY})
        return [one for one in list(found) if one.label != door.MARKER]


@pytest.fixture
def hsm(softhsm: dict[str, str], tmp_path: Path) -> Hsm:
    return Hsm(softhsm, [make_token(softhsm), make_token(softhsm)], pin_file(tmp_path))


@pytest.fixture
def tag() -> KeyTag:
    return KeyTag(new_id(), 7)


def key_id() -> str:
    return os.urandom(16).hex()


def test_each_node_has_a_key_of_its_own_that_never_leaves_it(hsm: Hsm, tag: KeyTag) -> None:
    provider, name = hsm.provider(), key_id()
    provider.create(name, tag)
    values = set()
    for label in hsm.labels:
        (key,) = hsm.keys(label)
        assert key.id.hex() == name
        assert key.label == f"oubliette key {tag.controller_id} 7"
        for attribute, wanted in (("SENSITIVE", True), ("EXTRACTABLE", False), ("TOKEN", True),
                                  ("PRIVATE", True), ("ALWAYS_SENSITIVE", True),
                                  ("NEVER_EXTRACTABLE", True), ("WRAP", False),
                                  ("UNWRAP", False), ("VALUE_LEN", 32)):  # fmt: skip
            assert key[pkcs11.Attribute[attribute]] == wanted, attribute
        with pytest.raises(token_errors.AttributeSensitive):
            key[pkcs11.Attribute.VALUE]
        nonce = bytes(12)
        values.add(bytes(key.encrypt(bytes(32), **door._gcm(nonce, b""))))
    assert len(values) == 2


def test_few_objects_are_left_in_a_token(hsm: Hsm, tag: KeyTag) -> None:
    provider = hsm.provider()
    for epoch in range(5):
        name = key_id()
        provider.create(name, KeyTag(tag.controller_id, epoch))
        provider.destroy(name)
    for token in provider.tokens:
        assert list(token.objects().values()) == [door.MARKER]


def test_a_node_that_is_away_stops_no_listen_and_every_erasure(hsm: Hsm, tag: KeyTag) -> None:
    name, secret = key_id(), os.urandom(32)
    provider = hsm.provider()
    provider.create(name, tag)
    wrapped = provider.wrap(name, secret, CONTEXT)
    for gone in hsm.labels:
        crippled = hsm.provider(*[f"no-{one}" if one == gone else one for one in hsm.labels])
        # the same nodes, but one answers nothing: what it wrapped is known by its own mark
        object.__setattr__(crippled.tokens[hsm.labels.index(gone)].node, "token", gone)
        _mute(crippled.tokens[hsm.labels.index(gone)])
        assert crippled.unwrap(name, wrapped, CONTEXT) == secret
        with pytest.raises(KeyUnavailable):
            crippled.list_keys(tag.controller_id)
        with pytest.raises(KeyUnavailable):
            crippled.wrap(name, secret, CONTEXT)
        with pytest.raises(KeyUnavailable):
            crippled.create(key_id(), tag)
        with pytest.raises(DestructionUnconfirmed):
            crippled.destroy(name)
    assert provider.list_keys(tag.controller_id) in ([], [ListedKey(name, tag)])


def _mute(token: Token) -> None:
    def silent(*_: Any, **__: Any) -> Any:
        raise KeyUnavailable(what="token-busy")

    token._run = silent  # type: ignore[method-assign]


def test_a_node_without_the_key_is_made_up_for_and_both_without_it_mean_missing(
    hsm: Hsm, tag: KeyTag
) -> None:
    name, secret = key_id(), os.urandom(32)
    provider = hsm.provider()
    provider.create(name, tag)
    wrapped = provider.wrap(name, secret, CONTEXT)
    hsm.keys(hsm.labels[0])[0].destroy()
    assert provider.unwrap(name, wrapped, CONTEXT) == secret
    assert provider.list_keys(tag.controller_id) == [ListedKey(name, tag)]
    hsm.keys(hsm.labels[1])[0].destroy()
    with pytest.raises(KeyMissing):
        provider.unwrap(name, wrapped, CONTEXT)


def test_a_key_in_one_node_only_is_listed_and_destroyed(hsm: Hsm, tag: KeyTag) -> None:
    provider, name = hsm.provider(), key_id()
    provider.list_keys(tag.controller_id)  # makes the markers
    provider.tokens[1].generate(bytes.fromhex(name), f"{door.KEY_LABEL}{tag.controller_id} 7")
    assert provider.list_keys(tag.controller_id) == [ListedKey(name, tag)]
    provider.destroy(name)
    assert list(provider.list_keys(tag.controller_id)) == []


def test_a_lost_session_and_a_lost_login_are_survived(hsm: Hsm, tag: KeyTag) -> None:
    provider, name, secret = hsm.provider(), key_id(), os.urandom(32)
    provider.create(name, tag)
    wrapped = provider.wrap(name, secret, CONTEXT)
    for token in provider.tokens:
        token._session.close()  # logs out too
    assert provider.unwrap(name, wrapped, CONTEXT) == secret
    assert provider.list_keys(tag.controller_id) == [ListedKey(name, tag)]
    logs_out = hsm.provider()
    logs_out.list_keys(tag.controller_id)
    for token in provider.tokens:  # only the first session closes the login for all of them
        token._session.close()
    assert logs_out.list_keys(tag.controller_id) == [ListedKey(name, tag)]
    assert logs_out.unwrap(name, wrapped, CONTEXT) == secret
    logs_out.destroy(name)
    assert list(provider.list_keys(tag.controller_id)) == []


@pytest.mark.control
def test_without_the_marker_a_lost_login_would_look_like_a_destroyed_key(
    hsm: Hsm, tag: KeyTag, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, name = hsm.provider(), key_id()
    provider.create(name, tag)
    monkeypatch.setattr(door, "_is_marked", lambda _: True)
    for token in provider.tokens:
        public = pkcs11.lib(hsm.environment["PKCS11_MODULE"]).get_token(
            token_label=token.node.token
        )
        token._session.close()
        token._session = public.open(rw=True)  # never logged in
        token.destroy(bytes.fromhex(name))  # says that it is gone
    monkeypatch.undo()
    assert provider.list_keys(tag.controller_id) == [ListedKey(name, tag)]


def test_a_token_of_another_or_a_new_one_under_the_same_label_is_no_answer(
    hsm: Hsm, tag: KeyTag
) -> None:
    name = key_id()
    hsm.provider().create(name, tag)
    stranger = make_token(hsm.environment)
    hsm.provider(stranger).list_keys(tag.controller_id)  # marks it as a provider of its own
    for labels in ([hsm.labels[0], stranger], [hsm.labels[0], make_token(hsm.environment)]):
        mixed = hsm.provider(*labels)
        with pytest.raises(KeyUnavailable, match="token-without-marker"):
            mixed.list_keys(tag.controller_id)
        with pytest.raises(DestructionUnconfirmed):
            mixed.destroy(name)


def test_a_wrong_pin_is_tried_once_and_a_new_one_at_once(hsm: Hsm, tag: KeyTag) -> None:
    pin_file(hsm.pin.parent, "9999")
    provider = hsm.provider(make_token(hsm.environment))
    for _ in range(3):
        with pytest.raises(KeyUnavailable, match="pin-incorrect"):
            provider.list_keys(tag.controller_id)
    assert provider.tokens[0]._refused_pin
    pin_file(hsm.pin.parent, PIN)
    assert list(provider.list_keys(tag.controller_id)) == []


def test_no_pin_is_in_a_log_an_error_or_a_repr(
    hsm: Hsm, tag: KeyTag, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = "wrong-pin-8812"
    pin_file(hsm.pin.parent, wrong)
    provider = open_provider(hsm_uri(hsm.environment, [make_token(hsm.environment)], hsm.pin))
    with caplog.at_level(logging.DEBUG), pytest.raises(KeyUnavailable) as told:
        provider.list_keys(tag.controller_id)
    shown = f"{told.value}{told.value.__cause__}{caplog.text}{provider!r}"
    assert wrong not in shown
    assert PIN not in shown


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (token_errors.DeviceMemory, "token-full"),
        (token_errors.PinLocked, "pin-locked"),
        (token_errors.PinExpired, "pin-expired"),
        (token_errors.DeviceRemoved, "token-missing"),
        (token_errors.MechanismInvalid, "token-without-aes-gcm"),
        (token_errors.PKCS11Error, "token-failed"),
    ],
)
def test_what_a_token_says_is_said_in_plain_words(
    hsm: Hsm, tag: KeyTag, error: type[Exception], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, name = hsm.provider(), key_id()
    provider.create(name, tag)

    def fails(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(door, "_ours", fails)
    with pytest.raises(KeyUnavailable, match=what):
        provider.list_keys(tag.controller_id)
    with pytest.raises(DestructionUnconfirmed):
        provider.destroy(name)


def test_a_library_or_a_token_that_is_not_there_is_not_available(hsm: Hsm, tag: KeyTag) -> None:
    how = f"module-path=/nowhere/libhsm.so&pin-source=file:{hsm.pin}"
    for uri in (f"pkcs11:token=x?{how}", hsm_uri(hsm.environment, ["no-such-token"], hsm.pin)):
        provider = open_provider(uri)
        with pytest.raises(KeyUnavailable):
            provider.list_keys(tag.controller_id)
        with pytest.raises(DestructionUnconfirmed):
            provider.destroy(key_id())


def test_rotten_bytes_are_refused_although_one_node_would_open_them(hsm: Hsm, tag: KeyTag) -> None:
    provider, name = hsm.provider(), key_id()
    provider.create(name, tag)
    wrapped = bytearray(provider.wrap(name, os.urandom(32), CONTEXT))
    wrapped[-20] ^= 1  # in the second node's part
    with pytest.raises(IntegrityFailure):
        provider.unwrap(name, bytes(wrapped), CONTEXT)


def test_a_token_that_was_deleted_is_not_a_key_destroyed(hsm: Hsm, tag: KeyTag) -> None:
    provider, name = hsm.provider(), key_id()
    provider.create(name, tag)
    drop_token(hsm.labels[0])
    for token in provider.tokens:
        token._leave()
    with pytest.raises((DestructionUnconfirmed, KeyUnavailable)):
        hsm.provider().destroy(name)


@pytest.mark.parametrize(
    "rest",
    [
        "token=a",
        "token=a?module-path=/x",
        "token=a?module-path=/x&pin-source=file:/p&pin-value=1234",
        "serial=1?module-path=/x&pin-source=file:/p",
        "token=a;token=b?module-path=/x&pin-source=file:/p",
        "token=a?module-path=/x&pin-source=file:/p,token=a?module-path=/x&pin-source=file:/p",
        "token=a?module-path=/x&pin-source=file:/p&name=a%2Fb",
    ],
)
def test_a_uri_that_is_not_right_is_refused_without_repeating_a_pin(rest: str) -> None:
    with pytest.raises(InvalidRequest) as told:
        open_provider(f"pkcs11:{rest}")
    assert "1234" not in str(told.value)


def test_a_uri_names_nodes_serials_and_a_provider() -> None:
    how = "module-path=/x%2Cy.so&pin-source=env:HSM_PIN"
    nodes = read_nodes(f"token=my%20vault;serial=07?{how}&name=paris,pkcs11:token=b?{how}")
    assert [(one.token, one.serial) for one in nodes] == [("my vault", "07"), ("b", "")]
    assert nodes[0].module_path == "/x,y.so"
    assert HsmProvider([Token(one) for one in nodes]).uri == "pkcs11:paris"
