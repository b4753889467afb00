//===- ThreadPoolTest.cpp - the CPU device's threads ----------------------===//
#include "cpu/ThreadPool.h"

#include <atomic>
#include <gtest/gtest.h>
#include <vector>

using namespace peft::cpu;

TEST(ThreadPool, RunsTheBodyOnceOnEveryThread) {
  for (unsigned threads : {1u, 2u, 3u, 5u}) {
    ThreadPool pool(threads);
    EXPECT_EQ(threads, pool.size());
    std::vector<int> calls(threads);
    for (int i = 0; i < 100; ++i)
      pool.run(
          [](void *context, unsigned thread) {
            ++(*static_cast<std::vector<int> *>(context))[thread];
          },
          &calls);
    EXPECT_EQ(std::vector<int>(threads, 100), calls);
  }
}

TEST(ThreadPool, RangesCoverEveryElementOnce) {
  for (unsigned threads : {1u, 2u, 3u}) {
    ThreadPool pool(threads);
    for (uint64_t count : {0, 1, 2, 3, 7, 64, 1000})
      for (uint64_t grain : {uint64_t(1), uint64_t(3), uint64_t(64),
                             uint64_t(1000), UINT64_MAX}) {
        std::vector<std::atomic<int>> seen(count);
        pool.forRanges(count, grain,
                       [&](unsigned thread, uint64_t begin, uint64_t end) {
                         EXPECT_LT(thread, threads);
                         EXPECT_LE(end - begin, grain);
                         for (uint64_t i = begin; i < end; ++i)
                           ++seen[i];
                       });
        for (uint64_t i = 0; i < count; ++i)
          ASSERT_EQ(1, seen[i]) << i << " of " << count;
      }
  }
}

/// A part that takes long must not keep the other thread's work waiting.
TEST(ThreadPool, AFreeThreadTakesFromTheOthers) {
  ThreadPool pool(2);
  std::atomic<unsigned> done{0};
  pool.forRanges(100, 1, [&](unsigned, uint64_t begin, uint64_t) {
    // Whoever has the first piece returns only when all others are done.
    while (begin == 0 && done < 99)
      ;
    ++done;
  });
  EXPECT_EQ(100u, done);
}

TEST(ThreadPool, DenormalsAreFlushedInsideAndKeptOutside) {
  volatile float tiny = 1e-30f;
  for (unsigned threads : {1u, 3u}) {
    ThreadPool pool(threads);
    std::atomic<unsigned> flushed{0};
    pool.forRanges(16, 1, [&](unsigned, uint64_t, uint64_t) {
      float product = tiny * 1e-10f;
      flushed += product == 0;
    });
    EXPECT_EQ(16u, flushed);
    float product = tiny * 1e-10f;
    EXPECT_NE(0, product);
  }
}
