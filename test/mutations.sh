#!/bin/bash
# Breaks the project on purpose, one thing at a time, in a copy of the tree, and
# checks that the build or a named test notices:
#
#   1. a kernel without its CPU function        -> the build fails at link
#   2. a kernel's gradient with a flipped sign  -> Gradient.* fails
#   3. a backward rule with a flipped sign      -> a golden case fails
#   4. any one wait of a plan deleted           -> the verifier refuses; run
#      unverified, some schedule seed changes bits
#   5. any one buffer moved by 64 bytes         -> refused, or into free bytes
#
#   test/mutations.sh        needs what check.sh installs; about 8 minutes
#
# The last line counts: N passed, N failed, N skipped.
set -u
. "$(dirname "$0")/../scripts/setup.sh"
require_debian
install_packages
make_environment

COPY=$ROOT/build/mutations
passed=0 failed=0
mkdir -p "$COPY/tree"
cd "$ROOT" || exit 74
find "$COPY/tree" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
git ls-files -co --exclude-standard -z |
  xargs -0 cp --parents -p -t "$COPY/tree" || exit 74
cd "$COPY/tree" || exit 74
log=$COPY/log

target() { ninja -C build/debug "$@" >"$log" 2>&1; }

# notice NAME PATTERN COMMAND...: COMMAND must fail and say PATTERN
notice() {
  local name=$1 pattern=$2
  shift 2
  if "$@" >"$log" 2>&1; then
    failed=$((failed + 1))
    echo "FAIL mutations/$name: nothing noticed it"
  elif ! grep -qE "$pattern" "$log"; then
    failed=$((failed + 1))
    echo "FAIL mutations/$name: it failed without saying $pattern; see $log"
    tail -n 5 "$log"
  else
    passed=$((passed + 1))
    echo "PASS mutations/$name: $(grep -m 1 -E "$pattern" "$log" | cut -c1-100)"
  fi
}

# mutate FILE SED_EXPRESSION: edits the copy; restore FILE undoes it
mutate() {
  cp -p "$1" "$COPY/saved"
  sed -i "$2" "$1"
  if cmp -s "$1" "$COPY/saved"; then
    failed=$((failed + 1))
    echo "FAIL mutations: '$2' changes nothing in $1 any more; mend this script"
  fi
}
restore() { cp "$COPY/saved" "$1"; }

cmake --preset debug >"$log" 2>&1 || stop 70 "cmake failed; see $log"
say "building the copy"
target || stop 70 "the copy does not build; see $log"

kernel=runtime/cpu/paths/Elementwise.cpp
mutate $kernel 's/^Fault swiglu_bwd(/Fault swiglu_bwd_gone(/'
notice missing-kernel 'undefined.*swiglu_bwd' ninja -C build/debug peft-conformance
restore $kernel

mutate $kernel '/void swigluBackward/,/^}/ s/store(dup, d \* silu)/store(dup, zero - d * silu)/'
target peft-conformance
notice kernel-sign 'FAILED.*Gradient' build/debug/bin/peft-conformance --gtest_filter='Gradient.*'
restore $kernel

device=runtime/cuda/kernels/ColumnSums.cu
mutate $device '/sums\[first\]\[lane\] = sum;/,/if/ s/__syncthreads();//'
target peft-cuda-conformance peft-cuda-races
notice cuda-barrier 'threads [a-z]*: dbias' build/debug/bin/peft-cuda-conformance --gtest_filter='*bias_dw'
notice cuda-race 'data race' build/debug/bin/peft-cuda-races --gtest_filter='*bias_dw'
restore $device

rule=lib/Dialect/Lora/Gradients.cpp
mutate $rule 's/getBAttr(), Value(), getScaleAttr()/getBAttr(), Value(), builder.getF64FloatAttr(-getScale().convertToDouble())/'
target peftc
notice rule-sign 'FAIL golden' "$PYTHON" test/golden/run_golden.py --bin build/debug/bin --compute f32 llama
restore $rule
target

if "$PYTHON" test/e2e/broken_plans_test.py --bin build/debug/bin >"$log" 2>&1; then
  passed=$((passed + 1))
  echo "PASS mutations/plans: $(grep -c . "$log") lines, $(tail -n 1 "$log")"
else
  failed=$((failed + 1))
  cat "$log"
fi
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
