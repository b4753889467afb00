"""Quantized weights from end to end: saved, read back, cached, damaged.

usage: quantized_test.py --bin DIR [--only NAME]

A small model is quantized on load, saved as bitsandbytes would, and trained
from both: the adapters must agree bit for bit. Then each part of the saved
files is damaged in turn: peft-run must say what is wrong and exit with 65, and
so must peftc where the damage is in a header or a quant_state. The last line
counts what passed.
"""

import argparse
import json
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "golden"))
from bad_input_test import CONFIG, Workshop, header_and_data, model_tensors, write  # noqa: E402
from bad_input_test import raw_safetensors  # noqa: E402
from tensor_file import save_tensors  # noqa: E402

UP = "model.layers.1.mlp.up_proj"
KINDS = {
    "nf4": ["--base", "nf4"],
    "nf4-nested": ["--base", "nf4", "--double-quant"],
    "fp4": ["--base", "fp4", "--quantize-block", "32"],
    "fp4-nested": ["--base", "fp4", "--double-quant"],
    "int8": ["--base", "int8"],
}


class Shop(Workshop):
    """The workshop with a plan and a saved model of each kind."""

    def __init__(self, root, binaries):
        super().__init__(root, binaries)
        for kind, flags in KINDS.items():
            self.compile(kind, ["--lora-rank", "2", *flags])
            self.must([f"{kind}.plan", "--model", "model", "--save-quantized", f"saved-{kind}"])
            self.compile(f"{kind}-read", ["--lora-rank", "2"], model=f"saved-{kind}")

    def run(self, arguments, tool="peft-run", **more):
        environment = {**os.environ, "XDG_CACHE_HOME": f"{self.root}/cache",
                       **more.pop("env", {})}
        return subprocess.run([f"{self.binaries}/{tool}", *arguments], cwd=self.root,
                              env=environment, capture_output=True, text=True, timeout=600,
                              **more)

    def must(self, arguments, **more):
        done = self.run(arguments, **more)
        if done.returncode != 0:
            raise AssertionError(f"{arguments}: exit {done.returncode}: {done.stderr[-300:]}")
        return done.stdout

    def train(self, plan, model, *flags, **more):
        """(adapter's bytes, what was printed)"""
        out = f"{self.root}/OUT"
        shutil.rmtree(out, ignore_errors=True)
        text = self.must([f"{plan}.plan", "--model", model, "--data", "data.safetensors",
                          "-o", "OUT", "--steps", "2", *flags], **more)
        with open(f"{out}/adapter_model.safetensors", "rb") as file:
            return file.read(), text


TESTS = []


def test(name):
    def add(function):
        TESTS.append((name, function))
        return function
    return add


def expect(condition, text):
    if not condition:
        raise AssertionError(text)


def cache_files(shop):
    place = f"{shop.root}/cache/peftc/weights"
    return sorted(os.listdir(place)) if os.path.isdir(place) else []


for kind in KINDS:
    @test(f"the same bits from a file as on load: {kind}")
    def same_bits(shop, kind=kind):
        on_load, _ = shop.train(kind, "model")
        expect(shop.train(f"{kind}-read", f"saved-{kind}")[0] == on_load, "the plan for the file")
        expect(shop.train(kind, f"saved-{kind}")[0] == on_load, "the plan for the model")
        plain, _ = shop.train("lora", "model")
        expect(plain != on_load, "quantizing changed nothing")


@test("both programs count one number of parameters")
def counted(shop):
    said = shop.must(["compile", "model", "--lora-rank", "2", "--base", "nf4", "--double-quant",
                      "-o", "counted.plan"], tool="peftc")
    said += shop.train("counted", "model")[1]
    counts = re.findall(r"([\d,]+) of ([\d,]+) parameters", said)
    expect(len(counts) == 2 and counts[0] == counts[1], counts)


@test("the second start takes the cache")
def cached(shop):
    first, text = shop.train("nf4-nested", "model")
    expect("quantized" in text and len(cache_files(shop)) == 1, text)
    second, text = shop.train("nf4-nested", "model")
    expect("weights to" not in text and second == first, text)
    third, text = shop.train("nf4-nested", "model", "--verify")
    expect("is what its source gives" in text and third == first, text)
    fourth, text = shop.train("nf4-nested", "model", "--no-cache")
    expect("weights to" in text and fourth == first, text)
    expect(len(cache_files(shop)) == 1, "another file")
    # The same names and sizes, other weights, even the old time.
    path = f"{shop.root}/model/model.safetensors"
    times = os.stat(path)
    shop.tensors(lambda t: t[f"{UP}.weight"].__setitem__((0, 0), 0.125))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    fifth, text = shop.train("nf4-nested", "model")
    expect("weights to" in text and fifth != first, text)


