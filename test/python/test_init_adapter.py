"""peft-data init-adapter: the start of PiSSA and OLoRA."""

import io
import json
import os
import sys
import tempfile
import unittest
from unittest import mock

import numpy as np
from safetensors.numpy import load_file, save_file

from peft_data import cli
from peft_data.init_adapter import olora, pissa

KEY = "base_model.model.layer"


def weights(rows, columns):
    return np.random.default_rng(1).standard_normal((rows, columns), np.float32)


class Decompositions(unittest.TestCase):
    def test_pissa_is_the_best_of_its_rank(self):
        for shape in ((20, 12), (9, 30)):
            weight = weights(*shape)
            a, b = pissa(weight, 4, 2.5, 0)
            values = np.linalg.svd(weight, compute_uv=False)
            left = np.linalg.norm(weight - 2.5 * b @ a)
            self.assertAlmostEqual(left, np.linalg.norm(values[4:]), 4)
            # Both factors share the root of the singular values.
            np.testing.assert_allclose(a @ a.T, b.T @ b, atol=1e-4)

    def test_iterations_come_near(self):
        weight = weights(40, 8) @ weights(8, 30)
        a, b = pissa(weight, 8, 0.5, 4)
        np.testing.assert_allclose(0.5 * b @ a, weight, atol=1e-3)

    def test_olora_takes_what_comes_first(self):
        weight = weights(20, 12)
        a, b = olora(weight, 5)
        np.testing.assert_allclose(b.T @ b, np.eye(5), atol=1e-5)
        np.testing.assert_allclose((b @ a)[:, :5], weight[:, :5], atol=1e-5)


class Command(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.model = self.directory.name
        self.output = os.path.join(self.model, "start")

    def run_command(self, request):
        errors, self.printed = io.StringIO(), io.StringIO()
        text = request if isinstance(request, str) else json.dumps(request)
        with mock.patch("sys.stdin", io.StringIO(text)):
            with mock.patch("sys.stderr", errors), mock.patch("sys.stdout", self.printed):
                code = cli.main(
                    ["init-adapter", "--model", self.model, "-o", self.output]
                )
        return code, errors.getvalue()

    def request(self, **changes):
        module = {"module": "layer", "rank": 3, "scale": 2.0}
        return {
            "method": "pissa",
            "iterations": 0,
            "config": "{}\n",
            "modules": [{**module, **changes}],
        }

    def write(self, weight, name="layer.weight"):
        path = os.path.join(self.model, "model.safetensors")
        save_file({name: weight}, path)

    def test_writes_an_adapter(self):
        weight = weights(7, 5)
        self.write(weight)
        self.assertEqual(self.run_command(self.request()), (0, ""))
        self.assertEqual(self.printed.getvalue(), ".", "a point for each weight")
        found = load_file(os.path.join(self.output, "adapter_model.safetensors"))
        a, b = pissa(weight, 3, 2.0, 0)
        np.testing.assert_array_equal(found[f"{KEY}.lora_A.weight"], a)
        np.testing.assert_array_equal(found[f"{KEY}.lora_B.weight"], b)
        with open(os.path.join(self.output, "adapter_config.json")) as file:
            self.assertEqual(file.read(), "{}\n")

    def test_finds_the_older_place_of_a_nested_model(self):
        weight = weights(7, 5)
        self.write(weight, "language_model.model.layers.0.mlp.up_proj.weight")
        module = "model.language_model.layers.0.mlp.up_proj"
        self.assertEqual(self.run_command(self.request(module=module)), (0, ""))
        found = load_file(os.path.join(self.output, "adapter_model.safetensors"))
        a, _ = pissa(weight, 3, 2.0, 0)
        key = f"base_model.model.{module}.lora_A.weight"
        np.testing.assert_array_equal(found[key], a)
        other = "model.language_model.layers.1.mlp.up_proj"
        said = self.run_command(self.request(module=other))[1]
        self.assertIn(f"no tensor {other}.weight", said)

    def test_refuses_what_has_no_start(self):
        self.write(weights(7, 5))
        for changes, message in (
            ({"rank": 6}, "rank 6 is more than its weight has, which is 7 x 5"),
            ({"module": "other"}, "no tensor other.weight"),
        ):
            code, said = self.run_command(self.request(**changes))
            self.assertEqual(code, 65)
            self.assertIn(message, said)
        self.write(np.full((7, 5), np.nan, np.float32))
        self.assertIn("NaN", self.run_command(self.request())[1])
        self.write(np.zeros((7, 5), np.uint8))
        self.assertIn("layer.weight is U8", self.run_command(self.request())[1])
        self.assertIn("not JSON", self.run_command("{")[1])


if __name__ == "__main__":
    sys.exit(unittest.main())
