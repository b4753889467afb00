"""Random tokens for one shape of gpu_shapes.py, all of them trained.

usage: gpu_tokens.py NAME ROWS FILE.safetensors

Packed shapes have segments of half to one and a half times the mean length,
with positions that start anew. Needs numpy and safetensors.
"""

import sys

import gpu_shapes
import numpy as np
from safetensors.numpy import save_file


def segments_of(seq, mean, random):
    """Segment numbers and positions of one row."""
    numbers, positions = np.zeros(seq, np.int32), np.zeros(seq, np.int32)
    at = number = 0
    while at < seq:
        length = min(int(random.integers(mean // 2, mean + mean // 2)), seq - at)
        numbers[at:at + length] = number
        positions[at:at + length] = np.arange(length)
        at, number = at + length, number + 1
    return numbers, positions


def main(arguments):
    if len(arguments) != 3 or arguments[0] not in gpu_shapes.BENCHES:
        print(__doc__, file=sys.stderr)
        return 64
    bench = gpu_shapes.BENCHES[arguments[0]]
    rows, vocab = int(arguments[1]), gpu_shapes.MODELS[bench.model]["vocab_size"]
    random = np.random.default_rng(0)
    ids = random.integers(0, vocab, (rows, bench.seq), dtype=np.int32)
    tensors = {"input_ids": ids, "labels": ids.copy()}
    if bench.segment:
        made = [segments_of(bench.seq, bench.segment, random) for _ in range(rows)]
        tensors["segment_ids"] = np.stack([numbers for numbers, _ in made])
        tensors["position_ids"] = np.stack([positions for _, positions in made])
    save_file(tensors, arguments[2])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
