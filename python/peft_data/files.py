"""Reading and writing files so that a failure names the file.

A file is written beside its final name and renamed, so that a run that stops
half-way leaves nothing half-written behind.
"""

import io
import json
import os
import stat
import tempfile

from safetensors import SafetensorError

from peft_data.errors import BAD_INPUT, IO_ERROR, USAGE, DataError


LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def io_error(path, error):
    """What the system said about `path`."""
    return DataError(f"{path}: {error.strerror or error}", IO_ERROR)


def open_input(path):
    """A regular file, opened for reading bytes; not what stands for one."""
    try:
        # A pipe would wait here for its writer, and can be read only once.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DataError(f"{path}: is not a regular file", BAD_INPUT)
        file = open(path, "rb")
        start = file.read(len(LFS_POINTER))
        file.seek(0)
    except OSError as error:
        raise io_error(path, error) from error
    if start == LFS_POINTER:
        file.close()
        folder = os.path.dirname(os.path.abspath(path))
        raise DataError(
            f"{path}: is a Git LFS pointer, not the file itself; run `git lfs"
            f" pull` in {folder}"
        )
    return file


def read_text(path):
    with io.TextIOWrapper(open_input(path), encoding="utf-8") as file:
        try:
            return file.read()
        except OSError as error:
            raise io_error(path, error) from error
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}: not UTF-8 at byte {error.start}", BAD_INPUT
            ) from error


def read_json(path):
    text = read_text(path)
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from error


def write_atomically(path, write):
    """Calls write(temporary path), then renames it to `path`."""
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.exists(path) and not os.path.isfile(path):
        # Renaming would put a file in the place of, say, /dev/null.
        raise DataError(f"{path}: is not a regular file", USAGE)
    try:
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".peft-data-")
        os.close(handle)
    except OSError as error:
        raise io_error(path, error) from error
    try:
        write(temporary)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except OSError as error:
        raise io_error(path, error) from error
    except SafetensorError as error:  # not an OSError, even on a full disk
        raise DataError(f"{path}: {error}", IO_ERROR) from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def write_text(path, text):
    def write(temporary):
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)

    write_atomically(path, write)


def write_json(path, value):
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def jsonl_objects(path):
    """Yields (line number from 1, object) for every non-empty line."""
    number = 0
    try:
        with open_input(path) as file:
            for number, raw in enumerate(file, 1):
                if raw.strip():
                    yield number, _parse_line(f"{path}:{number}", raw)
    except OSError as error:
        raise io_error(f"{path}:{number + 1}", error) from error


def _parse_line(where, raw):
    try:
        # Some editors write a byte order mark before the first line.
        value = json.loads(raw.decode("utf-8-sig"))
        if b"\\u" in raw:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: half of a surrogate pair"
            f" (\\u{ord(error.object[error.start]):04x}) is no character"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: not UTF-8 at byte {error.start} of the line"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where}: not JSON: {error}; every line must be one JSON object"
        ) from error
    if not isinstance(value, dict):
        raise DataError(
            f"{where}: a {type(value).__name__}, expected a JSON object"
        )
    return value
