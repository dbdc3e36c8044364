"""The exceptions of the package: each says what came, what was expected and what to do, and is also a builtin."""

from __future__ import annotations


class CCRError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(CCRError, ValueError):
    """A configuration has an unknown key, or a value that cannot work."""


class LanguageError(CCRError, ValueError):
    """A language has no adapter or no grammar; the message lists those there are."""


class CaptionError(CCRError, ValueError):
    """A caption is empty or not text; the message names its row."""


class ImageError(CCRError, ValueError):
    """A picture is missing or cannot be read; the message names the file."""


class VideoError(CCRError, ValueError):
    """A video is missing, cut short or cannot be decoded; the message names the file."""


class DataError(CCRError, ValueError):
    """A data set lacks a column, a split or a value."""


class AdapterError(CCRError, ValueError):
    """An adapter folder is incomplete, tampered with, or made for another base."""


class HubError(CCRError, OSError):
    """A repository cannot be reached, read or written; the message never holds the token."""


class EvaluationError(CCRError, ValueError):
    """Embeddings or ground truth do not fit together."""


class ExportError(CCRError, RuntimeError):
    """A model cannot be exported, an export is broken, or it gives other vectors than the model."""


class TrainingError(CCRError, RuntimeError):
    """Training cannot go on; the message says at which step, and what is kept."""


class MissingExtraError(CCRError, ImportError):
    """An optional library is not installed; the message has the pip line."""


class TranslationError(CCRError, RuntimeError):
    """A translator cannot be used, or a folder holds other translations than those that were asked for."""


class SearchIndexError(CCRError, ValueError):
    """An index is missing, broken, made for another base, or was asked for something that it cannot hold."""


class LockedError(SearchIndexError):
    """Somebody else is writing to the index; the message names the process."""


class BusyError(CCRError, RuntimeError):
    """The server has as much to do as it may take on, or is shutting down; later, or elsewhere, it works."""


class LimitError(CCRError, ValueError):
    """A request is larger than the server takes; the message says which limit."""


class MissingItemError(CCRError, LookupError):
    """A collection has no picture of that name, or cannot show it."""


def first_line(error: BaseException) -> str:
    """What another library's error says, in a line; the name of its kind where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
