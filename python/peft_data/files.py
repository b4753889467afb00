"""Reading and writing files so that a failure names the file.

A file is written beside its final name and renamed, so that a run that stops
half-way leaves nothing half-written behind.
"""

import json
import os
import tempfile

from peft_data.errors import BAD_INPUT, IO_ERROR, DataError


def read_text(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", IO_ERROR) from error
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
    try:
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".peft-data-")
        os.close(handle)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", IO_ERROR) from error
    try:
        write(temporary)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", IO_ERROR) from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def write_json(path, value):
    def write(temporary):
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=2, ensure_ascii=False)
            file.write("\n")

    write_atomically(path, write)


def jsonl_objects(path):
    """Yields (line number from 1, object) for every non-empty line."""
    try:
        file = open(path, "rb")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", IO_ERROR) from error
    with file:
        for number, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            try:
                # Some editors write a byte order mark before the first line.
                value = json.loads(raw.decode("utf-8-sig"))
                if b"\\u" in raw:
                    json.dumps(value, ensure_ascii=False).encode("utf-8")
            except UnicodeEncodeError as error:
                raise DataError(
                    f"{path}:{number}: half of a surrogate pair"
                    f" (\\u{ord(error.object[error.start]):04x}) is no character"
                ) from error
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}:{number}: not UTF-8 at byte {error.start} of the"
                    " line"
                ) from error
            except ValueError as error:
                raise DataError(
                    f"{path}:{number}: not JSON: {error}; every line must be one"
                    " JSON object"
                ) from error
            if not isinstance(value, dict):
                raise DataError(
                    f"{path}:{number}: a {type(value).__name__}, expected a"
                    " JSON object"
                )
            yield number, value
