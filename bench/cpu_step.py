"""One LoRA training step: peft-run beside PyTorch + PEFT, on this CPU.

usage: cpu_step.py --bin DIR --smollm2 DIR [--quick] [-o FILE.json] [--base nf4]
       [--only NAME] [--compute bf16|f32] [--threads N] [--isa ISA] [--alone]
       [--rounds N] [--steps N]

Same weights, same adapter, same tokens (all of them trained), rank 16 on all
linear layers, AdamW, clipping. Each round runs one process of PyTorch and one of
peft-run, in turn, so that a machine that slows down slows both; the figure is
the median over all steps but each process's first two. PyTorch runs bf16 as
people do: bf16 weights under autocast, SDPA attention. Where the chip has AMX,
oneDNN uses it; --isa AVX512_CORE_BF16 sets ONEDNN_MAX_CPU_ISA to measure
without. Prints a markdown table and writes one JSON object per run.

--base nf4 quantizes the same weights on both sides, with nested scales, PyTorch
through bitsandbytes; each round then also runs the plan of the weights as they
are, and the last column is the NF4 step's time over that one's. --alone leaves
PyTorch's steps out: without AVX-512, its bf16 steps take minutes.
"""

import argparse
import datetime
import json
import os
import statistics
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "test", "golden"))
import models  # noqa: E402
import numpy as np  # noqa: E402
import tensor_file  # noqa: E402

WARM = 2  # steps of a process that are not counted
RANK = 16

SLICE = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 4,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "vocab_size": 32000,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}

# name -> (model, batch, seq)
SHAPES = {
    "smollm2-1x256": ("smollm2", 1, 256),
    "smollm2-4x256": ("smollm2", 4, 256),
    "slice-1x256": ("slice", 1, 256),
}


