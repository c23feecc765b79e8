"""What can stop a run before any work is done."""

from __future__ import annotations


class AviaflowError(Exception):
    """One line that says what was wrong and what to do; the command line prints it and exits with 1."""


class SettingsError(AviaflowError):
    """A configuration file or option cannot be used."""


class NothingToReadError(AviaflowError):
    """The archive does not exist or holds no file that looks like a video."""


class TruthMissingError(AviaflowError):
    """The folder of truth lacks a file that a score needs."""


class ClusterError(AviaflowError):
    """No Ray cluster could be started or joined."""


class CameraDayError(AviaflowError):
    """Camera-days failed for a reason that no video is to blame for; what was finished is kept."""


class UnfinishedRunError(AviaflowError):
    """A run was stopped in the middle, and only another one can bring the store in order."""


class ScheduleError(AviaflowError):
    """The nightly deployment could not be served."""


class PrefectServerError(AviaflowError):
    """No Prefect server could be started."""


class AblationError(AviaflowError):
    """The kept cells of a table cannot be used together."""


class LockedError(AviaflowError):
    """Another process is at work on this."""


class TrainingError(AviaflowError):
    """A training cannot start, go on from its checkpoint, or come to its end."""


class SplitFileError(AviaflowError):
    """``split.csv`` cannot be read, or does not fit the truth beside it."""


class PlanError(AviaflowError):
    """A run cannot be predicted from what was measured, or for what was asked."""


class ExportError(AviaflowError):
    """An engine cannot be made as it was asked for."""
