"""What every provider of epoch keys must do.

A further provider joins with one line in ``PROVIDERS``: a function that returns a function that
opens the provider, each time anew, on the same keys. ``make check-kms`` runs the same tests against
a real service, which ``CHECK_KEYS_URI`` names, and destroys every key that they made.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from core.errors import IntegrityFailure, InvalidRequest
from keys.errors import KeyMissing, KeyUnavailable
from keys.ports import KeyProvider, KeyTag, ListedKey
from keys.providers.deadline import TIMEOUT_S
from keys.providers.registry import open_provider
from tests.fakes.hsm import PIN, hsm_uri, make_token, pin_file
from tests.fakes.key_world import new_id
from tests.fakes.kms_server import ACCESS_KEY, REGION, fake_kms
from tests.fakes.transit_server import TOKEN, fake_transit

Opener = Callable[[], KeyProvider]
CONTEXT: Final = b"whose and when"
PATIENT_S: Final = 60.0  # of fakes and tokens on a busy machine; a real one has its ten seconds


@contextmanager
def _local(request: pytest.FixtureRequest, root: Path) -> Iterator[str]:
    yield f"local:{root / 'epochs'},{root / 'epochs-2'}"


@contextmanager
def _pkcs11(request: pytest.FixtureRequest, root: Path) -> Iterator[str]:
    environment = request.getfixturevalue("softhsm")
    labels = request.getfixturevalue("hsm_labels")
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    patch.setattr("keys.providers.pkcs11._BUSY_S", PATIENT_S)
    yield hsm_uri(environment, labels, pin_file(root))


@contextmanager
def _aws_kms(request: pytest.FixtureRequest, root: Path) -> Iterator[str]:
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    with fake_kms(stale_reads=3) as (_, door):
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
        yield f"aws-kms:{REGION}?endpoint={door.url}&window-days=7"


@contextmanager
def _transit(request: pytest.FixtureRequest, root: Path) -> Iterator[str]:
    with fake_transit() as (_, door):
        (root / "token").write_text(TOKEN + "\n")
        yield f"transit:{door.url}/transit?token-file={root / 'token'}"


PROVIDERS: Final = {
    "local": _local,
    "pkcs11": _pkcs11,
    "aws-kms": _aws_kms,
    "transit": _transit,
}
REAL: Final = os.environ.get("CHECK_KEYS_URI", "")
PARAMETERS: Final = [
    pytest.param(name, marks=pytest.mark.needs_softhsm if name == "pkcs11" else [])
    for name in PROVIDERS
] + [pytest.param("real", id="real")] * bool(REAL)


@pytest.fixture(scope="session")
def hsm_labels(softhsm: dict[str, str]) -> list[str]:
    """Return the labels of two empty tokens: two nodes."""
    return [make_token(softhsm), make_token(softhsm)]


class Tidied:
    """A provider that is somebody's own: what a test makes there does not stay."""

    def __init__(self, inner: KeyProvider, made: list[str]) -> None:
        self._inner, self._made = inner, made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __repr__(self) -> str:
        return repr(self._inner)

    def create(self, key_id: str, tag: KeyTag) -> None:
        self._made.append(key_id)
        self._inner.create(key_id, tag)


def _tidied(uri: str, timeout_s: float) -> Iterator[Opener]:
    """Yield how to open a provider that outlives the test; destroy what the test made there."""
    made: list[str] = []
    yield lambda: Tidied(open_provider(uri, timeout_s=timeout_s), made)
    provider = open_provider(uri, timeout_s=timeout_s)
    for name in {one for one in made if len(one) == 32}:
        with contextlib.suppress(InvalidRequest):
            provider.destroy(name)


@pytest.fixture(params=PARAMETERS)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    if request.param == "real":
        yield from _tidied(REAL, TIMEOUT_S)
        return
    with PROVIDERS[request.param](request, tmp_path) as uri:
        if request.param == "pkcs11":
            yield from _tidied(uri, PATIENT_S)
        else:
            yield lambda: open_provider(uri, timeout_s=PATIENT_S)


