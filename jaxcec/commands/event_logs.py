"""Event logs of sites: to open one, and `jaxcec-live shorten`, which removes what ended long ago."""

from __future__ import annotations

import dataclasses
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tyro

from jaxcec.checks import check_numbers
from jaxcec.commands.console import console
from jaxcec.live.event_log import EventLog
from jaxcec.live.shorten import shorten
from jaxcec.live.site import Site

_DAY = 86_400.0  # s


@dataclasses.dataclass(frozen=True)
class ShortenCommand:
    """Remove services that ended long ago from an event log, which no controller may be using."""

    log: tyro.conf.Positional[Path]
    """Event log of a site."""
    keep_days: float = 30.0
    """Days for which a service is kept after it ended, and its name is known."""

    def __post_init__(self) -> None:
        check_numbers(self, "--", least={"keep_days": 0.0})


@contextmanager
def opened_log(path: Path) -> Iterator[tuple[Site, EventLog]]:
    """The site of an event log, and the log.

    Raises:
        ValueError: there is no such file, or it is no event log, or it cannot be read or written.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such event log")
    try:
        with EventLog(path) as log:
            site = log.setting("site")
            if site is None:
                raise ValueError(f"{path}: not the log of a site")
            yield Site.model_validate_json(site), log
    except sqlite3.Error as error:
        raise ValueError(f"{path}: not an event log, or it cannot be written ({error})") from None


def shorten_log(command: ShortenCommand) -> None:
    """Shorten the log, and print how many events were removed."""
    with opened_log(command.log) as (site, log):
        removed = shorten(log, site, before=time.time() - _DAY * command.keep_days)
    console.print(f"{removed:,} events removed from {command.log}")
