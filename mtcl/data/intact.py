"""Finds files that are not as they were written. The size shows a truncated file; only a digest shows a flipped bit.

A folder that is written at once has a record with the size and digest of each file. Files that are added later end with
their own digest, which readers of .npy files ignore. xxh3 reads several GB/s, so a check takes about as long as reading
the files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import xxhash

RECORD = "meta.json"
BLOCK_BYTES = 1 << 22
SIGNATURE_BYTES = 16


def file_digest(path: Path, num_bytes: int | None = None) -> str:
    """The xxh3 digest (128 bits, hexadecimal) of a file, or of its first `num_bytes`."""
    found, left = xxhash.xxh3_128(), path.stat().st_size if num_bytes is None else num_bytes
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(left, BLOCK_BYTES))):
            found.update(block)
            left -= len(block)
    return found.hexdigest()


def sign(path: Path) -> None:
    """Append the digest of a file's content to the file."""
    digest = bytes.fromhex(file_digest(path))
    with path.open("ab") as file:
        file.write(digest)


def is_signed(path: Path) -> bool:
    """Whether a file ends with the digest of its content, so that it is as `sign` left it."""
    size = path.stat().st_size - SIGNATURE_BYTES
    if size < 0:
        return False
    with path.open("rb") as file:
        file.seek(size)
        return file.read() == bytes.fromhex(file_digest(path, size))


def seal(folder: Path, facts: dict[str, Any]) -> None:
    """Write the folder's record: `facts` (plain values), each file's size and digest, and a digest of the record."""
    paths = sorted(folder.iterdir())
    files = {path.name: [path.stat().st_size, file_digest(path)] for path in paths}
    content = facts | {"files": files}
    (folder / RECORD).write_text(json.dumps(content | {"digest": _digest(content)}), encoding="utf-8")


def record_of(folder: Path) -> dict[str, Any]:
    """The content of the folder's record."""
    return dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))


def damage_of(folder: Path, *, by_content: bool) -> str:
    """The first file that is not as it was written, and why; "" if there is none.

    `by_content` compares digests, which takes as long as reading the files; otherwise only sizes are compared.
    """
    try:
        content = record_of(folder)
        if content.pop("digest") != _digest(content):
            return f"{RECORD} has other content"
        for name, (size, digest) in content["files"].items():
            path = folder / name
            if not path.exists():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size:,} bytes, not {size:,}"
            if by_content and file_digest(path) != digest:
                return f"{name} has other content"
    except OSError as error:
        return f"{RECORD}: {error.strerror}"
    except KeyError:
        return f"{RECORD} has no digests, as before mtcl wrote them"
    except (ValueError, TypeError, AttributeError):
        return f"{RECORD} cannot be read"
    return ""


def remove_damaged(folder: Path) -> list[Path]:
    """Remove the .npy files that were added to the folder after its record and are not as `sign` left them."""
    recorded = record_of(folder)["files"]
    damaged = [path for path in sorted(folder.glob("*.npy")) if path.name not in recorded and not is_signed(path)]
    for path in damaged:
        path.unlink(missing_ok=True)
    return damaged


def _digest(content: dict[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(content, sort_keys=True).encode())
