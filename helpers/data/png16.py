"""PNG with 16 bits a channel and colour or alpha, which Pillow reduces to 8 bits."""

import struct
import zlib

import numpy as np

_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type


def read_png16(raw: bytes) -> np.ndarray:
    """Return the pixels of a 16-bit PNG file, every bit of them.

    Follows the PNG specification, https://www.w3.org/TR/png-3/, sections 5 and 9.

    Parameters
    ----------
    raw : bytes
        The whole file.

    Returns
    -------
    uint16 ndarray, (H, W, C)
        C is 1 for gray, 2 for gray and alpha, 3 for RGB, 4 for RGBA.

    Raises
    ------
    ValueError
        The file is damaged, interlaced or has not 16 bits a channel.
    """
    chunks = _read_chunks(raw)
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    if depth != 16 or colour not in _CHANNELS:
        raise ValueError(f"PNG with {depth} bits a channel and colour type {colour}, not 16 bits")
    if interlaced:
        raise ValueError("interlaced 16-bit PNG; save it without interlacing")
    pixel = 2 * _CHANNELS[colour]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8)
    if rows.size != height * (1 + width * pixel):
        raise ValueError(f"PNG holds {rows.size} bytes, not the {height * (1 + width * pixel)} due")
    pixels = _undo_filters(rows.reshape(height, -1), pixel)
    return pixels.view(">u2").reshape(height, width, -1).astype(np.uint16)


def _read_chunks(raw: bytes) -> dict[bytes, bytes]:
    """Return the chunks by name, those of one name joined; each must match its checksum."""
    chunks: dict[bytes, bytes] = {}
    at = 8
    while b"IEND" not in chunks:
        head = raw[at : at + 8]
        if len(head) < 8:
            raise ValueError("PNG ends before its last chunk")
        length, name = struct.unpack(">I4s", head)
        body = raw[at + 8 : at + 8 + length]
        checksum = raw[at + 8 + length : at + 12 + length]
        if checksum != struct.pack(">I", zlib.crc32(name + body)):
            raise ValueError(f"PNG chunk {name!r} does not match its checksum")
        chunks[name] = chunks.get(name, b"") + body
        at += 12 + length
    missing = {b"IHDR", b"IDAT"} - set(chunks)
    if missing:
        raise ValueError(f"PNG without {sorted(missing)}")
    return chunks


def _undo_filters(rows: np.ndarray, pixel: int) -> np.ndarray:
    """Undo the filter that the first byte of each row names; `pixel` is in bytes."""
    above = np.zeros(rows.shape[1] - 1, np.uint8)
    out = np.empty((rows.shape[0], above.size), np.uint8)
    for number, row in enumerate(rows):
        kind, line = int(row[0]), row[1:]
        if kind == 0:
            above = line
        elif kind == 1:
            above = np.add.accumulate(line.reshape(-1, pixel), axis=0, dtype=np.uint8).ravel()
        elif kind == 2:
            above = line + above
        elif kind in (3, 4):
            above = _undo_sequential(line.tolist(), above.tolist(), pixel, paeth=kind == 4)
        else:
            raise ValueError(f"PNG row filter {kind} must be 0 to 4")
        out[number] = above
    return out


def _undo_sequential(line: list[int], above: list[int], pixel: int, *, paeth: bool) -> np.ndarray:
    """Undo the filters in which every byte needs the one before it: Average and Paeth."""
    out = [0] * pixel + line
    above = [0] * pixel + above
    for at in range(pixel, len(out)):
        left, up, corner = out[at - pixel], above[at], above[at - pixel]
        if paeth:
            to_left, to_up = abs(up - corner), abs(left - corner)
            to_corner = abs(left + up - 2 * corner)
            up_or_corner = up if to_up <= to_corner else corner
            guess = left if to_left <= to_up and to_left <= to_corner else up_or_corner
        else:
            guess = (left + up) // 2
        out[at] = (out[at] + guess) & 255
    return np.array(out[pixel:], np.uint8)
