"""Model folders on the Hugging Face hub."""

import os
import re
from pathlib import Path

from glc_toolkit import __version__, registry
from glc_toolkit.modelfolder import CARD, FILES, verify, write_sums
from glc_toolkit.types import ModelFileError


def download(text: str) -> Path:
    """The folder of ``owner/name[@revision]``: the cached copy, or a new one. Raises :class:`ModelFileError`.

    The hub's library moves a file into its cache when the file is whole. But a snapshot may lack files after a download
    that was cut off, and a file may be damaged later.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    repository, _, revision = text.partition("@")
    revision = revision or "main"
    if not re.fullmatch(r"[\w.+-]+(/[\w.+-]+)*", revision) or ".." in revision:  # it names a file in the cache
        raise ModelFileError(f"{revision!r} is no name of a revision on the hub")
    wanted = {"repo_id": repository, "allow_patterns": list(FILES)}
    try:
        cached = Path(snapshot_download(**wanted, revision=revision, local_files_only=True))
        if all(os.path.isfile(cached / name) for name in FILES):
            verify(cached)
            return cached
    except ModelFileError:
        wanted["force_download"] = True
    except (LocalEntryNotFoundError, ValueError):
        pass
    try:
        commit = HfApi().model_info(repository, revision=revision).sha or ""
        if not re.fullmatch("[0-9a-f]{40}", commit):  # it names a folder in the cache
            raise ValueError(f"the hub gives {commit!r} as the commit, which is no commit id")
        fetched = Path(snapshot_download(**wanted, revision=commit))
        if revision != commit:  # for the next time, as the hub's library would have noted it
            note = fetched.parent.parent / "refs" / revision
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(commit)
        return fetched
    except RepositoryNotFoundError as error:
        raise ModelFileError(f"the hub has no repository {repository!r}, or it is private") from error
    except RevisionNotFoundError as error:
        raise ModelFileError(f"{repository!r} on the hub has no revision {revision!r}") from error
    except Exception as error:  # each HTTP library that the hub's library has used so far has its own
        reason = " ".join(str(error).split())
        raise ModelFileError(f"hf://{text} is not cached and cannot be fetched: {reason}") from error


def upload(folder: Path, repository: str, private: bool | None, metadata: dict) -> str:
    """Send a model's folder to ``repository``, with ``metadata`` in the front matter of its card. The card and the
    checksums in ``folder`` are changed.

    Returns ``hf://owner/name@commit``. Raises ``ValueError`` without a licence or if the repository is public though
    ``private`` was asked for, ``PermissionError`` without a token that may write, and ``OSError`` if the hub does not
    answer.
    """
    from huggingface_hub import HfApi

    card = (folder / CARD).read_text("utf-8") if (folder / CARD).is_file() else f"# {repository}\n"
    (folder / CARD).write_text(with_front_matter(card, metadata), "utf-8")
    write_sums(folder)
    api = HfApi(library_name="glc-toolkit", library_version=__version__)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        if private and not api.model_info(repository).private:
            raise ValueError(f"{repository} is there already, and public")
        done = api.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"glc-toolkit {__version__}")
    except ValueError:
        raise
    except Exception as error:  # as above
        if getattr(getattr(error, "response", None), "status_code", None) in (401, 403, 404):
            raise PermissionError(
                f"the hub does not let you write to {repository}: log in with `hf auth login`, or set HF_TOKEN to "
                "a token that may write there"
            ) from error
        raise OSError(f"{repository} cannot be pushed: {' '.join(str(error).split())}") from error
    return f"hf://{repository}@{done.oid}"


def with_front_matter(card: str, metadata: dict) -> str:
    """A card with the fields that the hub shows and searches. Fields of ``metadata`` go before those of the card, and
    these before ours."""
    from huggingface_hub import ModelCard

    whole = ModelCard(card if card.startswith("---") else f"---\n{{}}\n---\n{card}")
    ours = {
        "library_name": "glc-toolkit",
        "pipeline_tag": "image-to-image",
        "tags": ["image-compression", "learned-compression", "compressai", "glc"],
        "metrics": [name for name in registry.names("metric") if f"| {name} |" in card],
    }
    given = {key: value for key, value in metadata.items() if value}
    for key, value in {**ours, **whole.data.to_dict(), **given}.items():
        whole.data[key] = value
    if not whole.data.get("license"):
        raise ValueError("a model without a licence is of no use to others: give license, such as apache-2.0")
    return whole.content
