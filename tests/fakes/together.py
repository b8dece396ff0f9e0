"""Several acts at once, each in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable


def together(*acts: Callable[[], object]) -> None:
    """Start every act at the same moment, wait for all, fail when one of them failed."""
    failures: list[BaseException] = []
    start = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> None:
        start.wait()
        try:
            act()
        except BaseException as err:  # noqa: BLE001  # shown below, in the test's own thread
            failures.append(err)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
