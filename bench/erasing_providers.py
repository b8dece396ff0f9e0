"""What one erasure costs with each key provider, held against local key files in the same run.

Steps 2 to 7 of an erasure, with one process: list, create, wrap, unwrap, destroy, confirm. SoftHSM
is real software; the AWS KMS and the Vault here are fakes on loopback that answer at once, so their
figures are what this program adds, not what the services take.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from bench.erasing import timed
from bench.figure import Figure, Run, compare, interleave
from bench.rig import Rig, rig
from keys.model import NodeRange
from tests.fakes.hsm import hsm_uri, make_token, pin_file
from tests.fakes.kms_server import ACCESS_KEY, REGION, fake_kms
from tests.fakes.transit_server import TOKEN, fake_transit
from tests.services.servers import MissingError, Servers

ROUNDS: Final = 10
LOCAL: Final = "local files, two folders"


def figures(run: Run) -> list[Figure]:
    """Return the ratio of each provider to local key files."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oubliette-bench-")))
        uris = {LOCAL: "", **stack.enter_context(_providers(folder))}
        rigs = {
            name: stack.enter_context(rig(**({"KEYS_URI": uri} if uri else {})))
            for name, uri in uris.items()
        }
        tasks = {name: _erasing(made) for name, made in rigs.items()}
        took = interleave(tasks, rounds=run.counted("one erasure", ROUNDS))
    return [
        compare(f"erase, {name}", limit=LOCAL, unit="ms", ours=took[name], other=took[LOCAL])
        for name in took
        if name != LOCAL
    ]


def _erasing(made: Rig) -> Callable[[], float]:
    indexes = iter(range(1, 10_000, 7))

    def measure() -> float:
        leaf = NodeRange.leaf(made.campaign.prefix, next(indexes))
        return timed(lambda: made.service.shredder.puncture(made.controller_id, [leaf]))

    return measure


@contextmanager
def _providers(folder: Path) -> Iterator[dict[str, str]]:
    """Start what this machine has; yields the URI of each by its name for people."""
    os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": "made-up"}
    servers = Servers()
    found: dict[str, str] = {}
    with fake_kms() as (_, kms), fake_transit() as (_, transit):
        try:
            environment = servers.softhsm()
            one, two, three = (make_token(environment) for _ in range(3))
            pin = pin_file(folder)
            found["pkcs11, SoftHSM"] = hsm_uri(environment, [one], pin)
            found["pkcs11, SoftHSM, two nodes"] = hsm_uri(environment, [two, three], pin)
        except MissingError:
            pass
        token = folder / "token"
        token.write_text(TOKEN)
        found["aws-kms, a fake"] = f"aws-kms:{REGION}?endpoint={kms.url}"
        found["transit, a fake"] = f"transit:{transit.url}/transit?token-file={token}"
        try:
            yield found
        finally:
            servers.stop()
