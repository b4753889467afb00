#!/usr/bin/env python3
"""Turns on one mutant of the CUDA kernels after another and runs the tests that come by it.

usage: run_mutants.py --bin DIR --list LIST [--only TEXT] [--seconds N]

The build in DIR is of sources that instrument.py has rewritten; LIST is what it wrote. One run of
every test finds out which mutants it comes by and how long it takes. Then each mutant runs its
tests, the quick ones first, until one fails or hangs: under the address sanitizer, and what
survives that under the thread sanitizer. What survives has to be in survivors.txt, with the reason,
and what is there has to survive; of that, only as many tests are asked as take 15 seconds.

--only runs the mutants whose name contains TEXT, --seconds only as many tests of each as take
about N seconds without a mutant: for a look at a kernel while it is written.

Prints a line for each mutant and, last, `N passed, N failed, N skipped`.
"""
import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
# Under the address sanitizer; then host code: what is asked of a card, and the device itself.
PROGRAMS = ("peft-cuda-conformance", "peft-unit-tests", "peft-card-tests")
RACES = {"peft-cuda-conformance": "peft-cuda-races"}
# They try the emulation itself, with kernels of their own that are broken.
NOT_OF_KERNELS = "-EmulationDeathTest*:Coverage*"
SETTINGS = {"ASAN_OPTIONS": "detect_leaks=0:symbolize=0", "TSAN_OPTIONS": "halt_on_error=1:symbolize=0"}

SECONDS_OF_EXPLAINED = 15

Test = collections.namedtuple("Test", "program name seconds reached")


def run(binaries, program, test, limit, **environment):
    """The exit code; None if it took longer than `limit` seconds."""
    command = [f"{binaries}/{program}", f"--gtest_filter={test}", "--gtest_break_on_failure",
               "--gtest_brief=1"]
    try:
        return subprocess.run(command, env={**os.environ, **SETTINGS, **environment}, timeout=limit,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    except subprocess.TimeoutExpired:
        return None


def list_tests(binaries, program):
    listing = subprocess.run([f"{binaries}/{program}", "--gtest_list_tests",
                              f"--gtest_filter={NOT_OF_KERNELS}"],
                             capture_output=True, text=True, check=True).stdout
    suite = ""
    for line in listing.splitlines():
        words = line.split("#")[0].strip()
        if line.startswith(" "):
            yield suite + words
        elif words.endswith("."):
            suite = words


def measure(binaries, program, name):
    """A test without a mutant: how long it takes, and which mutants it comes by."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "reached"
        begin = time.monotonic()
        code = run(binaries, program, name, 600, PEFT_REACHED=str(path))
        seconds = time.monotonic() - begin
        if code != 0:
            sys.exit(f"run_mutants.py: {program} {name} fails without a mutant ({code})")
        reached = frozenset(map(int, path.read_text().split())) if path.exists() else frozenset()
        return Test(program, name, seconds, reached)


def measure_all(binaries, pool):
    """The tests of all programs; read from the run before if the programs are older."""
    programs = [p for p in PROGRAMS if os.access(f"{binaries}/{p}", os.X_OK)]
    kept = pathlib.Path(binaries) / "mutants.tests.json"
    newest = max(os.path.getmtime(f"{binaries}/{p}") for p in programs)
    if kept.exists() and kept.stat().st_mtime > newest:
        return [Test(*fields[:3], frozenset(fields[3])) for fields in json.loads(kept.read_text())]
    names = [(p, name) for p in programs for name in list_tests(binaries, p)]
    tests = [test for test in pool.map(lambda of: measure(binaries, *of), names) if test.reached]
    kept.write_text(json.dumps([[*test[:3], sorted(test.reached)] for test in tests]))
    return tests


def killer_of(binaries, mutant, tests, most_seconds):
    """(who noticed the mutant, or None; how many tests were asked)."""
    mine, seconds = [], 0
    for test in sorted(tests, key=lambda test: test.seconds):
        if mutant["number"] in test.reached and (not mine or seconds + test.seconds < most_seconds):
            mine.append(test)
            seconds += test.seconds
    for tool in (None, RACES):
        for test in mine:
            program = tool.get(test.program) if tool else test.program
            if not program or not os.access(f"{binaries}/{program}", os.X_OK):
                continue
            limit = 20 + 10 * test.seconds * (3 if tool else 1)
            code = run(binaries, program, test.name, limit, PEFT_MUTANT=str(mutant["number"]))
            if code != 0:
                how = "hangs" if code is None else "races" if tool else "fails"
                return f"{test.name} {how}", len(mine)
    return None, len(mine)


def read_survivors(path):
    """{name: reason}. Names begin lines; the indented lines below them are the reason for all."""
    reasons, names, reason = {}, [], []
    for line in path.read_text().splitlines() + ["end"]:
        if line.startswith("#") or not line.strip():
            continue
        if line.startswith(" "):
            reason.append(line.strip())
            continue
        if reason:
            reasons.update((name, " ".join(reason)) for name in names)
            names, reason = [], []
        names.append(line.strip())
    if names != ["end"]:
        sys.exit(f"run_mutants.py: {names[0]} in {path.name} has no reason")
    return reasons


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bin", required=True)
    parser.add_argument("--list", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--survivors", type=pathlib.Path, default=HERE / "survivors.txt")
    options = parser.parse_args()
    reasons = read_survivors(options.survivors)
    mutants = json.loads(pathlib.Path(options.list).read_text())
    begin = time.monotonic()
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    tests = measure_all(options.bin, pool)
    print(f"{len(tests)} tests come by mutants; without any they take "
          f"{sum(test.seconds for test in tests):.0f} s", flush=True)
    chosen = [mutant for mutant in mutants if options.only in mutant["name"]]
    failed, killed = [], 0
    counts = collections.defaultdict(collections.Counter)

    def answer(mutant):
        most = SECONDS_OF_EXPLAINED if mutant["name"] in reasons else options.seconds
        return killer_of(options.bin, mutant, tests, min(most, options.seconds))

    answers = pool.map(answer, chosen)
    for mutant, (killer, asked) in zip(chosen, answers):
        name = mutant["name"]
        explained = name in reasons
        if killer:
            killed += 1
            counts[mutant["kind"]]["killed"] += 1
            print(f"killed    {name}: {killer}", flush=True)
            if explained:
                failed.append(f"{name} is killed; take it out of survivors.txt")
        else:
            counts[mutant["kind"]]["explained" if explained else "survived"] += 1
            print(f"survived  {name}: " +
                  (reasons[name] if explained else
                   f"no failure of {asked} tests" if asked else "no test comes by"), flush=True)
            if not explained:
                failed.append(f"{name} survives; test it, or say in survivors.txt why nothing can")
    if not options.only:
        names = {mutant["name"] for mutant in mutants}
        failed += [f"{name} is in survivors.txt, and there is no such mutant"
                   for name in reasons if name not in names]
    for kind, count in sorted(counts.items()):
        print(f"{kind}: " + ", ".join(f"{n} {what}" for what, n in sorted(count.items())))
    print(f"took {time.monotonic() - begin:.0f} s")
    for line in failed:
        print(f"FAIL mutants: {line}")
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
