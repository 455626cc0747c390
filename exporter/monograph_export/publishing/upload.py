"""Upload a folder as a model repository on a Hub, by huggingface_hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monograph.errors import MonographError
from monograph.hub import HubName
from monograph.hub.requests import LOGIN, bound_requests, explain_upload_errors
from monograph_export.publishing.layout import FOLDER


@dataclass(frozen=True)
class Upload:
    """A commit by its hash, and the files of the repository that it deleted."""

    commit: str
    deleted: tuple[str, ...]


def check_access(name: HubName, *, private: bool) -> None:
    """Check what can be checked of an upload before its files are made, which takes long.

    Raises:
        MonographError: there is no token, or one that may not write, the Hub cannot be reached, or the repository is
            public and must be private; the message says what to do.

    """
    with explain_upload_errors(name):
        from huggingface_hub import HfApi, constants, get_token
        from huggingface_hub.errors import RepositoryNotFoundError

        if constants.is_offline_mode():
            raise MonographError(f"{name} cannot be uploaded while HF_HUB_OFFLINE is set: unset it")
        if get_token() is None:
            raise MonographError(f"an upload to {name} needs a token that may write there: {LOGIN}")
        api = HfApi()
        with bound_requests():
            token = api.whoami().get("auth", {}).get("accessToken", {})
            if token.get("role") == "read":
                raise MonographError(f"the token may only read: {LOGIN} with one that may write to {name}")
            try:
                info = api.model_info(name.repository)
            except RepositoryNotFoundError:
                return
        _check_private(name, info, private)


def _check_private(name: HubName, info: Any, private: bool) -> None:
    if private and not info.private:
        raise MonographError(f"{name} exists and is public: make it private in its settings, or leave --private out")


def upload(folder: Path, name: HubName, message: str, *, private: bool) -> Upload:
    """Upload the files of a folder in one commit.

    The repository is created if it does not exist: a public one, unless ``private`` or the organization's settings say
    otherwise. Graphs of a former commit that the folder has not are deleted, as loaders would prefer or offer them; its
    other files stay as they are.

    Raises:
        MonographError: access is denied, the Hub cannot be reached, or the repository must be private and is not; the
            message says what to do.

    """
    with explain_upload_errors(name):
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        api = HfApi()
        api.create_repo(name.repository, private=private or None, exist_ok=True)
        info = api.model_info(name.repository)
        present = [str(sibling.rfilename) for sibling in info.siblings or []]
    _check_private(name, info, private)
    deleted = tuple(sorted(file for file in present if file not in files and _is_graph(file)))
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        *(CommitOperationAdd(path_in_repo, path) for path_in_repo, path in files.items()),
        *(CommitOperationDelete(path_in_repo) for path_in_repo in deleted),
    ]
    with explain_upload_errors(name):
        # Not upload_folder, which may divide the files among commits: a repository would be incomplete in between.
        return Upload(str(api.create_commit(name.repository, operations, commit_message=message).oid), deleted)


def _is_graph(file: str) -> bool:
    """Return whether a file of a repository is one that loaders of ONNX files look for."""
    return file.startswith(f"{FOLDER}/") or file == "model.onnx"
