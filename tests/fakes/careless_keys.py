"""``oubliette serve`` with one rule of the keys broken, for negative controls only.

``CARELESS_KEYS`` names the rule: ``wipe`` (nothing that held a key is zeroed) or ``barrier`` (an
erasure does not wait for the leases of other processes).
"""

from __future__ import annotations

import os

import keys.lease
import keys.material


def nothing(*_: object) -> None:
    """Do nothing, where something must be done."""


BROKEN = {
    "wipe": ((keys.material, "wipe"), (keys.material, "wipe_bytes")),
    "barrier": ((keys.lease.Leases, "wait_for_others"),),
}

if __name__ == "__main__":
    for where, name in BROKEN[os.environ["CARELESS_KEYS"]]:
        setattr(where, name, nothing)
    from api.cli import main  # after the rule is broken: others import what is broken by name

    main()
