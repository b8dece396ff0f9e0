"""``oubliette deposit``: one recording, or a whole archive with a manifest that makes it resumable.

An archive is a folder; each file's external id is its path below that folder, so that sending it
again is harmless. The manifest gets one JSON line for each file once the vault has answered; a file
that is in it, stored and unchanged since, is not sent again. ``CALL.wav.json`` beside ``CALL.wav``
holds that call's metadata.
"""

from __future__ import annotations

import base64
import hashlib
import json
import mimetypes
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TextIO
from urllib.parse import quote

import httpx2
import typer

from api.cli_campaign import campaign_path
from api.cli_http import Remote, refusal, remote
from api.cli_output import PARTLY, TRY_AGAIN, USAGE, AsJson, exit_code, fail, progress_bar, show

EXTERNAL_ID_BYTES_MAX: Final = 200
TRIES: Final = 5
_PIECE_BYTES: Final = 262_144
_TYPES: Final = {
    ".al": "audio/PCMA",
    ".alaw": "audio/PCMA",
    ".g722": "audio/G722",
    ".gsm": "audio/GSM",
    ".mulaw": "audio/PCMU",
    ".opus": "audio/ogg",
    ".ul": "audio/PCMU",
    ".ulaw": "audio/PCMU",
    ".wav49": "audio/wav",
}


@dataclass(frozen=True)
class Line:
    """One line of a manifest: what became of one file."""

    path: str
    size_bytes: int
    modified_ns: int
    external_id: str
    outcome: str  # stored, same or the code of a refusal
    recording_id: str = ""

    @property
    def done(self) -> bool:
        """Tell whether the vault holds this file."""
        return self.outcome in {"stored", "same"}


