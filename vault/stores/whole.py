"""A small object in one call, by the same writer as a large one."""

from __future__ import annotations

from vault.ports import ObjectWriter


def write_whole(writer: ObjectWriter, data: bytes) -> None:
    """Write all of an object and finish it; whatever goes wrong leaves nothing behind.

    Raises:
        StoreUnavailable, ObjectExists: as ``ObjectWriter.finish``.
    """
    try:
        writer.write(data)
        writer.finish()
    except BaseException:
        writer.abort()
        raise
