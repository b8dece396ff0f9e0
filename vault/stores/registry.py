"""Object stores by URI: ``file:///folder`` or ``s3://bucket/prefix?endpoint=...&region=...``.

Credentials never stand in a URI, because URIs reach logs and certificates: S3 takes them, and the
authorities to trust (``AWS_CA_BUNDLE``), from the usual AWS environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from core.errors import InvalidRequest
from vault.ports import ObjectStore
from vault.stores.local import FolderStore

_S3_OPTIONS: Final = frozenset({"endpoint", "region"})


def open_store(uri: str) -> ObjectStore:
    """Open the store that a URI names; a folder is made when it is not there.

    Raises:
        InvalidRequest: the scheme is unknown, an option is, or credentials stand in the URI.
        StoreUnavailable: the folder cannot be made.
    """
    parts = urlsplit(uri)
    if parts.scheme == "file" and not parts.netloc and not parts.query and parts.path != "/":
        return FolderStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc and "@" not in parts.netloc:
        return _open_s3(uri, parts)
    raise InvalidRequest(what="store-uri")


def _open_s3(uri: str, parts: SplitResult) -> ObjectStore:
    from vault.stores.s3 import S3Store  # noqa: PLC0415  # boto3 is slow to import, a folder needs none

    options = parse_qs(parts.query, keep_blank_values=True)
    if not _S3_OPTIONS.issuperset(options) or any(len(value) != 1 for value in options.values()):
        raise InvalidRequest(what="store-uri")
    return S3Store.open(
        uri,
        bucket=parts.netloc,
        prefix=unquote(parts.path).strip("/"),
        endpoint=options["endpoint"][0] if "endpoint" in options else None,
        region=options["region"][0] if "region" in options else None,
    )