def deposit(
    path: Annotated[Path, typer.Argument(help="A recording, or a folder with --recursive.")],
    campaign: Annotated[str, typer.Option(help="Id or slug of the campaign.")],
    *,
    external_id: Annotated[str, typer.Option(help="Your own id of the call (the file name).")] = "",
    metadata: Annotated[str, typer.Option(help="JSON, or @FILE.")] = "",
    media_type: Annotated[str, typer.Option("--type", help="Media type (by the suffix).")] = "",
    recursive: Annotated[bool, typer.Option("--recursive", help="Import a whole folder.")] = False,
    manifest: Annotated[
        Path | None, typer.Option(help="Where an import notes what is done; makes it resumable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Deposit a recording, or import an archive."""
    if recursive:
        if manifest is None or not path.is_dir():
            fail("--recursive wants a folder and --manifest FILE", USAGE)
        _import(path, campaign, manifest, as_json=as_json)
        return
    if not path.is_file():
        fail("no such file", USAGE)
    said = _metadata(metadata) if metadata else _sidecar(path)
    with remote() as vault:
        answer = send(
            vault, path, campaign, external_id=external_id or path.name, said=said, kind=media_type
        )
        if not answer.is_success:
            fail(refusal(answer), exit_code(answer.status_code))
    kept = answer.json()
    lines = [f"{kept['id']}  {kept['codec']}  {kept['duration_ms'] / 1000:.1f} s"]
    lines += [f"oddities: {', '.join(kept['oddities'])}"] if kept["oddities"] else []
    show(kept, as_json=as_json, lines=lines)


def send(
    vault: Remote, path: Path, campaign: str, *, external_id: str, said: bytes, kind: str = ""
) -> httpx2.Response:
    """Stream one file to the vault; tries again while the answer says so."""
    headers = {
        "Content-Type": kind or _media_type(path),
        "Content-Length": str(path.stat().st_size),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(path.name, safe='')}",
    }
    if said:
        headers["Oubliette-Metadata"] = base64.urlsafe_b64encode(said).rstrip(b"=").decode()
    where = campaign_path(campaign, "recordings", external_id)
    for attempt in range(TRIES):
        answer = vault.try_send("PUT", where, headers=headers, content=_pieces(path))
        again = exit_code(answer.status_code) == TRY_AGAIN and not answer.is_success
        if not again or attempt == TRIES - 1:
            break
        time.sleep(min(float(answer.headers.get("retry-after", "1")), 30.0))
    return answer


def _import(folder: Path, campaign: str, manifest: Path, *, as_json: bool) -> None:
    before = read_manifest(manifest)
    files = sorted(_recordings(folder, manifest))
    counts = {"files": len(files), "sent": 0, "same": 0, "skipped": 0, "refused": 0}
    with (
        remote() as vault,
        progress_bar() as bar,
        manifest.open("a", encoding="utf-8") as notes,
    ):
        _end_cut_line(manifest, notes)
        task = bar.add_task("deposit", total=len(files))
        for path in files:
            line = _one(vault, folder, path, campaign=campaign, before=before)
            if line is None:
                counts["skipped"] += 1
            else:
                notes.write(json.dumps(asdict(line)) + "\n")
                notes.flush()
                counts[{"stored": "sent", "same": "same"}.get(line.outcome, "refused")] += 1
            bar.advance(task)
    show(counts, as_json=as_json)
    if counts["refused"]:
        raise typer.Exit(PARTLY)


def _one(
    vault: Remote, folder: Path, path: Path, *, campaign: str, before: dict[str, Line]
) -> Line | None:
    """Send a file unless the manifest says that it is there; None when it was skipped."""
    name, stat = path.relative_to(folder).as_posix(), path.stat()
    known = before.get(name)
    if known is not None and known.done and known.modified_ns == stat.st_mtime_ns:
        return None
    external_id = _external_id(name)
    answer = send(vault, path, campaign, external_id=external_id, said=_sidecar(path))
    hopeless = answer.status_code in {401, 403, 404}  # so would every other file be
    if hopeless or (not answer.is_success and exit_code(answer.status_code) == TRY_AGAIN):
        fail(refusal(answer), exit_code(answer.status_code))
    outcome, recording_id = _outcome(answer)
    return Line(name, stat.st_size, stat.st_mtime_ns, external_id, outcome, recording_id)


def read_manifest(manifest: Path) -> dict[str, Line]:
    """Return the last line of each file; a line that a crash cut short does not count."""
    found: dict[str, Line] = {}
    if manifest.exists():
        for text in manifest.read_text(encoding="utf-8").splitlines():
            try:
                line = Line(**json.loads(text))
            except (ValueError, TypeError):
                continue
            found[line.path] = line
    return found


def _end_cut_line(manifest: Path, notes: TextIO) -> None:
    """End a line that a crash cut short, so that the next one stands on its own."""
    written = manifest.read_bytes()
    if written and not written.endswith(b"\n"):
        notes.write("\n")


def _outcome(answer: httpx2.Response) -> tuple[str, str]:
    body: dict[str, Any] = answer.json()
    if answer.is_success:
        created = answer.status_code == httpx2.codes.CREATED
        return ("stored" if created else "same"), body["id"]
    return body.get("code", "refused"), ""


def _recordings(folder: Path, manifest: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.resolve() != manifest.resolve():
            sidecar = path.suffix == ".json" and path.with_suffix("").is_file()
            if not sidecar and not path.name.startswith("."):
                yield path


def _external_id(name: str) -> str:
    if len(name.encode()) <= EXTERNAL_ID_BYTES_MAX:
        return name
    return "sha256-" + hashlib.sha256(name.encode()).hexdigest()


def _media_type(path: Path) -> str:
    guessed = _TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0]
    return guessed or "application/octet-stream"


def _metadata(text: str) -> bytes:
    try:
        return Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
    except OSError:
        fail("the metadata file cannot be read", USAGE)


def _sidecar(path: Path) -> bytes:
    beside = path.with_name(path.name + ".json")
    return beside.read_bytes() if beside.is_file() else b""


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
