"""The mutants of the CUDA kernels: whether test/mutations/instrument.py finds all there are."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test" / "mutations"))

import instrument  # noqa: E402
import run_mutants  # noqa: E402

KERNEL = """
namespace peft::cuda {
template <unsigned n> struct Rows {
  const float *values;
  uint64_t rows;
  __device__ bool has(uint64_t i) const { return values && i < rows; }
};
Status hostCode(const Call &call) {
  if (call.count > 3)
    return {};
  return launch(call);
}
template <typename T>
__global__ void __launch_bounds__(128)
    copyRows(Gate gate, Rows<4> from, T *to, uint64_t columns) {
  if (closed(gate))
    return;
  constexpr unsigned most = sizeof(T) > 2 ? 4 : 8;
  __shared__ float tile[most];
  for (uint64_t i = threadIdx.x; i < columns; i += blockDim.x) {
    tile[i % most] = from.has(i) ? from.values[i] : 0.0f;
    __syncthreads();
    to[i] = fromFloat<T>(tile[0]);
  }
#ifdef __CUDACC__
  if (onlyForNvcc)
    __syncthreads();
#endif
  awaitCopies<0>();
NEW
}
} // namespace peft::cuda
"""


def mutants_of(text):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "Kernel.cu"
        path.write_text(text)
        walker = instrument.walk_file(path, "Kernel.cu", 0)
        instrument.name_mutants(walker.mutants)
        return [mutant["name"] for mutant in walker.mutants], walker.rewritten()


class Instrument(unittest.TestCase):
    known = [
        "Kernel.cu Rows::has: values -> true",
        "Kernel.cu Rows::has: i < rows -> true",
        "Kernel.cu copyRows: closed(gate) -> false",
        "Kernel.cu copyRows: from.has(i) -> true",
        "Kernel.cu copyRows: from.has(i) -> false",
        "Kernel.cu copyRows: __syncthreads() -> gone",
        "Kernel.cu copyRows: awaitCopies<0>() -> gone",
    ]

    def test_finds_device_code_only(self):
        self.assertEqual(mutants_of(KERNEL.replace("NEW", ""))[0], self.known)

    def test_new_predicates_are_found(self):
        for new, expected in (
            ("  if (columns > 7)\n    to[0] = T{};", ["columns > 7 -> true"]),
            ("  if (columns > 7)\n    return;", ["columns > 7 -> false"]),
            ("  if (columns > 7) {\n    to[0] = T{};\n    return;\n  }",
             ["columns > 7 -> true", "columns > 7 -> false"]),
            ("  if (columns > 7)\n    to[0] = T{};\n  else\n    to[1] = T{};",
             ["columns > 7 -> true", "columns > 7 -> false"]),
            ("  const bool far = columns > 7;", ["columns > 7 -> true", "columns > 7 -> false"]),
            ("  each([&](unsigned i) {\n    if (!(i == 3 || columns > 7))\n      to[i] = T{};\n  });",
             ["!(i == 3 || columns > 7) -> true", "i == 3 -> false", "columns > 7 -> false"]),
            ("  while (columns > 7 && to)\n    --columns;", ["columns > 7 -> true", "to -> true"]),
            ("  __syncwarp();", ["__syncwarp() -> gone"]),
        ):
            found, rewritten = mutants_of(KERNEL.replace("NEW", new))
            self.assertEqual(found[len(self.known):],
                             [f"Kernel.cu copyRows: {name}" for name in expected])
            for number in range(len(found)):
                self.assertEqual(rewritten.count(f"mutants::is({number})"), 1)
            self.assertEqual(rewritten.count("\n"), KERNEL.replace("NEW", new).count("\n"))

    def test_repeated_text_gets_a_number(self):
        found, _ = mutants_of(KERNEL.replace("NEW", "  __syncthreads();"))
        self.assertEqual(found[-1], "Kernel.cu copyRows: __syncthreads() -> gone #2")

    def test_what_is_not_understood_is_an_error(self):
        with self.assertRaises(instrument.Unclear):
            mutants_of(KERNEL.replace("NEW", "  do {\n  } while (columns > 7);"))

    def test_the_kernels_of_the_project(self):
        _, mutants = instrument.find(ROOT)
        for file in instrument.files(ROOT):
            text = instrument.blank_directives(file.read_text())
            barriers = text.count("__syncthreads();") + text.count("awaitCopies<0>();")
            found = [m for m in mutants if m["file"] == str(file.relative_to(ROOT / instrument.CUDA))
                     and m["text"] in ("__syncthreads()", "awaitCopies<0>()")]
            self.assertEqual(len(found), barriers, file)
        names = [mutant["name"] for mutant in mutants]
        self.assertEqual(len(names), len(set(names)))

    def test_survivors_exist(self):
        names = {mutant["name"] for mutant in instrument.find(ROOT)[1]}
        reasons = run_mutants.read_survivors(run_mutants.HERE / "survivors.txt")
        self.assertEqual([name for name in reasons if name not in names], [])
        self.assertTrue(all(len(reason) > 20 for reason in reasons.values()))


if __name__ == "__main__":
    unittest.main()
