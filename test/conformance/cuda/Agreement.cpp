//===- cuda/Agreement.cpp - the CUDA kernels and the plain path -----------===//
//
// Every Case runs where Place.h says (emulated: in three orders of threads under
// the address sanitizer), with its operands in allocations of exactly their
// size, and once more with a closed gate. Rows that a count leaves out may hold
// anything, but where kernels that follow read them, they hold zeros.
//
//===----------------------------------------------------------------------===//
#include "../Suite.h"
#include "Place.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <set>

namespace peft::conformance {

namespace {

/// Rows past the count are zero, because library products read them.
const std::set<std::string_view> zeroesTheRest = {
    "gather_rows", "cross_entropy_fwd_bwd", "softcap_bwd"};

double toleranceOf(DType type) {
  switch (type) {
  case DType::f64:
    return 1e-12;
  case DType::f32:
    return 2e-6;
  case DType::bf16:
    return 0x1p-7; // the last bit: sums that differ may round apart
  case DType::f16:
    return 0x1p-10; // as well
  default:
    return 0;
  }
}

} // namespace

static std::vector<std::byte> bytesOf(const auto &value) {
  auto *begin = reinterpret_cast<const std::byte *>(&value);
  return {begin, begin + sizeof value};
}

/// One run of a Case on the kernel.
class CudaRun {
public:
  explicit CudaRun(Case &launch, bool isOpen = true,
                   const cuda::FaultSlot &before = {})
      : launch(launch), open(bytesOf(int32_t(isOpen ? 1 : 0))),
        faultMemory(bytesOf(before)), fresh(isOpen ? 0xff : 0x33) {
    launch.prepare();
    bind();
  }

  /// `hasSlot`: a fault has where to go.
  Status run(bool hasSlot = true) {
    cuda::Call call;
    call.operands = bound;
    call.attributes = launch.values;
    call.workspace = workspace->data();
    call.workspaceBytes = workspace->size();
    call.gate = {reinterpret_cast<const int32_t *>(open.data()), 0};
    if (hasSlot)
      call.fault = reinterpret_cast<cuda::FaultSlot *>(faultMemory.data());
    Status status = runKernel(launch.number, call);
    std::memcpy(&fault, faultMemory.content().data(), sizeof fault);
    return status;
  }

  const cuda::FaultSlot &faultSlot() const { return fault; }

  /// What went wrong with the results, all operands seen.
  void compare(const char *order) {
    for (size_t i = 0; i < memory.size(); ++i)
      if (memory[i])
        compareOperand(i, order);
  }

  /// A library does not look at the gate: the device keeps its work behind a
  /// condition of the graph. Only its scratch shows it here.
  bool byLibrary() const {
    const int engine = launch.spec->findAttribute("engine");
    return engine >= 0 && launch.values[static_cast<size_t>(engine)].integer;
  }

  /// A closed launch changes nothing, its scratch included.
  void expectUntouched() {
    for (size_t i = 0; i < memory.size(); ++i)
      if (memory[i])
        EXPECT_EQ(memory[i]->content(), stored(i).initial)
            << launch.spec->name << " with a closed gate wrote its operand "
            << launch.spec->operands[i].name;
    EXPECT_EQ(fault.kind, 0) << launch.spec->name << " with a closed gate";
    if (!byLibrary())
      EXPECT_TRUE(workspace->holdsOnly(fresh))
          << launch.spec->name << " with a closed gate wrote its workspace";
  }

  /// Before the place itself ends.
  static void freeWorkspace() { workspace = nullptr; }

  static void agree(Case &launch);
  static void agreeOnFault(Case &launch, int64_t found);

private:
  void bind() {
    for (const OperandSpec &operand : launch.spec->operands) {
      auto at = launch.operands.find(std::string(operand.name));
      memory.emplace_back();
      bound.emplace_back();
      if (at == launch.operands.end())
        continue;
      const Case::Stored &stored = at->second;
      memory.back() = std::make_unique<Allocation>(stored.initial);
      bound.back() = {memory.back()->data(), stored.type, stored.rows,
                      stored.columns};
    }
    // Libraries ask for much: the same memory serves while the size stays.
    if (!workspace || workspace->size() != launch.cudaBytes)
      workspace = std::make_unique<Allocation>(launch.cudaBytes);
    workspace->fill(fresh);
  }

  const Case::Stored &stored(size_t operand) const {
    return launch.operands.at(std::string(launch.spec->operands[operand].name));
  }

  /// How many rows a count leaves of an output; all without one.
  uint64_t activeRows(uint64_t rows) const {
    const int count = launch.spec->findOperand("count"),
              start = launch.spec->findAttribute("row_start");
    if (count < 0 || start < 0 || !memory[static_cast<size_t>(count)])
      return rows;
    const double left = launch.before("count")[0] -
                        static_cast<double>(launch.values[start].integer);
    return static_cast<uint64_t>(
        std::clamp(left, 0.0, static_cast<double>(rows)));
  }

  /// A query that sees one key has no gradient, whatever rounding says; a
  /// library does not know that. In f16 small gradients become zero, too.
  bool zerosStay(DType type) const {
    const int engine = launch.spec->findAttribute("engine");
    return launch.spec->name == "attention_bwd" && type != DType::f16 &&
           launch.values[engine].integer == 0;
  }

