//===- LinearProblem.cpp - a linear kernel with random operands -----------===//
#include "LinearProblem.h"

#include "cpu/Numbers.h"
#include "cpu/ThreadPool.h"

#include <cmath>
#include <cstdlib>
#include <gtest/gtest.h>

namespace peft::cpu::test {

double Tensor::at(uint64_t row, uint64_t column) const {
  if (!values.empty())
    return values[row * columns + column];
  Operand operand{const_cast<std::byte *>(bytes.data()) + guard + offset, type,
                  rows, columns};
  return loadFloat(operand, row * columns + column);
}

LinearProblem::LinearProblem(const std::string &kernel, uint64_t seed)
    : spec(findKernel(kernel)), random(seed) {
  for (const OperandSpec &operand : spec->operands)
    if (operand.access != Access::in)
      output = operand.name;
  for (const AttributeSpec &attribute : spec->attributes) {
    AttributeValue value;
    value.integer = attribute.integerDefault;
    value.real = attribute.realDefault;
    attributes.push_back(value);
  }
}

Tensor &LinearProblem::add(const std::string &operand, DType type,
                           uint64_t rows, uint64_t columns, double size) {
  Tensor &tensor = tensors[operand];
  tensor.type = type;
  tensor.rows = rows;
  tensor.columns = columns;
  // Only weights are mapped from files, at any address.
  bool weight = spec->operands[spec->findOperand(operand)].types == "W";
  tensor.offset = weight ? random() % 8 : 0;
  tensor.bytes.assign(rows * columns * byteSize(type) + 2 * Tensor::guard + 8,
                      std::byte{0xa5});
  std::normal_distribution<float> normal(0, static_cast<float>(size));
  for (uint64_t i = 0; i < rows * columns; ++i) {
    float value = normal(random);
    if (special && random() % 8 == 0) {
      constexpr float odd[] = {0.0f,   -0.0f,   1e-40f, -1e-40f,
                               1e-20f, -3e-20f, 3e-6f,  -2e-7f};
      value = odd[random() % std::size(odd)];
    }
    if (type == DType::f32)
      storeAt(tensor.data(), i, value);
    else if (type == DType::f16)
      storeAt(tensor.data(), i, floatToHalf(value));
    else
      storeAt(tensor.data(), i,
              static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
  }
  return tensor;
}

void LinearProblem::addQuantized(const std::string &operand,
                                 const conformance::Quantization &how,
                                 uint64_t rows, uint64_t columns) {
  conformance::QuantizedSample sample(how, rows, columns, random());
  auto put = [&](const std::string &name, DType type, uint64_t rows,
                 uint64_t columns, auto value) -> Tensor & {
    Tensor &tensor = tensors[name];
    tensor.type = type;
    tensor.rows = rows;
    tensor.columns = columns;
    tensor.offset = random() % 8;
    uint64_t bytes = byteCount(type, rows * columns);
    tensor.bytes.assign(bytes + 2 * Tensor::guard + 8, std::byte{0xa5});
    for (uint64_t i = 0; i < bytes / sizeof(value(0)); ++i)
      storeAt(tensor.data(), i, value(i));
    return tensor;
  };
  put(operand, how.type, rows, columns, [&](uint64_t i) {
    return sample.codes[i];
  }).values = sample.values;
  if (how.nested)
    put("absmax", DType::u8, 1, sample.absmax.size(),
        [&](uint64_t i) { return static_cast<uint8_t>(sample.absmax[i]); });
  else
    put("absmax", DType::f32, 1, sample.absmax.size(),
        [&](uint64_t i) { return static_cast<float>(sample.absmax[i]); });
  if (how.nested)
    put("nested_absmax", DType::f32, 1, sample.nestedAbsmax.size(),
        [&](uint64_t i) { return sample.nestedAbsmax[i]; });
  if (!sample.tables.empty())
    put("tables", DType::f32, 1, sample.tables.size(),
        [&](uint64_t i) { return sample.tables[i]; });
  set("block", static_cast<int64_t>(how.block));
  set("nested", static_cast<int64_t>(how.nested));
}

Tensor &LinearProblem::addIntegers(const std::string &operand, DType type,
                                   const std::vector<int64_t> &values) {
  Tensor &tensor = tensors[operand];
  tensor.type = type;
  tensor.rows = 1;
  tensor.columns = values.size();
  tensor.bytes.assign(values.size() * 8 + 2 * Tensor::guard, std::byte{0xa5});
  for (uint64_t i = 0; i < values.size(); ++i)
    if (type == DType::i32)
      storeAt(tensor.data(), i, static_cast<int32_t>(values[i]));
    else
      storeAt(tensor.data(), i, values[i]);
  return tensor;
}

void LinearProblem::set(const std::string &attribute, double value) {
  attributes[spec->findAttribute(attribute)].real = value;
}
void LinearProblem::set(const std::string &attribute, int64_t value) {
  attributes[spec->findAttribute(attribute)].integer = value;
}
double LinearProblem::real(const std::string &attribute) const {
  int index = spec->findAttribute(attribute);
  return index < 0 ? 0 : attributes[index].real;
}
int64_t LinearProblem::integer(const std::string &attribute) const {
  return attributes[spec->findAttribute(attribute)].integer;
}

Fault LinearProblem::launch(Path path, unsigned threads,
                            std::map<std::string, Tensor> &copies) const {
  std::vector<Operand> operands;
  std::vector<OperandShape> shapes;
  for (const OperandSpec &operand : spec->operands) {
    auto found = copies.find(std::string(operand.name));
    if (found == copies.end()) {
      operands.emplace_back();
      shapes.emplace_back();
      continue;
    }
    Tensor &tensor = found->second;
    operands.push_back(
        {tensor.data(), tensor.type, tensor.rows, tensor.columns});
    bool matrix = operand.shape.find(',') != std::string_view::npos;
    shapes.push_back(
        {true, tensor.type, std::span(&tensor.rows + !matrix, matrix ? 2 : 1)});
  }
  std::vector<DType> types;
  auto shape = bindShapes(*spec, shapes, attributes, types);
  if (!shape.ok()) {
    ADD_FAILURE() << spec->name << ": " << shape.status().message();
    return {"the case is wrong"};
  }
  WorkspaceNeed need = workspaceNeed(*spec, *shape, threads, DeviceKind::cpu);
  std::vector<std::byte> workspace(need.shared + need.thread + 64);
  ThreadPool pool(threads);
  Call call;
  call.operands = operands;
  call.attributes = attributes;
  call.threadWorkspace =
      workspace.data() +
      (64 - reinterpret_cast<uintptr_t>(workspace.data()) % 64) % 64;
  call.threadWorkspaceBytes = need.thread / threads;
  call.sharedWorkspace = call.threadWorkspace + need.thread;
  call.pool = &pool;
  return findFunction(path, spec - allKernels().data())(call);
}

bool LinearProblem::fault(Path path) const {
  std::map<std::string, Tensor> copies = tensors;
  return static_cast<bool>(launch(path, 1, copies));
}

Tensor LinearProblem::run(Path path, unsigned threads) const {
  return runAll(path, threads)[output];
}

std::map<std::string, Tensor> LinearProblem::runAll(Path path,
                                                    unsigned threads) const {
  std::map<std::string, Tensor> copies = tensors;
  Fault fault = launch(path, threads, copies);
  EXPECT_FALSE(fault) << fault.text;
  auto untouched = [](const std::byte *begin, const std::byte *end) {
    return std::all_of(begin, end,
                       [](std::byte b) { return b == std::byte{0xa5}; });
  };
  for (auto &[name, tensor] : copies) {
    const Tensor &before = tensors.at(name);
    uint64_t size = byteCount(tensor.type, tensor.rows * tensor.columns);
    EXPECT_TRUE(untouched(tensor.bytes.data(), tensor.data()) &&
                untouched(tensor.data() + size,
                          tensor.bytes.data() + tensor.bytes.size()))
        << spec->name << ": bytes around " << name;
    bool written =
        spec->operands[spec->findOperand(name)].access != Access::in;
    EXPECT_TRUE(written || before.bytes == tensor.bytes)
        << name << " has changed";
  }
  return copies;
}

std::vector<Path> vectorPaths() {
  std::vector<Path> paths;
  const char *before = std::getenv("PEFT_CPU");
  std::string kept = before ? before : "";
  for (Path path : {Path::avx2, Path::avx512, Path::avx512bf16}) {
    setenv("PEFT_CPU", nameOf(path), 1);
    if (choosePath().ok())
      paths.push_back(path);
  }
  before ? setenv("PEFT_CPU", kept.c_str(), 1) : unsetenv("PEFT_CPU");
  return paths;
}

const char *nameOf(Path path) {
  constexpr const char *names[] = {"plain", "avx2", "avx512", "avx512bf16"};
  return names[static_cast<size_t>(path)];
}

uint64_t countDifferences(const Tensor &a, const Tensor &b) {
  uint64_t differences = 0;
  for (uint64_t i = 0; i < a.rows; ++i)
    for (uint64_t j = 0; j < a.columns; ++j) {
      double x = a.at(i, j), y = b.at(i, j);
      bool equal = std::isnan(x) ? std::isnan(y)
                                 : x == y && std::signbit(x) == std::signbit(y);
      differences += !equal;
    }
  return differences;
}

} // namespace peft::cpu::test
