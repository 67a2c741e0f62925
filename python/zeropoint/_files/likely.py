"""What a file is if not of the format that its suffix says: mostly a failed download."""

from __future__ import annotations

import re

HEAD = 512  # bytes to examine

_CONVERT = "convert it to .npy, .npz or .safetensors"
_KINDS = (
    (
        rb"version https://git-lfs\.github\.com/spec/",
        "it is a Git LFS pointer, which stands for the file",
        "fetch the file itself, for example by git lfs pull",
    ),
    (
        rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)?<(?i:!doctype\s+html|html|head|body)\b",
        "it is an HTML page, such as a server's page of login or error",
        "download the file itself",
    ),
    (rb"(?:\xef\xbb\xbf)?\s*<\?xml", "it is an XML document", "download the file itself"),
    (rb"\x93NUMPY", "it is a .npy file", "give it its own suffix"),
    (rb"PK(?:\x03\x04|\x05\x06)", "it is a zip archive, such as a .npz", "give it its own suffix"),
    (rb"\x80[\x02-\x05][^\x00]", "it is a Python pickle, which is never loaded", _CONVERT),
    (rb"GGUF", "it is a .gguf file", "give it its own suffix"),
    (rb"PAR1", "it is a .parquet file", "give it its own suffix"),
    (rb"\x89HDF\r\n\x1a\n", "it is an HDF5 file", _CONVERT),
    (rb"\x1f\x8b\x08", "it is compressed with gzip", "decompress it first"),
)


def what(head: bytes, suffix: str) -> tuple[str, str] | None:
    """What a file with these first bytes is and what to do; None if it may be what it says."""
    if suffix == ".safetensors" and head[4:8] == bytes(4):
        return None  # a length below 4 GiB, so a damaged header
    for pattern, name, fix in _KINDS:
        if re.match(pattern, head, re.DOTALL):
            return None if f"a {suffix}" in name else (name, fix)
    text = head.decode("utf-8", "ignore")
    if len(head) >= 8 and not re.search(r"[^\x20-\x7e\s]", text) and len(text) == len(head):
        return f"it is text, and starts with {text[:60]!r}", "look at it, and download it again"
    return None
