"""The errors that a caller can do something about, grouped by what that is.

DvidError
├── InvalidRequest            the request is wrong: mend it                        (HTTP 400)
│   ├── LockedVersion         the version is committed: write to a child           (400)
│   ├── AdminRequired         show the admin token                                 (400)
│   ├── VersionConflict       parents of a version merge disagree on this value    (400)
│   └── DependentMutations    later mutations build on this one: undo them first   (409)
├── NotFound                  there is no such thing                               (404)
├── PreconditionFailed        what is stored is not what If-Match expects: read again  (412)
├── RangeNotSatisfiable       the bytes asked for lie outside of the value         (416)
├── Overloaded                too much at once: try again later                    (503)
├── LogUnavailable            the brokers of the log do not answer: try again later     (503)
├── WritesHalted              this server takes no writes until its operator acts  (500)
├── StorageFull               no space left: reads go on                           (507)
├── SettingsError             the configuration is wrong: mend it                  (at start)
└── Damage                    stored bytes are not what was written                (operator)
    ├── CorruptLog            a segment of a log
    ├── CorruptPack           a pack
    └── CorruptStore          a projection: set it aside and rebuild

This module imports nothing, so that every other may import it.
"""


class DvidError(Exception):
    """Base of all errors that dvid_es raises on purpose."""


class InvalidRequest(DvidError):
    """The request cannot be granted as it is; nothing was changed."""


class LockedVersion(InvalidRequest):
    """The version is committed and its data cannot change any more."""


class AdminRequired(InvalidRequest):
    """Only a request with the admin token may do this."""


class VersionConflict(InvalidRequest):
    """Parents of a version merge hold unequal values, and none is an ancestor of the other."""


class DependentMutations(InvalidRequest):
    """A mutation cannot be undone or redone as long as others stand, which are listed."""

    def __init__(self, message: str, dependents: tuple[object, ...] = ()) -> None:
        """Keep what is known of each of the others: plain values."""
        super().__init__(message)
        self.dependents = dependents


class NotFound(DvidError):
    """There is no such thing at this version. An empty message makes an empty 404."""


class PreconditionFailed(DvidError):
    """If-Match or If-None-Match does not agree with what is stored; nothing was changed."""


class RangeNotSatisfiable(DvidError):
    """A byte range lies outside of the value; `length` is what it has, in bytes."""

    def __init__(self, message: str, length: int) -> None:
        """Keep the length for the Content-Range header."""
        super().__init__(message)
        self.length = length


class Overloaded(DvidError):
    """Too many operations of this kind are running."""


class LogUnavailable(DvidError):
    """The log cannot be reached; whether the last write is in it is found out before the next."""


class WritesHalted(DvidError):
    """Writing stopped after a failure that only an operator can judge; reads go on."""


class StorageFull(DvidError):
    """The disk has no space for this write; nothing was changed."""


class SettingsError(DvidError):
    """A setting is unknown or has a wrong value."""


class Damage(DvidError):
    """Stored bytes are not what was written. The message names file, offset and next step."""


class CorruptLog(Damage):
    """A log holds bytes that were never written like this, before its last valid record."""


class CorruptPack(Damage):
    """A bulk value does not match the checksum in its reference."""


class CorruptStore(Damage):
    """A projection store cannot be read; it can be rebuilt from the log."""
