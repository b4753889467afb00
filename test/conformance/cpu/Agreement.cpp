//===- cpu/Agreement.cpp - all paths give the bits of the plain one -------===//
#include "../Suite.h"

#include <set>

namespace peft::conformance {

void Case::expectSameBits() {
  noteCompared(spec->name);
  Fault fault = run(Path::plain, 1);
  ASSERT_FALSE(fault) << fault.text << ": " << fault.found;
  const std::map<std::string, Stored> plain = operands;
  for (Path path : availablePaths())
    for (unsigned threads = 1; threads <= 3; ++threads) {
      if (Fault fault = run(path, threads))
        FAIL() << fault.text << ": " << fault.found;
      for (const auto &[name, stored] : plain) {
        const Stored &other = operands.at(name);
        int64_t at = firstDifference(stored.type, stored.result, other.result);
        if (at < 0)
          continue;
        const size_t byte = static_cast<size_t>(at) * byteSize(stored.type);
        ADD_FAILURE() << spec->name << " on " << pathName(path) << " with "
                      << threads << " threads: " << name << "[" << at << "] is "
                      << decode(stored.type, &other.result[byte])
                      << ", plain has "
                      << decode(stored.type, &stored.result[byte]);
      }
    }
  operands = plain;
}

void Case::expectFault(int64_t found) {
  for (Path path : availablePaths()) {
    Fault fault = run(path, 2);
    EXPECT_TRUE(fault) << spec->name << " on " << pathName(path);
    EXPECT_EQ(fault.found, found) << spec->name << " on " << pathName(path);
  }
}

/// Every kernel of kernels.def has a test of its name.
TEST(Coverage, EveryKernelHasACase) {
  std::set<std::string> tests;
  const testing::UnitTest *unit = testing::UnitTest::GetInstance();
  for (int i = 0; i < unit->total_test_suite_count(); ++i) {
    const testing::TestSuite *suite = unit->GetTestSuite(i);
    if (std::string(suite->name()) != "Conformance")
      continue;
    for (int j = 0; j < suite->total_test_count(); ++j)
      tests.insert(suite->GetTestInfo(j)->name());
  }
  for (const KernelSpec &kernel : allKernels())
    EXPECT_TRUE(tests.count(std::string(kernel.name)))
        << "kernels.def has " << kernel.name << "; add TEST_F(Conformance, "
        << kernel.name << ")";
}

} // namespace peft::conformance
