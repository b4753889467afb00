//===- Suite.cpp - one kernel, every path, the same bits ------------------===//
#include "Suite.h"

#include "cpu/ThreadPool.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <set>

namespace peft::conformance {

namespace {

constexpr size_t guardBytes = 256;
constexpr std::byte guardByte{0x5c};

std::set<std::string> &comparedKernels() {
  static std::set<std::string> kernels;
  return kernels;
}

cpu::ThreadPool &poolOf(unsigned threads) {
  static std::map<unsigned, std::unique_ptr<cpu::ThreadPool>> pools;
  std::unique_ptr<cpu::ThreadPool> &pool = pools[threads];
  if (!pool)
    pool = std::make_unique<cpu::ThreadPool>(threads);
  return *pool;
}

/// Memory between two guards; `shift` bytes past a multiple of 64.
class Guarded {
public:
  Guarded(size_t bytes, size_t shift, std::byte fill)
      : bytes(bytes), memory(bytes + 2 * guardBytes + 128, guardByte) {
    auto address = reinterpret_cast<uintptr_t>(memory.data()) + guardBytes;
    begin = reinterpret_cast<std::byte *>((address + 63) / 64 * 64 + shift);
    std::memset(begin, static_cast<int>(fill), bytes);
  }
  std::byte *data() { return begin; }
  bool intact() const {
    for (const std::byte *p = memory.data(); p < memory.data() + memory.size();
         ++p)
      if ((p < begin || p >= begin + bytes) && *p != guardByte)
        return false;
    return true;
  }

private:
  size_t bytes;
  std::vector<std::byte> memory;
  std::byte *begin;
};

} // namespace

void Conformance::TearDown() {
  const testing::TestInfo *test =
      testing::UnitTest::GetInstance()->current_test_info();
  if (!IsSkipped())
    EXPECT_TRUE(comparedKernels().count(test->name()))
        << "this test compared no Case of the kernel it is called after";
}

void noteCompared(std::string_view kernel) {
  comparedKernels().insert(std::string(kernel));
}

double uniform(uint64_t seed, uint64_t index) {
  uint64_t x = (seed * 0x9E3779B97F4A7C15u + index + 1) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 30) * 0x94D049BB133111EBu;
  x = (x ^ x >> 27) * 0xBF58476D1CE4E5B9u;
  x ^= x >> 31;
  return static_cast<double>(x >> 11) * 0x1p-52 - 1;
}

void encode(DType type, double value, std::byte *to) {
  auto copy = [&](auto bits) { std::memcpy(to, &bits, sizeof bits); };
  switch (type) {
  case DType::f64:
    return copy(value);
  case DType::f32:
    return copy(static_cast<float>(value));
  case DType::bf16: {
    float narrow = static_cast<float>(value);
    uint32_t bits;
    std::memcpy(&bits, &narrow, 4);
    if (std::isnan(narrow))
      return copy(static_cast<uint16_t>(bits >> 16 | 0x40));
    return copy(
        static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16));
  }
  case DType::f16:
    return copy(static_cast<_Float16>(value));
  case DType::i32:
    return copy(static_cast<int32_t>(value));
  case DType::i64:
    return copy(static_cast<int64_t>(value));
  default:
    return copy(static_cast<uint8_t>(value));
  }
}

double decode(DType type, const std::byte *from) {
  auto as = [&](auto bits) {
    std::memcpy(&bits, from, sizeof bits);
    return bits;
  };
  switch (type) {
  case DType::f64:
    return as(double());
  case DType::f32:
    return as(float());
  case DType::bf16: {
    uint32_t bits = static_cast<uint32_t>(as(uint16_t())) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  }
  case DType::f16:
    return as(_Float16());
  case DType::i32:
    return as(int32_t());
  case DType::i64:
    return static_cast<double>(as(int64_t()));
  default:
    return as(uint8_t());
  }
}

double rounded(DType type, double value) {
  std::byte bytes[8];
  encode(type, value, bytes);
  return decode(type, bytes);
}

static bool isNaN(DType type, const std::byte *value) {
  return (type == DType::f32 || type == DType::f64 || type == DType::bf16 ||
          type == DType::f16) &&
         std::isnan(decode(type, value));
}

int64_t firstDifference(DType type, const std::vector<std::byte> &a,
                        const std::vector<std::byte> &b) {
  const size_t size = byteSize(type);
  for (size_t i = 0; i < a.size(); i += size)
    if (std::memcmp(&a[i], &b[i], size) != 0 &&
        !(isNaN(type, &a[i]) && isNaN(type, &b[i])))
      return static_cast<int64_t>(i / size);
  return -1;
}

