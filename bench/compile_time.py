"""How long `peftc compile` takes from a config alone, on one core.

usage: compile_time.py --bin DIR [--rounds N]

A 32-layer model of 7B's shape (limit 0.5 s) and an 80-layer one of 70B's (limit
1.0 s); the whole process, best of some rounds, pinned to one core. Fails if a
limit is passed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

BASE = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 32000,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
MODELS = {
    "7B shape, 32 layers": (
        0.5,
        {
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
        },
    ),
    "70B shape, 80 layers": (
        1.0,
        {
            "hidden_size": 8192,
            "intermediate_size": 28672,
            "num_hidden_layers": 80,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
        },
    ),
}


def compile_once(binaries, config, plan):
    begin = time.perf_counter()
    subprocess.run(
        [f"{binaries}/peftc", "compile", config, "--lora-rank", "16"]
        + ["--batch", "1", "--seq", "2048", "-o", plan],
        check=True,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(
            0, {min(os.sched_getaffinity(0))}
        ),
    )
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bin", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    slow = 0
    print("| model | seconds | limit | plan KiB |\n| --- | --: | --: | --: |")
    with tempfile.TemporaryDirectory() as directory:
        config, plan = f"{directory}/config.json", f"{directory}/step.plan"
        for name, (limit, fields) in MODELS.items():
            with open(config, "w") as file:
                json.dump({**BASE, **fields}, file)
            took = min(
                compile_once(options.bin, config, plan)
                for _ in range(options.rounds)
            )
            size = os.path.getsize(plan) // 1024
            print(f"| {name} | {took:.3f} | {limit} | {size} |")
            slow += took > limit
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
