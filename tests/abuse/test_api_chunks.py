"""A body arrives as it was sent, however small its pieces and however they meet."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.composition import build_service, running_server


def sent(address: str, *pieces: bytes) -> bytes:
    """Send bytes as they are; return everything until the server closes."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as wire:
        for piece in pieces:
            wire.sendall(piece)
        answer = bytearray()
        while piece := wire.recv(65_536):
            answer += piece
    return bytes(answer)


def test_a_body_in_chunks_of_one_byte_is_the_body(tmp_path: Path) -> None:
    made = build_service(tmp_path)
    head = (
        b"POST /v1/campaigns HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: application/json\r\nConnection: close\r\n"
        b"Authorization: Bearer " + made.token("admin").encode() + b"\r\n\r\n"
    )
    with running_server(made.service) as address:
        for segments in (1, 2, 200):
            name = f"in-{segments}-pieces"
            body = json.dumps({"slug": name, "name": "Lignes " * 10}).encode()
            chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
            length = -(-len(chunks) // segments)
            pieces = [chunks[at : at + length] for at in range(0, len(chunks), length)]
            status, _, answer = sent(address, head, *pieces).partition(b"\r\n")
            assert status.split()[1] == b"201"
            assert name.encode() in answer


@pytest.mark.parametrize("separately", [True, False])
def test_two_pieces_that_meet_before_they_are_taken_keep_their_order(
    tmp_path: Path, *, separately: bool
) -> None:
    made = build_service(tmp_path)
    body = json.dumps({"slug": "two-halves", "name": "Lignes " * 10}).encode()
    head = (
        b"POST /v1/campaigns HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Connection: close\r\nContent-Length: %d\r\n" % len(body)
    ) + f"Authorization: Bearer {made.token('admin')}\r\n\r\n".encode()
    pieces = [head, body[:20], body[20:]] if separately else [head + body]
    with running_server(made.service) as address:
        answer = sent(address, *pieces)
    assert answer.split()[1] == b"201"
    assert b"two-halves" in answer
