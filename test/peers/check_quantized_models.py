"""Quantized model directories, in both directions, against transformers, PEFT
and bitsandbytes on the CPU.

usage: check_quantized_models.py --bin DIR

ours: a directory of --save-quantized loads in transformers + bitsandbytes, every
part of every weight equals what bitsandbytes makes of it, and loss and gradients
of an adapter on it are those of our f32 plan. theirs: a directory that
bitsandbytes wrote (also with quant_storage bf16, in bf16 and in shards) gives
our plans the same loss and gradients. The last line counts what passed.
"""

import argparse
import json
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "golden"))

import bitsandbytes  # noqa: E402
import make_golden  # noqa: E402
import models  # noqa: E402
import numpy as np  # noqa: E402
import peft  # noqa: E402
import run_golden  # noqa: E402
import tensor_file  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

KINDS = {
    "nf4": (["--base", "nf4"], {"bnb_4bit_quant_type": "nf4"}),
    "nf4-nested": (["--base", "nf4", "--double-quant"],
                   {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}),
    "fp4": (["--base", "fp4"], {"bnb_4bit_quant_type": "fp4"}),
    "int8": (["--base", "int8"], None),
}


def quantization(kind, **more):
    options = KINDS[kind][1]
    if options is None:
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    return transformers.BitsAndBytesConfig(load_in_4bit=True, **options, **more)


def get_case(kind, stored):
    """hidden and intermediate are multiples of 64: bitsandbytes' CPU code reads
    the scales of other shapes in the wrong places."""
    case = models.get_case("llama")
    config = {**case["config"], "hidden_size": 64, "intermediate_size": 128,
              "torch_dtype": {"f32": "float32", "bf16": "bfloat16"}[stored]}
    adapter = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
    return {**case, "name": f"quantized_{kind}", "config": config, "adapter": adapter,
            "stored": stored}


def dequantized(module):
    """The f32 values of a quantized linear module, by the formats' definition."""
    weight = module.weight
    if isinstance(module, bitsandbytes.nn.Linear8bitLt):
        return bitsandbytes.functional.int8_vectorwise_dequant(
            weight.data, module.state.SCB if module.state.SCB is not None else weight.SCB)
    state = weight.quant_state
    scales = state.absmax
    if state.nested:
        nested = state.state2
        scales = nested.code[scales.long()] * nested.absmax.repeat_interleave(
            nested.blocksize)[: scales.numel()] + state.offset
    packed = weight.data.view(torch.uint8).view(-1)
    codes = torch.stack([packed >> 4, packed & 15], 1).view(-1)
    values = state.code[codes.long()] * scales.repeat_interleave(state.blocksize)[: codes.numel()]
    return values[: state.shape.numel()].view(state.shape)


