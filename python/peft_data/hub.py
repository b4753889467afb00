"""A model's name to its directory: the local hub cache's layout.

models--org--name/refs/main holds a commit, snapshots/<commit>/ the files. The
same names mean the same directories as in peftc; nothing is downloaded.
"""

import os
import re

from peft_data.errors import IO_ERROR, DataError
from peft_data.files import read_text

HUB_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)?")


def hub_cache():
    """Where downloaded models are kept, by the hub's own variables."""
    if os.environ.get("HF_HUB_CACHE"):
        return os.environ["HF_HUB_CACHE"]
    for variable, folder in (
        ("HF_HOME", "hub"),
        ("XDG_CACHE_HOME", "huggingface/hub"),
    ):
        if os.environ.get(variable):
            return os.path.join(os.environ[variable], folder)
    return os.path.join(os.environ.get("HOME", ""), ".cache/huggingface/hub")


def _current_snapshot(repository):
    """The snapshot that refs/main names, or the only one."""
    snapshots = os.path.join(repository, "snapshots")
    reference = os.path.join(repository, "refs/main")
    if os.path.isfile(reference):
        commit = read_text(reference).rstrip()
        if not commit or commit[0] == "." or "/" in commit or "\0" in commit:
            raise DataError(
                f"{reference}: does not hold the name of a snapshot"
            )
        directory = os.path.join(snapshots, commit)
        if not os.path.isdir(directory):
            raise DataError(
                f"{directory}: the snapshot that refs/main names is not there;"
                " the download is incomplete: download the model again"
            )
        return directory
    names = os.listdir(snapshots) if os.path.isdir(snapshots) else []
    if len(names) != 1:
        raise DataError(
            f"{repository}: has no refs/main and {len(names)} snapshots; name"
            " one snapshot's directory"
        )
    return os.path.join(snapshots, names[0])


def resolve_model(name):
    """The directory of a model given as a directory, its config.json, a
    repository folder of the hub cache, or the hub's `org/name`."""
    if os.path.isdir(name):
        is_repository = os.path.isdir(
            os.path.join(name, "snapshots")
        ) and not os.path.isfile(os.path.join(name, "config.json"))
        return _current_snapshot(name) if is_repository else name
    if os.path.isfile(name) and name.endswith(".json"):
        return os.path.dirname(name) or "."
    if not HUB_NAME.fullmatch(name) or ".." in name:
        raise DataError(f"{name}: no such model directory", IO_ERROR)
    cache = hub_cache()
    repository = os.path.join(cache, "models--" + name.replace("/", "--"))
    if not os.path.isdir(repository):
        raise DataError(
            f"{name}: no such model directory, and the local hub cache {cache}"
            " does not have it either; nothing is downloaded here: fetch it"
            f" with `hf download {name}` first",
            IO_ERROR,
        )
    return _current_snapshot(repository)
