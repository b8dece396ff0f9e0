"""One benchmark in a process of its own, with the allocator set as the service sets it."""

from __future__ import annotations

import importlib
import multiprocessing
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Final

from api.allocator import keep_freed_memory
from bench.figure import Run, UnavailableError
from bench.page import Part

_CLEAR_LINE: Final = "\r\x1b[K"


def run_apart(name: str, run: Run) -> Part:
    """Run one benchmark and return what became of it; its failure is a part of that.

    ``run`` says how much; whom to tell what happens is the benchmark's own affair.
    """
    module = importlib.import_module(f"bench.{name}")
    part = Part(name, title=(module.__doc__ or "").splitlines()[0])
    began = time.monotonic()
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            part = pool.submit(_run, part, replace(run, tell=print)).result()
    except BrokenProcessPool as err:
        part.failure = str(err)
    part.took_s = time.monotonic() - began
    return part


def _run(part: Part, run: Run) -> Part:
    """Fill a part; errors stay here, because not all of them travel between processes."""
    keep_freed_memory()
    is_terminal = sys.stderr.isatty()

    def tell(words: str) -> None:
        line = f"{_CLEAR_LINE}{part.name}: {words}" if is_terminal else f"{part.name}: {words}\n"
        print(line, end="", file=sys.stderr, flush=True)

    module = importlib.import_module(f"bench.{part.name}")
    try:
        part.figures = module.figures(replace(run, tell=tell))
    except UnavailableError as err:
        part.without = str(err)
    except Exception as err:  # noqa: BLE001 - told, and the next benchmark runs
        traceback.print_exc()
        part.failure = f"{type(err).__name__}: {err}".splitlines()[0]
    if is_terminal:
        print(_CLEAR_LINE, end="", file=sys.stderr, flush=True)
    return part
