"""Small call recordings in every container, built by hand: no program is needed to make them.

Their audio is filler; what counts is headers and lengths.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

ALAW, ULAW, IMA, GSM, G726 = 0x0006, 0x0007, 0x0011, 0x0031, 0x0045


def chunk(name: bytes, content: bytes, *, length: int | None = None) -> bytes:
    size = len(content) if length is None else length
    return name + size.to_bytes(4, "little") + content + b"\0" * (len(content) & 1)


def wav(
    data: bytes,
    *,
    number: int = 1,
    channels: int = 1,
    rate: int = 8000,
    bits: int = 16,
    block: int | None = None,
    bytes_per_s: int | None = None,
    extra: bytes = b"",
    before: bytes = b"",
    after: bytes = b"",
    data_length: int | None = None,
    riff_length: int | None = None,
) -> bytes:
    block = channels * bits // 8 if block is None else block
    bytes_per_s = rate * block if bytes_per_s is None else bytes_per_s
    form = struct.pack("<HHIIHH", number, channels, rate, bytes_per_s, block, bits) + extra
    body = chunk(b"fmt ", form) + before
    body += chunk(b"data", data, length=data_length) + after
    length = 4 + len(body) if riff_length is None else riff_length
    return b"RIFF" + length.to_bytes(4, "little") + b"WAVE" + body


def rf64(data: bytes, *, data_length: int) -> bytes:
    ds64 = struct.pack("<QQQI", 0, data_length, 0, 0)
    form = struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16)
    body = chunk(b"ds64", ds64) + chunk(b"fmt ", form)
    return b"RF64\xff\xff\xff\xffWAVE" + body + b"data\xff\xff\xff\xff" + data


def ogg_page(granule: int, packet: bytes, *, flags: int = 0, serial: int = 77) -> bytes:
    segments = [255] * (len(packet) // 255) + [len(packet) % 255]
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, serial, 0, 0, len(segments))
    return head + bytes(segments) + packet


def opus(
    seconds: float, *, pre_skip: int = 312, granule: int | None = None, end_flag: int = 4
) -> bytes:
    head = struct.pack("<8sBBHIHB", b"OpusHead", 1, 1, pre_skip, 8000, 0, 0)
    pages = [ogg_page(0, head, flags=2), ogg_page(0, b"OpusTags" + bytes(8))]
    count = max(1, int(seconds))
    pages += [ogg_page(48_000 * at, bytes(2000)) for at in range(1, count)]
    last = int(seconds * 48_000) + pre_skip if granule is None else granule
    return b"".join([*pages, ogg_page(last, bytes(2000), flags=end_flag)])


def vorbis(seconds: float) -> bytes:
    head = b"\x01vorbis" + struct.pack("<IBIiiiBB", 0, 1, 8000, 0, 24_000, 0, 0xB8, 1)
    last = ogg_page(int(seconds * 8000), bytes(3000), flags=4)
    return ogg_page(0, head, flags=2) + last


def speex(seconds: float) -> bytes:
    head = b"Speex   " + bytes(28) + struct.pack("<I", 8000) + bytes(40)
    return ogg_page(0, head, flags=2) + ogg_page(int(seconds * 8000), bytes(3000), flags=4)


def _crc8(data: bytes) -> int:
    """Divide the message as one polynomial over GF(2): another way than the product's."""
    value = int.from_bytes(data + b"\0", "big")
    for shift in range(value.bit_length() - 9, -1, -1):
        if value >> (shift + 8) & 1:
            value ^= 0x107 << shift
    return value


def flac_frame(number: int, *, block_code: int = 12, size: int = 1500) -> bytes:
    coded = bytes([number]) if number < 0x80 else _utf8(number)
    head = bytes([0xFF, 0xF8, block_code << 4 | 4, 0x00]) + coded
    return head + bytes([_crc8(head)]) + bytes(size)


def _utf8(number: int) -> bytes:
    return chr(number).encode("utf-8", "surrogatepass")


def flac(frames: Sequence[bytes], *, samples: int, block: int = 4096, rate: int = 8000) -> bytes:
    packed = (rate << 44) | (0 << 41) | (15 << 36) | samples
    info = struct.pack(">HH", block, block) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    return b"fLaC" + b"\x80\x00\x00\x22" + info + b"".join(frames)


def mp3(frames: int, *, bitrate_code: int = 3, xing: int | None = None) -> bytes:
    """MPEG 2.5 layer III at 8 kHz mono; code 3 is 24 kbit/s: 216 bytes a frame of 72 ms."""
    kilobits = (0, 8, 16, 24, 32, 40, 48, 56, 64)[bitrate_code]
    length = 72 * kilobits * 1000 // 8000
    header = bytes([0xFF, 0xE3, bitrate_code << 4 | 2 << 2, 0xC0])
    plain = header + bytes(length - 4)
    if xing is None:
        return plain * frames
    told = struct.pack(">4sIII", b"Xing", 3, xing, length * (frames + 1))
    first = (header + bytes(9) + told).ljust(length, b"\0")
    return first + plain * frames


