"""Every package that the service runs with has a licence that the record of licences allows."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent.parent
PERMISSIVE: Final = re.compile(
    r"\b(MIT|BSD|BSD-[23]-CLAUSE|0BSD|ISC|APACHE|APACHE-2\.0|PSF-2\.0|PYTHON SOFTWARE|UNLICENSE|"
    r"PUBLIC DOMAIN|ZLIB|MIT-0)\b"
)
COPYLEFT: Final = re.compile(r"\b(A?GPL|LGPL|MPL|EUPL|GNU)")


def locked() -> list[str]:
    text = (ROOT / "requirements" / "runtime.txt").read_text()
    return re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE)


def declared(name: str) -> str:
    about = metadata.metadata(name)
    classifiers = [one for one in about.get_all("Classifier", []) if one.startswith("License")]
    fields = [*about.get_all("License-Expression", []), *about.get_all("License", [])]
    return " ".join([*classifiers, *(field.split("\n")[0] for field in fields)]).upper()


def verdict(licence: str) -> str:
    if COPYLEFT.search(licence):
        return "exception"
    return "permissive" if PERMISSIVE.search(licence) else "unknown"


def test_each_runtime_package_is_permissive_or_a_written_exception() -> None:
    record = (ROOT / "docs/adr/0002-licences.md").read_text()
    firsts = re.findall(r"^\| ([^|]+) \|", record, re.MULTILINE)
    listed = set(re.findall(r"[a-z0-9-]+", " ".join(firsts)))
    found: dict[str, str] = {}
    for name in locked():
        try:
            licence = declared(name)
        except metadata.PackageNotFoundError:  # for another system or Python
            continue
        if verdict(licence) != "permissive" and name not in listed:
            found[name] = licence
    assert found == {}


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("MIT", "permissive"),
        ("LICENSE :: OSI APPROVED :: BSD LICENSE", "permissive"),
        ("GPL-2.0-OR-LATER", "exception"),
        ("MIT OR GPL-3.0", "exception"),
        ("LGPL-3.0-ONLY", "exception"),
        ("", "unknown"),
        ("PROPRIETARY", "unknown"),
    ],
)
def test_a_planted_licence_is_told_apart(licence: str, expected: str) -> None:
    assert verdict(licence) == expected
