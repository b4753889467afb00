"""peft-run --log-probs, against itself.

usage: log_probs_test.py --bin DIR

On a small random model: the probabilities of the whole vocabulary add up to 1,
the best token is the answer's, the list is in order, the choice that ended an
answer is there too, and a prompt that already holds the answer gives the same
numbers. Without a file to write to the flag is refused. Needs numpy only. The
last line counts what passed.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "golden"))
import models  # noqa: E402
from cases import LLAMA  # noqa: E402

PROMPTS = [[5, 9, 200], [17], [3, 3, 8, 120, 44]]
NEW = 4


class Failure(Exception):
    """Other numbers, another message, or a program that stopped."""


class Bench:
    def __init__(self, root, binaries):
        self.root, self.binaries = root, binaries
        case = {"name": "log_probs", "config": LLAMA, "stored": "f32", "shards": 1}
        models.write_model(case, f"{root}/model")
        self.run("peftc", "compile", f"{root}/model", "--batch", "2", "--seq", "16", "--compute",
                 "f32", "--lora-rank", "2", "--quiet", "-o", f"{root}/plan")

    def run(self, program, *arguments, code=0):
        done = subprocess.run([f"{self.binaries}/{program}", *arguments], capture_output=True,
                              text=True)
        if done.returncode != code:
            raise Failure(f"{program} exit {done.returncode}: {done.stderr.strip()}")
        return done.stderr

    def answers(self, prompts, count, new=NEW):
        with open(f"{self.root}/prompts.jsonl", "w") as file:
            file.writelines(json.dumps({"ids": ids}) + "\n" for ids in prompts)
        self.run("peft-run", f"{self.root}/plan", "--model", f"{self.root}/model", "--no-adapter",
                 "--prompts", f"{self.root}/prompts.jsonl", "--answers",
                 f"{self.root}/answers.jsonl", "--max-new-tokens", str(new), "--log-probs",
                 str(count), "--quiet")
        with open(f"{self.root}/answers.jsonl") as file:
            return [json.loads(line) for line in file]


def check_sums(bench):
    for answer in bench.answers(PROMPTS, LLAMA["vocab_size"]):
        if len(answer["log_probs"]) < len(answer["ids"]):
            raise Failure(f"{len(answer['log_probs'])} choices for {answer['ids']}")
        for choice in answer["log_probs"]:
            total = sum(math.exp(value) for _, value in choice)
            if len(choice) != LLAMA["vocab_size"] or abs(total - 1) > 1e-9:
                raise Failure(f"{len(choice)} probabilities add up to {total}")


def check_order(bench):
    for answer in bench.answers(PROMPTS, 7):
        for token, choice in zip(answer["ids"], answer["log_probs"]):
            values = [value for _, value in choice]
            if len(choice) != 7 or choice[0][0] != token or values != sorted(values, reverse=True):
                raise Failure(f"{token} of {choice}")


def check_end(bench):
    """Every token ends an answer: the choice is written, the token is not in it."""
    with open(f"{bench.root}/model/generation_config.json", "w") as file:
        json.dump({"eos_token_id": list(range(LLAMA["vocab_size"]))}, file)
    for answer in bench.answers(PROMPTS, 3):
        if answer["ids"] or len(answer["log_probs"]) != 1:
            raise Failure(f"{answer}")
    os.remove(f"{bench.root}/model/generation_config.json")


def check_prefixes(bench):
    whole = bench.answers(PROMPTS, 5)
    prefixes, expected = [], []
    for prompt, answer in zip(PROMPTS, whole, strict=True):
        for i, choice in enumerate(answer["log_probs"]):
            prefixes.append(prompt + answer["ids"][:i])
            expected.append(choice)
    found = [answer["log_probs"][0] for answer in bench.answers(prefixes, 5, new=1)]
    if found != expected:
        raise Failure("a prompt that holds the answer gives other numbers")


def check_refused(bench):
    said = bench.run("peft-run", f"{bench.root}/plan", "--model", f"{bench.root}/model",
                     "--no-adapter", "--generate", "x", "--log-probs", "3", code=64)
    if "--log-probs needs --answers" not in said:
        raise Failure(f"says: {said}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    options = parser.parse_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as root:
        bench = Bench(root, os.path.abspath(options.bin))
        for check in (check_sums, check_order, check_end, check_prefixes, check_refused):
            name = check.__name__.removeprefix("check_")
            try:
                check(bench)
                print(f"PASS log-probs/{name}", flush=True)
                passed += 1
            except Failure as failure:
                print(f"FAIL log-probs/{name}: {failure}", flush=True)
                failed += 1
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
