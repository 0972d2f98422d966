"""Files that are written whole or not at all, and folders that must be empty."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

SETTINGS = "settings.json"  # in a folder whose results may be continued


def write_aside(path: Path, content: str | bytes) -> None:
    """Write a file atomically: a reader sees its old content or all of the new content."""
    aside = path.with_name(f".{path.name}")
    with aside.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())  # otherwise the name could survive a loss of power, and the content not
    aside.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically.

    Raises:
        ValueError: a number is NaN or infinite, which JSON does not have.
    """
    write_aside(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any] | Mapping[str, Any]]) -> str:
    """A table as CSV with a header line; a row that is a mapping from column names may lack some, left empty."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    for row in rows:
        writer.writerow([row.get(name, "") for name in header] if isinstance(row, Mapping) else row)
    return text.getvalue()


def check_empty_folder(flag: str, folder: Path, alternative: str = "") -> None:
    """Refuse to write results into a folder that already holds something.

    The message names the flag that named the folder, and ends with the alternative that the user has.

    Raises:
        ValueError: the path is not a folder, or the folder is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{flag}: got {folder}; must be a new or empty folder{alternative}")


def open_or_continue(flag: str, folder: Path, settings: Mapping[str, Any], *, what: str) -> None:
    """Begin a folder of results with a file of its settings, or check that the folder has results of the same settings.

    The settings are JSON. `what` says in a word or two what the results are of, such as sweep.

    Raises:
        ValueError: the folder has results of other settings, or something else.
    """
    file = folder / SETTINGS
    if file.is_file():
        saved = json.loads(file.read_text())
        for name, value in settings.items():
            if saved.get(name) != value:
                raise ValueError(f"{flag}: the {what} in {folder} has {name} {saved.get(name)}, not {value}")
        return
    check_empty_folder(flag, folder, f", or the folder of a {what}")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, settings)
