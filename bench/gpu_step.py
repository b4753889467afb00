"""LoRA training steps on a GPU: peft-run beside PyTorch + PEFT, in turn.

usage: gpu_step.py --bin DIR --plans DIR --work DIR -o FILE.json NAME...
       [--device cuda|cpu] [--variants LIST] [--steps N] [--rounds N]
       [--seconds LIMIT] [--keep]

NAME is one of gpu_shapes.py. For each: random weights (made once per model and
deleted after its last NAME, unless --keep), random tokens, all of them trained;
then processes in turn, each with the same weights, adapter and tokens:

  checkpointing  PyTorch + PEFT, bf16 weights under autocast, SDPA attention,
                 gradient checkpointing
  plain          the same without checkpointing
  compile        the same as plain, with torch.compile
  peft-run       DIR/NAME/step.plan of --plans

A figure is the median over all steps but each process's first two. Memory is the
peak that nvidia-smi saw over what was in use before, every 100 ms, and what each
says of itself. "floor" is gpu_floor.py's least time of a step, measured in the
same run; "idle" is the part of an untraced step in which no kernel of --trace
would have run: at least that much, because events around a short launch make it
look longer. What fails (out of memory, for one) is recorded and the others go
on; LIMIT ends the rounds early. --device cpu tries all of it without a GPU.
Exit 0: peft-run was measured for every NAME (without it in LIST: something); 1:
not.
"""

import argparse
import contextlib
import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time

import gpu_shapes

HERE = os.path.dirname(os.path.abspath(__file__))
WARM = 2  # steps of a process that are not counted
VARIANTS = ("checkpointing", "plain", "compile", "peft-run")


class Failed(Exception):
    """A process ended badly; the text is its last line."""


class MemoryWatch:
    """The most memory of card 0 in use, as nvidia-smi sees it; None without."""

    def __init__(self, device):
        self.peak = self.before = None
        self.process = None
        if device != "cuda" or not shutil.which("nvidia-smi"):
            return
        query = ["nvidia-smi", "-i", "0", "--query-gpu=memory.used",
                 "--format=csv,noheader,nounits"]
        self.before = int(subprocess.run(query, capture_output=True, text=True).stdout)
        self.process = subprocess.Popen([*query, "-lms", "100"], text=True,
                                        stdout=subprocess.PIPE)
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):
                self.peak = max(self.peak or 0, int(line))

    def stop(self):
        """Bytes above what was in use before."""
        if not self.process:
            return None
        self.process.terminate()
        self.process.wait()
        self.thread.join()
        return None if self.peak is None else (self.peak - self.before) << 20


class Measurement:
    """One NAME: its files and what was measured."""

    def __init__(self, options, name, deadline):
        self.options, self.name, self.deadline = options, name, deadline
        self.bench = gpu_shapes.BENCHES[name]
        self.model = f"{options.work}/{self.bench.model}"
        self.work = f"{options.work}/{name}"
        self.runs = {}

    def run(self, command):
        """(stdout, peak bytes of the card) of a process."""
        left = self.deadline - time.monotonic()
        if left < 5:
            raise Failed("no time is left")
        watch = MemoryWatch(self.options.device)
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=left,
                env={**os.environ, "TRANSFORMERS_VERBOSITY": "error",
                     "HF_HUB_OFFLINE": "1"})
        except subprocess.TimeoutExpired:
            raise Failed("stopped: no time was left") from None
        except OSError as error:
            raise Failed(str(error)) from None
        finally:
            peak = watch.stop()
        if done.returncode != 0:
            lines = (done.stdout + done.stderr).strip().splitlines()
            said = [line for line in lines if "rror" in line] or lines or [""]
            raise Failed(f"exit {done.returncode}: {said[-1][:400]}")
        return done.stdout, peak

    def prepare(self):
        os.makedirs(self.work, exist_ok=True)
        self.run([sys.executable, f"{HERE}/gpu_weights.py", self.name, self.model,
                  f"{self.work}/adapter"])
        rows = self.options.steps * self.bench.batch * self.bench.accumulation
        self.run([sys.executable, f"{HERE}/gpu_tokens.py", self.name, str(rows),
                  f"{self.work}/data.safetensors"])

    def torch(self, *flags):
        bench = self.bench
        text, peak = self.run([
            sys.executable, f"{HERE}/torch_step.py", "--model", self.model,
            "--work", self.work, "--batch", str(bench.batch), "--compute", bench.compute,
            "--accumulation", str(bench.accumulation), "--device", self.options.device,
            "--steps", str(self.options.steps), *flags])
        result = json.loads(text.splitlines()[-1])
        own = {key: result[key] for key in ("allocated", "reserved") if key in result}
        return result["seconds"], result["loss"], peak, own

    def ours(self):
        bench, out = self.bench, f"{self.work}/out"
        text, peak = self.run([
            f"{self.options.bin}/peft-run", f"{self.options.plans}/{self.name}/step.plan",
            "--model", self.model, "--data", f"{self.work}/data.safetensors", "-o", out,
            "--init-adapter", f"{self.work}/adapter", "--no-shuffle", "--quiet", "--json",
            "--steps", str(self.options.steps), "--grad-accum", str(bench.accumulation),
            "--lr", "1e-4", "--schedule", "constant", "--device", self.options.device,
            "--trace", f"{self.work}/trace.json"])
        with open(f"{out}/metrics.jsonl") as file:
            lines = [json.loads(line) for line in file]
        summary = json.loads(text[text.index("{"):])
        own = {"arena": summary["arena_bytes"]}
        return ([line["step_seconds"] for line in lines],
                [line["loss"] for line in lines], peak, own)

    def measure_once(self, variant):
        flags = {"checkpointing": ["--checkpointing"], "plain": [], "compile": ["--compile"]}
        row = self.runs.setdefault(variant, {"seconds": [], "peak_bytes": None})
        try:
            seconds, losses, peak, own = (
                self.ours() if variant == "peft-run" else self.torch(*flags[variant]))
        except Failed as failure:
            row["error"] = str(failure)
            print(f"{self.name}: {variant}: {failure}", flush=True)
            return
        row["seconds"] += seconds[WARM:]
        row["losses"], row["own_bytes"] = losses, own
        row["peak_bytes"] = max(filter(None, (row["peak_bytes"], peak)), default=None)
        print(f"{self.name}: {variant}: {statistics.median(seconds[WARM:]):.4f} s a step",
              flush=True)

    def measure(self):
        result = {"name": self.name, "model": self.bench.model, "batch": self.bench.batch,
                  "seq": self.bench.seq, "accumulation": self.bench.accumulation,
                  "segment": self.bench.segment, "compute": self.bench.compute}
        try:
            self.prepare()
        except Failed as failure:
            return {**result, "error": f"preparing: {failure}"}
        wanted = [variant for variant in self.options.variants
                  if self.bench.torch or variant == "peft-run"]
        for _ in range(self.options.rounds):
            for variant in wanted:
                if time.monotonic() < self.deadline:
                    self.measure_once(variant)
        try:
            text, _ = self.run([sys.executable, f"{HERE}/gpu_floor.py", self.name,
                                "--device", self.options.device])
            result["floor"] = json.loads(text)
        except Failed as failure:
            result["floor"] = {"error": str(failure)}
        return {**result, **self.summary(result["floor"]), "runs": self.runs}

    def summary(self, floor):
        median = {}
        for variant, row in self.runs.items():
            if row["seconds"]:
                median[variant] = statistics.median(row["seconds"])
                row["step_seconds"] = median[variant]
                row["tokens_per_second"] = self.bench.tokens / median[variant]
        ours, result = median.get("peft-run"), {}
        if ours and "floor_seconds" in floor:
            result["floor_over_ours"] = floor["floor_seconds"] / ours
        for variant, seconds in median.items():
            if ours and variant != "peft-run":
                result[f"ours_over_{variant}"] = ours / seconds
                theirs = self.runs[variant]["losses"]
                result[f"losses_apart_{variant}"] = max(
                    abs(a - b) / abs(b)
                    for a, b in zip(self.runs["peft-run"]["losses"], theirs))
        if ours:
            busy, kernels = busy_seconds(f"{self.work}/trace.json", self.bench.accumulation)
            result["busy_seconds"], result["idle"] = busy, 1 - busy / ours
            result["kernels_seconds"] = kernels
        return result


