"""Anchors by URI: where copies of the ledger's checkpoints are kept outside.

    s3://bucket/prefix?lock=COMPLIANCE&days=400[&endpoint=...][&region=...][&profile=...][&reader=...]
    file:///folder

``profile`` and ``reader`` name profiles of the shared AWS credentials file: the one that writes
copies, and the one that reads them back. Without ``profile`` the usual AWS environment is taken,
without ``reader`` nothing is read back. Credentials never stand in a URI.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from core.errors import InvalidRequest
from vault.ports import AnchorStore
from vault.stores.folder_anchor import FolderAnchor
from vault.stores.local import FolderStore

_OPTIONS: Final = frozenset({"endpoint", "region", "profile", "reader", "lock", "days"})
_DAYS: Final = re.compile(r"[1-9][0-9]{0,4}")


def open_anchor(uri: str) -> AnchorStore | None:
    """Open the anchor that a URI names, None for an empty one; nothing is sent yet.

    Raises:
        InvalidRequest: the scheme is unknown, an option is, or an option that is needed is missing.
        StoreUnavailable: the folder cannot be made, or a profile is not there.
    """
    if not uri:
        return None
    parts = urlsplit(uri)
    if parts.scheme == "file" and not parts.netloc and not parts.query and parts.path != "/":
        return FolderAnchor(FolderStore(Path(unquote(parts.path))))
    if parts.scheme == "s3" and parts.netloc and "@" not in parts.netloc:
        return _open_s3(parts)
    raise InvalidRequest(what="anchor-uri")


def _open_s3(parts: SplitResult) -> AnchorStore:
    from vault.stores.s3 import connect  # noqa: PLC0415  # boto3 is slow to import
    from vault.stores.s3_anchor import S3Anchor  # noqa: PLC0415

    given = parse_qs(parts.query, keep_blank_values=True)
    options = {name: values[0] for name, values in given.items()}
    if not _OPTIONS.issuperset(given) or any(len(values) != 1 for values in given.values()):
        raise InvalidRequest(what="anchor-uri")
    days = _DAYS.fullmatch(options.get("days", ""))
    if days is None:
        raise InvalidRequest(what="anchor-days")
    place = {"endpoint": options.get("endpoint"), "region": options.get("region")}
    reader = options.get("reader")
    return S3Anchor(
        bucket=parts.netloc,
        prefix=unquote(parts.path).strip("/"),
        mode=_mode(options.get("lock", "")),
        days=int(days[0]),
        writer=connect(**place, profile=options.get("profile")),
        reader=None if reader is None else connect(**place, profile=reader),
    )


def _mode(given: str) -> Literal["COMPLIANCE", "GOVERNANCE"]:
    if given == "COMPLIANCE":
        return "COMPLIANCE"
    if given == "GOVERNANCE":
        return "GOVERNANCE"
    raise InvalidRequest(what="anchor-lock")