Case::Case(std::string_view kernel) {
  spec = findKernel(kernel);
  if (!spec) {
    ADD_FAILURE() << "kernels.def has no kernel " << kernel;
    std::abort();
  }
  number = static_cast<size_t>(spec - allKernels().data());
  launch.kernel = kernel;
}

void Case::put(const std::string &name, Stored stored) {
  ASSERT_GE(spec->findOperand(name), 0)
      << spec->name << " has no operand " << name;
  operands[name] = std::move(stored);
}

Case &Case::input(const std::string &name, DType type, uint64_t rows,
                  uint64_t columns,
                  const std::function<double(uint64_t)> &value) {
  Stored stored{type, rows, columns, {}, {}};
  const uint64_t seed = std::hash<std::string>()(name);
  const size_t size = byteSize(type);
  stored.initial.resize(rows * columns * size);
  for (uint64_t i = 0; i < rows * columns; ++i)
    encode(type, value ? value(i) : uniform(seed, i),
           &stored.initial[i * size]);
  put(name, std::move(stored));
  return *this;
}

std::vector<double> Case::quantized(const std::string &name,
                                    const Quantization &how, uint64_t rows,
                                    uint64_t columns) {
  QuantizedSample sample(how, rows, columns, rows * 1009 + columns);
  Stored stored{how.type, rows, columns, {}, {}};
  for (uint8_t code : sample.codes)
    stored.initial.push_back(std::byte{code});
  put(name, std::move(stored));
  vector("absmax", how.nested ? DType::u8 : DType::f32, sample.absmax);
  auto widened = [](const std::vector<float> &values) {
    return std::vector<double>(values.begin(), values.end());
  };
  if (!sample.tables.empty())
    vector("tables", DType::f32, widened(sample.tables));
  if (how.nested)
    vector("nested_absmax", DType::f32, widened(sample.nestedAbsmax));
  attribute("block", static_cast<int64_t>(how.block));
  attribute("nested", static_cast<int64_t>(how.nested));
  return widened(sample.values);
}

Case &Case::vector(const std::string &name, DType type,
                   const std::vector<double> &values) {
  return input(name, type, 1, values.size(),
               [&](uint64_t i) { return values[i]; });
}

Case &Case::output(const std::string &name, DType type, uint64_t rows,
                   uint64_t columns) {
  Stored stored{type, rows, columns, {}, {}};
  stored.initial.assign(rows * columns * byteSize(type), std::byte{0xff});
  put(name, std::move(stored));
  return *this;
}

Case &Case::attribute(const std::string &name, int64_t value) {
  given.push_back({name, value});
  return *this;
}
Case &Case::attribute(const std::string &name, double value) {
  given.push_back({name, value});
  return *this;
}
Case &Case::attribute(const std::string &name, std::vector<float> value) {
  given.push_back({name, std::move(value)});
  return *this;
}

Case &Case::slack(double factor) {
  slackFactor = factor;
  return *this;
}

std::vector<double> Case::before(const std::string &name) const {
  const Stored &stored = operands.at(name);
  const size_t size = byteSize(stored.type);
  std::vector<double> values;
  for (size_t i = 0; i < stored.initial.size(); i += size)
    values.push_back(decode(stored.type, &stored.initial[i]));
  return values;
}

void Case::poke(const std::string &name, uint64_t element, double value) {
  Stored &stored = operands.at(name);
  encode(stored.type, value, &stored.initial[element * byteSize(stored.type)]);
}

std::vector<double> Case::after(const std::string &name) const {
  const Stored &stored = operands.at(name);
  const size_t size = byteSize(stored.type);
  std::vector<double> values;
  for (size_t i = 0; i < stored.result.size(); i += size)
    values.push_back(decode(stored.type, &stored.result[i]));
  return values;
}

