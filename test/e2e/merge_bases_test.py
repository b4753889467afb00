"""peftc merge and export of what other versions and other makers write.

usage: merge_bases_test.py --bin DIR

Text models inside others under the names of either version of transformers. The
last line counts what passed.
"""

import itertools
import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
from merge_test import expect_model, main, tensor_file  # noqa: E402
from cases import GEMMA3_IMAGES  # noqa: E402


def older_name(name):
    """As files have it from before transformers 4.52."""
    return name.replace("model.language_model.", "language_model.model.").replace(
        "lm_head.", "language_model.lm_head.")


def check_nested(bench):
    """Adapters and bases of either version, tied and not."""
    q = "model.language_model.layers.0.self_attn.q_proj"
    for tied, old_base, old_adapter in itertools.product((True, False), repeat=3):
        def build(made):
            made.linear(q).whole("model.language_model.norm.weight")
            if not tied:
                made.linear("lm_head")
            if old_adapter:
                made.tensors = {older_name(key): value for key, value in made.tensors.items()}

        config = {**GEMMA3_IMAGES, "tie_word_embeddings": tied}
        config["text_config"] = {**config["text_config"], "tie_word_embeddings": tied}
        root, made = bench.setup(config, {}, build)
        if old_base:
            made.merged = {older_name(name): value for name, value in made.merged.items()}
            base = {older_name(name): value for name, value in made.base.items()}
            tensor_file.save_tensors(f"{root}/model/model.safetensors", base, "f32")
        bench.merge(root)
        expect_model(f"{root}/out", made.merged, "f32")


CHECKS = {"names/nested": check_nested}

if __name__ == "__main__":
    sys.exit(main(CHECKS, __doc__))