def id3(size: int, *, present: int | None = None) -> bytes:
    coded = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\x00\x00" + coded + bytes(size if present is None else present)


def adts(frames: int, *, size: int = 100) -> bytes:
    length = size + 7
    raw = bytearray([0xFF, 0xF1, 1 << 6 | 8 << 2, 0, 0, 0, 0xFC])  # AAC LC, 16 kHz
    raw[3] = 1 << 6 | length >> 11
    raw[4] = length >> 3 & 0xFF
    raw[5] = (length & 7) << 5 | 0x1F
    return (bytes(raw) + bytes(size)) * frames


def box(name: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + name + content


def m4a(seconds: float, *, audio_bytes: int = 30_000, index_last: bool = False) -> bytes:
    config = b"\x05\x80\x80\x80\x02\x14\x08"
    decoder = b"\x04\x80\x80\x80" + bytes([13 + len(config)]) + b"\x40\x15\0\0\0"
    decoder += struct.pack(">II", 24_000, 24_000) + config
    descriptor = b"\x03\x80\x80\x80" + bytes([3 + len(decoder) + 6]) + b"\0\0\0" + decoder
    descriptor += b"\x06\x80\x80\x80\x01\x02"
    entry = bytes(6) + b"\0\1" + bytes(8) + struct.pack(">HHHHI", 1, 16, 0, 0, 16_000 << 16)
    mp4a = box(b"mp4a", entry + box(b"esds", bytes(4) + descriptor))
    table = box(b"stbl", box(b"stsd", bytes(4) + b"\0\0\0\1" + mp4a))
    track = box(b"trak", box(b"mdia", box(b"minf", table)))
    movie = bytes(12) + struct.pack(">II", 16_000, int(seconds * 16_000)) + bytes(80)
    index = box(b"moov", box(b"mvhd", movie) + track)
    audio = box(b"mdat", bytes(audio_bytes))
    file_type = box(b"ftyp", b"M4A \0\0\2\0isomiso2")
    return file_type + (audio + index if index_last else index + audio)


def element(identifier: bytes, content: bytes) -> bytes:
    return identifier + (0x10000000 | len(content)).to_bytes(4, "big") + content


def webm(seconds: float | None, *, doctype: bytes = b"webm", clusters: int = 5) -> bytes:
    ebml = element(b"\x1a\x45\xdf\xa3", element(b"\x42\x82", doctype))
    info = element(b"\x2a\xd7\xb1", (1_000_000).to_bytes(3, "big"))
    if seconds is not None:
        info += element(b"\x44\x89", struct.pack(">d", seconds * 1000))
    track = element(b"\xd7", b"\1") + element(b"\x83", b"\2") + element(b"\x86", b"A_OPUS")
    body = element(b"\x15\x49\xa9\x66", info)
    body += element(b"\x16\x54\xae\x6b", element(b"\xae", track))
    for number in range(clusters):
        block = element(b"\xa3", b"\x81" + (980).to_bytes(2, "big") + b"\x80" + bytes(1000))
        time = element(b"\xe7", (number * 1000).to_bytes(4, "big"))
        body += element(b"\x1f\x43\xb6\x75", time + block)
    return ebml + element(b"\x18\x53\x80\x67", body)


def au(data: bytes, *, encoding: int = 1, length: int | None = None, rate: int = 8000) -> bytes:
    size = len(data) if length is None else length
    return b".snd" + struct.pack(">IIIII", 24, size, encoding, rate, 1) + data


SAMPLES: dict[str, bytes] = {
    "wav-pcm16": wav(bytes(16_000)),
    "wav-alaw": wav(bytes(8_000), number=ALAW, bits=8),
    "wav-ima": wav(bytes(4096), number=IMA, bits=4, block=256, extra=b"\2\0\xf9\1"),
    "wav-gsm": wav(bytes(6500), number=GSM, bits=0, block=65, extra=b"\2\0\x40\1"),
    "wav-g726": wav(bytes(4000), number=G726, bits=4, block=1),
    "rf64": rf64(bytes(16_000), data_length=16_000),
    "opus": opus(5),
    "vorbis": vorbis(5),
    "speex": speex(5),
    "flac": flac([flac_frame(number) for number in range(10)], samples=40_960),
    "mp3": mp3(100),
    "mp3-xing": mp3(100, xing=100),
    "mp3-id3": id3(300) + mp3(100),
    "adts": adts(100),
    "m4a": m4a(10),
    "m4a-index-last": m4a(10, index_last=True),
    "webm": webm(5),
    "webm-live": webm(None),
    "au": au(bytes(8_000)),
    "amr": b"#!AMR\n" + (b"\x3c" + bytes(31)) * 100,
}
