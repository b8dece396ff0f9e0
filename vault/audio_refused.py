"""What is never kept, whatever it calls itself: pages, SVG, archives, programs.

Signatures that two bytes of headerless telephone audio could spell by chance are checked further
in: a wrong refusal loses a call.

Source: WHATWG MIME Sniffing section 7.1 (HTML); file formats' own magic numbers.
"""

from __future__ import annotations

from typing import Final

_TEXT_LOOK_BYTES: Final = 4096
_HTML: Final = (
    b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<iframe", b"<title",
    b"<table", b"<style", b"<meta", b"<div", b"<!--", b"<svg", b"<!doctype svg",
)  # fmt: skip
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_PROGRAMS: Final = (
    b"\x7fELF",
    b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
)  # fmt: skip
_PE_POINTER_AT: Final = 0x3C


def refused_kind(head: bytes) -> str | None:
    """Name what the head of an upload shows to be refused; None while nothing is shown."""
    if head.startswith(_ZIP):
        return "zip"
    if head.startswith(_PROGRAMS) or _is_windows_program(head) or _is_script(head):
        return "program"
    return _markup_kind(head)


def _is_windows_program(head: bytes) -> bool:
    if not head.startswith(b"MZ"):
        return False
    at = int.from_bytes(head[_PE_POINTER_AT : _PE_POINTER_AT + 4], "little")
    return len(head) > _PE_POINTER_AT + 4 and head[at : at + 4] == b"PE\0\0"


def _is_script(head: bytes) -> bool:
    return head.startswith(b"#!") and head[2:32].lstrip(b" \t").startswith(b"/")


def _markup_kind(head: bytes) -> str | None:
    text = head
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = head[2:].replace(b"\0", b"")
    text = text.removeprefix(b"\xef\xbb\xbf").lstrip(b"\t\n\x0c\r ")[:_TEXT_LOOK_BYTES].lower()
    if text.startswith((b"<svg", b"<!doctype svg")):
        return "svg"
    if text.startswith(_HTML):
        return "html"
    if text.startswith(b"<?xml"):
        return "svg" if b"<svg" in text else "html" if b"<html" in text else None
    return None
