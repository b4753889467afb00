//===- cuda/EmulationTest.cpp - broken kernels are found out --------------===//
//
// Kernels that a card would let pass, most of the time.
//
//===----------------------------------------------------------------------===//
#include "cuda/Reduce.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

namespace peft::cuda {
namespace {

using emulation::Order;
using emulation::setOrder;

constexpr unsigned threads = 128;

/// y[i] = x[threads - 1 - i] through shared memory, with or without the barrier
/// that makes it right.
template <bool barrier>
__global__ void reverse(Gate gate, const float *x, float *y) {
  if (closed(gate))
    return;
  float *tile = sharedMemory<float>();
  tile[threadIdx.x] = x[threadIdx.x];
  if (barrier)
    __syncthreads();
  y[threadIdx.x] = tile[threads - 1 - threadIdx.x];
}

#if __has_feature(thread_sanitizer)
constexpr bool racesEnd = true; ///< the sanitizer makes the exit code 66
#else
constexpr bool racesEnd = false;
#endif

template <bool barrier> bool reverses(Order order) {
  setOrder(order, 5);
  std::vector<float> x(threads), y(threads);
  std::iota(x.begin(), x.end(), 1.0f);
  EXPECT_TRUE(launch(Call(),
                     Grid{.threads = threads, .sharedBytes = 4 * threads},
                     reverse<barrier>, x.data(), y.data())
                  .ok());
  std::reverse(y.begin(), y.end());
  return x == y;
}

TEST(EmulationDeathTest, AMissingBarrierShows) {
  for (Order order : {Order::ascending, Order::descending, Order::random}) {
    EXPECT_TRUE(reverses<true>(order));
    if (racesEnd)
      EXPECT_EXIT(
          {
            reverses<false>(order);
            std::exit(0);
          },
          testing::ExitedWithCode(66), "data race");
    else
      EXPECT_FALSE(reverses<false>(order));
  }
}

/// Each thread reads what its left neighbour wrote: right in ascending order
/// even without the barrier.
template <bool barrier> __global__ void shift(Gate, int *y) {
  int *tile = sharedMemory<int>();
  tile[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (barrier)
    __syncthreads();
  y[threadIdx.x] = threadIdx.x ? tile[threadIdx.x - 1] : -1;
}

template <bool barrier> bool shifts(Order order) {
  setOrder(order, 5);
  std::vector<int> y(threads), expected(threads);
  std::iota(expected.begin(), expected.end(), -1);
  EXPECT_TRUE(launch(Call(),
                     Grid{.threads = threads, .sharedBytes = 4 * threads},
                     shift<barrier>, y.data())
                  .ok());
  return y == expected;
}

TEST(EmulationDeathTest, EveryOrderFindsItsOwn) {
  if (racesEnd) {
    EXPECT_EXIT(
        {
          shifts<false>(Order::ascending);
          std::exit(0);
        },
        testing::ExitedWithCode(66), "data race");
  } else {
    EXPECT_TRUE(shifts<false>(Order::ascending));
    EXPECT_FALSE(shifts<false>(Order::descending));
    EXPECT_FALSE(shifts<false>(Order::random));
  }
  for (Order order : {Order::ascending, Order::descending, Order::random})
    EXPECT_TRUE(shifts<true>(order));
}

/// Two sums in a row use the same shared words.
__global__ void sumTwice(Gate, float *y) {
  const float first = blockSum(1.0f);
  const float second = blockSum(static_cast<float>(threadIdx.x));
  y[threadIdx.x] = first * 1000000 + second;
}

TEST(Emulation, ReductionsFollowEachOther) {
  for (Order order : {Order::ascending, Order::descending, Order::random}) {
    setOrder(order, 9);
    std::vector<float> y(threads);
    ASSERT_TRUE(
        launch(Call(), Grid{.threads = threads}, sumTwice, y.data()).ok());
    EXPECT_EQ(y, std::vector<float>(threads, 128.0f * 1000000 + 127 * 64));
  }
}

/// The message of a launch that has to fail.
template <typename... Arguments>
std::string errorOf(void (*kernel)(Gate, Arguments...),
                    Arguments... arguments) {
  setOrder(Order::ascending);
  Status status =
      launch(Call(), Grid{.threads = threads}, kernel, arguments...);
  EXPECT_EQ(status.code(), Code::internal);
  return status.message();
}

__global__ void halfAtBarrier(Gate) {
  if (threadIdx.x < 64)
    __syncthreads();
  else
    __syncthreads();
}

__global__ void restAtWarp(Gate) {
  if (threadIdx.x < 64)
    __syncthreads();
  else if (threadIdx.x % 32)
    __syncwarp();
}

TEST(Emulation, ABarrierThatIsNotMetByAll) {
  const std::string divergent = errorOf(halfAtBarrier);
  EXPECT_NE(divergent.find("a barrier is not met by all threads: thread 0 "),
            std::string::npos)
      << divergent;
  EXPECT_NE(divergent.find("thread 64 waits at __syncthreads"),
            std::string::npos)
      << divergent;
  const std::string absent = errorOf(restAtWarp);
  EXPECT_NE(absent.find("thread 64 has ended"), std::string::npos) << absent;
}

__global__ void absentLane(Gate, int *y) {
  if (threadIdx.x != 40)
    y[threadIdx.x] = __shfl_xor_sync(fullWarp, 1, 1);
}

__global__ void differentOperations(Gate, int *y) {
  y[threadIdx.x] = threadIdx.x == 3
                       ? __shfl_xor_sync(fullWarp, 1, 1)
                       : static_cast<int>(__ballot_sync(fullWarp, 1));
}

__global__ void differentWidths(Gate, int *y) {
  if (threadIdx.x % 2)
    y[threadIdx.x] = __shfl_sync(fullWarp, 1, 0);
  else
    y[threadIdx.x] = static_cast<int>(__shfl_sync(fullWarp, 1.0, 0));
}

__global__ void partOfTheMask(Gate, int *y) {
  y[threadIdx.x] = __shfl_sync(0xffffu, 1, 0);
}

TEST(Emulation, AWarpThatDoesNotMeet) {
  std::vector<int> y(threads);
  struct Broken {
    void (*kernel)(Gate, int *);
    const char *text;
  };
  for (const auto &[kernel, text] :
       {Broken{absentLane, "thread 40 has ended"},
        {differentOperations, "thread 3 waits at __shfl_xor_sync"},
        {differentWidths, "a warp does not meet"},
        {partOfTheMask, "a mask that is not full"}}) {
    const std::string error = errorOf(kernel, y.data());
    EXPECT_NE(error.find(text), std::string::npos) << error;
  }
  // The next launch is none the worse.
  EXPECT_TRUE(shifts<true>(Order::ascending));
}

__global__ void exchangeLanes(Gate, unsigned *y) {
  unsigned all[32], mine = threadIdx.x * 10;
  emulation::warpExchange(&mine, sizeof mine, all);
  const unsigned up = __shfl_up_sync(fullWarp, mine, 1),
                 down = __shfl_down_sync(fullWarp, mine, 2),
                 narrow = __shfl_sync(fullWarp, mine, 1, 8),
                 votes = __ballot_sync(fullWarp, threadIdx.x % 3 == 0);
  unsigned *row = y + threadIdx.x * 5;
  row[0] = all[(threadIdx.x + 5) % 32];
  row[1] = up;
  row[2] = down;
  row[3] = narrow;
  row[4] = votes;
}

TEST(Emulation, WarpOperationsAreCudas) {
  for (Order order : {Order::ascending, Order::descending, Order::random}) {
    setOrder(order, 3);
    std::vector<unsigned> y(threads * 5);
    ASSERT_TRUE(
        launch(Call(), Grid{.threads = threads}, exchangeLanes, y.data()).ok());
    for (unsigned i = 0; i < threads; ++i) {
      const unsigned warp = i / 32 * 32, lane = i % 32;
      unsigned votes = 0;
      for (unsigned j = 0; j < 32; ++j)
        votes |= unsigned((warp + j) % 3 == 0) << j;
      EXPECT_EQ(y[i * 5], (warp + (i + 5) % 32) * 10);
      EXPECT_EQ(y[i * 5 + 1], (lane ? i - 1 : i) * 10);
      EXPECT_EQ(y[i * 5 + 2], (lane < 30 ? i + 2 : i) * 10);
      EXPECT_EQ(y[i * 5 + 3], (i / 8 * 8 + 1) * 10);
      EXPECT_EQ(y[i * 5 + 4], votes);
    }
  }
}

__global__ void writeCoordinates(Gate gate, unsigned *y) {
  if (closed(gate))
    return;
  const unsigned block =
      (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  y[block * blockDim.x + threadIdx.x] = block * 1000 + threadIdx.x;
}

TEST(Emulation, EveryThreadOfEveryBlockRunsOnce) {
  std::vector<unsigned> y(2 * 3 * 4 * 64), expected;
  for (unsigned block = 0; block < 24; ++block)
    for (unsigned i = 0; i < 64; ++i)
      expected.push_back(block * 1000 + i);
  const Grid grid{.x = 2, .y = 3, .z = 4, .threads = 64};
  Call call;
  const int32_t above = 7;
  call.gate = {&above, 7};
  ASSERT_TRUE(launch(call, grid, writeCoordinates, y.data()).ok());
  EXPECT_EQ(y, std::vector<unsigned>(y.size())) << "the gate is closed";
  call.gate.above = 6;
  ASSERT_TRUE(launch(call, grid, writeCoordinates, y.data()).ok());
  EXPECT_EQ(y, expected);
  EXPECT_TRUE(launch(call, Grid{.x = 0}, writeCoordinates, y.data()).ok());
  for (Grid wrong : {Grid{.threads = 33}, Grid{.threads = 2048},
                     Grid{.y = 70000}, Grid{.sharedBytes = 300 << 10}})
    EXPECT_EQ(launch(call, wrong, writeCoordinates, y.data()).code(),
              Code::internal);
}

/// Each block writes one word too many, which is the next block's.
__global__ void writeTooFar(Gate, unsigned *y) {
  if (threadIdx.x < 2)
    y[blockIdx.x + threadIdx.x] = blockIdx.x;
}

TEST(Emulation, ABlockThatWritesForAnotherIsSeenInDescendingOrder) {
  const unsigned expected[] = {0, 1, 2, 3};
  for (Order order : {Order::ascending, Order::descending}) {
    setOrder(order);
    unsigned y[5] = {};
    ASSERT_TRUE(launch(Call(), Grid{.x = 4, .threads = 32}, writeTooFar, y).ok());
    EXPECT_EQ(std::equal(y, y + 4, expected), order == Order::ascending);
  }
}

#if __has_feature(address_sanitizer)
__global__ void overrunShared(Gate, unsigned at) {
  float *tile = sharedMemory<float>();
  tile[threadIdx.x + at] = 1;
}
__global__ void overrunStatic(Gate, unsigned at) {
  __shared__ volatile float tile[threads];
  tile[threadIdx.x + at] = 1;
}
__global__ void overrunOperand(Gate, const float *x, float *sum) {
  sum[0] += x[threadIdx.x];
}

TEST(EmulationDeathTest, AnOverrunIsSeen) {
  setOrder(Order::ascending);
  const Grid grid{.threads = threads, .sharedBytes = threads * 4};
  EXPECT_TRUE(launch(Call(), grid, overrunShared, 0u).ok());
  EXPECT_TRUE(launch(Call(), grid, overrunStatic, 0u).ok());
  EXPECT_DEATH((void)launch(Call(), grid, overrunShared, 1u),
               "heap-buffer-overflow");
  EXPECT_DEATH((void)launch(Call(), grid, overrunStatic, 1u),
               "global-buffer-overflow");
  std::vector<float> x(threads - 1), sum(1);
  EXPECT_DEATH((void)launch(Call(), grid, overrunOperand, x.data(), sum.data()),
               "heap-buffer-overflow");
}
#endif

} // namespace
} // namespace peft::cuda
