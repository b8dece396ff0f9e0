"""``make soak``: three replicas under load and faults, and one line with what was kept.

``SOAK_MINUTES`` (3) says how long the load lasts, ``SOAK_SEED`` repeats the choices of an earlier
run, ``SOAK_KEEP`` names a folder for the logs of the services. What this machine lacks is named and
the soak left out; with ``OUBLIETTE_TEST_REQUIRE=all`` it fails instead.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.fakes.policy import POLICY
from tests.fakes.stranger import Stranger
from tests.services.servers import MissingError, Servers
from tests.soak.calls import MIB, Allowance
from tests.soak.door import BUSY, Door
from tests.soak.endings import Eraser, Witness
from tests.soak.faults import Trouble
from tests.soak.gauge import Gauge
from tests.soak.judge import Finding, Found, judge, line
from tests.soak.keeper import Keeper
from tests.soak.listeners import Listener, Searcher
from tests.soak.load import KEPT, SHORT, Callers, Depositor, run
from tests.soak.rig import Rig, running
from tests.soak.settle import look, settle
from tests.soak.told import Told

DEPOSITORS: Final = 3
LISTENERS: Final = 3
STORE_BYTES: Final = 900 * MIB
STORE_BYTES_A_MINUTE: Final = 60 * MIB
SAY_EVERY_S: Final = 30.0
SHOWN: Final = 40
SET_UP_S: Final = 60.0


@dataclass
class Soak:
    """One run: the rig, everybody who works on it, and the witness of it all."""

    rig: Rig
    callers: Callers
    depositors: list[Depositor]
    eraser: Eraser
    witness: Witness
    keeper: Keeper
    trouble: Trouble
    gauge: Gauge

    @classmethod
    def on(cls, rig: Rig, *, minutes: float, seed: int) -> Soak:
        """Make everybody; nobody works yet."""
        told, ending_s = Told(), time.monotonic() + minutes * 60
        each_s = min(STORE_BYTES / minutes, STORE_BYTES_A_MINUTE) / 60
        allowance = Allowance(each_s, at_s=time.monotonic())
        callers = Callers(Door(rig.port, told), rig.issuer, told, allowance, ending_s)
        keys_uri = f"local:{rig.keyring}/epochs,{rig.keyring}/epochs-2"
        keeper = Keeper(rig, told, Stranger(keys_uri))
        depositors = [Depositor(callers) for _ in range(DEPOSITORS)]
        eraser = Eraser(callers, depositors, keeper.keep)
        trouble = Trouble(rig, told, random.Random(seed), ending_s)
        witness, gauge = Witness(callers), Gauge(rig, told)
        return cls(rig, callers, depositors, eraser, witness, keeper, trouble, gauge)

    def load(self, seed: int) -> None:
        """Let everybody work until the end, while things go wrong."""
        work = [one.work for one in self.depositors]
        work += [Listener(self.callers).work for _ in range(LISTENERS)]
        work += [Searcher(self.callers).work, self.eraser.work, self.witness.work]
        threads = [run(one, self.callers, seed + number) for number, one in enumerate(work)]
        keeping = threading.Thread(target=self.keeper.run)
        troubling = threading.Thread(target=self.trouble.run)
        for one in (keeping, troubling):
            one.start()
        try:
            self.watch()
            troubling.join()  # every kind of fault happens, also after the last second
        finally:
            self.callers.stopped.set()
            self.trouble.stopped.set()
            self.keeper.stopped.set()
            for one in (*threads, keeping, troubling):
                one.join()
        self.callers.told.end()

    def finish(self, seed: int) -> tuple[list[Finding], Found]:
        """Load, let it settle, look, and judge."""
        self.load(seed)
        print("== the load has ended; settling", flush=True)
        self.callers.door = Door(self.rig.port, self.callers.told, patience_s=60)
        left = settle(self.rig, self.eraser, self.witness)
        print("== looking", flush=True)
        found = look(self.rig, self.callers, self.keeper, left)
        found = dataclasses.replace(found, kinds=frozenset(self.trouble.kinds))
        return judge(self.callers.told, found), found

    def watch(self) -> None:
        """Say now and then how far it is; a replica that ends by itself is a finding."""
        told, ending_s = self.callers.told, self.callers.ending_s
        said_s = time.monotonic()
        while time.monotonic() < ending_s and not self.callers.stopped.wait(0.5):
            for ended in self.rig.revive():
                told.accuse(ended)
            if time.monotonic() > said_s + SAY_EVERY_S:
                said_s = time.monotonic()
                left_s = ending_s - said_s
                memory = "/".join(f"{one.rss_mib:.0f}" for one in self.rig.posts if one.alive)
                print(f"   {left_s:.0f} s left; {progress(told)}; {memory} MiB", flush=True)


def set_up(callers: Callers) -> None:
    """Make a campaign whose calls are kept for months, and one whose calls end soon."""
    admin, officer = callers.headers("admin"), callers.headers("dpo")
    for slug, retention in ((KEPT, "P6M"), (SHORT, "P1D")):
        policy: dict[str, Any] = {**POLICY, "retention": retention}
        for method, path, said, who in (
            ("POST", "/v1/campaigns", {"slug": slug, "name": slug}, admin),
            ("PUT", f"/v1/campaigns/{slug}/policy", policy, officer),
            ("POST", f"/v1/campaigns/{slug}/open", None, admin),
        ):
            body = None if said is None else json.dumps(said).encode()
            give_up = time.monotonic() + SET_UP_S
            answer = callers.door.ask("setup", method, path, body, **who)
            while answer.status == BUSY and time.monotonic() < give_up:
                time.sleep(0.5)
                answer = callers.door.ask("setup", method, path, body, **who)
            if not answer.good:
                raise RuntimeError(f"{path}: {answer.status} {answer.body!r}")


def progress(told: Told) -> str:
    """Return what happened so far in a few words."""
    return (
        f"{len(told.deposits)} deposits, {len(told.heard)} ranges heard, {told.searches} searches, "
        f"{len(told.erased)} erased, {told.probes} probes of those, {sum(told.faults.values())} "
        f"faults, {len(told.wrong)} wrong"
    )


def report(soak: Soak, found: Found, findings: Sequence[Finding]) -> None:
    """Print the counts, then everything that does not hold."""
    told = soak.callers.told
    print(f"faults: {shown(told.faults)}")
    refusals = Counter({f"{kind} {code}": n for (kind, code), n in told.refusals.items()})
    print(f"refused, by what was asked: {shown(refusals)}")
    ranges, heard = len(told.heard), sum(one.count for one in told.heard)
    print(f"heard: {ranges} ranges, {heard / MIB:.0f} MiB; searches: {told.searches}")
    print(f"erasures: {len(told.erasures)} executed, {len(told.certificates)} certificates")
    print(f"probes of what was erased: {told.probes}, and {len(found.on_replicas)} at the end")
    print(f"kept copies: {len(found.kept)} heads, {len(found.opened)} of them open still")
    memory = ", ".join(f"{start:.0f} -> {end:.0f}" for start, end in found.memory)
    print(f"memory of the replicas, MiB: {memory}")
    waited_s = soak.gauge.longest_ms / 1_000
    print(
        f"longest time without any 2xx: {told.quiet_s:.1f} s; in the ledger's queue: {waited_s} s"
    )
    for one in findings[:SHOWN]:
        print(f"FAILED {one.name}: {one.what}")
        for note in told.about(one.what):
            print(f"       {note}")
    if len(findings) > SHOWN:
        print(f"FAILED {len(findings) - SHOWN} more")


def shown(counts: Counter[str]) -> str:
    """Return counts by name, the most first."""
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none"


def soak(servers: Servers, *, minutes: float, seed: int) -> int:
    """Run it; returns the exit code."""
    print(f"== soak: {minutes:g} minutes, SOAK_SEED={seed}; starting the servers", flush=True)
    with running(servers) as rig:
        one = Soak.on(rig, minutes=minutes, seed=seed)
        set_up(one.callers)
        gauge = threading.Thread(target=one.gauge.run)
        gauge.start()
        try:
            findings, found = one.finish(seed)
        finally:
            one.gauge.stopped.set()
            gauge.join()
        report(one, found, findings)
        keep(servers.folder, one.callers.told, failed=bool(findings))
        print(line(one.callers.told, findings), flush=True)
    return 1 if findings else 0


def keep(folder: Path, told: Told, *, failed: bool) -> None:
    """Copy the logs and the events to the folder that was asked for."""
    wanted = os.environ.get("SOAK_KEEP")
    if not wanted:
        return
    there = Path(wanted)
    there.mkdir(parents=True, exist_ok=True)
    (there / "events.txt").write_text("\n".join(told.notes))
    for log in (*folder.glob("replica-*.log"), folder / "postgres" / "postgres.log"):
        shutil.copy(log, there)
    print(f"logs and events: {there}" if failed else f"logs: {there}")


def main() -> int:
    """Run the soak that the environment asks for."""
    required = os.environ.pop("OUBLIETTE_TEST_REQUIRE", "")
    minutes = float(os.environ.get("SOAK_MINUTES") or "3")
    seed = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(1_000_000))
    servers = Servers()
    try:
        return soak(servers, minutes=minutes, seed=seed)
    except MissingError as err:
        print(
            f"soak: {'missing and required' if required == 'all' else 'left out, not here'}: {err}"
        )
        return 1 if required == "all" else 0
    finally:
        servers.stop()


if __name__ == "__main__":
    sys.exit(main())
