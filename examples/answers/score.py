"""usage: score.py HELDOUT.jsonl ANSWERS.jsonl [--show N] [--need-form PERCENT]

Compares answers (one JSON object with `text` per line, as peft-run --answers
writes them) with the held-out chats: how many have exactly the form
{"answer": "..."} and how many are right. Fails if fewer have the form than
--need-form asks for.
"""

import argparse
import json
import sys


def has_form(text):
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return (
        isinstance(value, dict)
        and list(value) == ["answer"]
        and isinstance(value["answer"], str)
        and json.dumps(value, ensure_ascii=False) == text
    )


def read(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("heldout")
    parser.add_argument("answers")
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--need-form", type=float, default=0.0)
    options = parser.parse_args()
    chats, answers = read(options.heldout), read(options.answers)
    if len(chats) != len(answers):
        sys.exit(f"{len(answers)} answers to {len(chats)} questions")
    formed = right = 0
    step = max(1, len(chats) // options.show) if options.show else 0
    for i, (chat, answer) in enumerate(zip(chats, answers)):
        question, expected = (m["content"] for m in chat["messages"][-2:])
        text = answer["text"].rstrip("\n")
        formed += has_form(text)
        right += text == expected
        if step and i % step == 0 and i // step < options.show:
            print(f"  {question}  ->  {json.dumps(text, ensure_ascii=False)}")
    share = 100.0 * formed / len(chats)
    print(
        f"  {formed} of {len(chats)} answers ({share:.0f} %) have exactly the"
        f" form {{\"answer\": \"...\"}}; {right}"
        f" ({100.0 * right / len(chats):.0f} %) are right"
    )
    return 0 if share >= options.need_form else 1


if __name__ == "__main__":
    sys.exit(main())