@pytest.fixture
def provider(opener: Opener) -> KeyProvider:
    return opener()


@pytest.fixture
def tag() -> KeyTag:
    return KeyTag(new_id(), 7)


def key_id() -> str:
    return os.urandom(16).hex()


def test_a_key_opens_what_it_wrapped(provider: KeyProvider, tag: KeyTag) -> None:
    name, secret = key_id(), os.urandom(32)
    provider.create(name, tag)
    wrapped = provider.wrap(name, secret, CONTEXT)
    opened = provider.unwrap(name, wrapped, CONTEXT)
    assert isinstance(opened, bytearray)
    assert opened == secret
    assert secret not in wrapped


def test_wrapping_twice_gives_two_texts(provider: KeyProvider, tag: KeyTag) -> None:
    name, secret = key_id(), os.urandom(32)
    provider.create(name, tag)
    assert provider.wrap(name, secret, CONTEXT) != provider.wrap(name, secret, CONTEXT)


def test_a_key_outlives_the_process_that_made_it(opener: Opener, tag: KeyTag) -> None:
    name, secret = key_id(), os.urandom(32)
    first = opener()
    first.create(name, tag)
    wrapped = first.wrap(name, secret, CONTEXT)
    second = opener()
    assert second.uri == first.uri
    assert second.list_keys(tag.controller_id) == [ListedKey(name, tag)]
    assert second.unwrap(name, wrapped, CONTEXT) == secret


def test_keys_are_listed_with_their_tags_and_for_their_controller_alone(
    provider: KeyProvider, tag: KeyTag
) -> None:
    names = sorted(key_id() for _ in range(3))
    for epoch, name in enumerate(names):
        provider.create(name, KeyTag(tag.controller_id, epoch))
    provider.create(key_id(), KeyTag(new_id(), 1))
    listed = sorted(provider.list_keys(tag.controller_id), key=lambda one: one.key_id)
    assert listed == [
        ListedKey(name, KeyTag(tag.controller_id, epoch)) for epoch, name in enumerate(names)
    ]
    assert list(provider.list_keys(new_id())) == []


def test_a_destroyed_key_is_gone_for_every_process(opener: Opener, tag: KeyTag) -> None:
    name, other, secret = key_id(), key_id(), os.urandom(32)
    provider = opener()
    provider.create(name, tag)
    provider.create(other, tag)
    wrapped = provider.wrap(name, secret, CONTEXT)
    kept = provider.wrap(other, secret, CONTEXT)
    provider.destroy(name)
    for one in (provider, opener()):
        assert one.list_keys(tag.controller_id) == [ListedKey(other, tag)]
        with pytest.raises(KeyMissing):
            one.unwrap(name, wrapped, CONTEXT)
        with pytest.raises(KeyUnavailable):
            one.wrap(name, secret, CONTEXT)
        assert one.unwrap(other, kept, CONTEXT) == secret


def test_destroying_is_idempotent_and_a_stranger_counts_as_destroyed(
    provider: KeyProvider, tag: KeyTag
) -> None:
    name = key_id()
    provider.create(name, tag)
    for _ in range(2):
        provider.destroy(name)
    provider.destroy(key_id())
    assert list(provider.list_keys(tag.controller_id)) == []


def test_a_key_id_is_used_once(provider: KeyProvider, tag: KeyTag) -> None:
    name, secret = key_id(), os.urandom(32)
    provider.create(name, tag)
    wrapped = provider.wrap(name, secret, CONTEXT)
    with pytest.raises(KeyUnavailable):
        provider.create(name, KeyTag(tag.controller_id, 8))
    assert provider.unwrap(name, wrapped, CONTEXT) == secret
    assert provider.list_keys(tag.controller_id) == [ListedKey(name, tag)]


