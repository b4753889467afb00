"""How long quantizing a model takes, from a warm page cache.

usage: quantize.py --bin DIR [--weights 1.0] [--base nf4] [--runs 3]

Writes a bf16 model of that many billion weights into a temporary directory
(about 2 GB a billion; --directory chooses where), compiles a plan with nested
scales, reads the file once, and starts `peft-run --check --no-cache` and then,
twice, with a cache. Prints the seconds that peft-run says it quantized for, the
best of the runs, and the time to a bound plan with a warm cache.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time

import numpy as np

HIDDEN, INNER, VOCAB = 2048, 5632, 1024


def tensor_shapes(layers):
    shapes = {"model.embed_tokens.weight": (VOCAB, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        for name, out, into in (
            ("self_attn.q_proj", HIDDEN, HIDDEN),
            ("self_attn.k_proj", HIDDEN // 4, HIDDEN),
            ("self_attn.v_proj", HIDDEN // 4, HIDDEN),
            ("self_attn.o_proj", HIDDEN, HIDDEN),
            ("mlp.gate_proj", INNER, HIDDEN),
            ("mlp.up_proj", INNER, HIDDEN),
            ("mlp.down_proj", HIDDEN, INNER),
        ):
            shapes[f"{at}{name}.weight"] = (out, into)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{at}{name}.weight"] = (HIDDEN,)
    return shapes


def write_model(directory, billions):
    """Gaussian weights, the same 16 million over and over."""
    layer = sum(int(np.prod(s)) for n, s in tensor_shapes(1).items() if "layers" in n)
    layers = max(1, round(billions * 1e9 / layer))
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": VOCAB,
        "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": layers,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
    }
    with open(f"{directory}/config.json", "w") as file:
        json.dump(config, file)
    weights = np.random.default_rng(0).standard_normal(1 << 24, np.float32) * np.float32(0.02)
    pool = (weights.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    header, offset = {}, 0
    for name, shape in tensor_shapes(layers).items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(f"{directory}/model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        while offset:
            size = min(offset, len(pool))
            file.write(pool[:size])
            offset -= size


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--weights", type=float, default=1.0)
    parser.add_argument("--base", choices=["nf4", "fp4", "int8"], default="nf4")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--directory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as root:
        os.mkdir(f"{root}/model")
        write_model(f"{root}/model", options.weights)
        flags = ["--base", options.base] + (["--double-quant"] if options.base != "int8" else [])
        subprocess.run([f"{options.bin}/peftc", "compile", f"{root}/model", "--seq", "32",
                        "--batch", "1", "--lora-rank", "4", *flags, "-o", f"{root}/step.plan",
                        "--quiet"], check=True)
        with open(f"{root}/model/model.safetensors", "rb") as file:
            while file.read(1 << 26):
                pass

        def start(*more):
            """(seconds of the whole start, what was printed)"""
            begin = time.monotonic()
            done = subprocess.run(
                [f"{options.bin}/peft-run", f"{root}/step.plan", "--model", f"{root}/model",
                 "--check", *more], capture_output=True, text=True,
                env={**os.environ, "XDG_CACHE_HOME": f"{root}/cache"})
            if done.returncode != 0:
                sys.exit(f"quantize: {done.args[0]} ended with {done.returncode}:\n"
                         f"{done.stdout}{done.stderr}")
            return time.monotonic() - begin, done.stdout

        seconds = []
        for _ in range(options.runs):
            found = re.search(r"([\d.]+) M weights to (.*) in ([\d.]+) s", start("--no-cache")[1])
            seconds.append(float(found[3]))
        print(f"{float(found[1]) / 1e3:.2f} billion weights, bf16 to {found[2]}: best of"
              f" {options.runs} runs {min(seconds):.2f} s, all {seconds}")
        first, second = start()[0], start()[0]
        print(f"start and one step, quantizing into the cache: {first:.2f} s; from it:"
              f" {second:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
