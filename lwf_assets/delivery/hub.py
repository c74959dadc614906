"""Uploads an exported model to a repository on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from lwf_assets.errors import LwfError


def upload(folder: Path, repository: str, *, private: bool = True) -> str:
    """Make the repository if need be, and commit the files of `folder` to it; returns the address of the commit.

    The token is the environment's ($HF_TOKEN, or of `hf auth login`), and the address $HF_ENDPOINT's.

    Raises:
        LwfError: the hub does not accept the token, the name or the files.
    """
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Learning With Forgetting: a new checkpoint"
        )
    except (HfHubHTTPError, HFValidationError, httpx2.HTTPError, OSError) as error:
        raise LwfError(
            f"--to-hub {repository}: the hub refused it: {error}; the model is in {folder}. Set HF_TOKEN to a token "
            "that may write to this repository"
        ) from error
    return str(commit.commit_url)
