"""Writing and reading safetensors files with float32, bf16, f16, int32 and bytes.

safetensors' own numpy functions know no bf16; the format is simple enough.
"""

import json
import math

import numpy as np

NAMES = {"f32": "F32", "f16": "F16", "bf16": "BF16"}
TYPES = {"F32": "<f4", "F16": "<f2", "I32": "<i4", "BF16": "<u2", "F64": "<f8", "U8": "u1"}


def encode(values, stored):
    """(dtype name, bytes) of an array; float32 arrays take the stored type,
    whose values they already have."""
    if values.dtype == np.int32:
        return "I32", values.astype("<i4").tobytes()
    if values.dtype == np.uint8:
        return "U8", values.tobytes()
    if stored == "bf16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        return "BF16", (bits >> np.uint32(16)).astype("<u2").tobytes()
    return NAMES[stored], values.astype(TYPES[NAMES[stored]]).tobytes()


def save_tensors(path, tensors, stored="f32", metadata=None):
    header, parts, offset = {}, [], 0
    header["__metadata__"] = {"format": "pt", **(metadata or {})}
    for name, values in tensors.items():
        dtype, data = encode(values, stored)
        header[name] = {
            "dtype": dtype,
            "shape": list(values.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        parts.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.writelines(parts)


def load_tensors(path):
    """(name -> float32 or int32 array, metadata) of a file."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        data = file.read()
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[begin:end], TYPES[entry["dtype"]])
        if entry["dtype"] == "BF16":
            values = (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
        elif entry["dtype"] != "I32":
            values = values.astype(np.float32)
        assert values.size == math.prod(entry["shape"]), name
        tensors[name] = values.reshape(entry["shape"])
    return tensors, metadata
