"""Compares peft_data.import_gguf with transformers' own GGUF loader.

usage: check_gguf.py [FILE.gguf|auto]

Same weights to bf16 rounding, same tokens for 200 varied texts, same greedy
answers. Needs torch, transformers and gguf (./check.sh --peers has them).

transformers ignores `tokenizer.ggml.pre`, so it does not cut digits off before
GPT-2's expression; that shows only where two blanks stand before a digit, or
one before a sign like "²". Such texts are compared with llama.cpp, which reads
`pre`, if the package llama-cpp-python is installed.
"""

import os
import random
import re
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(
    0, os.path.join(os.path.dirname(__file__), "..", "..", "python")
)
from peft_data.import_gguf import find_packaged_model, import_gguf  # noqa: E402
from peft_data.tokenizer import ModelTokenizer  # noqa: E402

QUESTIONS = [
    "What is the capital of France?",
    "Count from 1 to 10.",
    "Write one sentence about the sea.",
    "What is 12 plus 30?",
]
PIECES = (
    "the river runs 2024 times\t over Łódź; naïve café — “quoted” text\n\n"
    "def f(x):\n    return x**2 + 10_000  # ok 3.14159 0x1F "
    "日本語のテキスト Ελληνικά русский язык 한국어 عربى 😀👍🏽 "
    "I'll we've it's DON'T 1/2 ½ ² a_b-c.d@e.org http://x.y/z?q=1&r=2 "
    "<|im_start|>user <|im_end|> <tag> {\"answer\": \"7\"} \\n %s $5.00 #!~"
).split(" ")


def varied_texts(count):
    """`count` texts without blanks before a digit, and those with."""
    generator = random.Random(7)
    plain = ["", " ", "\n", "  two  spaces  ", "1234567890", "a" * 300]
    blanks = ["a  1", "x\n\n2"]
    while len(plain) < count:
        words = generator.choices(PIECES, k=generator.randint(1, 40))
        separator = generator.choice([" ", "  ", "\n", "", "\t"])
        text = separator.join(words)
        digit_after_blanks = re.search(r"\s\s[0-9]|\s[²½]", text)
        (blanks if digit_after_blanks else plain).append(text)
    return plain, blanks


def compare_weights(ours, theirs):
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    for name, value in theirs.items():
        expected = value.to(torch.bfloat16).float()
        assert torch.equal(ours[name].float(), expected), name
    return len(theirs)


def compare_tokens(directory, theirs, texts):
    ours = ModelTokenizer(directory)
    again = AutoTokenizer.from_pretrained(directory)
    for text in texts:
        expected = theirs(text, add_special_tokens=False)["input_ids"]
        found = ours.encode_plain(text)
        assert found == expected, (text, found, expected)
        assert again(text, add_special_tokens=False)["input_ids"] == found, text
        assert ours.decode(found, False) == theirs.decode(
            expected, clean_up_tokenization_spaces=False
        ), text
    for question in QUESTIONS:
        chat = [{"role": "user", "content": question}]
        options = {"tokenize": False, "add_generation_prompt": True}
        assert again.apply_chat_template(
            chat, **options
        ) == theirs.apply_chat_template(chat, **options)
    return len(texts)


def compare_with_llama_cpp(path, directory, texts):
    try:
        from llama_cpp import Llama
    except ImportError:
        return "llama-cpp-python is not installed: not compared with it"
    theirs = Llama(model_path=path, vocab_only=True, verbose=False)
    ours = ModelTokenizer(directory)
    for text in texts:
        expected = theirs.tokenize(text.encode(), add_bos=False, special=True)
        found = ours.encode_plain(text)
        assert found == expected, (text, found, expected)
    return f"same tokens as llama.cpp ({len(texts)} texts)"


def greedy(model, tokenizer, question):
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    with torch.no_grad():
        out = model.generate(**prompt, max_new_tokens=32, do_sample=False)
    return out[0, prompt["input_ids"].shape[1] :].tolist()


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else "auto"
    if path == "auto":
        path = find_packaged_model()
    folder, name = os.path.split(os.path.abspath(path))
    with tempfile.TemporaryDirectory() as directory:
        import_gguf(path, directory)
        theirs = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=name, dtype=torch.float32
        )
        ours = AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
        tensors = compare_weights(ours, theirs)
        plain, blanks = varied_texts(200)
        texts = compare_tokens(directory, tokenizer, plain)
        print(compare_with_llama_cpp(path, directory, plain + blanks))
        for parameter in theirs.parameters():
            parameter.data = parameter.data.bfloat16().float()
        again = AutoTokenizer.from_pretrained(directory)
        for question in QUESTIONS:
            expected = greedy(theirs, tokenizer, question)
            found = greedy(ours, again, question)
            assert found == expected, (question, found, expected)
            print(f"{question} -> {again.decode(found)!r}")
    print(
        f"same weights ({tensors} tensors), same tokens ({texts} texts), same"
        f" greedy answers ({len(QUESTIONS)})"
    )


if __name__ == "__main__":
    main()
