"""Calls to AWS KMS: the only module that knows boto3 for keys.

What KMS refuses is ``KmsRefusalError`` with KMS's own word for it; that it does not answer is
``KeyUnavailable``, and what was asked for may have been done.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from keys.errors import KeyUnavailable

_ATTEMPTS: Final = 2


class KmsRefusalError(Exception):
    """KMS answered with an error; ``code`` is its name, such as ``NotFoundException``."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code: Final = code


@dataclass(frozen=True)
class KmsCalls:
    """Asks KMS in one region; credentials are boto3's affair.

    Args:
        region: of the keys. endpoint: another address of KMS, or "".
        timeout_s: for connecting, and for each answer.
    """

    region: str
    endpoint: str
    timeout_s: float

    def call(self, operation: str, **members: Any) -> dict[str, Any]:
        """Ask, and ask again when it failed: for what may well be done twice."""
        return _asked(self._again, operation, members)

    def once(self, operation: str, **members: Any) -> dict[str, Any]:
        """Ask a single time: a repeated CreateKey would make two keys."""
        return _asked(self._once, operation, members)

    def rows(self, operation: str, member: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of every page of a list."""
        marker: dict[str, Any] = {}
        while True:
            page = self.call(operation, **marker)
            yield from page[member]
            if not page.get("Truncated"):
                return
            marker = {"Marker": page["NextMarker"]}

    @cached_property
    def _again(self) -> Any:
        return self._client(_ATTEMPTS)

    @cached_property
    def _once(self) -> Any:
        return self._client(1)

    def _client(self, attempts: int) -> Any:
        config = Config(
            connect_timeout=self.timeout_s,
            read_timeout=self.timeout_s,
            retries={"mode": "standard", "total_max_attempts": attempts},
        )
        make: Any = boto3.client
        return make(
            "kms", region_name=self.region, endpoint_url=self.endpoint or None, config=config
        )


def _asked(client: Any, operation: str, members: dict[str, Any]) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", getattr(client, operation)(**members))
    except ClientError as err:
        raise KmsRefusalError(str(err.response.get("Error", {}).get("Code", ""))) from err
    except BotoCoreError as err:
        raise KeyUnavailable(what="kms-silent", kind=type(err).__name__) from err
