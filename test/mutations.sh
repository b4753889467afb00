#!/bin/bash
# Breaks the project on purpose, one thing at a time, in a copy of the tree, and
# checks that the build or a named test notices:
#
#   1. a kernel without its CPU function        -> the build fails at link
#   2. a kernel's gradient with a flipped sign  -> Gradient.* fails
#   3. a backward rule with a flipped sign      -> a golden case fails
#   4. any one barrier, wait or predicate of the CUDA kernels gone, or a predicate
#      of a launch -> a test fails, or mutations/survivors.txt says why none can
#   5. any one wait or record of three plans deleted -> the verifier refuses; run
#      unverified, some schedule seed changes what comes out
#   6. any one buffer moved by 64 bytes         -> refused, or into free bytes
#
# 4 is one build of rewritten sources (mutations/instrument.py) in which each
# mutant can be turned on (mutations/run_mutants.py).
#
#   test/mutations.sh        needs what check.sh installs; 4 takes longest
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

"$PYTHON" test/mutations/instrument.py . "$COPY/mutants.json" ||
  stop 70 "the CUDA sources cannot be rewritten"
cmake --preset debug >"$log" 2>&1 || stop 70 "cmake failed; see $log"
say "building the copy"
# What nvcc makes is not tested here, and the rewritten kernels are not for it.
target peftc peft-run peft-conformance peft-unit-tests peft-break-plan \
  peft-cuda-conformance peft-cuda-races || stop 70 "the copy does not build; see $log"
if ninja -C build/debug -t query peft-card-tests >/dev/null 2>&1; then
  target peft-card-tests || stop 70 "the copy does not build; see $log"
fi

kernel=runtime/cpu/paths/Elementwise.cpp
mutate $kernel 's/^Fault swiglu_bwd(/Fault swiglu_bwd_gone(/'
notice missing-kernel 'undefined.*swiglu_bwd' ninja -C build/debug peft-conformance
restore $kernel

mutate $kernel '/void gateBackward/,/^}/ s/store(dup, d \* (/store(dup, broadcast(-1) * d * (/'
target peft-conformance
notice kernel-sign 'FAILED.*Gradient' build/debug/bin/peft-conformance --gtest_filter='Gradient.*'
restore $kernel

rule=lib/Dialect/Lora/Gradients.cpp
mutate $rule 's/getBAttr(), Value(), getScaleAttr()/getBAttr(), Value(), builder.getF64FloatAttr(-getScale().convertToDouble())/'
target peftc
notice rule-sign 'FAIL golden' "$PYTHON" test/golden/run_golden.py --bin build/debug/bin --compute f32 llama
restore $rule
target peftc

# part NAME COMMAND...: its output, and what its last line counts
part() {
  local name=$1 counts
  shift
  "$@" 2>&1 | tee "$log"
  read -r -a counts < <(python3 "$ROOT/scripts/count_tests.py" "$log" "${PIPESTATUS[0]}")
  passed=$((passed + counts[0]))
  failed=$((failed + counts[1]))
  [ "${counts[1]}" = 0 ] || echo "FAIL mutations/$name"
}
part plans "$PYTHON" test/e2e/broken_plans_test.py --bin build/debug/bin
part kernels "$PYTHON" test/mutations/run_mutants.py --bin build/debug/bin --list "$COPY/mutants.json"
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
