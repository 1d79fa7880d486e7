"""Scans that cannot be used: skipped, counted, and too many when they pass a limit."""

from __future__ import annotations

from scanlore.errors import DataError, ScanloreError

NUM_NAMED = 3


class BadScans:
    """Collects what is wrong with single scans, up to a limit.

    Args:
        total: Number of scans of the whole run.
        max_bad: Share of them that may be bad; one always may.
    """

    def __init__(self, total: int, max_bad: float) -> None:
        self.problems: list[tuple[str, str]] = []
        self._total, self._max_bad = total, max_bad

    def add(self, name: str, error: ScanloreError) -> None:
        """Note a bad scan.

        Raises:
            DataError: There are more than the limit, or all are bad; the first ones are listed.
        """
        self.problems.append((name, error.what if str(error.where) == name else str(error)))
        num_bad = len(self.problems)
        if num_bad <= max(1, int(self._max_bad * self._total)) and num_bad < self._total:
            return
        some = "; ".join(f"{name}: {reason}" for name, reason in self.problems[:NUM_NAMED])
        what = f"{num_bad} of {self._total} scans cannot be used, more than max_bad = {self._max_bad:g} allows: {some}"
        raise DataError(what, fix="mend them, remove them, or raise max_bad")
