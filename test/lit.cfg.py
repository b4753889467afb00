"""lit's settings. ./check.sh runs it; by hand, after a debug build:

    build/venv/bin/lit test [--param bin=build/release/bin] [--filter NAME]
"""

import os

import lit.formats

source = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
binaries = os.path.abspath(
    lit_config.params.get("bin", os.path.join(source, "build", "debug", "bin"))
)
llvm = "/usr/lib/llvm-22/bin"  # FileCheck and not, of Debian's llvm-22-tools

config.name = "peftc"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.excludes = ["golden", "peers", "python", "unit", "conformance", "fuzz", "Inputs"]
config.test_source_root = os.path.join(source, "test")
config.test_exec_root = os.path.join(source, "build", "lit")
config.environment["PATH"] = os.pathsep.join(
    [binaries, llvm, os.environ.get("PATH", "")]
)
for name in ("PEFT_DATA", "PEFT_CPU", "HF_HOME", "HOME"):
    if name in os.environ:
        config.environment[name] = os.environ[name]
config.substitutions.append(("%source", source))
config.substitutions.append(("%bin", binaries))
