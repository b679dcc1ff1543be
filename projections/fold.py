"""Folds: how events change views. A fold is pure: state and record in, rows out."""

from collections.abc import Callable, Iterable, Mapping

from dvid_es.events import Event, Record
from dvid_es.projections.txn import WriteTxn

Fold = Callable[[WriteTxn, Record], None]
"""Changes the rows of one projection. It never fails on an event that was decided."""


def combined(
    parts: Iterable[Mapping[type[Event], Fold]],
) -> dict[type[Event], tuple[Fold, ...]]:
    """Return all folds by event, in the order of `parts`."""
    found: dict[type[Event], tuple[Fold, ...]] = {}
    for part in parts:
        for kind, fold in part.items():
            found[kind] = (*found.get(kind, ()), fold)
    return found