  void compareOperand(size_t operand, const char *order) {
    const OperandSpec &spec = launch.spec->operands[operand];
    const Case::Stored &plain = stored(operand);
    std::vector<std::byte> values = memory[operand]->content();
    if (spec.access == Access::in) {
      EXPECT_EQ(values, plain.initial)
          << launch.spec->name << " changed its operand " << spec.name;
      return;
    }
    uint64_t checked = plain.rows * plain.columns;
    if (spec.access == Access::out) {
      const uint64_t rows = plain.rows == 1 ? plain.columns : plain.rows;
      checked = checked / rows * activeRows(rows);
    }
    const size_t bytes = checked * byteSize(plain.type);
    if (zeroesTheRest.count(launch.spec->name) && plain.rows > 1)
      for (size_t i = bytes; i < values.size(); ++i)
        ASSERT_EQ(values[i], std::byte{0})
            << launch.spec->name << ": rows of " << spec.name
            << " past the count are not zero";
    values.resize(bytes);
    std::vector<std::byte> expected = plain.result;
    expected.resize(bytes);
    const int64_t at =
        givesTheSameBits(launch.spec->name)
            ? firstDifference(plain.type, expected, values)
            : firstFar(plain.type, expected, values,
                       toleranceOf(plain.type) * launch.slackFactor,
                       zerosStay(plain.type));
    if (at < 0)
      return;
    const size_t byte = static_cast<size_t>(at) * byteSize(plain.type);
    ADD_FAILURE() << launch.spec->name << ", threads " << order << ": "
                  << spec.name << "[" << at << "] is "
                  << decode(plain.type, &values[byte]) << ", the CPU has "
                  << decode(plain.type, &expected[byte]);
  }

  /// Index of the first value that is farther off than the tolerance times the
  /// largest of the finite ones, or that is not zero where `zerosStay`; or -1.
  static int64_t firstFar(DType type, const std::vector<std::byte> &expected,
                          const std::vector<std::byte> &values,
                          double tolerance, bool zerosStay) {
    const size_t size = byteSize(type);
    double largest = 0;
    for (size_t i = 0; i < expected.size(); i += size)
      if (double value = decode(type, &expected[i]); std::isfinite(value))
        largest = std::max(largest, std::fabs(value));
    tolerance *= largest;
    for (size_t i = 0; i < expected.size(); i += size) {
      const double a = decode(type, &expected[i]), b = decode(type, &values[i]);
      const bool same = a == b || (std::isnan(a) && std::isnan(b)) ||
                        std::fabs(a - b) <= tolerance;
      if (!same || (zerosStay && a == 0 && b != 0))
        return static_cast<int64_t>(i / size);
    }
    return -1;
  }

  Case &launch;
  Allocation open, faultMemory;
  /// What the workspace holds before: NaNs, or behind a closed gate numbers that
  /// an output would not hold by chance.
  const uint8_t fresh;
  cuda::FaultSlot fault;
  std::vector<std::unique_ptr<Allocation>> memory;
  std::vector<cuda::Operand> bound;
  static inline std::unique_ptr<Allocation> workspace;
};

namespace {
class Ending final : public testing::Environment {
  void TearDown() override { CudaRun::freeWorkspace(); }
};
[[maybe_unused]] const testing::Environment *ending =
    testing::AddGlobalTestEnvironment(new Ending);
} // namespace

void CudaRun::agree(Case &launch) {
  Fault onPlain = launch.run(Path::plain, 1);
  ASSERT_FALSE(onPlain) << onPlain.text << ": " << onPlain.found;
  for (size_t order = 0; order < orderNames().size(); ++order) {
    setOrder(order);
    CudaRun run(launch);
    Status status = run.run();
    ASSERT_TRUE(status.ok()) << launch.spec->name << ", threads " << orderNames()[order]
                             << ": " << status.message();
    EXPECT_EQ(run.fault.kind, 0)
        << launch.spec->name << " reports " << run.fault.found;
    run.compare(orderNames()[order]);
  }
  if (!looksAtGate(launch.number))
    return;
  CudaRun closed(launch, false);
  EXPECT_TRUE(closed.run().ok());
  closed.expectUntouched();
}

void CudaRun::agreeOnFault(Case &launch, int64_t found) {
  Fault onPlain = launch.run(Path::plain, 1);
  ASSERT_TRUE(onPlain) << launch.spec->name;
  for (size_t order = 0; order < orderNames().size(); ++order) {
    setOrder(order);
    CudaRun run(launch);
    Status status = run.run();
    ASSERT_TRUE(status.ok()) << launch.spec->name << ": " << status.message();
    EXPECT_NE(run.fault.kind, 0) << launch.spec->name << " reports nothing";
    EXPECT_EQ(run.fault.found, found) << launch.spec->name;
    EXPECT_EQ(run.fault.limit, onPlain.limit) << launch.spec->name;
  }
  const cuda::FaultSlot earlier = {1, 0, 12345, 6789};
  CudaRun second(launch, true, earlier);
  EXPECT_TRUE(second.run().ok());
  EXPECT_EQ(second.fault.found, earlier.found)
      << launch.spec->name << " overwrote the fault of a launch before";
  EXPECT_TRUE(CudaRun(launch).run(false).ok()) << launch.spec->name;
}

void Case::expectSameBits() {
  noteCompared(spec->name);
  CudaRun::agree(*this);
}

void Case::expectFault(int64_t found) { CudaRun::agreeOnFault(*this, found); }

/// Every kernel of kernels.def has a test of its name.
TEST(Coverage, EveryKernelHasACase) {
  std::set<std::string> tests;
  const testing::UnitTest *unit = testing::UnitTest::GetInstance();
  for (int i = 0; i < unit->total_test_suite_count(); ++i)
    if (const testing::TestSuite *suite = unit->GetTestSuite(i);
        std::string(suite->name()) == "Conformance")
      for (int j = 0; j < suite->total_test_count(); ++j)
        tests.insert(suite->GetTestInfo(j)->name());
  for (const KernelSpec &kernel : allKernels())
    EXPECT_TRUE(tests.count(std::string(kernel.name)))
        << "add TEST_F(Conformance, " << kernel.name << ")";
}

} // namespace peft::conformance
