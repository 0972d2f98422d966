"""Files that are never half-written."""

from __future__ import annotations

from pathlib import Path


def write_aside(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all."""
    aside = path.with_name(f".{path.name}")
    aside.write_bytes(content.encode() if isinstance(content, str) else content)
    aside.replace(path)
