//===- Suite.h - one kernel, every device -----------------------*- C++ -*-===//
//
// A Case holds the operands and attributes of one launch. It checks them
// against kernels.def and runs the kernel on one thread of the CPU's plain
// path, whose results a test compares with a reference in double, which it
// writes down itself. How the other devices have to agree stands in one
// Agreement.cpp per device, each linked with the same tests into an executable
// of its own:
//
//   cpu/   every path this processor has, with 1, 2 and 3 threads: all bytes
//   cuda/  the CUDA kernels, emulated, in three orders of threads: all bytes
//          where the arithmetic is the same, else within a tolerance
//
// On the CPU, operands lie between guards, weights (types "W") at odd
// addresses; outputs and workspaces start as NaNs.
//
//   TEST_F(Conformance, add_fwd) {
//     Case launch("add_fwd");
//     launch.input("a", DType::f32, 5, 7).input("b", DType::bf16, 5, 7)
//           .output("y", DType::f32, 5, 7);
//     launch.expectSameBits();
//     launch.expectNear("y", reference, 1e-6);
//   }
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_TEST_CONFORMANCE_SUITE_H
#define PEFT_TEST_CONFORMANCE_SUITE_H

#include "QuantizedSample.h"
#include "cpu/Call.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace peft::conformance {

using cpu::Fault;
using cpu::Path;

/// A test called after a kernel must compare a Case of that kernel.
class Conformance : public testing::Test {
protected:
  void TearDown() override;
};

/// What "C" in kernels.def stands for.
constexpr DType computeTypes[] = {DType::f32, DType::bf16, DType::f16};

/// `single` in f32; else `brain`, what bf16's 8 bits give, or an eighth of it:
/// f16 has three bits more.
constexpr double toleranceOf(DType type, double single, double brain) {
  return type == DType::f32 ? single : type == DType::bf16 ? brain : brain / 8;
}

/// For tests that compare a kernel by other means than a Case.
void noteCompared(std::string_view kernel);

/// Numbers in [-1, 1), the same for the same seed and index.
double uniform(uint64_t seed, uint64_t index);

/// An element as the bytes of its type (round to nearest even) and back.
void encode(DType type, double value, std::byte *to);
double decode(DType type, const std::byte *from);
/// `value` rounded to the type.
double rounded(DType type, double value);

class Case {
public:
  explicit Case(std::string_view kernel);

  /// An operand with random values in [-1, 1), or those of `value`.
  Case &input(const std::string &name, DType type, uint64_t rows,
              uint64_t columns,
              const std::function<double(uint64_t)> &value = {});
  /// A weight with random codes and scales, in the operand `name` and those of
  /// its parts, and the attributes that belong to them. Returns its values.
  std::vector<double> quantized(const std::string &name,
                                const Quantization &how, uint64_t rows,
                                uint64_t columns);
  /// A vector of `values`.
  Case &vector(const std::string &name, DType type,
               const std::vector<double> &values);
  /// An operand of NaNs (floats) or -1 (integers) that the kernel writes.
  Case &output(const std::string &name, DType type, uint64_t rows,
               uint64_t columns);
  Case &attribute(const std::string &name, int64_t value);
  Case &attribute(const std::string &name, double value);
  Case &attribute(const std::string &name, std::vector<float> value);
  /// Where devices may differ, they may do so by `factor` times the usual: sums
  /// of many terms of which little is left.
  Case &slack(double factor);

  /// The values an operand has before the launch.
  std::vector<double> before(const std::string &name) const;
  /// Sets one element of an operand before the launch.
  void poke(const std::string &name, uint64_t element, double value);

  /// Runs once and keeps what it wrote. The guards are checked.
  Fault run(Path path, unsigned threads);
  /// The values after the last run.
  std::vector<double> after(const std::string &name) const;

  /// The device agrees with plain on one thread, whose results are the ones
  /// `after` then shows.
  void expectSameBits();
  /// max |after - reference| <= tolerance x max(max |reference|, 1e-30).
  void expectNear(const std::string &name, const std::vector<double> &reference,
                  double tolerance);
  /// The device answers with a fault that names `found`.
  void expectFault(int64_t found);

private:
  friend class CudaRun;
  struct Stored {
    DType type = DType::f32;
    uint64_t rows = 0, columns = 0;
    std::vector<std::byte> initial, result;
  };
  void put(const std::string &name, Stored stored);
  void prepare();

  const KernelSpec *spec = nullptr;
  size_t number = 0;
  std::map<std::string, Stored> operands;
  std::vector<Attribute> given;
  std::vector<AttributeValue> values;
  Launch launch;
  uint64_t sharedBytes = 0, threadBytes = 0; ///< of the CPU device
  uint64_t cudaBytes = 0;
  double slackFactor = 1;
};

/// Index of the first element whose bits differ, NaNs being equal; or -1.
int64_t firstDifference(DType type, const std::vector<std::byte> &a,
                        const std::vector<std::byte> &b);

/// All paths this processor can run, plain first.
std::vector<Path> availablePaths();
const char *pathName(Path path);

} // namespace peft::conformance

#endif // PEFT_TEST_CONFORMANCE_SUITE_H
