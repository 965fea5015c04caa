"""Minimal ICC profiles (version 2), made byte by byte."""

import struct

RED, GREEN, BLUE = (0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139)  # of sRGB, under D50
P3_RED, P3_GREEN, P3_BLUE = (0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841)


def profile(red: tuple, green: tuple, blue: tuple, name: bytes, gamma: float = 2.2) -> bytes:
    """Of a display with these primaries (XYZ under D50)."""
    curve = _curve(gamma)
    colours = {b"rXYZ": _xyz(*red), b"gXYZ": _xyz(*green), b"bXYZ": _xyz(*blue)}
    return _profile(b"RGB ", name, {**colours, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve})


def grey(gamma: float, name: bytes = b"grey") -> bytes:
    return _profile(b"GRAY", name, {b"kTRC": _curve(gamma)})


def with_code_points(icc: bytes, primaries: int, transfer: int) -> bytes:
    """With a tag ``cicp``."""
    count = int.from_bytes(icc[128:132], "big")
    table = b"".join(
        icc[at : at + 4] + (int.from_bytes(icc[at + 4 : at + 8], "big") + 12).to_bytes(4, "big") + icc[at + 8 : at + 12]
        for at in range(132, 132 + 12 * count, 12)
    )
    rest = icc[132 + 12 * count :]
    table += b"cicp" + struct.pack(">II", 132 + 12 * (count + 1) + len(rest), 12)
    whole = icc[4:128] + (count + 1).to_bytes(4, "big") + table + rest
    whole += b"cicp" + bytes(4) + bytes([primaries, transfer, 0, 1])
    return (len(whole) + 4).to_bytes(4, "big") + whole


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


def _profile(space: bytes, name: bytes, parts: dict[bytes, bytes]) -> bytes:
    described = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + bytes(1 + 4 + 4 + 2 + 1 + 67)
    described += bytes(-len(described) % 4)
    parts = {b"desc": described, b"wtpt": _xyz(0.9642, 1, 0.8249), **parts}
    table, data, at = struct.pack(">I", len(parts)), b"", 128 + 4 + 12 * len(parts)
    for key, part in parts.items():
        table += key + struct.pack(">II", at + len(data), len(part))
        data += part
    head = struct.pack(">I4sI4s4s4s", at + len(data), b"lcms", 0x02100000, b"mntr", space, b"XYZ ") + bytes(12)
    head += b"acsp" + bytes(28) + struct.pack(">iii", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + table + data
