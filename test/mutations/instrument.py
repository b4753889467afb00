#!/usr/bin/env python3
"""Rewrites the CUDA sources of a tree so that one build holds every mutant of them.

usage: instrument.py TREE LIST    rewrites TREE/runtime/cuda, writes the mutants to LIST (JSON)

A barrier is __syncthreads, __syncwarp and the close or wait of asynchronous copies: taken out.
A predicate is a condition of if or ?:, an operand of && or ||, and a comparison used as a value: an
operand becomes neutral, a guard passes, an early exit does not happen, a choice goes each way.

Searched is device code as the emulation compiles it (what only nvcc sees cannot run here), and in
the host code of the device each condition that names a predicate, a gate or a conditional block.
The header of a loop ends the loop and is left alone, but for what && and || join in it. So is what
is decided at compile time. Every if, ?:, &&, ||, comparison and barrier has to be accounted for, so
a new one is a mutant without anybody listing it.

The mutant PEFT_MUTANT=N is on, the others are off; see Mutants.h.
"""
import collections
import json
import pathlib
import re
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
CUDA = "runtime/cuda"
DEVICE = ("*.h", "kernels/*.cu", "kernels/*.h")
HOST = ("plan/*.cpp", "device/*.cpp")
HOST_WORDS = re.compile(r"[pP]redicate\b|\bgate\b|\bconditional\b|\bopen\b|\bisOpen\b")

WORDS_OF_DEVICE_CODE = ("__device__", "__global__")
BARRIERS = {"__syncthreads": "barrier", "__syncwarp": "barrier",
            "closeCopies": "wait", "awaitCopies": "wait"}
NUMBERS_A_FILE = 256
COMPARISONS = {"==", "!=", "<=", ">=", "<", ">"}
ASSIGNMENTS = {"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="}
FIXED = {"constexpr", "static_assert", "using"}  # begin what is decided at compile time
JUMPS = {"return", "continue", "break"}
CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}

TOKEN = re.compile(r"""
    (?P<space> \s+ | //[^\n]* | /\*.*?\*/ )
  | (?P<literal> "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | \.?\d(?:[eEpP][+-]|['\w.])* )
  | (?P<word> [A-Za-z_]\w* )
  | (?P<mark> <<= | >>= | \.\.\. | -> | :: | \+\+ | -- | << | (?<=\s)>>(?=\s) | <= | >= | == | != | && | \|\|
            | [-+*/%&|^]= | . )""", re.X | re.S)

Token = collections.namedtuple("Token", "text begin end")


class Unclear(Exception):
    """The source is written in a way that this script does not read."""


def blank_directives(text):
    """Preprocessor lines, and what only nvcc compiles, as spaces."""
    out, known, in_directive = [], [], False
    for line in text.splitlines(keepends=True):
        directive = re.match(r"\s*#\s*(\w+)(.*)", line)
        hidden = in_directive or directive or False in known
        if directive and not in_directive:
            word, rest = directive.groups()
            if word in ("if", "ifdef", "ifndef"):
                of_nvcc = re.search(r"__CUDACC__|__CUDA_ARCH__", rest)
                known.append((word == "ifndef" or "!" in rest) if of_nvcc else None)
            elif word in ("else", "elif"):
                if word == "elif" and known[-1] is not None:
                    raise Unclear("#elif after a question for nvcc")
                known[-1] = None if known[-1] is None else not known[-1]
            elif word == "endif":
                known.pop()
        in_directive = bool(in_directive or directive) and line.rstrip().endswith("\\")
        out.append(re.sub(r"[^\n]", " ", line) if hidden else line)
    return "".join(out)


