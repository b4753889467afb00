"""Writes a tiny llama directory (config.json, model.safetensors), all zeros.

    make_model.py DIR [--config KEY=JSON] [--drop NAME] [--add NAME=SHAPE]
                  [--shape NAME=SHAPE] [--type NAME=TYPE] [--gemma3]

With --gemma3 it is the text model of a gemma3 with images, in the names of
transformers before 4.52, and two tensors beside it. SHAPE is 8x8. Standard library only: the format is written by hand, so that a
header may lie.
"""

import argparse
import json
import math
import os
import struct

BYTES = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "I8": 1, "I32": 4}


def tensors():
    yield "model.embed_tokens.weight", [16, 8]
    layer = "model.layers.0."
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield layer + name + ".weight", [8]
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        yield layer + "self_attn." + name + ".weight", [8, 8]
    yield layer + "mlp.gate_proj.weight", [12, 8]
    yield layer + "mlp.up_proj.weight", [12, 8]
    yield layer + "mlp.down_proj.weight", [8, 12]
    yield "model.norm.weight", [8]
    yield "lm_head.weight", [16, 8]


def gemma3():
    """(config, shapes) of a model inside another."""
    config = {
        "model_type": "gemma3",
        "text_config": {
            "vocab_size": 16,
            "hidden_size": 8,
            "intermediate_size": 12,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 4,
        },
    }
    shapes = {
        "language_model." + name: shape
        for name, shape in tensors()
        if name != "lm_head.weight"
    }
    layer = "language_model.model.layers.0."
    for name in ("pre_feedforward_layernorm", "post_feedforward_layernorm"):
        shapes[layer + name + ".weight"] = [8]
    for name in ("q_norm", "k_norm"):
        shapes[layer + "self_attn." + name + ".weight"] = [4]
    shapes["vision_tower.vision_model.post_layernorm.weight"] = [5]
    shapes["multi_modal_projector.mm_soft_emb_norm.weight"] = [5]
    return config, shapes


def shape_of(text):
    return [int(extent) for extent in text.split("x")]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    for flag in ("config", "drop", "add", "shape", "type"):
        parser.add_argument("--" + flag, action="append", default=[])
    parser.add_argument("--gemma3", action="store_true")
    arguments = parser.parse_args()

    config = {
        "model_type": "llama",
        "vocab_size": 16,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    shapes = dict(tensors())
    if arguments.gemma3:
        config, shapes = gemma3()
    config.update(
        (key, json.loads(value))
        for key, value in (pair.split("=", 1) for pair in arguments.config)
    )
    for pair in arguments.add + arguments.shape:
        name, shape = pair.split("=")
        shapes[name] = shape_of(shape)
    for name in arguments.drop:
        del shapes[name]
    types = dict(pair.split("=") for pair in arguments.type)

    header, offset = {}, 0
    for name, shape in shapes.items():
        dtype = types.get(name, "BF16")
        size = math.prod(shape) * BYTES[dtype]
        header[name] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header).encode()
    os.makedirs(arguments.directory, exist_ok=True)
    with open(os.path.join(arguments.directory, "config.json"), "w") as file:
        json.dump(config, file)
    path = os.path.join(arguments.directory, "model.safetensors")
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + bytes(offset))


if __name__ == "__main__":
    main()
