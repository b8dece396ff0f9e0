"""The certificate of an erasure names its key provider and what that cannot promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import pytest

from retention.certificate import verify_certificate
from tests.composition import make_service
from tests.fakes.erasing_desk import ErasingDesk, soon
from tests.fakes.hsm import hsm_uri, make_token, pin_file
from tests.fakes.kms_server import ACCESS_KEY, REGION, fake_kms
from tests.fakes.transit_server import TOKEN, fake_transit

POLICY: Final = "kept 14 days, then destroyed."


@contextmanager
def _pkcs11(request: pytest.FixtureRequest, root: Path) -> Iterator[str]:
    pytest.importorskip("pkcs11")
    environment = request.getfixturevalue("softhsm")
    yield hsm_uri(environment, [make_token(environment) for _ in range(2)], pin_file(root))


@contextmanager
def _aws_kms(request: pytest.FixtureRequest, root: Path) -> Iterator[str]:
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    patch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    with fake_kms() as (_, door):
        yield f"aws-kms:{REGION}?endpoint={door.url}&window-days=9"


@contextmanager
def _transit(request: pytest.FixtureRequest, root: Path) -> Iterator[str]:
    with fake_transit() as (_, door):
        (root / "token").write_text(TOKEN)
        yield f"transit:{door.url}/transit?token-file={root / 'token'}&name=vault-paris"


CASES: Final[list[object]] = [
    pytest.param(_pkcs11, "hsm-backups", POLICY, marks=pytest.mark.needs_softhsm, id="pkcs11"),
    pytest.param(_aws_kms, "kms-deletion-9-days", "Two dates", id="aws-kms"),
    pytest.param(_transit, "raft-snapshots", "transit engine", id="transit"),
]
Provider = Callable[[pytest.FixtureRequest, Path], AbstractContextManager[str]]


@pytest.mark.parametrize(("provider", "limit", "said"), CASES)
def test_a_whole_erasure_ends_with_the_words_of_its_provider(
    request: pytest.FixtureRequest, tmp_path: Path, provider: Provider, limit: str, said: str
) -> None:
    with provider(request, tmp_path) as uri:
        settings = {"KEYS_URI": uri, "HSM_BACKUP_POLICY": POLICY}
        with make_service(tmp_path, settings=settings) as made:
            desk = ErasingDesk(made)
            victim, survivor = desk.deposit(), desk.deposit()
            erasure_id = desk.erase(victim)
            erase = made.service.erase
            assert soon(lambda: erase.get(desk.officer, erasure_id).certificate_id is not None)
            text = erase.certificate(desk.officer, erasure_id)
            proven = verify_certificate(text, *made.service.sequencer.vkeys)
            assert proven.limits == (limit,)
            assert proven.provider_uris == (made.service.ports.providers.default.uri,)
            assert said in text
            day = date.fromisoformat(proven.destroyed_at[:10]) + timedelta(days=9)
            expected = day.isoformat() if limit.startswith("kms") else None
            assert proven.keys_deleted_on == expected
            assert expected is None or text.count(expected) >= 2  # in both languages
            assert proven.hsm_backup_policy == (POLICY if limit == "hsm-backups" else None)
            assert desk.granted(survivor)
            for secret in (TOKEN, "made-up", "token-file", str(tmp_path)):
                assert secret not in text
