"""Downloads `batch_task.csv` of the Alibaba cluster trace v2018, resumes broken downloads and checks the checksum.

The URL and the checksum are those of https://github.com/alibaba/clusterdata, cluster-trace-v2018, `fetchData.sh` and
`trace_2018.md`.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import re
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

URL = "http://aliopentrace.oss-cn-beijing.aliyuncs.com/v2018Traces/batch_task.tar.gz"
SHA256 = "7c4b32361bd1ec2083647a8f52a6854a03bc125ca5c202652316c499fbf978c6"
MEMBER = "batch_task.csv"
_LARGEST_ARCHIVE = 2**30  # bytes; the official archive has 130,310,549
_LARGEST_MEMBER = 4 * 2**30  # bytes; the official file has 0.8 GB
_TRIES = 5  # successive requests without a new byte before giving up
_PAUSE = 1.0  # s between two requests
_TIMEOUT = 30.0  # s without a byte before a request fails
_CHUNK = 2**18  # bytes read at a time


def download(to: str | Path, *, url: str = URL, sha256: str = SHA256) -> Path:
    """Download the archive, check its checksum, unpack the one file in it, `batch_task.csv`, and return its path.

    An incomplete archive stays in the folder as `*.part`, and the next call resumes it. An archive with a wrong
    checksum is removed, because nothing says which of its bytes are wrong.

    Args:
        to: folder, created if it does not exist.
        url: address of the archive.
        sha256: checksum of the archive, 64 hexadecimal digits.

    Raises:
        ValueError: `sha256` is malformed; or the archive has another checksum, is too large, is damaged, or does not
            contain `batch_task.csv` and nothing else.
        OSError: the server cannot be reached, or the connection breaks off repeatedly.
    """
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(f"sha256: got {sha256!r}; must be 64 hexadecimal digits")
    folder = Path(to)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "batch_task.tar.gz.part"
    _fetch(url, part)
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        part.unlink()
        raise ValueError(f"{url}: its sha256 is {digest}; expected {sha256}; the download was removed")
    csv = _unpack(part, folder)
    part.unlink()
    return csv


def _fetch(url: str, part: Path) -> None:
    """Append to a partial file until it is complete."""
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, TimeRemainingColumn()) as progress:
        bar, tries = progress.add_task(part.stem, total=None), 0
        while True:
            before = part.stat().st_size if part.is_file() else 0
            try:
                if _fetch_rest(url, part, show=partial(progress.update, bar)):
                    return
                reason = "the connection broke off"
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise OSError(f"{url}: the server answered {error.code} {error.reason}") from None
                reason = str(error)
            except (OSError, http.client.HTTPException) as error:
                reason = str(error)
            tries = 0 if part.is_file() and part.stat().st_size > before else tries + 1
            if tries == _TRIES:
                raise OSError(f"{url}: {reason}; {part} is kept, run the command again to resume it")
            time.sleep(_PAUSE)


def _fetch_rest(url: str, part: Path, *, show: Callable[..., None]) -> bool:
    """Request the missing part of a file once, and return whether the file is complete.

    `show` receives its `completed` and `total` bytes.
    """
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return True  # the partial file was complete already
        part.unlink()  # longer than the file on the server
        return False
    with response, part.open("ab") as file:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # the server ignores ranges and sends the whole file
        elif not (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
            raise OSError(f"the server sent {response.headers.get('Content-Range')}; expected bytes {have}-")
        file.truncate(have)
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        show(completed=have, total=total)
        while chunk := response.read(_CHUNK):
            have += len(chunk)
            if have > _LARGEST_ARCHIVE:
                raise ValueError(f"{url}: more than {_LARGEST_ARCHIVE:,} bytes; expected the archive of batch_task.csv")
            file.write(chunk)
            show(completed=have)
    return total is None or have == total


def _unpack(archive: Path, folder: Path) -> Path:
    """Unpack the one expected file into a temporary folder and move it; nothing else of the archive is written."""
    try:
        with tarfile.open(archive, "r:gz") as tar, tempfile.TemporaryDirectory(dir=folder) as aside:
            found = False
            for member in tar:
                if member.name.removeprefix("./") != MEMBER or not member.isreg() or found:
                    raise ValueError(f"{archive}: holds {member.name!r}; expected one file {MEMBER} and nothing else")
                if member.size > _LARGEST_MEMBER:
                    raise ValueError(
                        f"{archive}: {MEMBER} has {member.size:,} bytes; must be at most {_LARGEST_MEMBER:,}"
                    )
                tar.extract(member, aside, filter="data")
                found = True
            if not found:
                raise ValueError(f"{archive}: empty; expected {MEMBER}")
            return (Path(aside) / MEMBER).replace(folder / MEMBER)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"{archive}: not a complete .tar.gz archive ({error})") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line of `python -m jaxcec.scenarios.alibaba`."""
    parser = argparse.ArgumentParser(prog="python -m jaxcec.scenarios.alibaba", description=__doc__)
    command = parser.add_subparsers(required=True).add_parser("download", help="download batch_task.csv")
    command.add_argument("--to", type=Path, default=Path(), help="target folder, by default the current one")
    command.add_argument("--url", default=URL, help="address of the archive, by default the official one")
    command.add_argument("--sha256", default=SHA256, help="checksum of the archive, by default the published one")
    parsed = parser.parse_args(arguments)
    try:
        print(download(parsed.to, url=parsed.url, sha256=parsed.sha256))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