class Source:
    """The tokens of a file, with the partner of every bracket.

    < and > with a space on either side compare; without, they hold template arguments."""

    def __init__(self, text):
        self.text = text
        self.tokens, self.partner, stack = [], {}, []
        for match in TOKEN.finditer(blank_directives(text)):
            if match.lastgroup != "space":
                self.tokens.append(Token(match.group(), match.start(), match.end()))
        for i, token in enumerate(self.tokens):
            if token.text in "([{" or (token.text == "<" and not self.compares(i)):
                stack.append(i)
            elif token.text in ")]}" or (token.text == ">" and not self.compares(i)):
                if not stack or CLOSING[self.tokens[stack[-1]].text] != token.text:
                    raise Unclear(f"line {self.line(i)}: no partner of {token.text}")
                self.partner[stack[-1]] = i
                self.partner[i] = stack.pop()

    def spaced(self, i):
        token = self.tokens[i]
        return self.text[token.begin - 1].isspace() and self.text[token.end:token.end + 1].isspace()

    def compares(self, i):
        return self.tokens[i].text in COMPARISONS and self.spaced(i)

    def joins(self, i):
        """&& and ||, but not the && of a reference."""
        return self.tokens[i].text == "||" or (self.tokens[i].text == "&&" and self.spaced(i))

    def line(self, i):
        return self.text.count("\n", 0, self.tokens[i].begin) + 1

    def range_text(self, begin, end):
        between = self.text[self.tokens[begin].begin:self.tokens[end - 1].end]
        return " ".join(re.sub(r"//[^\n]*", "", between).split())

    def top(self, begin, end):
        """The indices in [begin, end) that stand in no bracket of their own."""
        i = begin
        while i < end:
            yield i
            i = self.partner[i] + 1 if self.partner.get(i, -1) > i else i + 1

    def split(self, begin, end, mark):
        """The ranges between the `mark`s of [begin, end)."""
        at = begin
        for i in self.top(begin, end):
            if self.tokens[i].text == mark and (mark != "&&" or self.joins(i)):
                yield at, i
                at = i + 1
        yield at, end


Function = collections.namedtuple("Function", "name after_parameters begin end")


def functions(source, of_device):
    """Bodies of functions as [begin, end) of tokens: those of device code, or all."""
    tokens, partner = source.tokens, source.partner
    scopes, i = [], 0
    while i < len(tokens):
        text = tokens[i].text
        while scopes and i > scopes[-1][1]:
            scopes.pop()
        if text in ("struct", "class", "namespace") and tokens[i - 1].text != "enum":
            opening = next((j for j in source.top(i, len(tokens)) if tokens[j].text in "{;"), None)
            if opening is not None and tokens[opening].text == "{":
                head = [t.text for t in tokens[i + 1:opening] if re.match(r"\w+$", t.text)]
                # The name stands before the bases, after alignas(...).
                name = re.sub(r"\s*:(?!:).*|^alignas\s*\(.*\)|final\b", "",
                              source.range_text(i + 1, opening)) if head else ""
                scopes.append((name.strip() if text != "namespace" else "", partner[opening]))
                i = opening + 1
                continue
        if text in WORDS_OF_DEVICE_CODE or (not of_device and text == "{" and
                                            tokens[i - 1].text in (")", "const", "override")):
            start = i if text != "{" else opening_of(source, i)
            found = function_at(source, start)
            if found:
                owner = "::".join(scope[0] for scope in scopes if scope[0])
                name = f"{owner}::{found.name}" if owner else found.name
                yield found._replace(name=name)
                i = found.end + 1
                continue
        elif text in "([{" and i in partner and partner[i] > i:
            if of_device or text != "{":
                i = partner[i] + 1
                continue
        i += 1


def opening_of(source, body):
    """The parenthesis of the parameters of a host function's body."""
    i = body - 1
    while source.tokens[i].text != ")":
        i -= 1
    return source.partner[i] - 1


