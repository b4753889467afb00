"""Makes expected/adamw8bit.safetensors: five steps of bitsandbytes' AdamW8bit on
the CPU, which test/conformance/Adamw8bitTest.cpp repeats.

usage: make_adamw8bit.py [--out DIR]

Parameter and gradients are those of `uniform` in test/conformance/Suite.cpp, so
the file holds only what came out: the parameter, both moments' codes and the
magnitudes of their blocks.
"""

import argparse
import os
import sys

import bitsandbytes
import numpy as np
import tensor_file
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
ROWS, COLUMNS, STEPS = 40, 125, 5  # 20 blocks, the last one short


def uniform(seed):
    with np.errstate(over="ignore"):
        index = np.arange(ROWS * COLUMNS, dtype=np.uint64)
        x = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + index + np.uint64(1)
        x *= np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ x >> np.uint64(30)) * np.uint64(0x94D049BB133111EB)
        x = (x ^ x >> np.uint64(27)) * np.uint64(0xBF58476D1CE4E5B9)
        x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1


def tensor(values):
    return torch.from_numpy(values.astype(np.float32).reshape(ROWS, COLUMNS))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default=os.path.join(HERE, "expected"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    parameter = torch.nn.Parameter(tensor(uniform(1)))
    optimizer = bitsandbytes.optim.AdamW8bit(
        [parameter], lr=3e-3, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.1
    )
    spread = uniform(2) * uniform(2)  # gradients of many magnitudes
    for step in range(STEPS):
        parameter.grad = tensor(uniform(10 + step) * spread * spread)
        optimizer.step()
    state = optimizer.state[parameter]
    tensors = {
        "parameter": parameter.detach().numpy(),
        "first_moment": state["state1"].numpy(),
        "second_moment": state["state2"].numpy(),
        "first_scale": state["absmax1"].numpy(),
        "second_scale": state["absmax2"].numpy(),
    }
    path = os.path.join(options.out, "adamw8bit.safetensors")
    versions = f"bitsandbytes {bitsandbytes.__version__}, torch {torch.__version__}"
    tensor_file.save_tensors(path, tensors, metadata={"versions": versions})
    print(f"{path}: {os.path.getsize(path)} bytes, {versions}")


if __name__ == "__main__":
    sys.exit(main())