/// Binds the attributes, checks the launch against kernels.def and asks it for
/// the workspace.
void Case::prepare() {
  launch.attributes = given;
  Expected<std::vector<AttributeValue>> bound = bindAttributes(*spec, launch);
  ASSERT_TRUE(bound.ok()) << bound.status().message();
  values = *bound;
  std::vector<OperandShape> shapes;
  std::vector<std::vector<uint64_t>> extents(spec->operands.size());
  for (size_t i = 0; i < spec->operands.size(); ++i) {
    const OperandSpec &operand = spec->operands[i];
    auto found = operands.find(std::string(operand.name));
    OperandShape shape;
    if (found != operands.end()) {
      shape.present = true;
      shape.type = found->second.type;
      const bool flat = operand.shape.find(',') == std::string_view::npos;
      if (flat)
        extents[i] = {found->second.rows * found->second.columns};
      else
        extents[i] = {found->second.rows, found->second.columns};
      shape.shape = extents[i];
    }
    shapes.push_back(shape);
  }
  std::vector<DType> types;
  Expected<LaunchShape> shape = bindShapes(*spec, shapes, values, types);
  ASSERT_TRUE(shape.ok()) << shape.status().message();
  if (spec->cpuWorkspace.shared) {
    sharedBytes = spec->cpuWorkspace.shared(*shape).value;
    threadBytes = (spec->cpuWorkspace.thread(*shape).value + 63) / 64 * 64;
  }
  if (spec->cudaWorkspace)
    cudaBytes = spec->cudaWorkspace(*shape).value;
}

Fault Case::run(Path path, unsigned threads) {
  prepare();
  if (testing::Test::HasFatalFailure())
    return {};
  std::vector<std::unique_ptr<Guarded>> memory;
  auto allocate = [&](size_t bytes, size_t shift) {
    memory.push_back(std::make_unique<Guarded>(bytes, shift, std::byte{0xff}));
    return memory.back()->data();
  };
  std::vector<cpu::Operand> bound(spec->operands.size());
  for (size_t i = 0; i < spec->operands.size(); ++i) {
    const OperandSpec &operand = spec->operands[i];
    auto found = operands.find(std::string(operand.name));
    if (found == operands.end())
      continue;
    const Stored &stored = found->second;
    std::byte *data =
        allocate(stored.initial.size(), operand.types.starts_with("W") ? 1 : 0);
    std::memcpy(data, stored.initial.data(), stored.initial.size());
    bound[i] = {data, stored.type, stored.rows, stored.columns};
  }
  cpu::Call call;
  call.operands = bound;
  call.attributes = values;
  call.sharedWorkspace = allocate(sharedBytes, 0);
  call.threadWorkspace = allocate(threadBytes * threads, 0);
  call.threadWorkspaceBytes = threadBytes;
  call.pool = &poolOf(threads);
  Fault fault = cpu::findFunction(path, number)(call);
  for (const std::unique_ptr<Guarded> &block : memory)
    EXPECT_TRUE(block->intact()) << spec->name << " wrote outside its operands";
  for (size_t i = 0; i < spec->operands.size(); ++i) {
    if (!bound[i])
      continue;
    Stored &stored = operands.at(std::string(spec->operands[i].name));
    stored.result.assign(bound[i].data, bound[i].data + stored.initial.size());
    if (spec->operands[i].access == Access::in)
      EXPECT_EQ(stored.result, stored.initial)
          << spec->name << " changed its operand " << spec->operands[i].name;
  }
  return fault;
}

void Case::expectNear(const std::string &name,
                      const std::vector<double> &reference, double tolerance) {
  const std::vector<double> values = after(name);
  ASSERT_EQ(values.size(), reference.size());
  double scale = 1e-30, worst = -1;
  size_t at = 0;
  for (double value : reference)
    scale = std::max(scale, std::fabs(value));
  for (size_t i = 0; i < values.size(); ++i) {
    double error = std::fabs(values[i] - reference[i]);
    // A NaN where the reference has none is the worst of all.
    if (!(error <= worst)) {
      worst = error;
      at = i;
    }
  }
  EXPECT_TRUE(worst <= tolerance * scale)
      << spec->name << ": " << name << "[" << at << "] is " << values[at]
      << ", the reference has " << reference[at] << "; the largest is "
      << scale;
}

std::vector<Path> availablePaths() {
  // Asked one by one: what is best need not be what can do most.
  static const std::vector<Path> paths = [] {
    const char *set = std::getenv("PEFT_CPU");
    const std::string before = set ? set : "";
    std::vector<Path> found;
    for (Path path :
         {Path::plain, Path::avx2, Path::avx512, Path::avx512bf16}) {
      setenv("PEFT_CPU", pathName(path), 1);
      if (cpu::choosePath().ok())
        found.push_back(path);
    }
    setenv("PEFT_CPU", before.c_str(), 1);
    return found;
  }();
  return paths;
}

const char *pathName(Path path) {
  constexpr const char *names[] = {"plain", "avx2", "avx512", "avx512bf16"};
  return names[static_cast<size_t>(path)];
}

} // namespace peft::conformance
