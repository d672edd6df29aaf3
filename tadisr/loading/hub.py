"""Repositories on the Hub to upload to: opened before the work, so that a missing login does not show after it."""

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from tadisr.io.messages import one_line

_LOGIN = "log in with `hf auth login`"


def writable_repository(name: str, private: bool = False, kind: str = "model") -> str:
    """The id of a repository on the Hub that can be written to. It is made where there is none.

    `kind`: "model" or "dataset". Raises ValueError, in one line: not logged in, or with a token that has expired or may
    not write there; somebody else's repository; no such user; no connection.
    """
    api = HfApi()
    try:
        repository = api.create_repo(name, private=private, exist_ok=True, repo_type=kind).repo_id
        # It takes a repository that exists, whoever may write there. So the Hub is asked how it would take a file.
        api.preupload_lfs_files(repository, [CommitOperationAdd("README.md", b"-")], repo_type=kind)
    except Exception as error:  # the client's errors have no common base: HTTP, validation, connection
        raise ValueError(f"Nothing can be uploaded to {name} on the Hub: {_reason(error)}.") from None
    return repository


def _reason(error: Exception) -> str:
    said = one_line(error, 200).rstrip(".")
    if isinstance(error, HFValidationError):
        return said
    if not isinstance(error, HfHubHTTPError):  # of the connection: their class depends on the client's version
        return f"it cannot be reached ({said}): check the network"
    if error.response.status_code == 401:
        return f"nobody is logged in, or the token has expired: {_LOGIN}"
    if error.response.status_code == 403:
        return f"the token may not write there: name a repository of your own, or {_LOGIN} and a token that may write"
    return said
