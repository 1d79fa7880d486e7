"""What can go wrong for a user, said in one line: what, where, how to mend it.

Every error a user can cause is a `ScanloreError`; the command line prints it without a traceback and ends with
exit code 2. Anything else that escapes is a defect of ours and ends with exit code 1.
"""

from __future__ import annotations


class ScanloreError(Exception):
    """A user can mend this.

    Args:
        what: What is wrong, with the offending value.
        where: The file, folder or settings key concerned.
        fix: What to do about it.
    """

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        text = what if where is None else f"{where}: {what}"
        super().__init__(text if fix is None else f"{text} ({fix})")

    def __reduce__(self) -> tuple[object, ...]:
        # Errors travel from worker processes; keyword-only arguments need their own pickling.
        return _rebuild, (type(self), self.what, None if self.where is None else str(self.where), self.fix)


def _rebuild(kind: type[ScanloreError], what: str, where: str | None, fix: str | None) -> ScanloreError:
    return kind(what, where=where, fix=fix)


class ConfigError(ScanloreError):
    """A setting, an argument or a recipe is wrong."""


class DataError(ScanloreError):
    """A scan, a corpus or a task cannot be used as it is."""


class ModelError(ScanloreError):
    """A model reference, a model folder or weights cannot be used."""


class MissingDependencyError(ScanloreError):
    """An optional package is needed and not installed."""


def nearest(name: str, candidates: list[str]) -> str:
    """Return `"; did you mean 'x'?"` for the nearest candidate, or an empty string.

    Args:
        name: What the user wrote.
        candidates: What would have been right.
    """
    import difflib

    plain = {candidate.lower(): candidate for candidate in reversed(candidates)}
    close = difflib.get_close_matches(name.lower(), list(plain), n=1, cutoff=0.55)
    return f"; did you mean {plain[close[0]]!r}?" if close else ""
