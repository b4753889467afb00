"""Rows to the token file that peft-run reads.

input_ids, labels, position_ids, segment_ids: int32 [rows, seq]. Labels are
unshifted, -100 = not trained. Positions start at 0 in every segment. Segments
count from 0 in each row; -1 is padding, which no token sees.
"""

import json

import numpy as np
from safetensors.numpy import save_file

from peft_data.errors import DataError
from peft_data.files import jsonl_objects, write_atomically
from peft_data.rows import UNTRAINED

PADDING_SEGMENT = -1


def read_rows(path, maker, seq, truncate):
    """Rows of a JSONL file, each at most `seq` tokens long."""
    rows = []
    for number, value in jsonl_objects(path):
        try:
            row = maker.make(value)
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}", error.code) from error
        if not row.ids:
            raise DataError(f"{path}:{number}: the row has no token")
        if len(row.ids) > seq:
            if not truncate:
                raise DataError(
                    f"{path}:{number}: {len(row.ids)} tokens, but --seq is"
                    f" {seq}; raise --seq (of peftc compile), or cut long rows"
                    " with peft-data tokenize --truncate"
                )
            row.ids, row.labels = row.ids[:seq], row.labels[:seq]
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: has no rows")
    if not any(row.trained() for row in rows):
        raise DataError(
            f"{path}: no row has a trained token, so there is nothing to learn"
        )
    return rows


def pack(rows, seq):
    """Groups of rows that share one line of `seq` tokens: first fit, in order.

    Deterministic, so that the same data gives the same file.
    """
    lines, free = [], []
    for row in rows:
        length = len(row.ids)
        place = next((i for i, room in enumerate(free) if room >= length), None)
        if place is None:
            lines.append([])
            free.append(seq)
            place = len(lines) - 1
        lines[place].append(row)
        free[place] -= length
    return lines


def to_arrays(lines, seq, pad_id):
    """The four arrays of a token file for lists of rows, one list per line."""
    shape = (len(lines), seq)
    arrays = {
        "input_ids": np.full(shape, pad_id, np.int32),
        "labels": np.full(shape, UNTRAINED, np.int32),
        "position_ids": np.zeros(shape, np.int32),
        "segment_ids": np.full(shape, PADDING_SEGMENT, np.int32),
    }
    for i, line in enumerate(lines):
        at = 0
        for segment, row in enumerate(line):
            place = slice(at, at + len(row.ids))
            arrays["input_ids"][i, place] = row.ids
            arrays["labels"][i, place] = row.labels
            # Nothing may predict a segment's first token.
            arrays["labels"][i, at] = UNTRAINED
            arrays["position_ids"][i, place] = np.arange(len(row.ids))
            arrays["segment_ids"][i, place] = segment
            at += len(row.ids)
        arrays["position_ids"][i, at:] = np.arange(seq - at)
    return arrays


def write_token_file(path, arrays, pad_id, rows):
    trained = int((arrays["labels"][:, 1:] != UNTRAINED).sum())
    # One key: safetensors writes several in random order, and the same data
    # must give the same bytes.
    about = {"pad_token_id": pad_id, "rows": rows, "trained_tokens": trained}
    metadata = {"peft_data": json.dumps(about)}
    write_atomically(path, lambda name: save_file(arrays, name, metadata))
    return trained
