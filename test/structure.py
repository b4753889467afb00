#!/usr/bin/env python3
"""The house rules, as a test: which room may know which, and what each must have.

Run as `python3 test/structure.py`; prints one line per broken rule and, last,
`N passed, N failed`. Needs nothing but Python.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = (".cpp", ".h", ".td", ".cu", ".cuh", ".py", ".def", ".fbs")


def tracked():
    listing = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT,
                             capture_output=True, text=True)
    names = listing.stdout.split("\n") if listing.returncode == 0 else [
        str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if "build" not in p.parts]
    return [name for name in names if name and (ROOT / name).is_file()]


FILES = tracked()


def text(name):
    return (ROOT / name).read_text(errors="replace")


def under(*folders, ending=SOURCES):
    return [f for f in FILES if f.startswith(folders) and f.endswith(ending)]


def includes(name):
    return re.findall(r'^\s*#\s*include\s*[<"]([^">]+)[">]', text(name), re.M)


def kebab(name):
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"-\1", name).lower()


# Folder -> what its files must not include. The reason stands in docs/Overview.md.
FORBIDDEN = {
    "runtime/": (r"^(peftc|mlir|llvm|mlir-c|llvm-c)/", "the runtime builds without the compiler"),
    "runtime/io/": (r"^peft/(Plan|KernelSpec|Executor|Device)\.h|^(core|cpu|train)/",
                    "io parses bytes and knows nothing above it"),
    "runtime/quantize/": (r"^peft/(?!DType|FloatTypes|DynamicMap|Quantize\.h)|^(io|core|cpu|train)/|nlohmann|flatbuffers/",
                          "the arithmetic of codes knows neither files nor plans"),
    "runtime/merge/": (r"^peft/(Plan|KernelSpec|Executor|Device)\.h|^(core|cpu|cuda|train)/",
                       "merging knows files, no plans"),
    "runtime/core/": (r"^(cpu|cuda|train)/|^peft/Train", "core knows devices only as interfaces"),
    "runtime/cpu/": (r"^(core|cuda|train|io)/|nlohmann|flatbuffers/", "the CPU device executes; it parses nothing"),
    "runtime/cuda/": (r"^(core|train|io)/|nlohmann|flatbuffers/", "the CUDA device executes; it parses nothing"),
    "runtime/cuda/kernels/": (r"^(cpu|cuda/(device|library|plan|emulation))/|cublas|cudnn|cuda_runtime",
                              "kernels know Grid.h, so that they run on a card and in the emulation"),
    "runtime/cuda/emulation/": (r"^cuda/device/|cublas|cudnn|cuda_runtime|cuda_fp16|cuda_bf16",
                                "the emulation needs no CUDA"),
    "runtime/cuda/plan/": (r"^cu(da_|blas|dnn)", "what a card is asked to do is decided without one"),
    "include/peftc/Dialect/": (r"^peft/", "dialects do not know the runtime"),
    "lib/Dialect/": (r"^peft/", "dialects do not know the runtime"),
    "include/peftc/Dialect/Plan/": (r"peftc/Dialect/(NN|Lora|QW|Dist)/", "the plan dialect knows no other"),
    "lib/Dialect/Plan/": (r"peftc/Dialect/(NN|Lora|QW|Dist)/", "the plan dialect knows no other"),
    "lib/Dialect/NN/": (r"peftc/Dialect/(Lora|Plan)/", "nn stands below lora and plan"),
    "lib/Transforms/": (r"^peft/(?!AdapterConfig|DynamicMap|Json|KernelSpec|DType|Status|Interner)",
                        "passes know the IR, and of the runtime only kernels.def, the codes of moments and the PEFT config"),
    "lib/Target/": (r"peftc/Dialect/(NN|Lora|QW|Dist)/", "the writer is mechanical"),
}


def include_directions():
    for folder, (pattern, reason) in FORBIDDEN.items():
        for name in under(folder):
            for include in includes(name):
                if re.search(pattern, include):
                    yield f"{name} includes {include}: {reason}"


def only_core_reads_flatbuffers():
    for name in under("runtime/", "lib/", "tools/"):
        if not name.startswith("runtime/core/"):
            for include in includes(name):
                if "flatbuffers" in include or "plan_generated" in include:
                    yield f"{name} includes {include}: only runtime/core knows the file's layout"


def passes():
    for name in under("include/peftc/", ending=("Passes.td",)):
        for match in re.finditer(r"^def (\w+) : Pass<\"([\w-]+)\".*?^}", text(name), re.M | re.S):
            yield match.group(1), match.group(2), match.group(0)


def passes_have_four_spellings():
    tests = [f for f in FILES if f.startswith("test/") and f.endswith(".mlir")]
    for pass_name, flag, _ in passes():
        spelled = kebab(pass_name)
        if flag != f"peft-{spelled}":
            yield f"pass {pass_name} has the flag --{flag}, not --peft-{spelled}"
        sources = [f for f in FILES if f.startswith("lib/") and f.endswith(f"/{pass_name}.cpp")]
        if not sources:
            yield f"pass {pass_name} has no {pass_name}.cpp"
            continue
        if not any(f.endswith(f"/{spelled}.mlir") for f in tests):
            yield f"pass {pass_name} has no test {spelled}.mlir"
        family = [f for f in FILES if re.search(rf"^lib/(Transforms|Conversion)/{pass_name}\w*\.cpp$", f)]
        can_fail = any(re.search(r"emitError|emitOpError", text(f)) for f in family)
        if can_fail and not any(f.endswith(f"/{spelled}-errors.mlir") for f in tests):
            yield f"pass {pass_name} can fail and has no test {spelled}-errors.mlir"


def passes_and_ops_are_described():
    seen = {}
    definitions = [(f"pass {n}", body) for n, _, body in passes()]
    for name in under("include/peftc/", ending=("Ops.td",)):
        for match in re.finditer(r"^def (\w+Op) : .*?^}", text(name), re.M | re.S):
            definitions.append((f"op {match.group(1)}", match.group(0)))
    for what, body in definitions:
        summary = re.search(r'let summary = "([^"]+)"', body)
        description = re.search(r'let description = (?:"((?:[^"\\]|\\.)+)"|\[\{(.*?)\}\])', body, re.S)
        if not summary or not summary.group(1).strip():
            yield f"{what} has no summary"
        if not description or len((description.group(1) or description.group(2)).strip()) < 20:
            yield f"{what} has no description"
            continue
        prose = " ".join((description.group(1) or description.group(2)).split())
        if prose in seen:
            yield f"{what} has the description of {seen[prose]}"
        seen[prose] = what
        if what.startswith("pass"):
            if "Statistic<" not in body:
                yield f"{what} has no statistic"
            example = re.search(r"example filepath=(\S+)", body)
            if not example or example.group(1) not in FILES:
                yield f"{what} names no example that exists"


def forward_ops_have_gradients():
    for name in ("include/peftc/Dialect/NN/NNOps.td", "include/peftc/Dialect/Lora/LoraOps.td"):
        source = text(name)
        rules = "".join(text(f) for f in under("lib/Dialect/") if f.endswith("Gradients.cpp"))
        for match in re.finditer(r"^def (?:NN|Lora)_(\w+)Op : (.*?)\{(.*?)^}", source, re.M | re.S):
            op, bases, body = match.groups()
            differentiable = "NN_ForwardOp" in bases or "NN_Differentiable" in bases
            if differentiable and f"{op}Op::buildBackward" not in rules:
                yield f"op {op} has no backward rule in a Gradients.cpp"
            header = source[:match.start()].rfind("// Backward")
            forward = "// Forward" in source[:match.start()] and header < 0
            if forward and not differentiable and "Has no gradient" not in body:
                yield f"op {op} has neither a backward rule nor the words 'Has no gradient'"


def kernels_are_tested():
    cases = "".join(text(f) for f in under("test/conformance/"))
    code = "".join(text(f) for f in under("runtime/cpu/"))
    cuda = "".join(text(f) for f in under("runtime/cuda/kernels/", "runtime/cuda/library/"))
    on_cuda = "".join(text(f) for f in under("test/conformance/")
                      if not f.startswith("test/conformance/cpu/"))
    table = "".join(text(name) for name in under("runtime/schema/kernels/"))
    for kernel in re.findall(r"^KERNEL\((\w+),", table, re.M):
        if not re.search(rf"\b{kernel}\b", cases):
            yield f"kernel {kernel} has no conformance case"
        if not re.search(rf"\b{kernel}\b", code):
            yield f"kernel {kernel} has no CPU implementation"
        if not re.search(rf"\b{kernel}\b", cuda):
            yield f"kernel {kernel} has no CUDA implementation"
        if not re.search(rf"TEST_F\(Conformance, {kernel}\)", on_cuda):
            yield f"kernel {kernel} has no case that the emulated CUDA kernel runs"


def kernels_keep_to_the_grid():
    """What the emulation cannot run, or what would leave results to chance."""
    for name in under("runtime/cuda/kernels/", ending=(".cu", ".h")):
        source = text(name)
        for match in re.finditer(r"\b(atomic[A-Z]\w*|asm|__trap|cooperative_groups)\b|<<<", source):
            yield f"{name} uses {match.group(0)}: kernels keep to Grid.h"
        for match in re.finditer(r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(\s*(\w+)",
                                 source):
            if match.group(2) != "Gate":
                yield f"{name}: kernel {match.group(1)} does not take a Gate first"


def files_are_small():
    for name in under("include/", "lib/", "runtime/", "tools/", "python/", "test/", "bench/"):
        lines = text(name).count("\n")
        if lines > 600:
            yield f"{name} has {lines} lines; 600 is the most"
    for name in FILES:
        tool = re.match(r"tools/([\w-]+)/\1\.cpp$", name)
        if tool and text(name).count("\n") > 100:
            yield f"{name} has {text(name).count(chr(10))} lines; a main has at most 100"


def no_hiding_places():
    for name in FILES:
        if re.search(r"(^|/)(utils?|common|misc|helpers?)(/|\.)", name, re.I):
            yield f"{name}: a folder or file that hides what is in it"
    for name in under("lib/", "runtime/", "include/"):
        source = text(name)
        if re.search(r"\bcl::opt<", source):
            yield f"{name}: options travel in structs, not in cl::opt"
        if re.search(r"(?<![\w:.>])(std::)?(exit|abort|quick_exit)\(", source):
            yield f"{name}: only main exits"
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", source):
            yield f"{name}: unfinished words"


def status_is_nodiscard():
    status = text("runtime/include/peft/Status.h")
    for kind in ("Status", "Expected"):
        if not re.search(rf"class \[\[nodiscard\]\] {kind}\b", status):
            yield f"{kind} is not [[nodiscard]]"


RULES = [include_directions, only_core_reads_flatbuffers, passes_have_four_spellings,
         passes_and_ops_are_described, forward_ops_have_gradients, kernels_are_tested,
         kernels_keep_to_the_grid,
         files_are_small, no_hiding_places, status_is_nodiscard]


def main():
    failed = 0
    for rule in RULES:
        broken = list(rule())
        failed += bool(broken)
        for line in broken:
            print(f"{rule.__name__}: {line}")
    print(f"{len(RULES) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
