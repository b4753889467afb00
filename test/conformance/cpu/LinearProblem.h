//===- LinearProblem.h - a linear kernel with random operands ---*- C++ -*-===//
#ifndef PEFT_TEST_LINEARPROBLEM_H
#define PEFT_TEST_LINEARPROBLEM_H

#include "../QuantizedSample.h"
#include "cpu/Call.h"

#include <map>
#include <random>
#include <string>
#include <vector>

namespace peft::cpu::test {

/// An operand in memory at any byte offset, with guard bytes on both sides.
struct Tensor {
  DType type = DType::f32;
  uint64_t rows = 0, columns = 0, offset = 0;
  std::vector<std::byte> bytes;

  std::byte *data() { return bytes.data() + guard + offset; }
  /// Of a quantized weight: what its codes stand for.
  std::vector<float> values;

  double at(uint64_t row, uint64_t column) const;
  static constexpr uint64_t guard = 64;
};

/// One launch of a kernel. Operands that are not added are absent.
class LinearProblem {
public:
  LinearProblem(const std::string &kernel, uint64_t seed);

  /// Fills the tensor with numbers around `size`; `special` mixes in zeros of
  /// both signs and denormals of f32 and of f16.
  Tensor &add(const std::string &operand, DType type, uint64_t rows,
              uint64_t columns, double size = 1);
  /// A weight with the operands and attributes that belong to it.
  void addQuantized(const std::string &operand,
                    const conformance::Quantization &how, uint64_t rows,
                    uint64_t columns);
  Tensor &addIntegers(const std::string &operand, DType type,
                      const std::vector<int64_t> &values);
  void set(const std::string &attribute, double value);
  void set(const std::string &attribute, int64_t value);

  /// The output operand as `path` leaves it; the problem stays as it is. Fails
  /// the test when bytes around an operand or an input have changed.
  Tensor run(Path path, unsigned threads) const;

  /// All operands as `path` leaves them; otherwise the same.
  std::map<std::string, Tensor> runAll(Path path, unsigned threads) const;

  /// Whether the launch is refused.
  bool fault(Path path) const;

  const Tensor &operator[](const std::string &operand) const {
    return tensors.at(operand);
  }
  bool has(const std::string &operand) const {
    return tensors.contains(operand);
  }
  std::span<const AttributeValue> attributeValues() const {
    return attributes;
  }
  double real(const std::string &attribute) const;
  int64_t integer(const std::string &attribute) const;

  const KernelSpec *spec;
  std::string output;
  std::mt19937_64 random;
  bool special = false;
  std::map<std::string, Tensor> tensors;

private:
  Fault launch(Path path, unsigned threads,
               std::map<std::string, Tensor> &operands) const;

  std::vector<AttributeValue> attributes;
};

/// The paths this processor has, without plain.
std::vector<Path> vectorPaths();
const char *nameOf(Path path);

/// How many elements differ in bits; NaNs are equal to each other.
uint64_t countDifferences(const Tensor &a, const Tensor &b);

} // namespace peft::cpu::test

#endif // PEFT_TEST_LINEARPROBLEM_H