def measure(command, environment):
    """(stdout, peak resident bytes) of a process; fails with its stderr."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        child = os.posix_spawn(
            command[0],
            command,
            {**os.environ, **environment},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, out.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, error.fileno(), 2),
            ],
        )
        _, status, usage = os.wait4(child, 0)
        out.seek(0)
        error.seek(0)
        text = out.read().decode()
        if status != 0:
            sys.exit(
                f"cpu_step: {' '.join(command[:3])} ended with"
                f" {os.waitstatus_to_exitcode(status)}:\n"
                + (text + error.read().decode())[-2000:]
            )
    return text, usage.ru_maxrss * 1024


def write_slice(directory):
    """Made in a process of its own: the peak memory that a child is charged
    with starts at that of the parent which spawned it."""
    child = os.fork()
    if child == 0:
        case = {"config": SLICE, "stored": "bf16", "shards": 1}
        models.write_model(case, directory)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit("cpu_step: the slice's weights could not be written")


def chip():
    with open("/proc/cpuinfo") as file:
        lines = dict(
            line.split(":", 1) for line in file if ":" in line
        )
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    flags = set(fields["flags"].split())
    known = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")
    return fields["model name"], [flag for flag in known if flag in flags]


class Run:
    """One row of the table: a shape, a compute type, a number of threads."""

    def __init__(self, options, directory, name, compute, threads):
        self.options, self.name = options, name
        self.compute, self.threads = compute, threads
        self.model_name, self.batch, self.seq = SHAPES[name]
        self.model = (
            options.smollm2
            if self.model_name == "smollm2"
            else f"{directory}/slice"
        )
        self.base = ["--base", options.base, "--double-quant"] if options.base else []
        self.work = f"{directory}/{name}-{compute}"
        self.cache = {"XDG_CACHE_HOME": f"{self.work}/cache"}
        os.makedirs(self.work, exist_ok=True)

    def prepare(self, steps):
        """Token file, initial adapter and plan, once per shape and type."""
        if os.path.exists(f"{self.work}/step.plan"):
            return
        with open(f"{self.model}/config.json") as file:
            vocab = json.load(file)["vocab_size"]
        count = steps * self.batch * self.seq
        ids = models.integers(self.name, count) % np.uint64(vocab)
        ids = ids.astype(np.int32).reshape(-1, self.seq)
        tokens = {"input_ids": ids, "labels": ids}
        tensor_file.save_tensors(f"{self.work}/data.safetensors", tokens)
        measure(
            self.worker("--make-adapter"), {"TRANSFORMERS_VERBOSITY": "error"}
        )
        plans = {"step": self.base, **({"plain": []} if self.base else {})}
        for plan, base in plans.items():
            measure(
                [f"{self.options.bin}/peftc", "compile", self.model, *base]
                + ["--adapter", f"{self.work}/adapter/adapter_config.json"]
                + ["--batch", str(self.batch), "--seq", str(self.seq)]
                + ["--compute", self.compute, "-o", f"{self.work}/{plan}.plan"],
                {},
            )

    def worker(self, *flags):
        script = os.path.join(HERE, "torch_step.py")
        return [
            sys.executable, script, "--model", self.model, "--work", self.work,
            "--batch", str(self.batch), "--compute", self.compute,
            "--threads", str(self.threads), *self.base, *flags,
        ]

    def torch_steps(self, steps):
        environment = {
            "OMP_NUM_THREADS": str(self.threads),
            "TRANSFORMERS_VERBOSITY": "error",
        }
        if self.options.isa:
            environment["ONEDNN_MAX_CPU_ISA"] = self.options.isa
        text, resident = measure(
            self.worker("--steps", str(steps)), environment
        )
        result = json.loads(text.splitlines()[-1])
        return result["seconds"], result["loss"], resident

    def our_command(self, steps, plan="step"):
        return (
            [f"{self.options.bin}/peft-run", f"{self.work}/{plan}.plan"]
            + ["--model", self.model, "-o", f"{self.work}/out"]
            + ["--data", f"{self.work}/data.safetensors", "--no-shuffle"]
            + ["--init-adapter", f"{self.work}/adapter", "--quiet"]
            + ["--steps", str(steps), "--lr", "1e-4", "--schedule", "constant"]
            + ["--threads", str(self.threads)]
        )

    def step_over_kernels(self, steps):
        """A step's time over that of its GEMM and attention launches alone,
        replayed in the same process."""
        text, _ = measure(
            self.our_command(steps) + ["--profile", "--json"], self.cache
        )
        summary = json.loads(text[text.index("{") :])
        return summary["step_seconds"] / summary["core_seconds"]

    def our_steps(self, steps, plan="step"):
        _, resident = measure(self.our_command(steps, plan), self.cache)
        with open(f"{self.work}/out/metrics.jsonl") as file:
            lines = [json.loads(line) for line in file]
        seconds = [line["step_seconds"] for line in lines]
        return seconds, [line["loss"] for line in lines], resident

    def measure(self, rounds, steps):
        self.prepare(steps)
        sides = {"torch": self.torch_steps, "peft-run": self.our_steps}
        if self.options.alone:
            del sides["torch"]
        if self.base:
            sides["plain"] = lambda steps: self.our_steps(steps, "plain")
        seconds = {who: [] for who in sides}
        resident = dict.fromkeys(sides, 0)
        losses = {}
        for _ in range(rounds):
            for who, run in sides.items():
                took, losses[who], peak = run(steps)
                seconds[who] += took[WARM:]
                resident[who] = max(resident[who], peak)
        apart = max(
            (
                abs(ours - theirs) / abs(theirs)
                for ours, theirs in zip(losses["peft-run"], losses.get("torch", []))
            ),
            default=None,
        )
        median = {who: statistics.median(took) for who, took in seconds.items()}
        result = {
            "shape": self.name,
            "compute": self.compute,
            "threads": self.threads,
            "isa_of_torch": self.options.isa or "all of the chip's",
            "torch_seconds": median.get("torch"),
            "peft_run_seconds": median["peft-run"],
            "ratio": median["torch"] / median["peft-run"] if "torch" in median else None,
            "torch_resident": resident.get("torch"),
            "peft_run_resident": resident["peft-run"],
            "losses_apart": apart,
            "step_over_kernels": self.step_over_kernels(steps),
            "all_seconds": seconds,
        }
        if self.base:
            result["over_plain"] = median["peft-run"] / median["plain"]
        return result


def table_row(result):
    columns = [
        ("torch_seconds", "{:.3f}", 1),
        ("peft_run_seconds", "{:.3f}", 1),
        ("ratio", "{:.2f}", 1),
        ("torch_resident", "{:.2f}", 1024**3),
        ("peft_run_resident", "{:.2f}", 1024**3),
        ("losses_apart", "{:.1e}", 1),
        ("step_over_kernels", "{:.2f}", 1),
        ("over_plain", "{:.3f}", 1),
    ]
    cells = [result["shape"], result["compute"], str(result["threads"])]
    for name, form, unit in columns:
        if name in result:
            value = result[name]
            cells.append("-" if value is None else form.format(value / unit))
    return f"| {' | '.join(cells)} |"


def header(base):
    first, second = HEADER.split("\n")
    return f"{first} step / not quantized |\n{second} --: |" if base else HEADER


HEADER = """| shape | compute | threads | PyTorch + PEFT s/step | peft-run s/step \
| ratio | PyTorch peak GiB | peft-run peak GiB | losses apart \
| step / its GEMM and attention |
| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: |"""


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bin", required=True)
    parser.add_argument("--smollm2", required=True, metavar="DIR")
    parser.add_argument("-o", dest="output", metavar="FILE.json")
    parser.add_argument("--only", choices=list(SHAPES))
    parser.add_argument("--compute", choices=["bf16", "f32"])
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--base", choices=["nf4", "fp4"])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--isa")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.steps = 1, WARM + 2
        options.only = options.only or "smollm2-1x256"
    return options


def main():
    options = parse()
    name, flags = chip()
    print(
        f"{name} ({', '.join(flags)}), {os.cpu_count()} cores,"
        f" {datetime.date.today()}; torch uses"
        f" {options.isa or 'every instruction set it finds'}\n\n{header(options.base)}",
        flush=True,
    )
    results = []
    with tempfile.TemporaryDirectory() as directory:
        shapes = [options.only] if options.only else list(SHAPES)
        if any(SHAPES[shape][0] == "slice" for shape in shapes):
            write_slice(f"{directory}/slice")
        for shape in shapes:
            for compute in [options.compute] if options.compute else ["bf16", "f32"]:
                for threads in [options.threads] if options.threads else [1, 2]:
                    run = Run(options, directory, shape, compute, threads)
                    result = run.measure(options.rounds, options.steps)
                    results.append(result)
                    print(table_row(result), flush=True)
    if options.output:
        about = {"machine": name, "flags": flags, "results": results}
        about["date"] = datetime.datetime.now().isoformat(timespec="seconds")
        with open(options.output, "w") as file:
            json.dump(about, file, indent=1)


if __name__ == "__main__":
    main()
