"""The least time of a step: its products at the rates of this device, now.

usage: gpu_floor.py NAME [--device cuda|cpu] [--seconds S]

Times torch.matmul in bf16 for every linear layer of the shape, forward and
towards the input (frozen weights have no gradient), and for the head, each for S
seconds after a warm-up; the least time of a step is their sum, and attention's
operations (the causal half of two products forward and five backward) at the
fastest of these rates. Adapters, norms and everything else count as nothing.
Prints one JSON object.
"""

import argparse
import json
import time

import gpu_shapes
import torch


def linears(config):
    """{(out, in): times} of one layer."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim", hidden // config["num_attention_heads"])
    queries = config["num_attention_heads"] * head
    keys = config["num_key_value_heads"] * head
    counts = {}
    for shape in ((queries, hidden), (keys, hidden), (keys, hidden), (hidden, queries),
                  (inner, hidden), (inner, hidden), (hidden, inner)):
        counts[shape] = counts.get(shape, 0) + 1
    return counts


def attention_operations(config, bench):
    """Of one micro-batch, forward and backward; of packed rows, as if every
    segment had the mean length."""
    head = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
    length = bench.segment or bench.seq
    pairs = bench.batch * bench.seq * length / 2
    return 7 * 2 * pairs * head * config["num_attention_heads"] * config["num_hidden_layers"]


def seconds_of(work, device, least):
    def run_for(limit):
        runs, start = 0, time.perf_counter()
        while True:
            for _ in range(4):
                work()
            runs += 4
            if device == "cuda":
                torch.cuda.synchronize()
            elapsed = time.perf_counter() - start
            if elapsed >= limit:
                return elapsed / runs

    run_for(least / 4)
    return run_for(least)


def measure(bench, device, least):
    config = gpu_shapes.MODELS[bench.model]
    rows = bench.batch * bench.seq
    counts = {shape: times * config["num_hidden_layers"]
              for shape, times in linears(config).items()}
    head = (config["vocab_size"], config["hidden_size"])
    counts[head] = counts.get(head, 0) + 1
    rates, seconds = {}, 0.0
    for (out, into), times in counts.items():
        # The head goes through its rows in parts, or its result would not fit.
        part = min(rows, 4096)
        x = torch.randn(part, into, device=device, dtype=torch.bfloat16)
        w = torch.randn(out, into, device=device, dtype=torch.bfloat16)
        dy = torch.randn(part, out, device=device, dtype=torch.bfloat16)
        for name, work in (("forward", lambda: x @ w.T), ("backward", lambda: dy @ w)):
            took = seconds_of(work, device, least)
            rates[f"{name} {part} x {out} x {into}"] = 2 * part * out * into / took
            seconds += took * times * rows / part
    attention = attention_operations(config, bench) / max(rates.values())
    step = bench.accumulation * (seconds + attention)
    return {"products_seconds": seconds * bench.accumulation,
            "attention_seconds": attention * bench.accumulation,
            "floor_seconds": step, "floor_tokens_per_second": bench.tokens / step,
            "operations_per_second": rates}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(gpu_shapes.BENCHES))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--seconds", type=float, default=0.3)
    options = parser.parse_args()
    bench = gpu_shapes.BENCHES[options.name]
    print(json.dumps(measure(bench, options.device, options.seconds)))


if __name__ == "__main__":
    main()
