"""What a check finds, counted, and the first ones kept."""

from typing import Any

KEPT_MAX = 1000
"""Findings that are told; all are counted."""


class Findings:
    """Errors, which no request may have caused, and warnings, which a client may have meant."""

    def __init__(self) -> None:
        """Begin with none."""
        self.errors = 0
        self.warnings = 0
        self._told: list[dict[str, str]] = []
        self._checked: dict[str, int] = {}

    def add(self, check: str, text: str, *, error: bool = True) -> None:
        """Note that something is wrong, or at least strange."""
        if error:
            self.errors += 1
        else:
            self.warnings += 1
        if len(self._told) < KEPT_MAX:
            severity = "error" if error else "warning"
            self._told.append({"severity": severity, "check": check, "text": text})

    def checked(self, what: str, count: int) -> None:
        """Note how many things were looked at."""
        self._checked[what] = self._checked.get(what, 0) + count

    def result(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        return {
            "errors": self.errors,
            "warnings": self.warnings,
            "checked": self._checked,
            "findings": self._told,
            "more": self.errors + self.warnings - len(self._told),
        }
