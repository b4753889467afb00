"""Weights in bitsandbytes' formats, with numpy alone: what tests need of them.

Codes are the nearest ones; bitsandbytes' own differ where two are equally near.
"""

import json

import numpy as np

NF4 = np.array([-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
                -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0,
                0.07958029955625534, 0.16093020141124725, 0.24611230194568634,
                0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
                0.7229568362236023, 1], np.float32)


def nf4_nested(name, values, tensors):
    """As nf4, with scales that are quantized themselves."""
    return nf4(name, values, tensors, nested=True)


def nest(name, absmax, tensors, state):
    """Replaces the scales by codes of 8 bits; the scales those stand for."""
    offset = absmax.mean(dtype=np.float32)
    table = np.linspace(-1, 1, 256, dtype=np.float32)
    padded = np.resize(absmax - offset, -(-absmax.size // 256) * 256).reshape(-1, 256)
    most = np.abs(padded).max(axis=1).astype(np.float32)
    codes = np.abs(padded[..., None] / most[:, None, None] - table).argmin(axis=-1)
    tensors[f"{name}.absmax"] = ("U8", codes.ravel()[: absmax.size].astype(np.uint8))
    tensors[f"{name}.nested_absmax"] = ("F32", most)
    tensors[f"{name}.nested_quant_map"] = ("F32", table)
    state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": float(offset)}
    return (table[codes] * most[:, None]).ravel()[: absmax.size] + offset


def nf4(name, values, tensors, nested=False):
    """Adds the tensors of bitsandbytes' format; the values they stand for."""
    flat = values.ravel()
    blocks = np.resize(flat, -(-flat.size // 64) * 64).reshape(-1, 64)
    absmax = np.abs(blocks).max(axis=1).astype(np.float32)
    codes = np.abs(blocks[..., None] / absmax[:, None, None] - NF4).argmin(axis=-1)
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16",
             "shape": list(values.shape)}
    tensors[f"{name}.absmax"] = ("F32", absmax)
    if nested:
        absmax = nest(name, absmax, tensors, state)
    kept = (NF4[codes] * absmax[:, None]).ravel()[: flat.size].reshape(values.shape)
    codes = codes.ravel()[: flat.size].astype(np.uint8)
    tensors[name] = ("U8", (codes[0::2] << 4 | codes[1::2]).reshape(-1, 1))
    tensors[f"{name}.quant_map"] = ("F32", NF4)
    text = np.frombuffer(json.dumps(state).encode(), np.uint8)
    tensors[f"{name}.quant_state.bitsandbytes__nf4"] = ("U8", text)
    return kept


def int8(name, values, tensors):
    scales = np.abs(values).max(axis=1).astype(np.float32)
    codes = np.rint(values * (127 / scales[:, None])).astype(np.int8)
    tensors[name] = ("I8", codes)
    tensors[name.removesuffix("weight") + "SCB"] = ("F32", scales)
    return codes * scales[:, None] * np.float32(1 / 127)


def save(path, tensors):
    """name -> (type of safetensors, array)"""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, values) in tensors.items():
        begin = len(data)
        data += np.ascontiguousarray(values).tobytes()
        header[name] = {"dtype": dtype, "shape": list(values.shape),
                        "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + data)
