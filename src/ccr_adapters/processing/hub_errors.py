"""What goes wrong between here and the Hub, told in a sentence that never holds the token."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants, errors, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ccr_adapters.errors import CCRError, HubError, first_line

FULL = (errno.ENOSPC, errno.EDQUOT)
# httpx's or httpx2's, as the installed client has it
HTTPError: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
# hf_xet's own, where the client has it
_XET: type[BaseException] = getattr(errors, "XetDownloadError", HfHubHTTPError)
_SECRET = re.compile(r"\bhf_\w{6,}")


@contextmanager
def hub_errors(
    repo_id: str, *, revision: str | None = None, token: str | bool | None = None, write: bool = False
) -> Iterator[None]:
    """Raise what the client of the Hub raises as one clear sentence.

    Args:
        repo_id: The repository, or what else was asked for.
        revision: Its revision.
        token: The token that was passed; it is kept out of the message.
        write: Something was to be written.

    Raises:
        HubError: For every failure of network, server, access, or disk.
    """
    if isinstance(token, str) and (not token.isascii() or not token.isprintable() or " " in token):
        # the client would put it into a header, fail, and quote the header
        raise HubError("The token holds spaces, line breaks or letters that no token has. Copy it again.")
    try:
        yield
    except CCRError:
        raise
    except (HTTPError, OSError, ValueError, RuntimeError, _XET) as error:
        secret = token.strip() if isinstance(token, str) else (get_token() or "")
        chain = list(_chain(error))
        message = _sentence(chain, repo_id, revision, write, bool(secret))
        told = HubError(_without(message, secret))
        # a header that cannot be sent is quoted in the client's own message, token and all
        leaks = any(_without(str(each), secret) != str(each) for each in chain)
        raise told from (None if leaks else error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what caused it, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _without(text: str, secret: str) -> str:
    for form in {secret, repr(secret)[1:-1]} - {""}:
        text = text.replace(form, "***")
    return _SECRET.sub("hf_***", text)


def _sentence(chain: list[BaseException], repo_id: str, revision: str | None, write: bool, token: bool) -> str:
    for error in chain:
        if isinstance(error, OSError) and error.errno in FULL:
            return (
                f"The disk is full: '{repo_id}' could not be downloaded into the cache. What was there before is whole; make "
                "room, or choose another `cache_dir`."
            )
        if isinstance(error, OSError) and "Consistency check failed" in str(error):
            return f"A file of '{repo_id}' came truncated, and was not kept. Download it again."
    first = chain[0]
    if isinstance(first, HFValidationError):
        return f"'{repo_id}' is no id of a repository: expected owner/name."
    for error in chain if not _is_own_word(first) else []:
        if isinstance(error, HfHubHTTPError):
            return _answer(error, repo_id, revision, write, token)
        if isinstance(error, OfflineModeIsEnabled):
            return _offline(repo_id, write)
        if isinstance(error, HTTPError):
            kept = (
                "Nothing was pushed: a commit arrives whole or not at all."
                if write
                else "It is not in the cache either."
            )
            return (
                f"The Hub at {constants.ENDPOINT} cannot be reached for '{repo_id}' ({type(error).__name__}). {kept} Check the "
                "network, or HF_ENDPOINT."
            )
    if isinstance(first, LocalEntryNotFoundError):
        return _offline(repo_id, write)
    lines = [line.strip() for line in str(first).splitlines() if line.strip()]
    return f"'{repo_id}' could not be {'written' if write else 'read'}: {' '.join(lines[:3]) or type(first).__name__}"


def _is_own_word(error: BaseException) -> bool:
    """Whether the client itself says what is wrong, as with the YAML of a card, better than the answer behind it."""
    return isinstance(error, ValueError) and not isinstance(error, HfHubHTTPError)


def _offline(repo_id: str, write: bool) -> str:
    if write or " " in repo_id:
        return f"The Hub is not asked for '{repo_id}', since HF_HUB_OFFLINE is set. Unset it where there is a network."
    return (
        f"'{repo_id}' is not in the cache, or only in parts, and downloads are off (`local_files_only`, or HF_HUB_OFFLINE). "
        f"Run `ccr-adapters pull {repo_id}` once with network."
    )


def _answer(error: HfHubHTTPError, repo_id: str, revision: str | None, write: bool, token: bool) -> str:
    """What an answer of the server means."""
    status = error.response.status_code
    remedy = "Pass a `token` that may, set HF_TOKEN, or run `hf auth login`."
    if isinstance(error, GatedRepoError):
        return f"'{repo_id}' is gated. Ask for access on its page first, then pass the token of that account."
    if isinstance(error, RevisionNotFoundError):
        return (
            f"'{repo_id}' has no revision '{revision or constants.DEFAULT_REVISION}'. Name a branch, a tag or a commit."
        )
    if isinstance(error, RepositoryNotFoundError):
        who = "this token may see" if token else "anyone may see without a token"
        return f"There is no repository '{repo_id}' that {who}. Check the name. If it is private: {remedy}"
    if status in (401, 403):
        return f"No access to '{repo_id}': the Hub answered {status}, as the token may not {_verb(write)} it. {remedy}"
    if status in (409, 412):
        return f"'{repo_id}' was changed by somebody else meanwhile; nothing was pushed. Look at it, and push again."
    if status == 429 or status >= 500:
        return f"The Hub answered {status} for '{repo_id}', which passes as a rule. Try again later."
    said = error.server_message or first_line(error)
    return f"The Hub answered {status} for '{repo_id}': {said}"


def _verb(write: bool) -> str:
    return "write" if write else "read"
