"""``oubliette backup``, ``restore``, ``rebuild`` and ``set-aside``: before and after a loss."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Annotated, Any

import typer

from api.cli_http import remote
from api.cli_output import USAGE, AsJson, by_part, ending_well, fail, progress_bar, show
from api.settings import Settings, load_settings
from core import ids
from core.clock import to_text
from core.errors import InvalidRequest

set_aside_app = typer.Typer(
    help="Decide on objects that a restore found and nobody vouches for (role dpo).",
    no_args_is_help=True,
)

ObjectId = Annotated[str, typer.Argument(help="Id of the object, obj_...")]
Reason = Annotated[str, typer.Option(help="10 to 500 characters, two words at least.")]


Place = Annotated[str, typer.Argument(help="Folder, or s3://bucket/prefix?endpoint=...")]
Name = Annotated[str, typer.Option(help="Name of one backup (the newest).")]


def backup(
    place: Place,
    *,
    check: Annotated[
        bool, typer.Option("--verify", help="Verify one that is there instead of making one.")
    ] = False,
    name: Name = "",
    key: Annotated[
        str, typer.Option(help="Verifier key, for --verify away from the signing key.")
    ] = "",
    without_ledger: Annotated[
        bool, typer.Option("--without-ledger", help="Only name the ledger's checkpoint.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy database and ledger, in one state and never a key, with a signed manifest."""
    with ending_well(), progress_bar() as bar:
        operate, settings, tell = _operate(), _settings(), by_part(bar)
        if check:
            facts = operate.verify_backup(settings, place, tell, name=name, key=key)
        else:
            facts = operate.backup(settings, place, tell, with_ledger=not without_ledger)
    show(facts, as_json=as_json, lines=_backed_up(facts))


def restore(
    *,
    place: Annotated[
        str, typer.Option("--from", help="Where backups lie: fills an empty database first.")
    ] = "",
    name: Name = "",
    as_json: AsJson = False,
) -> None:
    """After an old database was put back: the erased stay dead, the living come back."""
    with ending_well(), progress_bar() as bar:
        report = _operate().restore(_settings(), by_part(bar), place=place, name=name)
    show(report, as_json=as_json, lines=_restored(report))


def rebuild(
    *,
    controller: Annotated[
        list[str] | None,
        typer.Option(help="Slug of a controller of before the ledger knew it: ctl_...=slug."),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Id of a controller, ctl_..., whose keys are known to be lost."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """With the database gone: fill an empty one from objects, current key blobs and ledger."""
    names = dict(_named(one) for one in controller or [])
    with ending_well(), progress_bar() as bar:
        report = _operate().rebuild(
            _settings(), by_part(bar), names=names, without=frozenset(without or [])
        )
    show(report, as_json=as_json, lines=_rebuilt(report))


@set_aside_app.command("list")
def list_set_aside(*, as_json: AsJson = False) -> None:
    """List what waits for a decision, oldest first."""
    with remote() as vault:
        show(vault.json("GET", "/v1/set-aside"), as_json=as_json)


@set_aside_app.command()
def release(object_id: ObjectId, reason: Reason, *, as_json: AsJson = False) -> None:
    """Vouch for an object: it becomes a recording again."""
    _decide(object_id, "release", reason, as_json=as_json)


@set_aside_app.command()
def erase(object_id: ObjectId, reason: Reason, *, as_json: AsJson = False) -> None:
    """Destroy the key that an object is sealed under, if it is nobody's, and delete it."""
    _decide(object_id, "erasure", reason, as_json=as_json)


def _decide(object_id: str, what: str, reason: str, *, as_json: bool) -> None:
    with remote() as vault:
        asked = {"reason": reason}
        done = vault.json("POST", f"/v1/set-aside/{object_id}/{what}", json=asked)
    show(done, as_json=as_json)


def _named(given: str) -> tuple[str, str]:
    controller_id, _, slug = given.partition("=")
    try:
        ids.to_bits(controller_id, "ctl_")
        return controller_id, ids.check_slug(slug)
    except InvalidRequest:
        fail("--controller wants an id and a slug: ctl_...=slug", USAGE)


def _backed_up(facts: dict[str, Any]) -> list[str]:
    ledger = facts["ledger"]
    return [
        f"backup: {facts['name']}",
        f"rows: {sum(facts['rows'].values())} in {len(facts['rows'])} tables",
        f"files: {facts['files']}",
        f"recordings stored: {facts['recordings']['stored']} (their objects are not in it)",
        f"ledger entries: {ledger['size']}" + ("" if ledger["copied"] else " (not copied)"),
        "keys: none",
    ]


def _restored(report: dict[str, Any]) -> list[str]:
    lines = [
        f"rows shredded: {report['shredded_rows']}",
        f"rows returned: {report['returned_rows']}",
        f"objects set aside: {report['set_aside_count']}",
        f"objects missing: {report['missing_count']}",
        f"ledger entries: {report['ledger_size']}",
        f"corrections put back: {report['corrected']}, lost: {report['lost_corrections']}",
        f"caps of grants counted again: {report['recounted_grants']}",
        f"anchor: {report['anchor']}",
    ]
    lines += [
        f"erasure to plan again: {one['erasure_id']}  {one['kind']} of {one['recordings']}, "
        f"approved at {to_text(one['approved_at'])} by {one['approved_by']}"
        for one in report["undone_erasures"]
    ]
    return lines + [
        f"an officer ends the restore with: oubliette hold lift {one}"
        for one in report["release_hold_ids"]
    ]


def _rebuilt(report: dict[str, Any]) -> list[str]:
    lines = [
        f"recordings: {report['returned_rows']}",
        f"campaigns: {report['returned_campaigns']}",
        f"corrections put back: {report['corrected']}",
        f"objects set aside: {report['set_aside_count']}",
        f"objects missing: {report['missing_count']}",
        f"ledger entries: {report['ledger_size']}",
        f"decisions that the ledger has forgotten: {report['unreadable_entries']}",
        f"anchor: {report['anchor']}",
        "metadata: the first version, where no correction is counted above",
    ]
    lines += [f"controller not brought back: {one}" for one in report["lost_controllers"]]
    return lines + [
        f"an officer ends the rebuild with: oubliette hold lift {one}"
        for one in report["release_hold_ids"]
    ]


def _settings() -> Settings:
    return load_settings(os.environ)


def _operate() -> ModuleType:
    from api import operate_restore  # noqa: PLC0415 - heavy to import

    return operate_restore
