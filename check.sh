#!/bin/bash
# Installs what is missing, builds and runs every test.
#
#   ./check.sh           all tests (needs no PyTorch)
#   ./check.sh --peers   all tests, and the comparisons with PyTorch, transformers
#                        and PEFT live (installs them: about 3 GB)
#
# The last line counts: N passed, N failed, N skipped. Exit 0 if none failed.
set -u
. "$(dirname "$0")/scripts/setup.sh"

peers=no
for argument in "$@"; do
  case $argument in
  --peers) peers=yes ;;
  -h | --help)
    sed -n '2,9s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
  *) stop 64 "unknown argument $argument; see ./check.sh --help" ;;
  esac
done

started=$SECONDS
passed=0 failed=0 skipped=0

# part NAME PROGRAM...: runs one part beside others, as many as there are cores
# (most are one process after another); counts its tests, shows what failed.
# What a script starts beside itself would not hear interrupts, which are tested.
declare -A names=() begins=() # of the parts that run, by process
part() {
  local name=$1
  shift
  await $(($(nproc) - 1))
  env --default-signal=INT,QUIT "$@" >"$ROOT/build/check/$name.log" 2>&1 &
  names[$!]=$name
  begins[$!]=$SECONDS
}

# await N: until no more than N parts run
await() {
  local process code
  while [ ${#names[@]} -gt "$1" ]; do
    wait -n -p process "${!names[@]}"
    code=$?
    report "${names[$process]}" $code $((SECONDS - begins[$process]))
    unset "names[$process]" "begins[$process]"
  done
}

# report NAME CODE SECONDS: counts what a part has written
report() {
  local log=$ROOT/build/check/$1.log counts
  read -r -a counts < <(python3 "$ROOT/scripts/count_tests.py" "$log" "$2")
  if [ "${counts[1]}" != 0 ]; then
    grep -E '^(FAIL|ERROR)|FAILED|[Ee]rror:|Failure' "$log" | head -n 40
    tail -n 25 "$log"
    echo "(the whole output: $log)"
  fi
  passed=$((passed + counts[0]))
  failed=$((failed + counts[1]))
  skipped=$((skipped + counts[2]))
  printf '%-22s %5d passed, %d failed, %d skipped  (%d s)\n' \
    "$1" "${counts[@]}" "$3"
}

require_debian
install_packages
if [ $peers = yes ]; then make_environment peers; else make_environment; fi
build debug
mkdir -p "$ROOT/build/check"
say "built after $((SECONDS - started)) s; running the tests"

# The longest first.
part same-bits "$PYTHON" test/e2e/same_bits.py --bin "$BIN"
part cuda-races "$BIN/peft-cuda-races" --gtest_brief=1
part cuda-conformance "$BIN/peft-cuda-conformance" --gtest_brief=1
part runtime_alone "$PYTHON" test/e2e/runtime_alone_test.py --bin "$BIN"
part golden "$PYTHON" test/golden/run_golden.py --bin "$BIN"
part structure python3 test/structure.py
part docs python3 docs/generate.py --check
part unit "$BIN/peft-unit-tests" --gtest_brief=1
part conformance "$BIN/peft-conformance" --gtest_brief=1
if [ -x "$BIN/peft-card-tests" ]; then
  part cuda-device "$BIN/peft-card-tests" --gtest_brief=1
  part card-conformance "$BIN/peft-host-card-conformance" --gtest_brief=1
else
  part cuda-device echo "0 passed, 0 failed, 1 skipped (no CUDA toolkit)"
fi
if [ -x "$BIN/peft-cudnn-tests" ]; then
  part cudnn-plans "$BIN/peft-cudnn-tests" --gtest_brief=1
else
  part cudnn-plans echo "0 passed, 0 failed, 1 skipped (no cuDNN or no nvidia-cudnn-frontend)"
fi
part compiler-unit "$BIN/peftc-unit-tests" --gtest_brief=1
part lit "$VENV/bin/lit" -v --param "bin=$BIN" test
part python "$PYTHON" -m unittest discover -s test/python
for script in test/e2e/*_test.py; do
  [[ $script = *runtime_alone* ]] ||
    part "$(basename "$script" _test.py)" "$PYTHON" "$script" --bin "$BIN"
done
await 0
checked=$BIN
# What people run: asserts off, full optimization.
build release peftc peft-run
part golden-release "$PYTHON" test/golden/run_golden.py --bin "$BIN"
part same-bits-release "$PYTHON" test/e2e/same_bits.py --quick --bin "$BIN"
await 0
BIN=$checked
if [ $peers = yes ]; then
  install_smollm2
  part peers "$PYTHON" test/peers/run_peers.py --bin "$BIN"
  await 0
fi

say "all of it took $((SECONDS - started)) s"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
