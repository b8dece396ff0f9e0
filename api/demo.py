"""``oubliette demo``: the main job on made-up calls, told as a page a person can follow.

Each step says what is done, does it against the running service, and checks what must come of it;
the first thing that is not as it should be ends the demo with exit code 1. The story: deposits in
seven formats, listens with and without a reason, a forged token, a retention typed too short, one
person erased, yesterday's database put back, and the proofs checked offline.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.console import Console

from api.demo_ending import put_yesterday_back, verify_everything
from api.demo_erasing import erase_one_person, shorten_a_retention
from api.demo_listening import listen_with_a_reason, try_without_rights
from api.demo_scene import Scene, deposit_calls, make_campaigns, open_the_vault
from api.demo_stage import Stage, StageError, free_port

STEPS: Final[tuple[Callable[[Scene], None], ...]] = (
    open_the_vault,
    make_campaigns,
    deposit_calls,
    try_without_rights,
    listen_with_a_reason,
    shorten_a_retention,
    erase_one_person,
    put_yesterday_back,
    verify_everything,
)


def run_demo(*, keep: bool, folder: Path | None = None) -> int:
    """Play the demo; returns the exit code.

    Args:
        keep: leave the folder and the service running at the end and say where they are.
        folder: where to play; a fresh temporary folder when None.
    """
    console = Console(highlight=False, soft_wrap=True)
    where = folder or Path(tempfile.mkdtemp(prefix="oubliette-demo-"))
    scene = Scene(Stage(where, free_port()), console)
    try:
        for number, step in enumerate(STEPS, start=1):
            title = (step.__doc__ or "").splitlines()[0].rstrip(".")
            console.print(f"\n[bold]{number}. {title}[/bold]")
            step(scene)
    except StageError as err:
        console.print(f"[bold red]stopped:[/bold red] {err}")
        scene.stage.stop()
        return 1
    _take_leave(scene, keep=keep)
    return 0


def _take_leave(scene: Scene, *, keep: bool) -> None:
    say = scene.console.print
    say(f"\n[bold green]Everything was as it should be: {scene.checks} checks.[/bold green]")
    say(f"Everything the demo wrote lies in {scene.stage.folder}")
    if keep:
        say(f"The service goes on at {scene.stage.url} until its process ends.")
        say(f"A token for fifteen minutes: {scene.officer_token}")
        return
    scene.stage.stop()
