"""Named errors of the workers: one per failure that somebody can act on."""

from __future__ import annotations

from pathlib import Path

from model.errors import ModelError
from storage.errors import StorageError


class WorkerError(Exception):
    """Something in a stage of the pipeline went wrong."""


class UnreadableVideoError(WorkerError):
    """A file cannot be used; ``reason`` says why, in words for the person who keeps the archive."""

    def __init__(self, reason: str, path: str | Path) -> None:
        super().__init__(reason, str(path))

    @property
    def reason(self) -> str:
        """What is wrong with the file and what to do about it, without the file's name."""
        return str(self.args[0])

    def __str__(self) -> str:
        return f"{Path(self.args[1]).name}: {self.args[0]}"


class EmptyFileError(UnreadableVideoError):
    """The file has no bytes, or only zeros."""


class NotAVideoError(UnreadableVideoError):
    """The content is not a video container that is read here."""


class PlaylistError(UnreadableVideoError):
    """The file is a playlist or a script that would make a reader open other files."""


class UnsafePathError(UnreadableVideoError):
    """The path leads out of the archive, or to something that is no regular file."""


class TruncatedFileError(UnreadableVideoError):
    """The container promises more bytes than the file has."""


class NoVideoStreamError(UnreadableVideoError):
    """The container holds no moving picture."""


class UnsupportedCodecError(UnreadableVideoError):
    """The video is coded with a codec that is not accepted here."""


class FrameTooLargeError(UnreadableVideoError):
    """The frames are larger than the limit."""


class BadTimestampsError(UnreadableVideoError):
    """The presentation times cannot be trusted."""


class DamagedVideoError(UnreadableVideoError):
    """The container or the pictures in it are damaged beyond use."""


class DecodeMismatchError(UnreadableVideoError):
    """What the decoder returned is not what the packets promised."""


class ScratchTooSmallError(UnreadableVideoError):
    """A video on S3 is larger than all of the space for local copies."""


class ChangedVideoError(UnreadableVideoError):
    """The file was replaced between its listing and its reading."""


class FetchError(UnreadableVideoError):
    """This one object cannot be fetched from S3, whereas others can."""


class UnscorableClipError(WorkerError):
    """The network gives no finite numbers for the clip around a keyframe, which is the error's argument."""


class ScratchFullError(WorkerError):
    """There is no room for a local copy, and nobody who would make some."""


class ProcessEndedError(WorkerError):
    """A piece of work ended its process, each time that it was tried."""


class UnstableClusterError(WorkerError):
    """Nodes or actors of the cluster die faster than work gets done."""


class DeadActorsError(UnstableClusterError):
    """An inference actor died too often to be started again."""


class ArchiveError(WorkerError):
    """The archive itself cannot be read."""


class DetectorWeightsError(WorkerError):
    """The weights of a torchvision detector are missing, unreadable, or another architecture's."""


class BadTruthError(WorkerError):
    """The truth of an annotated archive cannot be read, or does not fit its videos."""


NO_VIDEO_TO_BLAME = (StorageError, ScratchFullError, ModelError)
"""What stops a run instead of quarantining the video at which it happened."""
