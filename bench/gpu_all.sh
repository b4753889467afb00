#!/bin/bash
# Checks and measures on a machine with a GPU, from the folder that
# bench/gpu_bundle.sh made; each part takes less than nine minutes.
#
#   bench/gpu_all.sh PART [OUT]      results go to OUT (else $OUT, else ./gpu_out)
#
#   1  conformance of every kernel on the card, compute-sanitizer (memcheck and
#      racecheck), --check, agreement with the CPU device, the same bits twice,
#      the card's target description
#   2  Qwen3-8B and Llama-3.1-8B shapes: steps beside PyTorch + PEFT
#   3  Llama-2-7B, and long sequences
#
# PYTHON is the Python with PyTorch, transformers and PEFT (python3); GPU_WORK the
# place ($TMPDIR) for a folder of random weights, 17 GB at a time, deleted at the
# end; GPU_SECONDS the time a part may take (530).
# Exit 0: all that ran passed; 1: something failed (OUT/part-N.json says what);
# 64 usage; 66 the bundle or a Python package is missing; 78 no usable card: said
# in one line by the first call that needs it, after everything before it worked.
set -u
export PYTHONDONTWRITEBYTECODE=1

stop() { # CODE TEXT
  printf 'gpu_all: %s\n' "$2" >&2
  exit "$1"
}
case ${1:-} in
1 | 2 | 3) part=$1 ;;
-h | --help)
  sed -n '2,20s/^# \{0,1\}//p' "$0"
  exit 0
  ;;
*) stop 64 "which part? bench/gpu_all.sh 1, 2 or 3; --help says more" ;;
esac

here=$(cd "$(dirname "$0")" && pwd)
bundle=$(dirname "$here")
[ -x "$bundle/bin/libpeft_cuda.so" ] || bundle=$bundle/build/gpu_bundle
[ -x "$bundle/bin/libpeft_cuda.so" ] ||
  stop 66 "there is no bundle in $bundle; make it at home with bench/gpu_bundle.sh"
bin=$bundle/bin plans=$bundle/plans scripts=$bundle/bench
out=$(realpath -m "${2:-${OUT:-gpu_out}}")
python=${PYTHON:-python3}
mkdir -p "$out" || stop 74 "cannot make $out"
work=$(mktemp -d -p "${GPU_WORK:-${TMPDIR:-/tmp}}") ||
  stop 74 "cannot make a folder for weights"
trap 'rm -rf "$work"' EXIT
limit=${GPU_SECONDS:-530}
left() { echo $((limit - SECONDS)); }

# Finding packages loads none of them: no CUDA call is made here.
libraries=$("$python" - <<'END'
import glob, importlib.util, os, sys
missing = [name for name in ("torch", "transformers", "peft", "safetensors", "numpy")
           if importlib.util.find_spec(name) is None]
if missing:
    sys.exit("missing: " + ", ".join(missing))
folders = [os.path.dirname(found) for path in sys.path
           for name in ("libcublasLt.so.13", "libcudnn.so.9")
           for found in glob.glob(f"{path}/nvidia/**/{name}", recursive=True)]
print(":".join(folders))
END
) || stop 66 "$python lacks packages; set PYTHON to one that has torch, transformers, peft"
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
cat "$bundle/bundle.json"

results=() failed=0
# step NAME COMMAND...: runs it in the time that is left; its output goes to a file
step() {
  local name=$1 log=$out/part-$part-$1.log code begin=$SECONDS verdict=passed
  shift
  if [ "$(left)" -lt 10 ]; then
    verdict="no time was left"
    code=124
  else
    timeout "$(left)" "$@" >"$log" 2>&1
    code=$?
    [ $code = 0 ] || verdict="exit $code"
    [ $code != 124 ] || verdict="no time was left"
  fi
  [ $code = 0 ] || {
    failed=$((failed + 1))
    tail -n 5 "$log" 2>/dev/null
  }
  note "$name" "$verdict" $((SECONDS - begin))
}
note() { # NAME VERDICT SECONDS
  printf '%-24s %s (%d s)\n' "$1" "$2" "$3"
  results+=("$(printf '{"step": "%s", "result": "%s", "seconds": %d}' "$1" "$2" "$3")")
}
finish() {
  local text
  text=$(printf ',\n  %s' "${results[@]}")
  printf '{"part": %d, "bundle": %s, "failed": %d, "steps": [%s\n]}\n' \
    "$part" "$(cat "$bundle/bundle.json")" "$failed" "${text#,}" >"$out/part-$part.json"
  echo "part $part: ${#results[@]} steps, $failed failed, $SECONDS s; results in $out"
  [ "$failed" = 0 ]
  exit $?
}

# The first call that needs the card: a small model, made here, once on zeros.
first_call() {
  local said code
  "$python" "$scripts/gpu_weights.py" tiny-f32 "$work/first" "$work/first-adapter" ||
    stop 66 "the random weights of the small model could not be made"
  said=$("$bin/peft-run" "$plans/tiny-f32/step.plan" --model "$work/first" --check \
    --device cuda 2>&1)
  code=$?
  if [ $code = 78 ]; then
    stop 78 "stopped at the first CUDA call, all before it worked: ${said##*error: }"
  fi
  printf '%s\n' "$said" >"$out/part-$part-first.log"
  [ $code = 0 ] || printf '%s\n' "$said" | tail -n 5
  [ $code = 0 ] || failed=1
  note "first call" "$([ $code = 0 ] && echo passed || echo "exit $code")" $SECONDS
}

sanitize() { # TOOL [CASES]
  local tool only=()
  tool=$(command -v compute-sanitizer || find /usr/local/cuda*/bin -name compute-sanitizer 2>/dev/null | tail -n 1)
  if [ -z "$tool" ]; then
    note "$1" "skipped: there is no compute-sanitizer" 0
    return
  fi
  # Only our kernels, where this version can be told so.
  "$tool" --help 2>&1 | grep -q -- --kernel-name && only=(--kernel-name kns=peft)
  step "$1" "$tool" --tool "$1" --error-exitcode 1 "${only[@]}" \
    "$bin/peft-card-conformance" --gtest_brief=1 --gtest_filter="${2:-*}"
}

steps() { # SECONDS NAME...
  local seconds=$1
  shift
  step "steps-$1" "$python" "$scripts/gpu_step.py" --bin "$bin" --plans "$plans" \
    --work "$work" --seconds "$seconds" -o "$out/steps-$1.json" "$@"
}

first_call
case $part in
1)
  step conformance "$bin/peft-card-conformance" --gtest_brief=1
  step check "$python" "$scripts/gpu_check.py" --bin "$bin" --plans "$plans" \
    --work "$work" -o "$out/check.json"
  step calibrate "$bin/peft-run" "$plans/qwen3-8b-2x2048/step.plan" --calibrate \
    --device cuda -o "$out/measured.json"
  sanitize memcheck
  sanitize racecheck "*attention*:*norm*:*lora*:*cross_entropy*"
  ;;
2)
  steps $(($(left) / 2)) qwen3-8b-2x2048 qwen3-8b-2x2048-packed qwen3-8b-1x512
  steps $(($(left) - 5)) llama-3.1-8b-2x4096
  ;;
3)
  steps $(($(left) / 3)) llama-2-7b-2x2048
  steps $(($(left) - 5)) llama-3.1-8b-1x8192 llama-3.1-8b-1x16384
  ;;
esac
finish