def union(spans):
    """Length of the union of (begin, end)."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def busy_seconds(path, accumulation):
    """(seconds of a step in which a kernel runs, seconds by kernel)"""
    with open(path) as file:
        events = json.load(file)["traceEvents"]
    spans, kernels = {"micro_step": [], "update": []}, {}
    for event in events:
        if event["ph"] != "X" or event["pid"] != 1:
            continue
        entry = event["args"]["entry"]
        spans[entry].append((event["ts"], event["ts"] + event["dur"]))
        times = accumulation if entry == "micro_step" else 1
        kernels[event["name"]] = (kernels.get(event["name"], 0.0)
                                  + times * event["dur"] * 1e-6)
    busy = 1e-6 * (accumulation * union(spans["micro_step"]) + union(spans["update"]))
    return busy, dict(sorted(kernels.items(), key=lambda each: -each[1]))


def about(options):
    machine = {"date": datetime.datetime.now().isoformat(timespec="seconds")}
    if options.device == "cuda" and shutil.which("nvidia-smi"):
        machine["card"] = subprocess.run(
            ["nvidia-smi", "-i", "0", "--format=csv,noheader",
             "--query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit"],
            capture_output=True, text=True).stdout.strip()
    versions = "import torch,transformers,peft;" \
               "print(torch.__version__,transformers.__version__,peft.__version__)"
    words = subprocess.run([sys.executable, "-c", versions], capture_output=True,
                           text=True).stdout.split()
    machine.update(zip(("torch", "transformers", "peft"), words))
    return machine


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=list(gpu_shapes.BENCHES), metavar="NAME")
    parser.add_argument("--bin", required=True)
    parser.add_argument("--plans", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("-o", dest="output", required=True, metavar="FILE.json")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--variants", default="checkpointing,peft-run,plain",
                        type=lambda text: text.split(","))
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.variants) - set(VARIANTS):
        parser.error(f"--variants: no {', '.join(sorted(unknown))};"
                     f" there are {', '.join(VARIANTS)}")
    if options.steps <= WARM:
        parser.error(f"--steps must be more than the {WARM} that are not counted")
    return options


def main():
    options = parse()
    deadline = time.monotonic() + options.seconds
    report = {"about": about(options), "results": []}
    for i, name in enumerate(options.names):
        measurement = Measurement(options, name, deadline)
        report["results"].append(measurement.measure())
        with open(options.output, "w") as file:
            json.dump(report, file, indent=1)
        model = measurement.bench.model
        later = [gpu_shapes.BENCHES[other].model for other in options.names[i + 1:]]
        if not options.keep and model not in later:
            shutil.rmtree(measurement.model, ignore_errors=True)
    print(f"wrote {options.output}")
    return 0 if all(was_measured(result, options) for result in report["results"]) else 1


def was_measured(result, options):
    runs = result.get("runs", {})
    if "peft-run" in options.variants:
        return bool(runs.get("peft-run", {}).get("seconds"))
    return any(run["seconds"] for run in runs.values())


if __name__ == "__main__":
    sys.exit(main())