def expected_step(case, directory):
    """(loss, gradients) of the first step, PEFT on the model of `directory`,
    its quantized weights replaced by their f32 values (train mode computes with
    them; bitsandbytes would round them to quant_state.dtype first, and int8
    would quantize activations)."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", device_map="cpu")
    quantized = 0
    for name, module in list(model.named_modules()):
        if not isinstance(module, (bitsandbytes.nn.Linear4bit, bitsandbytes.nn.Linear8bitLt)):
            continue
        plain = torch.nn.Linear(module.in_features, module.out_features, module.bias is not None)
        plain.weight.data = dequantized(module).float()
        if module.bias is not None:
            plain.bias.data = module.bias.data.float()
        parent = model.get_submodule(name.rpartition(".")[0])
        setattr(parent, name.rpartition(".")[2], plain)
        quantized += 1
    assert quantized == 14, f"{quantized} modules are quantized, not 14"
    model = torch.nn.Module.float(model)  # transformers refuses it
    for attribute in ("is_loaded_in_4bit", "is_loaded_in_8bit", "is_quantized"):
        setattr(model, attribute, False)
    model.quantization_method = None
    torch.manual_seed(0)
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **case["adapter"]))
    model.train()
    trainable = make_golden.trainable_parameters(case, model)
    start = {}
    with torch.no_grad():
        for name, parameter in trainable.items():
            start[name] = models.adapter_tensor(name, tuple(parameter.shape), {})
            parameter.copy_(torch.from_numpy(start[name]))
    arrays, segments = models.make_rows(case)
    loss, _ = make_golden.step_gradient(case, model, trainable, arrays, segments, 0)
    return loss, {name: p.grad.numpy() for name, p in trainable.items()}, start


def our_step(case, directory, binaries, plan, model, start):
    models.write_adapter(case, f"{directory}/adapter", start)
    arrays, _ = models.make_rows(case)
    tensor_file.save_tensors(f"{directory}/data.safetensors", arrays)
    run_golden.execute(
        [f"{binaries}/peft-run", plan, "--model", model, "--data",
         f"{directory}/data.safetensors", "-o", f"{directory}/out", "--no-shuffle", "--steps", "1",
         "--quiet", "--grad-accum", str(case["accumulation"]), "--init-adapter",
         f"{directory}/adapter", "--dump-gradients", f"{directory}/gradients.safetensors"])
    gradients, _ = tensor_file.load_tensors(f"{directory}/gradients.safetensors")
    with open(f"{directory}/out/metrics.jsonl") as file:
        return json.loads(file.readline())["loss"], gradients


def compile_plan(case, directory, binaries, model, flags):
    models.write_adapter(case, f"{directory}/adapter", {})
    plan = f"{directory}/{os.path.basename(model)}.plan"
    run_golden.execute(
        [f"{binaries}/peftc", "compile", model, "--adapter",
         f"{directory}/adapter/adapter_config.json", "--batch", str(case["batch"]), "--seq",
         str(case["seq"]), "--compute", "f32", *flags, "-o", plan])
    return plan


def compare(case, directory, binaries, plan, model):
    loss, gradients, start = expected_step(case, model)
    found, ours = our_step(case, directory, binaries, plan, model, start)
    assert abs(found - loss) <= 1e-5 * abs(loss), f"loss {found!r}, theirs {loss!r}"
    run_golden.check_names("gradient", ours, gradients)
    for name, expected in gradients.items():
        error = np.abs(ours[name] - expected).max() / np.abs(expected).max()
        assert error <= 1e-4, f"gradient {name}: off by {error:.1e} of its maximum"


def compare_parts(kind, source, saved):
    """Every part of every weight, against bitsandbytes on the source."""
    made = transformers.AutoModelForCausalLM.from_pretrained(
        source, dtype="auto", device_map="cpu", quantization_config=quantization(kind))
    read = transformers.AutoModelForCausalLM.from_pretrained(saved, dtype="auto", device_map="cpu")
    compared = 0
    for name, expected in made.named_modules():
        found = read.get_submodule(name)
        assert type(found) is type(expected), name
        if not isinstance(expected, bitsandbytes.nn.Linear4bit):
            continue
        assert torch.equal(found.weight.data, expected.weight.data), f"codes of {name}"
        ours, theirs = found.weight.quant_state, expected.weight.quant_state
        for field in ("shape", "dtype", "blocksize", "quant_type", "nested"):
            a, b = getattr(ours, field), getattr(theirs, field)
            assert a == b, f"{field} of {name}: {a}, bitsandbytes {b}"
        assert torch.equal(ours.code, theirs.code), f"quant_map of {name}"
        if ours.nested:
            assert abs(ours.offset - theirs.offset) <= 1e-6 * theirs.offset, name
            assert torch.equal(ours.state2.code, theirs.state2.code), name
        else:
            assert torch.equal(ours.absmax, theirs.absmax), f"absmax of {name}"
        compared += 1
    assert compared == 14 or kind == "int8", compared
    with open(f"{saved}/config.json") as file:
        ours = json.load(file)["quantization_config"]
    made.save_pretrained(f"{saved}-theirs")
    with open(f"{saved}-theirs/config.json") as file:
        theirs = json.load(file)["quantization_config"]
    # Ours says which modules stay, and the plan's compute type.
    for field in ("llm_int8_skip_modules", "bnb_4bit_compute_dtype"):
        ours.pop(field), theirs.pop(field)
    assert ours == theirs, f"quantization_config {ours}, theirs {theirs}"


def ours_loads(kind, stored, binaries, directory):
    case = get_case(kind, stored)
    source, saved = f"{directory}/source", f"{directory}/saved"
    models.write_model(case, source)
    plan = compile_plan(case, directory, binaries, source, KINDS[kind][0])
    run_golden.execute([f"{binaries}/peft-run", plan, "--model", source, "--save-quantized", saved])
    compare_parts(kind, source, saved)
    compare(case, directory, binaries, plan, saved)


def theirs_loads(kind, stored, binaries, directory, **more):
    case = get_case(kind, stored)
    source, theirs = f"{directory}/source", f"{directory}/theirs"
    models.write_model(case, source)
    shards = more.pop("max_shard_size", None)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        source, dtype="auto", device_map="cpu", quantization_config=quantization(kind, **more))
    model.save_pretrained(theirs, **({"max_shard_size": shards} if shards else {}))
    if shards:
        assert os.path.exists(f"{theirs}/model.safetensors.index.json")
    plan = compile_plan(case, directory, binaries, theirs, [])
    compare(case, directory, binaries, plan, theirs)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    np.seterr(over="ignore")
    tests = []
    for kind in KINDS:
        for stored in ("f32", "bf16"):
            tests.append((f"ours: {kind} from {stored}", ours_loads, (kind, stored), {}))
            tests.append((f"theirs: {kind} from {stored}", theirs_loads, (kind, stored), {}))
    storage = {"bnb_4bit_quant_storage": torch.bfloat16}
    tests.append(("theirs: stored as bf16", theirs_loads, ("nf4-nested", "bf16"), storage))
    tests.append(("theirs: in shards", theirs_loads, ("nf4-nested", "bf16"),
                  {"max_shard_size": "60KB"}))
    passed = failed = 0
    for name, test, arguments, more in tests:
        if options.only not in name:
            continue
        with tempfile.TemporaryDirectory() as directory:
            os.environ["XDG_CACHE_HOME"] = f"{directory}/cache"
            try:
                test(*arguments, os.path.abspath(options.bin), directory, **more)
                print(f"PASS {name}", flush=True)
                passed += 1
            except (run_golden.Failure, AssertionError, OSError, KeyError) as problem:
                print(f"FAIL {name}: {problem}", flush=True)
                failed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
