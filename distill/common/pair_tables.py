"""Tables of pairs of integers that are larger than memory: a temporary SQLite database.

SQLite holds 2 MB of it in memory. The rest is in a temporary file without a name, which the system
removes at any end of the process.
"""

from __future__ import annotations

import sqlite3

from distill.errors import UserError

_AT_ONCE = 1000  # pairs; each statement costs as much as many pairs
_FIX = "digests of the rows are kept there: free some space, or set TMPDIR to another folder"


class PairTables:
    """Tables with the integer columns `key` and `value`."""

    def __init__(self, *names: str) -> None:
        """Starts with empty tables of these names."""
        self._database = sqlite3.connect("", isolation_level=None)
        self._execute("PRAGMA journal_mode = OFF")  # nothing is rolled back
        self._execute("PRAGMA temp_store = FILE")  # sorted pairs as well
        for name in names:
            self._execute(f"CREATE TABLE {name} (key INTEGER, value INTEGER)")
        self._execute("BEGIN")
        self._added: dict[str, list[tuple[int, int | None]]] = {name: [] for name in names}

    def add(self, name: str, key: int, value: int | None = None) -> None:
        """Adds a pair to a table.

        Args:
          name: of the table.
          key: from 0 to 2**63 - 1, as is the value; see `distill.common.hashing.digest63`.
          value: None is NULL.

        Raises:
          UserError: no temporary file can be written.
        """
        self._added[name].append((key, value))
        if len(self._added[name]) >= _AT_ONCE:
            self._write(name)

    def rows(self, query: str) -> list[tuple[int, ...]]:
        """All rows of a query.

        Raises:
          UserError: no temporary file can be written.
        """
        for name in self._added:
            self._write(name)
        return self._execute(query)

    def number(self, query: str) -> int:
        """The only value of a query, 0 for NULL; errors are those of `rows`."""
        return int(self.rows(query)[0][0] or 0)

    def keys(self, query: str) -> set[int]:
        """The first column of a query; errors are those of `rows`."""
        return {row[0] for row in self.rows(query)}

    def repeated(self, name: str) -> int:
        """How many pairs have a key that another pair of the table has too; errors as of `rows`."""
        return self.number(
            f"SELECT sum(n) FROM (SELECT count(*) AS n FROM {name} GROUP BY key HAVING n > 1)"
        )

    def _write(self, name: str) -> None:
        self._execute(f"INSERT INTO {name} VALUES (?, ?)", self._added[name])
        self._added[name] = []

    def _execute(
        self, statement: str, pairs: list[tuple[int, int | None]] | None = None
    ) -> list[tuple[int, ...]]:
        try:
            if pairs is None:
                return self._database.execute(statement).fetchall()
            return self._database.executemany(statement, pairs).fetchall()
        except sqlite3.OperationalError as error:
            raise UserError(f"no temporary file can be written: {error}; {_FIX}") from error