def function_at(source, i):
    """The function that is declared from token `i` on; None if it has no body here."""
    tokens, partner = source.tokens, source.partner
    name = None
    while name is None:
        text = tokens[i].text
        if text in ";{":
            return None
        if text == "(" and tokens[i - 1].text in ("__launch_bounds__", "alignas", "operator"):
            if tokens[i - 1].text == "operator":
                name = "operator()"
                i = partner[i] + 1
            else:
                i = partner[i]
        elif text == "(":
            before = i - 1
            if tokens[before].text == ">":
                before = partner[before] - 1
            name = tokens[before].text
            if name == "]":
                name = "operator[]"
        elif text == "<" and i in partner:
            i = partner[i]
        if name is None:
            i += 1
    after = i = partner[i] + 1
    while tokens[i].text != "{" or re.match(r"\w|>", tokens[i - 1].text[-1]) and \
            tokens[i - 1].text not in ("const", "override", "noexcept"):
        if tokens[i].text == ";":
            return None
        i = partner[i] + 1 if tokens[i].text in "({" else i + 1
    return Function(name, after, i + 1, partner[i])


class Walker:
    """Finds the mutants of functions. `edits` are (position, rank, text): what to insert."""

    def __init__(self, source, file, first_number, wanted=None):
        self.source, self.file, self.wanted = source, file, wanted
        self.mutants, self.edits, self.seen = [], [], set()
        self.number, self.function, self.context = first_number, "", ""

    # What is found.

    def add(self, begin, end, kind, forced):
        text = self.source.range_text(begin, end)
        self.mutants.append({"number": self.number, "file": self.file, "function": self.function,
                             "kind": kind, "text": text, "forced": forced})
        self.number += 1
        return self.number - 1

    def insert(self, begin, end, before, after):
        rank = len(self.edits)
        self.edits.append((self.source.tokens[begin].begin, rank, before))
        self.edits.append((self.source.tokens[end - 1].end, -rank, after))

    def force(self, begin, end, *values):
        """[begin, end) is a predicate that mutants make one of `values`."""
        if self.wanted and not self.wanted.search(self.function + " " + self.context):
            return
        before = after = ""
        for value in values:
            number = self.add(begin, end, "predicate", value)
            off = "" if value == "true" else "!"
            before += f"({off}peft::mutants::is({number}) {'||' if value == 'true' else '&&'} ("
            after += "))"
        self.insert(begin, end, before, after)

    def barrier(self, i):
        """A barrier or wait that begins at token `i`; returns its end."""
        tokens, partner = self.source.tokens, self.source.partner
        end = i + 1
        if tokens[end].text == "<":
            end = partner[end] + 1
        end = partner[end] + 1
        number = self.add(i, end, BARRIERS[tokens[i].text], "gone")
        self.insert(i, end, f"(peft::mutants::is({number}) ? void() : ", ")")
        self.seen.add(i)
        return end

    # Expressions.

    def condition(self, begin, end, *values):
        """The whole condition of an if or ?:; `values` are what mutants make of it."""
        if len(values) == 1 or not any(self.source.joins(i) for i in self.source.top(begin, end)):
            self.force(begin, end, *values)
        self.expression(begin, end, covered=True)

    def expression(self, begin, end, covered=False):
        """`covered`: that the whole is a predicate is known already."""
        source, tokens = self.source, self.source.tokens
        if begin >= end:
            return
        top = list(source.top(begin, end))
        assignment = next((i for i in top if tokens[i].text in ASSIGNMENTS), None)
        if assignment is not None:
            self.expression(begin, assignment)
            return self.expression(assignment + 1, end)
        question = next((i for i in top if tokens[i].text == "?"), None)
        if question is not None:
            self.seen.add(question)
            colon = self.colon_of(question, end)
            self.condition(begin, question, "true", "false")
            self.expression(question + 1, colon)
            return self.expression(colon + 1, end)
        for mark, neutral in (("||", "false"), ("&&", "true")):
            if any(tokens[i].text == mark and source.joins(i) for i in top):
                self.seen.update(i for i in top if tokens[i].text == mark)
                for part in source.split(begin, end, mark):
                    joined = any(source.joins(i) for i in source.top(*part))
                    if not joined or mark == "||":
                        self.force(*part, neutral)
                    self.expression(*part, covered=True)
                return
        if tokens[begin].text == "!":
            return self.expression(begin + 1, end, covered)
        if tokens[begin].text == "(" and source.partner[begin] == end - 1:
            return self.expression(begin + 1, end - 1, covered)
        compared = [i for i in top if source.compares(i)]
        self.seen.update(compared)
        if compared and not covered:
            self.force(begin, end, "true", "false")
        self.groups(begin, end)

    def colon_of(self, question, end):
        open_questions = 0
        for i in self.source.top(question + 1, end):
            if self.source.tokens[i].text == "?":
                open_questions += 1
            elif self.source.tokens[i].text == ":":
                if not open_questions:
                    return i
                open_questions -= 1
        raise Unclear(f"{self.file}:{self.source.line(question)}: ? without :")

    def groups(self, begin, end):
        """What stands in the brackets of [begin, end)."""
        source, tokens = self.source, self.source.tokens
        i = begin
        while i < end:
            if tokens[i].text in BARRIERS:
                i = self.barrier(i)
                continue
            if source.partner.get(i, -1) > i:
                inside = i + 1, source.partner[i]
                if tokens[i].text == "<":
                    self.ignore(*inside)
                elif tokens[i].text == "{" and any(tokens[j].text == ";" for j in source.top(*inside)):
                    self.block(*inside)
                else:
                    for part in source.split(*inside, ","):
                        self.expression(*part)
                i = inside[1]
            i += 1

    def ignore(self, begin, end):
        """What is decided at compile time."""
        self.seen.update(range(begin, end))

    # Statements.

    def block(self, begin, end):
        i = begin
        while i < end:
            i = self.statement(i)

    def statement(self, i):
        """Walks the statement at token `i`; returns where the next one begins."""
        source, tokens, partner = self.source, self.source.tokens, self.source.partner
        text = tokens[i].text
        if text == "{":
            self.block(i + 1, partner[i])
            return partner[i] + 1
        if text == "if":
            return self.if_statement(i)
        if text in ("for", "while", "switch"):
            parts = list(source.split(i + 2, partner[i + 1], ";"))
            for n, part in enumerate(parts):
                # Of a loop the condition ends it, and what it joins may guard.
                for piece in source.split(*part, ","):
                    self.expression(*piece, covered=n == len(parts) // 2)
            return self.statement(partner[i + 1] + 1)
        if text in ("case", "default"):
            colon = next(j for j in range(i, len(tokens)) if tokens[j].text == ":")
            return colon + 1
        if text == "do":
            raise Unclear(f"{self.file}:{source.line(i)}: do")
        end = next(j for j in source.top(i, len(tokens)) if tokens[j].text == ";")
        if text in FIXED or tokens[i + 1].text in FIXED:
            self.ignore(i, end)
            return end + 1
        self.context = source.range_text(i, end + 1)
        for part in source.split(i + 1 if text == "return" else i, end, ","):
            self.expression(*part)
        return end + 1

    def if_statement(self, i):
        source, tokens, partner = self.source, self.source.tokens, self.source.partner
        self.seen.add(i)
        fixed = tokens[i + 1].text == "constexpr"
        opening = i + 2 if fixed else i + 1
        then = partner[opening] + 1
        # Where it ends shows whether there is an else; its mutants come later.
        has_else = tokens[self.end_of(then)].text == "else"
        if fixed:
            self.ignore(opening, then)
        else:
            self.context = source.range_text(opening, then)
            begin = list(source.split(opening + 1, then - 1, ";"))[-1][0]
            only_jump = tokens[then].text in JUMPS or (
                tokens[then].text == "{" and tokens[then + 1].text in JUMPS)
            if begin != opening + 1:
                self.expression(opening + 1, begin - 1)
            if has_else or self.ends_in_jump(then) and not only_jump:
                self.condition(begin, then - 1, "true", "false")
            else:
                self.condition(begin, then - 1, "false" if only_jump else "true")
        i = self.statement(then)
        return self.statement(i + 1) if has_else else i

    def ends_in_jump(self, then):
        """A block that leaves at its end: an early exit with work."""
        tokens, partner = self.source.tokens, self.source.partner
        if tokens[then].text != "{":
            return False
        before = partner[then] - 1
        start = before - 1
        while tokens[start].text not in ";{}":
            start -= 1
        return tokens[start + 1].text in JUMPS

    def end_of(self, i):
        """Where the statement after that at `i` begins, without walking it."""
        tokens, partner = self.source.tokens, self.source.partner
        text = tokens[i].text
        if text == "{":
            return partner[i] + 1
        if text in ("if", "for", "while", "switch"):
            opening = i + 2 if tokens[i + 1].text == "constexpr" else i + 1
            end = self.end_of(partner[opening] + 1)
            return self.end_of(end + 1) if text == "if" and tokens[end].text == "else" else end
        return next(j for j in self.source.top(i, len(tokens)) if tokens[j].text == ";") + 1

    # Functions.

    def walk(self, function):
        self.function = function.name
        self.groups(function.after_parameters, function.begin - 1)
        self.block(function.begin, function.end)
        if self.wanted:
            return
        for i in range(function.after_parameters, function.end):
            token = self.source.tokens[i].text
            if i not in self.seen and (token in ("if", "?") or token in BARRIERS or
                                       self.source.joins(i) or self.source.compares(i)):
                raise Unclear(f"{self.file}:{self.source.line(i)}: {token} is not accounted for")

    def rewritten(self):
        text, out, at = self.source.text, [], 0
        for position, _, inserted in sorted(self.edits, key=lambda edit: edit[:2]):
            out += [text[at:position], inserted]
            at = position
        return "".join(out) + text[at:]


def walk_file(path, file, first_number, wanted=None):
    try:
        source = Source(path.read_text())
    except Unclear as unclear:
        raise Unclear(f"{file}: {unclear}") from None
    walker = Walker(source, file, first_number, wanted)
    for function in functions(walker.source, of_device=not wanted):
        walker.walk(function)
    return walker


def name_mutants(mutants):
    """A name that a later version of the source still has: file, function, text, and the how
    manyth of the same text it is."""
    times = collections.Counter()
    for mutant in mutants:
        name = "{file} {function}: {text} -> {forced}".format(**mutant)
        times[name] += 1
        mutant["name"] = name + (f" #{times[name]}" if times[name] > 1 else "")


def files(tree, patterns=DEVICE):
    root = pathlib.Path(tree) / CUDA
    return sorted({path for pattern in patterns for path in root.glob(pattern)})


def find(tree):
    """[(path, walker)] of the files that have mutants, and all mutants."""
    root, walkers, mutants = pathlib.Path(tree) / CUDA, [], []
    for patterns, wanted in ((DEVICE, None), (HOST, HOST_WORDS)):
        for path in files(tree, patterns):
            # A change in one file leaves the numbers in the others, and so their objects.
            walker = walk_file(path, str(path.relative_to(root)), NUMBERS_A_FILE * len(walkers), wanted)
            if len(walker.mutants) > NUMBERS_A_FILE:
                raise Unclear(f"{path.name} has {len(walker.mutants)} mutants, more than numbers")
            if walker.mutants:
                walkers.append((path, walker))
                mutants += walker.mutants
    name_mutants(mutants)
    return walkers, mutants


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.split("\n\n")[1])
    tree, listing = sys.argv[1:]
    walkers, mutants = find(tree)
    for path, walker in walkers:
        # On the line that is there already: lines keep their numbers.
        path.write_text('#include "cuda/Mutants.h" ' + walker.rewritten())
    shutil.copy(HERE / "Mutants.h", pathlib.Path(tree) / CUDA)
    pathlib.Path(listing).write_text(json.dumps(mutants, indent=1))
    counts = collections.Counter(mutant["kind"] for mutant in mutants)
    print(f"{len(mutants)} mutants in {len(walkers)} files: " +
          ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))


if __name__ == "__main__":
    main()
