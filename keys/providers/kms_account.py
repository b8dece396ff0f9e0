"""The KMS keys of one account and region: which are ours, what state they are in, how they end.

Every answer may be older than the last change; what matters is asked until it is said twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from keys.errors import KeyUnavailable
from keys.ports import KeyTag
from keys.providers.aws_kms import KmsCalls, KmsRefusalError
from keys.providers.kms_text import alias_of, read_alias
from keys.providers.settling import settle

KEY_TAG: Final = "oubliette-key"
GONE: Final = frozenset({"PendingDeletion", "PendingReplicaDeletion"})
_ABSENT: Final = "NotFoundException"
_FORBIDS: Final = frozenset({_ABSENT, "KMSInvalidStateException", "DisabledException"})
_FOREIGN: Final = frozenset({_ABSENT, "AccessDeniedException"})
_UNTAGGED: Final = "-"


@dataclass(frozen=True)
class KmsAccount:
    """Looks after KMS keys by their KMS ids."""

    calls: KmsCalls
    patience_s: float
    _tagged: dict[str, str] = field(default_factory=dict, repr=False)

    def aliases(self) -> Iterator[tuple[str, KeyTag, str]]:
        """Yield key id, tag and KMS id of every alias of ours."""
        for one in self.calls.rows("list_aliases", "Aliases"):
            read = read_alias(one["AliasName"])
            if read is not None and "TargetKeyId" in one:
                yield *read, one["TargetKeyId"]

    def targets(self, key_id: str) -> set[str]:
        """Return the KMS ids that aliases of a key name."""
        return {kms_id for name, _, kms_id in self.aliases() if name == key_id}

    def orphans(self, key_id: str) -> set[str]:
        """Return the KMS keys that carry the tag: making one was cut off before its alias.

        Asks once in the life of this process for the tags of each key of the account.
        """
        for one in self.calls.rows("list_keys", "Keys"):
            kms_id = one["KeyId"]
            if not self._tagged.get(kms_id):
                self._tagged[kms_id] = self._tag_of(kms_id)
        return {kms_id for kms_id, tagged in self._tagged.items() if tagged == key_id}

    def shows(self, key_id: str, kms_id: str) -> bool:
        """Wait until KMS lists a new key and works with it; False when it takes too long."""

        def works() -> bool:
            return self._encrypts(kms_id) and kms_id in self.targets(key_id)

        return settle(works, within_s=self.patience_s)

    def end(self, kms_id: str, window_days: int) -> None:
        """Disable a key, schedule its deletion, and wait until KMS says so and acts so.

        Raises:
            KeyUnavailable: it has not, yet.
        """
        self._unless_over("disable_key", KeyId=kms_id)
        self._unless_over("schedule_key_deletion", KeyId=kms_id, PendingWindowInDays=window_days)

        def is_over() -> bool:
            return self.state(kms_id) in {*GONE, _ABSENT} and not self._encrypts(kms_id)

        if not settle(is_over, within_s=self.patience_s):
            raise KeyUnavailable(what="kms-settling")

    def drop_aliases(self, key_id: str) -> None:
        """Delete the aliases of a key that pends deletion, so that lists stay short."""
        for name, tag, _ in list(self.aliases()):
            if name == key_id:
                self._unless_over("delete_alias", AliasName=alias_of(name, tag))

    def state(self, kms_id: str) -> str:
        """Return KMS's word for a key's state, ``NotFoundException`` where there is no key."""
        try:
            metadata = self.calls.call("describe_key", KeyId=kms_id)["KeyMetadata"]
        except KmsRefusalError as err:
            if err.code != _ABSENT:
                raise
            return err.code
        return str(metadata["KeyState"])

    def _unless_over(self, operation: str, **members: Any) -> None:
        """Ask; that a key or an alias is past it already is no error."""
        try:
            self.calls.call(operation, **members)
        except KmsRefusalError as err:
            if err.code not in _FORBIDS:
                raise

    def _encrypts(self, kms_id: str) -> bool:
        try:
            self.calls.call("encrypt", KeyId=kms_id, Plaintext=b"probe")
        except KmsRefusalError as err:
            if err.code not in _FORBIDS:
                raise
            return False
        return True

    def _tag_of(self, kms_id: str) -> str:
        """Return the key id in a KMS key's tag; "" where it cannot be seen now."""
        try:
            tags = self.calls.call("list_resource_tags", KeyId=kms_id)["Tags"]
        except KmsRefusalError as err:
            if err.code not in _FOREIGN:
                raise
            return ""
        return next((str(tag["TagValue"]) for tag in tags if tag["TagKey"] == KEY_TAG), _UNTAGGED)
