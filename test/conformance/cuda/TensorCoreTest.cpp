//===- cuda/TensorCoreTest.cpp - mma.h and async_copy.h on the host -------===//
#include "cuda/async_copy.h"
#include "cuda/mma.h"

#include <gtest/gtest.h>

#include <vector>

namespace peft::cuda {
namespace {

/// [rows, columns] of T in shared memory, element (i, j) holding 100 i + j; the
/// lane's rows are matrix lane / 8, row lane % 8, matrices side by side.
__global__ void readMatrices(Gate gate, uint32_t *plain, uint32_t *transposed,
                             bool two) {
  F16 *tile = sharedMemory<F16>();
  const unsigned lane = threadIdx.x;
  for (unsigned i = lane; i < 8 * 32; i += 32)
    tile[i] = {uint16_t(i / 32 * 100 + i % 32)};
  __syncthreads();
  const F16 *row = tile + lane % 8 * 32 + lane / 8 * 8;
  if (two) {
    uint32_t to[2];
    loadMatrices(to, row);
    for (unsigned i = 0; i < 2; ++i)
      plain[lane * 4 + i] = to[i];
    loadTransposed(to, row);
    for (unsigned i = 0; i < 2; ++i)
      transposed[lane * 4 + i] = to[i];
    return;
  }
  uint32_t to[4];
  loadMatrices(to, row);
  for (unsigned i = 0; i < 4; ++i)
    plain[lane * 4 + i] = to[i];
  loadTransposed(to, row);
  for (unsigned i = 0; i < 4; ++i)
    transposed[lane * 4 + i] = to[i];
}

/// c [16, 8] = 1 + a [16, depth] b [depth, 8], operands read as mma.h says.
template <typename T, unsigned depth>
__global__ void multiplyOnce(Gate gate, const T *a, const T *b, float *c) {
  const unsigned lane = threadIdx.x, g = lane / 4, t = lane % 4;
  uint32_t left[depth / 4], right[depth / 8];
  for (unsigned i = 0; i < depth / 4; ++i) {
    const T *at = a + (g + i % 2 * 8) * depth + i / 2 * 8 + 2 * t;
    left[i] = at[0].bits | uint32_t(at[1].bits) << 16;
  }
  for (unsigned i = 0; i < depth / 8; ++i)
    right[i] = b[(i * 8 + 2 * t) * 8 + g].bits |
               uint32_t(b[(i * 8 + 2 * t + 1) * 8 + g].bits) << 16;
  float sums[4] = {1, 1, 1, 1};
  multiply<T>(sums, left, right);
  for (unsigned i = 0; i < 4; ++i)
    c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[i];
}

template <typename T, unsigned depth> void expectProduct() {
  std::vector<T> a(16 * depth), b(depth * 8);
  for (unsigned i = 0; i < a.size(); ++i)
    a[i] = fromFloat<T>(float(i * 7 % 31) - 15);
  for (unsigned i = 0; i < b.size(); ++i)
    b[i] = fromFloat<T>(float(i * 11 % 29) - 14);
  std::vector<float> c(16 * 8);
  ASSERT_TRUE(launch(Call(), Grid{.threads = 32}, multiplyOnce<T, depth>,
                     a.data(), b.data(), c.data())
                  .ok());
  for (unsigned i = 0; i < 16; ++i)
    for (unsigned j = 0; j < 8; ++j) {
      float sum = 1;
      for (unsigned k = 0; k < depth; ++k)
        sum += toFloat(a[i * depth + k]) * toFloat(b[k * 8 + j]);
      EXPECT_EQ(c[i * 8 + j], sum) << i << ", " << j;
    }
}

/// What a thread sees of its copies: before any wait, after one that leaves the
/// newest group under way, and after the last.
__global__ void watchCopies(Gate gate, const uint32_t *from, uint32_t *seen) {
  uint32_t *shared = sharedMemory<uint32_t>() + threadIdx.x * 12;
  for (unsigned i = 0; i < 12; ++i)
    shared[i] = 7;
  copyAsync(shared, from, true);
  closeCopies();
  copyAsync(shared + 4, from + 4, true);
  copyAsync(shared + 8, from, false);
  closeCopies();
  auto look = [&](unsigned when) {
    for (unsigned i = 0; i < 12; ++i)
      seen[(threadIdx.x * 3 + when) * 12 + i] = shared[i];
  };
  look(0);
  awaitCopies<1>();
  look(1);
  awaitCopies<0>();
  look(2);
}

/// Ends while a copy is under way.
__global__ void forgetCopies(Gate gate, const uint32_t *from) {
  copyAsync(sharedMemory<uint32_t>() + threadIdx.x * 4, from, true);
}

} // namespace

TEST(TensorCores, matricesAreReadAsPTXSays) {
  for (bool two : {false, true}) {
    std::vector<uint32_t> plain(128, 0xffffffff), transposed(128, 0xffffffff);
    ASSERT_TRUE(launch(Call(), Grid{.threads = 32, .sharedBytes = 8 * 32 * 2},
                       readMatrices, plain.data(), transposed.data(), two)
                    .ok());
    for (unsigned lane = 0; lane < 32; ++lane)
      for (unsigned i = 0; i < (two ? 2u : 4u); ++i) {
        const unsigned g = lane / 4, t = lane % 4;
        auto element = [&](unsigned row, unsigned column) {
          return row * 100 + i * 8 + column;
        };
        EXPECT_EQ(plain[lane * 4 + i],
                  element(g, 2 * t) | element(g, 2 * t + 1) << 16);
        EXPECT_EQ(transposed[lane * 4 + i],
                  element(2 * t, g) | element(2 * t + 1, g) << 16);
      }
  }
}

TEST(TensorCores, productsAreThoseOfMatrices) {
  expectProduct<BF16, 16>();
  expectProduct<F16, 16>();
  expectProduct<BF16, 8>();
  expectProduct<F16, 8>();
}

TEST(AsyncCopies, appearAtTheWait) {
  std::vector<uint32_t> from = {1, 2, 3, 4, 5, 6, 7, 8}, seen(32 * 36);
  alignas(16) uint32_t aligned[8];
  std::copy(from.begin(), from.end(), aligned);
  ASSERT_TRUE(launch(Call(), Grid{.threads = 32, .sharedBytes = 32 * 12 * 4},
                     watchCopies, static_cast<const uint32_t *>(aligned),
                     seen.data())
                  .ok());
  for (unsigned thread = 0; thread < 32; ++thread)
    for (unsigned when = 0; when < 3; ++when)
      for (unsigned i = 0; i < 12; ++i) {
        const bool here = when == 2 || (when == 1 && i < 4);
        const uint32_t value = i < 8 ? from[i] : 0;
        EXPECT_EQ(seen[(thread * 3 + when) * 12 + i],
                  here ? value : 0xffffffffu)
            << thread << ", " << when << ", " << i;
      }
}

TEST(AsyncCopies, haveToBeAwaited) {
  alignas(16) const uint32_t from[4] = {};
  const Status status =
      launch(Call(), Grid{.x = 2, .threads = 32, .sharedBytes = 32 * 16},
             forgetCopies, static_cast<const uint32_t *>(from));
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.message().find("without waiting"), std::string::npos)
      << status.message();
}

} // namespace peft::cuda
