"""Reads a test program's output: how many tests passed, failed, were skipped.

usage: count_tests.py LOG EXIT_CODE    prints "PASSED FAILED SKIPPED"

Understands gtest, lit, unittest and our own last line "N passed, N failed, N
skipped". A program that ends with an error or runs no test counts as failed.
"""

import re
import sys


def last_number(pattern, text):
    found = re.findall(pattern, text, re.M)
    return int(found[-1]) if found else 0


def count_gtest(text):
    # --gtest_brief leaves out the number of failures.
    ran = last_number(r"^\[==========\] (\d+) tests? from .* ran", text)
    passed = last_number(r"^\[  PASSED  \] (\d+) test", text)
    skipped = last_number(r"^\[  SKIPPED \] (\d+) test", text)
    return passed, ran - passed - skipped, skipped


def count_lit(text):
    def total(*names):
        return sum(last_number(rf"^\s*{n}\s*:\s*(\d+)", text) for n in names)

    return (
        total("Passed", "Expectedly Failed"),
        total("Failed", "Unresolved", "Timed Out", "Unexpectedly Passed"),
        total("Unsupported", "Skipped", "Excluded"),
    )


def count_unittest(text):
    ran = last_number(r"^Ran (\d+) tests?", text)
    skipped = last_number(r"\bskipped=(\d+)", text)
    failed = last_number(r"\bfailures=(\d+)", text)
    failed += last_number(r"\berrors=(\d+)", text)
    return ran - failed - skipped, failed, skipped


def count_ours(text):
    found = re.findall(
        r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?", text, re.M
    )
    return tuple(int(n or 0) for n in found[-1])


def count(text, code):
    if re.search(r"^\d+ passed, \d+ failed", text, re.M):
        result = count_ours(text)
    elif re.search(r"^Ran \d+ tests?", text, re.M):
        result = count_unittest(text)
    elif re.search(r"^\[==========\]", text, re.M):
        result = count_gtest(text)
    else:
        result = count_lit(text)
    passed, failed, skipped = result
    if code != 0 and failed == 0:
        failed = 1
    if passed + failed + skipped == 0:
        failed = 1
    return passed, failed, skipped


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8", errors="replace") as file:
        print(*count(file.read(), int(sys.argv[2])))
