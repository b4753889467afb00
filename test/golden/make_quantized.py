"""Writes test/golden/quantized.safetensors: weights, and what bitsandbytes makes
of them on a CPU. Read by test/unit/QuantizeTest.cpp.

usage: make_quantized.py     (needs python/requirements-peers.txt)
"""

import os

import bitsandbytes.functional as functional
import torch
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def some_weights(generator, count):
    """Gaussian, a stretch of zeros, one of denormals, one that is tiny."""
    weights = torch.randn(count, generator=generator)
    weights[128:256] = 0
    weights[256:320] *= 1e-40
    weights[320:448] *= 1e-6
    return weights


def main():
    generator = torch.Generator().manual_seed(5)
    tensors = {}
    for name, dtype in TYPES.items():
        weights = some_weights(generator, 4096 + 331).to(dtype)
        tensors[name] = weights
        for kind in ("nf4", "fp4"):
            for block in (32, 64, 4096):
                codes, state = functional.quantize_4bit(weights, blocksize=block, quant_type=kind)
                tensors[f"{name}.{kind}.{block}.codes"] = codes.view(-1)
                tensors[f"{name}.{kind}.{block}.absmax"] = state.absmax
        rows = torch.randn(12, 67, generator=generator).to(dtype)
        rows[3] = 0
        codes, absmax, _ = functional.int8_vectorwise_quant(rows)
        tensors |= {f"{name}.rows": rows, f"{name}.rows.codes": codes, f"{name}.rows.absmax": absmax}
    weights = torch.randn(64 * 700, generator=generator)
    plain = functional.quantize_4bit(weights, quant_type="nf4")[1]
    nested = functional.quantize_4bit(weights, quant_type="nf4", compress_statistics=True)[1]
    tensors |= {
        "scales": plain.absmax,
        "scales.codes": nested.absmax,
        "scales.absmax": nested.state2.absmax,
        "scales.offset": nested.offset.reshape(1),
    }
    path = os.path.join(HERE, "quantized.safetensors")
    save_file(tensors, path)
    os.chmod(path, 0o644)


if __name__ == "__main__":
    main()
