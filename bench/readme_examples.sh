#!/bin/bash
# Runs the examples of README.md and prints them with their true output, as the
# Markdown that stands there. Needs ./demo.sh to have run once.
#   bench/readme_examples.sh > examples.md
set -u
ROOT=$(cd "$(dirname "$0")/.." && pwd)
export PATH=$ROOT/build/release/bin:$PATH
cd "$ROOT/build/demo" || exit 74
ln -sfn "$ROOT/examples/answers/train.jsonl" train.jsonl

example() { # TITLE COMMAND [LINES]
  [ -z "$1" ] || printf '%s\n\n' "$1"
  printf '```\n$ %s\n' "$2"
  bash -c "$2" 2>&1 | tr '\r' '\n' | awk -v most="${3:-40}" '
    NR <= most { print substr($0, 1, 118) } END { if (NR > most) print "..." }'
  printf '```\n\n'
}

example '**`peftc compile`** says what trains and what it takes.' \
  'peftc compile smollm2 --lora-rank 16 --batch 8 --seq 56 -o step.plan'
example '**`peftc explain`** says where the bytes are: by class, at the peak, by name, by type.' \
  'peftc explain step.plan --peak' 20
example '' 'peftc explain step.plan --why model.layers.29.mlp.down_proj' 10
example '**`peftc estimate`** needs no weights, only a `config.json`.' \
  'peftc estimate smollm2/config.json --lora-rank 16 --batch 1 --seq 2048'
example '**`peft-run`** trains, and answers.' \
  'peft-run step.plan --model smollm2 --data train.jsonl -o out --steps 40 --lr 5e-4 | sed -n "1,22p;\$p"'
example '' \
  'peft-run step.plan --model smollm2 --adapter out --chat --quiet --generate "What is the opposite of cold?"'
example '**`peftc import`** and **`peft-opt`** show the IR after each stage; Hugging Face names are in it.' \
  'peftc import smollm2 -o model.mlir'
example '' \
  'peft-opt model.mlir --peft-compile="until=step batch=1 seq=64 config={{\"peft_type\":\"LORA\",\"r\":16,\"target_modules\":\"all-linear\"}}" 2>/dev/null | grep -A 12 "func.func @micro_step"' 16
example '' \
  'peft-opt model.mlir --peft-compile="until=planned batch=1 seq=64 config={{\"peft_type\":\"LORA\",\"r\":16,\"target_modules\":\"all-linear\"}}" 2>/dev/null | grep -m 6 "layers.29.self_attn.q_proj"' 8
printf '**`peft-lsp-server`** serves the dialects to editors; **`peft-reduce`** shrinks a module on which a pass fails:\n\n'
printf '```sh\npeft-reduce model.mlir -opt-reduction-pass="opt-pass=canonicalize test=./still-fails.sh"\n```\n'
