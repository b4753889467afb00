"""The comparisons that need PyTorch, transformers and PEFT, live.

usage: run_peers.py --bin DIR [--only KIND] [CASE ...]

golden: makes the golden files anew, compares peftc with them and them with the
stored ones. adapters: trains a little and loads the adapter in PEFT, where no
key may be missing or unexpected, then compares greedy answers. matching:
check_matching.py, random adapter configs. gguf: check_gguf.py. merge: check_merge.py.
llama: check_llama_cpp.py, adapters and merged models in llama.cpp. gpu:
check_gpu_scripts.py, what bench/ has for a GPU, on the CPU. codes: check_quantizing.py,
what bitsandbytes quantizes to. quantized: check_quantized_models.py, its directories and
ours. The last line counts what passed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "golden")
sys.path.insert(0, GOLDEN)

import make_golden  # noqa: E402
import models  # noqa: E402
import numpy as np  # noqa: E402
import peft  # noqa: E402
import run_golden  # noqa: E402
import tensor_file  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402


# kind -> (script of this folder, how many of its last lines are shown)
KINDS = {
    "matching": ("check_matching.py", 2),
    "merge": ("check_merge.py", 12),
    "llama": ("check_llama_cpp.py", 8),
    "gpu": ("check_gpu_scripts.py", 0),
    "codes": ("check_quantizing.py", 1),
    "quantized": ("check_quantized_models.py", 1),
}


def compare_stored(name, live):
    """The stored golden file says what torch says today."""
    stored = run_golden.Golden(f"{GOLDEN}/expected/{name}.safetensors")
    run_golden.check_names("stored", stored.gradients, live.gradients)
    for key, gradient in live.gradients.items():
        error = run_golden.relative(stored.gradients[key], gradient)
        if not error <= 1e-4:
            raise run_golden.Failure(
                f"stored gradient {key} is {error:.1e} off; versions"
                f" {stored.numbers['versions']}"
            )


def golden_test(name, binaries, directory):
    path = f"{directory}/{name}.safetensors"
    tensors, metadata = make_golden.make(name)
    tensor_file.save_tensors(path, tensors, metadata=metadata)
    compare_stored(name, run_golden.Golden(path))
    _, failed = run_golden.run_case(name, ["f32", "bf16"], binaries, directory)
    if failed:
        raise run_golden.Failure("differs from torch (see above)")


def load_in_peft(model_directory, adapter):
    """The base with the adapter; fails on a key too many or too few."""
    base = transformers.AutoModelForCausalLM.from_pretrained(
        model_directory, dtype=torch.float32, attn_implementation="eager"
    )
    model = peft.PeftModel.from_pretrained(base, adapter)
    stored = peft.load_peft_weights(adapter, device="cpu")
    result = peft.set_peft_model_state_dict(model, dict(stored))
    if result.unexpected_keys:
        raise run_golden.Failure(f"unexpected {result.unexpected_keys[:3]}")
    needed = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    run_golden.check_names(
        "adapter", stored, {name: value for name, value in needed.items()}
    )
    for name, value in needed.items():
        if not torch.equal(value, stored[name]):
            raise run_golden.Failure(f"{name} was not loaded")
    return model.eval()


def greedy(model, prompts, count, seq):
    """Answers without the token that ends them; llama's config has one by
    default. Rows are padded to the plan's `seq`, by which transformers chooses
    longrope's frequencies; nobody sees what comes later."""
    end = model.config.get_text_config().eos_token_id
    answers = []
    for prompt in prompts:
        begin, end_of_row = len(prompt), len(prompt) + count
        ids = torch.zeros(1, max(seq, end_of_row), dtype=torch.long)
        ids[0, :begin] = torch.tensor(prompt)
        with torch.no_grad():
            for at in range(begin, end_of_row):
                ids[0, at] = model(input_ids=ids).logits[0, at - 1].argmax()
        answer = ids[0, begin:end_of_row].tolist()
        answers.append(answer[: answer.index(end)] if end in answer else answer)
    return answers


def adapter_test(name, binaries, directory):
    case = models.get_case(name)
    golden = run_golden.Golden(f"{GOLDEN}/expected/{name}.safetensors")
    run_golden.write_inputs(case, golden, directory)
    plan = run_golden.compile_plan(case, directory, binaries, "f32")
    run_golden.train(case, directory, binaries, plan, case["steps"])
    out = f"{directory}/out"
    model = load_in_peft(f"{directory}/model", out)

    arrays, _ = models.make_rows(case)
    prompts = [row[: 4 + i].tolist() for i, row in enumerate(arrays["input_ids"][:5])]
    with open(f"{directory}/prompts.jsonl", "w") as file:
        file.writelines(json.dumps({"ids": ids}) + "\n" for ids in prompts)
    run_golden.execute(
        [f"{binaries}/peft-run", plan, "--quiet"]
        + ["--model", f"{directory}/model", "--adapter", out]
        + ["--prompts", f"{directory}/prompts.jsonl", "--max-new-tokens", "6"]
        + ["--answers", f"{directory}/answers.jsonl"]
    )
    with open(f"{directory}/answers.jsonl") as file:
        found = [json.loads(line)["ids"] for line in file]
    expected = greedy(model, prompts, 6, case["seq"])
    if found != expected:
        raise run_golden.Failure(f"greedy answers {found}, PEFT {expected}")


def attempt(label, counts, test, *arguments):
    try:
        with tempfile.TemporaryDirectory() as directory:
            test(*arguments, directory)
        print(f"PASS {label}", flush=True)
        counts["passed"] += 1
    except Exception as failure:  # whatever a new version of a library raises
        print(f"FAIL {label}: {type(failure).__name__}: {failure}", flush=True)
        counts["failed"] += 1


def gguf_test(_):
    script = os.path.join(HERE, "check_gguf.py")
    done = subprocess.run(
        [sys.executable, script, "auto"], capture_output=True, text=True
    )
    if done.returncode != 0:
        raise run_golden.Failure(done.stderr.strip().splitlines()[-1])
    print(done.stdout.strip().splitlines()[-1])


def script_test(name, shown, binaries, _):
    """Runs a script of this folder; shows the last `shown` lines it printed."""
    done = subprocess.run(
        [sys.executable, os.path.join(HERE, name), "--bin", binaries],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise run_golden.Failure((done.stdout + done.stderr).strip()[-2000:])
    if shown:
        print("\n".join(done.stdout.strip().splitlines()[-shown:]))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bin", required=True)
    parser.add_argument("--only", choices=["golden", "adapters", *KINDS, "gguf"])
    parser.add_argument("cases", nargs="*", metavar="CASE")
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    np.seterr(over="ignore")
    counts = {"passed": 0, "failed": 0}
    for name in options.cases or models.CASES:
        if options.only in (None, "golden"):
            label = f"peers/golden/{name}"
            attempt(label, counts, golden_test, name, options.bin)
        case = models.get_case(name)
        # check_quantized_models.py has those with a quantized base.
        has_adapter = case["adapter"] is not None and not case["base"]
        if options.only in (None, "adapters") and has_adapter:
            label = f"peers/adapter/{name}"
            attempt(label, counts, adapter_test, name, options.bin)
    for kind, (script, shown) in KINDS.items():
        if options.only in (None, kind):
            attempt(f"peers/{kind}", counts, script_test, script, shown, options.bin)
    if options.only in (None, "gguf"):
        attempt("peers/gguf", counts, gguf_test)
    print("{passed} passed, {failed} failed, 0 skipped".format(**counts))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