@test("a cache that cannot be written")
def full_disk(shop):
    good, _ = shop.train("nf4", "model", "--no-cache")
    for place in ("/proc/none", f"{shop.root}/model/config.json"):
        found, text = shop.train("nf4", "model", env={"XDG_CACHE_HOME": place})
        expect("quantized in memory instead" in text and found == good, text)
    expect(not cache_files(shop), "something is left")


@test("two starts at once")
def together(shop):
    command = [f"{shop.binaries}/peft-run", "nf4.plan", "--model", "model", "--check"]
    environment = {**os.environ, "XDG_CACHE_HOME": f"{shop.root}/cache"}
    both = [subprocess.Popen(command, cwd=shop.root, env=environment,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(2)]
    for process in both:
        text = process.communicate(timeout=600)[0]
        expect(process.returncode == 0, text)
    expect(len(cache_files(shop)) == 1, str(cache_files(shop)))


@test("what is saved is sharded as the source")
def shards(shop):
    tensors = model_tensors()
    names = sorted(tensors)
    place = f"{shop.root}/model"
    os.remove(f"{place}/model.safetensors")
    index = {}
    for i in range(3):
        name = f"model-{i + 1:05}-of-00003.safetensors"
        save_tensors(f"{place}/{name}", {n: tensors[n] for n in names[i::3]})
        index.update(dict.fromkeys(names[i::3], name))
    write(f"{place}/model.safetensors.index.json", json.dumps({"weight_map": index}))
    write(f"{place}/tokenizer.json", "{}")
    shop.must(["nf4.plan", "--model", "model", "--save-quantized", "sharded"])
    files = sorted(os.listdir(f"{shop.root}/sharded"))
    expect(files == ["config.json", *(f"model-{i}-of-00003.safetensors" for i in
                                      ("00001", "00002", "00003")),
                     "model.safetensors.index.json", "tokenizer.json"], str(files))
    expect(shop.train("nf4", "sharded")[0] == shop.train("nf4", "saved-nf4")[0], "other bits")
    with open(f"{shop.root}/sharded/config.json") as file:
        config = json.load(file)
    quantization = config.pop("quantization_config")
    expect(config == CONFIG and quantization["bnb_4bit_quant_type"] == "nf4", str(config))


@test("one shard with an index keeps it")
def one_shard(shop):
    place = f"{shop.root}/model"
    name = "model-00001-of-00001.safetensors"
    os.rename(f"{place}/model.safetensors", f"{place}/{name}")
    write(f"{place}/model.safetensors.index.json",
          json.dumps({"weight_map": dict.fromkeys(model_tensors(), name)}))
    shop.must(["nf4.plan", "--model", "model", "--save-quantized", "one"])
    expect(shop.train("nf4", "one")[0] == shop.train("nf4", "saved-nf4")[0], "other bits")


# Damage ------------------------------------------------------------------

DAMAGE = []


def damage(name, kind, message, change, compiles=False):
    """`change` gets header and data of the saved file and gives those of the
    damaged one; `compiles`: peftc, which reads no weights, cannot notice."""
    DAMAGE.append((name, kind, message, change, compiles))


def put(tensor, index, value, code="<f"):
    """Overwrites an element of a tensor."""
    def change(header, data):
        at = header[tensor]["data_offsets"][0] + index * struct.calcsize(code)
        data = bytearray(data)
        struct.pack_into(code, data, at, value)
        return header, bytes(data)
    return change


def rewrite(change):
    """All tensors as {name: (dtype, shape, bytes)}, changed, written anew."""
    def apply(header, data):
        tensors = {name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
                   for name, entry in header.items() if name != "__metadata__"}
        change(tensors)
        header, parts, offset = {}, [], 0
        for name, (dtype, shape, part) in tensors.items():
            header[name] = {"dtype": dtype, "shape": shape,
                            "data_offsets": [offset, offset + len(part)]}
            offset += len(part)
            parts.append(part)
        return header, b"".join(parts)
    return apply


def state(kind, change):
    """The quant_state of UP, changed as a dictionary or as a text."""
    def apply(tensors):
        name = f"{UP}.weight.quant_state.bitsandbytes__{kind}"
        old = json.loads(tensors[name][2])
        new = change(old)
        text = (new if isinstance(new, str) else json.dumps(old)).encode()
        tensors[name] = ("U8", [len(text)], text)
    return rewrite(apply)


def say(kind, **fields):
    return state(kind, lambda old: old.update(fields))


def drop(name):
    return rewrite(lambda tensors: tensors.pop(name))


def resize(name, dtype, shape, count):
    return rewrite(lambda tensors: tensors.update({name: (dtype, shape, bytes(count))}))


W = f"{UP}.weight"
NAN, INF = float("nan"), float("inf")
damage("absmax NaN", "nf4", f"{W}.absmax\": element 3 is nan", put(f"{W}.absmax", 3, NAN), True)
damage("absmax infinite", "fp4", "element 0 is inf", put(f"{W}.absmax", 0, INF), True)
damage("absmax negative", "nf4", "not negative", put(f"{W}.absmax", 1, -1.0), True)
damage("nested absmax NaN", "nf4-nested", "nested_absmax\": element 0 is nan",
       put(f"{W}.nested_absmax", 0, NAN), True)
damage("nested map NaN", "nf4-nested", "nested_quant_map\": element 200 is nan",
       put(f"{W}.nested_quant_map", 200, NAN), True)
damage("map infinite", "nf4", "quant_map\": element 2 is -inf", put(f"{W}.quant_map", 2, -INF),
       True)
damage("SCB NaN", "int8", "SCB\": element 31 is nan", put(f"{UP}.SCB", 31, NAN), True)
damage("nested code out of range", "nf4-nested", "f32 with 256 elements",
       resize(f"{W}.nested_quant_map", "F32", [128], 512))
damage("shape lies", "nf4", r"has 256 bytes, but nf4\[32, 17\]", say("nf4", shape=[32, 17]))
damage("shape is another of the same size", "nf4", r"\[16, 32\]", say("nf4", shape=[16, 32]))
damage("shape overflows", "nf4", "more elements than 63 bits",
       say("nf4", shape=[1 << 39, 1 << 39]))
damage("shape negative", "nf4", "shape: must be between", say("nf4", shape=[-32, -16]))
damage("shape a text", "nf4", "shape: must be a whole number", say("nf4", shape="big"))
damage("block size lies", "nf4", "absmax\": is f32.8., but must be f32 with 4 elements",
       say("nf4", blocksize=128))
damage("block size no power of two", "nf4", "blocksize: 63 is not supported",
       say("nf4", blocksize=63))
damage("block size huge", "nf4", "blocksize: must be between", say("nf4", blocksize=1 << 63))
damage("nested block size lies", "nf4-nested", "nested_blocksize: 0 is not supported",
       say("nf4", nested_blocksize=0))
damage("type lies", "nf4", "but the tensor's name ends with nf4", say("nf4", quant_type="fp4"))
damage("source type unknown", "nf4", "dtype: .* is not supported", say("nf4", dtype="int3"))
damage("offset NaN", "nf4-nested", "not valid JSON", say("nf4", nested_offset=NAN))
damage("offset missing", "nf4-nested", "nested_offset: is missing",
       state("nf4", lambda old: old.pop("nested_offset") and None))
damage("a field of a newer format", "nf4", "is not a field that bitsandbytes writes",
       say("nf4", packing="tiles"))
damage("quant_state no JSON", "nf4", "not valid JSON", state("nf4", lambda old: "{\"quant"))
damage("quant_state missing", "nf4", "looks like codes of 4 bits",
       drop(f"{W}.quant_state.bitsandbytes__nf4"))
damage("codes cut", "nf4", "has 255 bytes, but nf4", resize(W, "U8", [255, 1], 255))
damage("codes missing", "nf4", "is not in the model", drop(W))
damage("absmax missing", "nf4", "has no tensor .*absmax", drop(f"{W}.absmax"))
damage("map missing", "fp4", "has no tensor .*quant_map", drop(f"{W}.quant_map"))
damage("nested absmax missing", "nf4-nested", "has no tensor .*nested_absmax",
       drop(f"{W}.nested_absmax"))
damage("absmax of another type", "nf4-nested", "but must be u8 with 8 elements",
       resize(f"{W}.absmax", "F32", [8], 32))
damage("SCB missing", "int8", "has no tensor .*SCB", drop(f"{UP}.SCB"))
damage("SCB too long", "int8", "f32 with 32 elements", resize(f"{UP}.SCB", "F32", [33], 132))
damage("an old order of bytes", "int8", "only 0 .rows. is supported",
       put(f"{UP}.weight_format", 0, 2, "<B"))
damage("quantized by others", "nf4", 'quant_method "gptq" is not supported', "gptq")


def limit():
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))


