"""What audio containers promise about their length, read from the bytes themselves.

libsndfile is content with whatever part of a file it can decode: a cut wav or ogg is a shorter file to it, an
MP3 without a length tag is cut at a guess. These functions find the promise; `read` holds the file to it. They take
the bytes of a whole file, in memory or mapped.
"""

import zlib
from mmap import mmap
from typing import NamedTuple

# Layer III bit rates in kbit/s by header index (ISO 11172-3 and 13818-3); index 0 is "free format", unused.
_KBITS_MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES_MPEG1 = (44100, 48000, 32000)


def sample_chunk(data: bytes | mmap) -> tuple[int, int] | None:
    """Bytes of samples that a wav, RF64 or AIFF file claims, and bytes of them that it holds.

    Returns:
      (claimed, held), or None where no sample chunk is found or its length is a placeholder, as programs that
      write to a pipe leave it.
    """
    order = {b"RIFF": "little", b"RF64": "little", b"RIFX": "big", b"FORM": "big"}.get(data[:4])
    at, size64 = 12, None
    while order and at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], order)
        if kind == b"ds64":
            size64 = int.from_bytes(data[at + 16 : at + 24], "little")
        if kind in (b"data", b"SSND"):
            if size64 is not None and size == 0xFFFFFFFF:
                size = size64
            elif size >= 0xFFFFFF00 or 0x7FFFF000 <= size <= 0x80000000:
                return None
            return size, min(size, len(data) - at - 8)
        at += 8 + size + size % 2
    return None


class OggPages(NamedTuple):
    """What the pages of an Ogg file say: is the last one closing and whole, how many streams are chained."""

    closed: bool
    links: int
    damaged: int  # pages whose checksum is wrong; decoders skip them without a word


def ogg_pages(data: bytes | mmap) -> OggPages:
    """Walks the pages of an Ogg file. Of chained streams (`links` > 1) libsndfile reads only the first."""
    at, closed, links, damaged, in_head = 0, False, 0, 0, False
    while data[at : at + 4] == b"OggS" and at + 27 <= len(data):
        flags, segments = data[at + 5], data[at + 26]
        end = at + 27 + segments + sum(data[at + 27 : at + 27 + segments])
        # Streams that run side by side (sound beside a skeleton) all begin before the first page of content.
        begins = bool(flags & 2)
        links += begins and not in_head
        in_head = begins
        closed = bool(flags & 4) and end <= len(data)
        damaged += _ogg_checksum(data[at:end]) != data[at + 22 : at + 26]
        at = end
    return OggPages(closed, links, damaged)


_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_checksum(page: bytes) -> bytes:
    """Ogg's CRC-32 of a page, as it stands there: zlib's polynomial with the bits the other way round."""
    blank = (page[:22] + bytes(4) + page[26:]).translate(_REVERSED_BITS)
    return (zlib.crc32(blank, 0xFFFFFFFF) ^ 0xFFFFFFFF).to_bytes(4, "big").translate(_REVERSED_BITS)


class Mp3Frame(NamedTuple):
    """One MPEG Layer III frame: its bytes, its samples a channel, where in it a length tag would stand."""

    size: int
    samples: int
    tag_at: int


def _mp3_frame(data: bytes | mmap, at: int) -> Mp3Frame | None:
    head = int.from_bytes(data[at : at + 4], "big")
    version, layer, protection = head >> 19 & 3, head >> 17 & 3, head >> 16 & 1
    kbits, rate, padding, mono = head >> 12 & 15, head >> 10 & 3, head >> 9 & 1, head >> 6 & 3 == 3
    if head >> 21 != 0x7FF or version == 1 or layer != 1 or kbits in (0, 15) or rate == 3:
        return None
    mpeg1 = version == 3
    hertz = _RATES_MPEG1[rate] >> {3: 0, 2: 1, 0: 2}[version]
    samples = 1152 if mpeg1 else 576
    size = samples // 8 * 1000 * (_KBITS_MPEG1 if mpeg1 else _KBITS_MPEG2)[kbits] // hertz + padding
    side_info = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    return Mp3Frame(size, samples, 4 + side_info + (0 if protection else 2))


class Mp3Length(NamedTuple):
    """Sound frames counted in an MP3 file, without the frame that only carries the length tag.

    Attributes:
      start: byte offset of the first frame.
      frames: frames that hold sound.
      samples: samples a channel in them, encoder delay and padding included.
      tagged: whether the file carries a Xing, Info or VBRI length tag.
    """

    start: int
    frames: int
    samples: int
    tagged: bool


def mp3_length(data: bytes | mmap) -> Mp3Length | None:
    """Counts the Layer III frames of an MP3 file by walking their headers; None where there is none."""
    at, start, frames, per_frame, tagged, in_sync = 0, None, 0, 0, False, False
    while 0 <= at < len(data) - 4:
        if data[at : at + 3] == b"ID3":
            size = data[at + 6 : at + 10]
            at += 10 + sum(byte << 7 * (len(size) - 1 - i) for i, byte in enumerate(size))
            continue
        frame = _mp3_frame(data, at)
        # A picture can look like one header by chance, hardly ever like two at the right distance.
        if frame and (in_sync or at + frame.size >= len(data) - 4 or _mp3_frame(data, at + frame.size)):
            is_tag = data[at + frame.tag_at : at + frame.tag_at + 4] in (b"Xing", b"Info")
            is_tag = is_tag or data[at + 36 : at + 40] == b"VBRI"
            if start is None:
                start, per_frame, tagged = at, frame.samples, is_tag
            frames += not is_tag
            at, in_sync = at + frame.size, True
        else:
            at, in_sync = data.find(b"\xff", at + 1), False
    return None if start is None else Mp3Length(start, frames, frames * per_frame, tagged)


def mp3_with_length(data: bytes | mmap, length: Mp3Length) -> bytes:
    """The same MP3 with a Xing tag in front that states its counted frames.

    Without a tag libsndfile takes the first frame's bit rate for the whole file and reads no further than
    that guess, which can be a fraction of a recording of variable bit rate.
    """
    # Bit-rate index 9 makes the frame large enough for the tag at every sampling rate; no CRC, no padding.
    first = int.from_bytes(data[length.start : length.start + 4], "big")
    head = (first & ~(15 << 12) & ~(1 << 9) | 9 << 12 | 1 << 16).to_bytes(4, "big")
    frame = _mp3_frame(head, 0)
    tag = b"Xing" + (1).to_bytes(4, "big") + length.frames.to_bytes(4, "big")
    return (head.ljust(frame.tag_at, b"\0") + tag).ljust(frame.size, b"\0") + data[length.start :]
