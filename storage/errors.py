"""Named errors of the storage package."""

from __future__ import annotations


class StorageError(Exception):
    """Something about stored rows or objects is not as it must be."""


class StoreNotFoundError(StorageError):
    """There is no store at the given place."""


class UnsupportedStoreError(StorageError):
    """The address of a store is of a kind that is not supported."""


class PinnedValueError(StorageError):
    """A run wants another ethogram, path pattern or time zone than the store was begun with."""


class PathValueError(StorageError, ValueError):
    """A site, camera, date or video id cannot be part of a path, or a path is not one of a store."""


class SchemaMismatchError(StorageError, ValueError):
    """Rows do not have the columns or types of their table."""


class CorruptObjectError(StorageError):
    """A stored object cannot be read, or does not hold what its own metadata says."""


class NewerSchemaError(StorageError):
    """A newer version of Aviaflow wrote this."""


class ObjectWriteError(StorageError):
    """An object could not be written; the previous version, if any, is untouched."""


class ObjectReadError(StorageError):
    """An object is there and cannot be read: no right to, or a failing disk."""


class StoreAccessError(StorageError):
    """An object store refuses: credentials, rights or no such bucket; trying again does not help."""


class StoreUnavailableError(StorageError):
    """An object store failed at every attempt; later it may answer."""


class LeaseHeldError(StorageError):
    """Another process is at work on the store."""


class LeaseLostError(StorageError):
    """Another process took the store over from this one."""


class FormatError(StorageError, ValueError):
    """A file in an exchange format holds something that the format does not allow."""


class SplitError(StorageError, ValueError):
    """There are too few annotated videos to divide them into parts."""


class QueryError(StorageError):
    """A question to a store cannot be answered: wrong SQL, or a name that the store does not know."""


class CameraDayLeftOutWarning(UserWarning):
    """The tables of a camera-day are not all there or not of one run, so no query shows any of them."""


class ObjectLeftOutWarning(UserWarning):
    """An object cannot be used, so no query shows its rows."""
