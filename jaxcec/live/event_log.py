"""The event log: an SQLite file to which events are appended, in transactions that are written whole or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from jaxcec.live.events import EVENTS, Event

_TABLES = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, service TEXT, body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS of_service ON events (service) WHERE service IS NOT NULL;
"""


class EventLog:
    """A log. What is appended is on the disk when the call returns, also if the machine then stops.

    One process appends at a time, after `own`; any number may read.
    """

    def __init__(self, path: Path) -> None:
        """Open a log, or begin one.

        Raises:
            sqlite3.Error: the file cannot be opened, or is not a log.
        """
        self._database = sqlite3.connect(path, isolation_level=None, timeout=10.0)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(_TABLES)
        self._path, self._lock = path, FileLock(f"{path}.lock")

    def own(self) -> None:
        """Be the only one that appends, until the log is closed or the process ends.

        Raises:
            ValueError: another one does.
        """
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"{self._path}: another process appends to this event log; it must end first") from None

    def close(self) -> None:
        """Close the file; the log cannot be used afterwards."""
        self._database.close()
        self._lock.release(force=True)

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, events: Sequence[Event]) -> list[Event]:
        """Append events in one transaction, and return those that the log did not have.

        Raises:
            sqlite3.OperationalError: they cannot be written, such as when the disk is full; none of them is.
        """
        new = []
        with _transaction(self._database):
            for event in events:
                row = event.id, getattr(event, "service", None), event.model_dump_json(exclude_none=True)
                done = self._database.execute("INSERT OR IGNORE INTO events (id, service, body) VALUES (?, ?, ?)", row)
                new += [event] * done.rowcount
        return new

    def read(self, *, after: int = 0, service: str | None = None) -> Iterator[tuple[int, Event]]:
        """Events in the order in which they were appended, each with its number; `after` is that of the last one read.

        Args:
            after: numbers begin at 1.
            service: only the events of this service.
        """
        of_service = "" if service is None else "AND service = :service"
        query = f"SELECT number, body FROM events WHERE number > :after {of_service} ORDER BY number"
        for number, body in self._database.execute(query, {"after": after, "service": service}):
            yield number, EVENTS.validate_json(body)

    def replace(self, numbers: Sequence[int], by: Event) -> None:
        """Remove events by their numbers, and give the first of these to another one, in one transaction.

        The file is then written anew without them.

        Raises:
            sqlite3.OperationalError: it cannot be written, such as when the disk is full; nothing has changed, or only
                the file is as large as before.
        """
        with _transaction(self._database):
            self._database.executemany("DELETE FROM events WHERE number = ?", ((number,) for number in numbers))
            row = numbers[0], by.id, by.model_dump_json(exclude_none=True)
            self._database.execute("INSERT INTO events (number, id, body) VALUES (?, ?, ?)", row)
        self._database.execute("VACUUM")

    def setting(self, name: str) -> str | None:
        """A setting that was settled; None if it was not."""
        row = self._database.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def settle(self, name: str, value: str) -> None:
        """Keep a setting that every later use of the log must share.

        Raises:
            ValueError: the log was begun with another value.
        """
        with _transaction(self._database):
            self._database.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", (name, value))
        kept = self.setting(name)
        if kept != value:
            raise ValueError(f"{name}: got {value}; must be that with which the log was begun, {kept}")


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Commit what is executed in it, or nothing of it if there is an exception."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # SQLite itself rolls back for some errors
            database.execute("ROLLBACK")
        raise
