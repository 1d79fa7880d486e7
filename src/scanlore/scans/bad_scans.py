"""Scans that cannot be used: skipped, counted, and too many when they pass a limit."""

from __future__ import annotations

import logging

from scanlore.errors import DataError, ModelError, ScanloreError

logger = logging.getLogger("scanlore")
NUM_NAMED = 3


class BadScans:
    """Collects what is wrong with single scans.

    Args:
        total: Number of scans of the whole run.
        max_bad: Share of them that may be bad; one always may.
        setting: What the share is called in the settings.
    """

    def __init__(self, total: int, max_bad: float = 1.0, setting: str = "features.max_bad") -> None:
        self.problems: list[tuple[str, str]] = []
        self._total, self._max_bad, self._setting = total, max_bad, setting

    def add(self, name: str, error: ScanloreError) -> None:
        """Note a bad scan; commands print these, so that they are information for the log only."""
        is_about_scan = str(error.where) == name or isinstance(error, ModelError)
        self.problems.append((name, error.what if is_about_scan else str(error)))
        logger.info("skipped %s: %s", *self.problems[-1])

    def check(self) -> None:
        """Refuse too many bad scans, when all scans have been seen.

        Raises:
            DataError: There are more than the limit, or all are bad; the first ones are listed.
        """
        num_bad = len(self.problems)
        is_none_left = num_bad == self._total
        # A share such as 0.29 times 100 falls just short of 29
        if not is_none_left and num_bad <= max(1, self._max_bad * self._total + 1e-6):
            return
        some = "; ".join(f"{name}: {reason}" for name, reason in self.problems[:NUM_NAMED])
        more = f"; and {num_bad - NUM_NAMED} more" if num_bad > NUM_NAMED else ""
        enough = -(-100 * num_bad // self._total) / 100
        limit = "" if is_none_left else f", more than {self._setting} = {self._max_bad:g} allows"
        fix = "mend or remove them" + (
            "" if is_none_left else f", or `--set {self._setting}={enough:g}` and a new --out"
        )
        raise DataError(f"{num_bad} of {self._total} scans cannot be used{limit}: {some}{more}", fix=fix)