@pytest.mark.parametrize("at", [0, 11, 12, 43, -16, -1])
def test_changed_bytes_do_not_open(provider: KeyProvider, tag: KeyTag, at: int) -> None:
    name = key_id()
    provider.create(name, tag)
    wrapped = bytearray(provider.wrap(name, os.urandom(32), CONTEXT))
    wrapped[at] ^= 1
    with pytest.raises(IntegrityFailure):
        provider.unwrap(name, bytes(wrapped), CONTEXT)


@pytest.mark.parametrize("cut", [0, 1, 32])
def test_cut_bytes_do_not_open(provider: KeyProvider, tag: KeyTag, cut: int) -> None:
    name = key_id()
    provider.create(name, tag)
    wrapped = provider.wrap(name, os.urandom(32), CONTEXT)
    with pytest.raises(IntegrityFailure):
        provider.unwrap(name, wrapped[:cut], CONTEXT)


def test_another_context_or_another_key_does_not_open(provider: KeyProvider, tag: KeyTag) -> None:
    name, other = key_id(), key_id()
    provider.create(name, tag)
    provider.create(other, tag)
    wrapped = provider.wrap(name, os.urandom(32), CONTEXT)
    with pytest.raises(IntegrityFailure):
        provider.unwrap(name, wrapped, CONTEXT + b".")
    with pytest.raises(IntegrityFailure):
        provider.unwrap(other, wrapped, CONTEXT)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_only_32_bytes_are_wrapped(provider: KeyProvider, tag: KeyTag, size: int) -> None:
    name = key_id()
    provider.create(name, tag)
    with pytest.raises(InvalidRequest):
        provider.wrap(name, bytes(size), CONTEXT)


@pytest.mark.parametrize("name", ["", "../" + 29 * "a", 32 * "A", 31 * "a", 33 * "a", ".new"])
def test_a_name_that_is_no_key_id_is_refused(provider: KeyProvider, tag: KeyTag, name: str) -> None:
    with pytest.raises(InvalidRequest):
        provider.create(name, tag)
    with pytest.raises(InvalidRequest):
        provider.destroy(name)
    assert list(provider.list_keys(tag.controller_id)) == []


def test_it_says_what_it_cannot_promise_and_names_no_folder(provider: KeyProvider) -> None:
    assert provider.limits
    assert all(limit.replace("-", "").isalnum() for limit in provider.limits)
    assert "/" not in provider.uri


def test_a_wrapped_key_of_one_key_does_not_open_under_the_id_of_a_destroyed_one(
    provider: KeyProvider, tag: KeyTag
) -> None:
    name, gone = key_id(), key_id()
    provider.create(name, tag)
    provider.create(gone, tag)
    wrapped = provider.wrap(name, os.urandom(32), CONTEXT)
    provider.destroy(gone)
    with pytest.raises((KeyMissing, IntegrityFailure)):
        provider.unwrap(gone, wrapped, CONTEXT)


def test_threads_at_once_each_get_their_own(opener: Opener, tag: KeyTag) -> None:
    provider = opener()
    names = [key_id() for _ in range(4)]
    failures: list[Exception] = []

    def use(name: str) -> None:
        try:
            secret = os.urandom(32)
            provider.create(name, tag)
            wrapped = provider.wrap(name, secret, CONTEXT)
            assert provider.unwrap(name, wrapped, CONTEXT) == secret
            provider.destroy(name)
        except Exception as err:  # noqa: BLE001 - told below
            failures.append(err)

    threads = [threading.Thread(target=use, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list(provider.list_keys(tag.controller_id)) == []


def test_two_that_destroy_the_same_key_both_say_that_it_is_gone(
    opener: Opener, tag: KeyTag
) -> None:
    first, second = opener(), opener()
    name = key_id()
    first.create(name, tag)
    second.destroy(name)
    first.destroy(name)
    assert list(first.list_keys(tag.controller_id)) == list(second.list_keys(tag.controller_id))


def test_nothing_secret_is_in_its_repr(provider: KeyProvider) -> None:
    assert PIN not in repr(provider)
    assert TOKEN not in repr(provider)
