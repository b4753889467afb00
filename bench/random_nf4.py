"""A model directory whose linears are random NF4 codes, as bitsandbytes stores
them: a large model for measurements, without its 16-bit weights.

usage: random_nf4.py SHAPE DIR [--fp4] [--plain]

SHAPE is a model of gpu_shapes.py (llama-2-7b, llama-3.1-8b, qwen3-8b, tiny).
Embedding, head and norms are bf16; scales are nested unless --plain. Written
tensor by tensor, so memory stays small. Needs numpy.
"""

import argparse
import json
import os
import sys

import gpu_shapes
import numpy as np

BLOCK, NESTED = 64, 256
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
       -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
       0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
       0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]
FP4 = [0.0, 0.005208333333333333, 0.6666666666666666, 1.0, 0.3333333333333333, 0.5,
       0.16666666666666666, 0.25]
TYPES = {"F32": 4, "BF16": 2, "U8": 1}


def bf16(values):
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def shapes_of(config):
    """Hugging Face name -> shape of a Llama-like model, in file order."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    head = config.get("head_dim") or hidden // heads
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        yield layer + "self_attn.q_proj.weight", (heads * head, hidden)
        yield layer + "self_attn.k_proj.weight", (kv * head, hidden)
        yield layer + "self_attn.v_proj.weight", (kv * head, hidden)
        yield layer + "self_attn.o_proj.weight", (hidden, heads * head)
        if config["model_type"] == "qwen3":
            yield layer + "self_attn.q_norm.weight", (head,)
            yield layer + "self_attn.k_norm.weight", (head,)
        yield layer + "mlp.gate_proj.weight", (inner, hidden)
        yield layer + "mlp.up_proj.weight", (inner, hidden)
        yield layer + "mlp.down_proj.weight", (hidden, inner)
        yield layer + "input_layernorm.weight", (hidden,)
        yield layer + "post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    if not config.get("tie_word_embeddings"):
        yield "lm_head.weight", (config["vocab_size"], hidden)


def quant_state(kind, shape, nested):
    state = {"quant_type": kind, "blocksize": BLOCK, "dtype": "bfloat16", "shape": list(shape)}
    if nested:
        state |= {"nested_blocksize": NESTED, "nested_dtype": "float32", "nested_offset": 0.02}
    return np.frombuffer(json.dumps(state).encode(), np.uint8)


def parts_of(name, shape, kind, nested, random):
    """(name, type, shape, function that makes the bytes) of one weight."""
    if len(shape) == 1:
        yield name, "BF16", shape, lambda: bf16(np.ones(shape))
        return
    if "_proj" not in name:
        yield name, "BF16", shape, lambda: bf16(random.standard_normal(shape, np.float32) * 0.02)
        return
    count = shape[0] * shape[1]
    blocks = -(-count // BLOCK)
    groups = -(-blocks // NESTED)
    yield name, "U8", ((count + 1) // 2, 1), lambda: random.integers(
        0, 256, (count + 1) // 2, np.uint8)
    table = NF4 if kind == "nf4" else FP4 + [-x for x in FP4]
    if nested:
        # A dynamic map of bitsandbytes has other numbers; the file says which.
        yield name + ".absmax", "U8", (blocks,), lambda: random.integers(0, 256, blocks, np.uint8)
        yield name + ".nested_absmax", "F32", (groups,), lambda: np.full(groups, 0.01, np.float32)
        yield name + ".nested_quant_map", "F32", (256,), lambda: np.linspace(
            -1, 1, 256, dtype=np.float32)
    else:
        yield name + ".absmax", "F32", (blocks,), lambda: np.full(blocks, 0.02, np.float32)
    yield name + ".quant_map", "F32", (16,), lambda: np.array(table, np.float32)
    state = quant_state(kind, shape, nested)
    yield f"{name}.quant_state.bitsandbytes__{kind}", "U8", state.shape, lambda: state


def write(directory, config, kind, nested):
    random = np.random.default_rng(0)
    parts = [part for name, shape in shapes_of(config)
             for part in parts_of(name, shape, kind, nested, random)]
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, type_, shape, _ in parts:
        size = int(np.prod(shape)) * TYPES[type_]
        header[name] = {"dtype": type_, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(directory, exist_ok=True)
    path = f"{directory}/model.safetensors"
    with open(path + ".new", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, _, _, make in parts:
            file.write(np.ascontiguousarray(make()).tobytes())
    os.replace(path + ".new", path)
    config = config | {"quantization_config": {
        "quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False,
        "bnb_4bit_quant_type": kind, "bnb_4bit_use_double_quant": nested,
        "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_quant_storage": "uint8"}}
    with open(f"{directory}/config.json", "w") as file:
        json.dump(config, file, indent=2)
    return offset


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("shape", choices=sorted(gpu_shapes.MODELS))
    parser.add_argument("directory")
    parser.add_argument("--fp4", action="store_true", help="FP4 instead of NF4")
    parser.add_argument("--plain", action="store_true", help="scales in f32")
    flags = parser.parse_args()
    size = write(flags.directory, gpu_shapes.MODELS[flags.shape],
                 "fp4" if flags.fp4 else "nf4", not flags.plain)
    print(f"{flags.directory}: {size / 2**30:.2f} GiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