def run_damage(shop, name, kind, message, change, compiles):
    model = f"saved-{kind}"
    if change == "gptq":
        path = f"{shop.root}/{model}/config.json"
        with open(path) as file:
            config = json.load(file)
        write(path, json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    else:
        path = f"{shop.root}/{model}/model.safetensors"
        raw_safetensors(path, *change(*header_and_data(path)))
    train = [f"{kind}.plan", "--model", model, "--data", "data.safetensors", "-o", "OUT"]
    done = shop.run(train, preexec_fn=limit)
    expect(done.returncode == 65, f"peft-run: exit {done.returncode}: {done.stderr[-300:]}")
    expect(re.search(message, done.stderr), f"no /{message}/ in: {done.stderr[-300:]}")
    expect(not os.path.exists(f"{shop.root}/OUT"), "something is left behind")
    if compiles:
        return
    compile_ = ["compile", model, "--seq", "8", "--lora-rank", "2", "-o", "new.plan"]
    done = shop.run(compile_, tool="peftc")
    expect(done.returncode == 65, f"peftc: exit {done.returncode}: {done.stderr[-300:]}")
    expect(not os.path.exists(f"{shop.root}/new.plan"), "a plan is left behind")


def bad_weight(shop, kind, value):
    shop.tensors(lambda t: t[W].__setitem__((5, 3), value))
    for flags in (["--data", "data.safetensors", "-o", "OUT"], ["--save-quantized", "OUT"]):
        done = shop.run([f"{kind}.plan", "--model", "model", *flags])
        expect(done.returncode == 65, f"exit {done.returncode}: {done.stderr[-300:]}")
        expect(re.search(rf'"{W}": element \[5, 3\] is', done.stderr), done.stderr)
        left = os.listdir(f"{shop.root}/OUT") if os.path.isdir(f"{shop.root}/OUT") else []
        expect(not left, f"left {left}")
        expect(not cache_files(shop), "something is kept")


for kind in KINDS:
    for value in (NAN, -INF):
        TESTS.append((f"{value} in a weight to be quantized: {kind}",
                      lambda shop, k=kind, v=value: bad_weight(shop, k, v)))
for spec in DAMAGE:
    TESTS.append((f"damage: {spec[0]}", lambda shop, s=spec: run_damage(shop, *s)))

USAGE = [
    ("save and train", ["nf4.plan", "--model", "model", "--save-quantized", "S", "--data", "d",
                        "-o", "OUT"], "does nothing else"),
    ("save into the model", ["nf4.plan", "--model", "model", "--save-quantized", "model/x"],
     "never written"),
    ("save over a model", ["nf4.plan", "--model", "model", "--save-quantized", "saved-fp4"],
     "saved-fp4 is not empty"),
    ("save over an adapter", ["nf4.plan", "--model", "model", "--save-quantized", "good"],
     "good is not empty"),
    ("save with a plan that quantizes nothing",
     ["lora.plan", "--model", "model", "--save-quantized", "S"], "nothing of model is quantized"),
    ("save what is quantized", ["nf4.plan", "--model", "saved-nf4", "--save-quantized", "S"],
     "is quantized on load"),
    ("verify without anything to quantize", ["lora.plan", "--model", "model", "--check",
                                             "--verify"], "--verify is for weights"),
    ("no cache without anything to quantize", ["nf4.plan", "--model", "saved-nf4", "--check",
                                               "--no-cache"], "--no-cache is for weights"),
    ("verify no cache", ["nf4.plan", "--model", "model", "--check", "--no-cache", "--verify"],
     "leave one out"),
]


def usage(shop, arguments, message):
    done = shop.run(arguments)
    expect(done.returncode == 64, f"exit {done.returncode}: {done.stderr}")
    expect(message in done.stderr, done.stderr)
    expect(not os.path.exists(f"{shop.root}/S"), "something is left behind")


for name, arguments, message in USAGE:
    TESTS.append((f"usage: {name}", lambda shop, a=arguments, m=message: usage(shop, a, m)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    binaries = os.path.abspath(options.bin)
    failed = count = 0
    with tempfile.TemporaryDirectory() as root:
        good = Shop(root, binaries)
        shutil.rmtree(f"{root}/cache", ignore_errors=True)
        for name, function in TESTS:
            if options.only not in name:
                continue
            count += 1
            with tempfile.TemporaryDirectory() as copy:
                shutil.copytree(root, copy, dirs_exist_ok=True)
                shop = object.__new__(Shop)
                shop.root, shop.binaries = copy, binaries
                try:
                    function(shop)
                    print(f"PASS {name}", flush=True)
                except (AssertionError, OSError, subprocess.SubprocessError) as problem:
                    failed += 1
                    print(f"FAIL {name}: {problem}", flush=True)
    print(f"{count - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
