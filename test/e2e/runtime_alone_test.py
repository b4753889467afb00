"""Builds the runtime alone, with g++ and without LLVM, and compares its bits.

usage: runtime_alone_test.py --bin DIR

`cmake -S runtime` is configured in build/runtime-alone; its peft-run must link
no LLVM and train the same bits as the one in DIR, which clang built.
"""

import argparse
import os
import subprocess
import sys
import tempfile

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "test", "golden"))

import models  # noqa: E402

BUILD = os.path.join(ROOT, "build", "runtime-alone")


def build():
    if not os.path.exists(f"{BUILD}/build.ninja"):
        subprocess.run(["cmake", "-S", f"{ROOT}/runtime", "-B", BUILD, "-G", "Ninja",
                        "-DCMAKE_CXX_COMPILER=g++", "-DCMAKE_BUILD_TYPE=Release"], check=True,
                       stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", BUILD, "peft-run"], check=True, stdout=subprocess.DEVNULL)
    return f"{BUILD}/bin/peft-run"


def adapter(program, folder, plan, name):
    out = f"{folder}/{name}"
    subprocess.run([program, plan, "--model", f"{folder}/model", "--data", f"{folder}/data.safetensors",
                    "-o", out, "--steps", "3", "--lr", "1e-2", "--quiet"], check=True)
    with open(f"{out}/adapter_model.safetensors", "rb") as file:
        return file.read()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True)
    binaries = parser.parse_args().bin
    results = []
    alone = build()
    libraries = subprocess.run(["ldd", alone], check=True, capture_output=True, text=True).stdout
    results.append(("links no LLVM", "LLVM" not in libraries and "MLIR" not in libraries))
    case = models.get_case("llama")
    with tempfile.TemporaryDirectory() as folder:
        models.write_model(case, f"{folder}/model")
        arrays, _ = models.make_rows(case)
        models.save_tensors(f"{folder}/data.safetensors", arrays)
        for compute in ("f32", "bf16", "f16"):
            plan = f"{folder}/{compute}.plan"
            subprocess.run([f"{binaries}/peftc", "compile", f"{folder}/model", "--lora-rank", "4",
                            "--lora-dropout", "0.1", "--batch", str(case["batch"]), "--seq",
                            str(case["seq"]), "--compute", compute, "--quiet", "-o", plan], check=True)
            same = (adapter(alone, folder, plan, f"gcc-{compute}") ==
                    adapter(f"{binaries}/peft-run", folder, plan, f"clang-{compute}"))
            results.append((f"{compute}: g++ and clang++ train the same bits", same))
    for what, good in results:
        print("PASS" if good else "FAIL", f"runtime_alone/{what}")
    passed = sum(good for _, good in results)
    print(f"{passed} passed, {len(results) - passed} failed, 0 skipped")
    return 0 if passed == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
