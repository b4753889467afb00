//===- Machine.cpp - order of work, memory --------------------------------===//
#include "Machine.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <random>
#include <set>
#include <unordered_map>

using namespace peft;
using namespace peft::card;

//===----------------------------------------------------------------------===//
// Errors
//===----------------------------------------------------------------------===//

/// A number from the environment.
static size_t setting(const char *name, size_t otherwise) {
  const char *text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

static std::string firstError;
static bool forbidden = false;
static size_t blocks = 0;

cudaError_t card::fail(const Status &status) {
  if (firstError.empty())
    firstError = status.message();
  return cudaErrorLaunchFailure;
}
cudaError_t card::state() {
  return firstError.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}
bool card::allocationIsForbidden() { return forbidden; }
void card::forbidAllocation() { forbidden = true; }

const char *cudaGetErrorString(cudaError_t error) {
  if (error == cudaErrorLaunchFailure && !firstError.empty())
    return firstError.c_str();
  return error == cudaErrorNotPermitted ? "memory was asked for after load"
                                        : "the card refuses";
}
const char *cudaGetErrorName(cudaError_t) { return "testCard"; }
cudaError_t cudaGetLastError() { return state(); }

//===----------------------------------------------------------------------===//
// Order
//===----------------------------------------------------------------------===//

size_t card::draw(size_t count) {
  static std::mt19937_64 random(setting("PEFT_CARD_SEED", 1));
  return random() % count;
}

/// Does a piece of work, or breaks for ever (PEFT_CARD_BREAKS_AT).
static Status perform(const Work &work) {
  static const size_t last = setting("PEFT_CARD_BREAKS_AT", 0);
  static size_t done = 0;
  if (++done == last)
    return internalError("the card broke at its " + std::to_string(last) +
                         "th piece of work");
  return work();
}

/// Runs `count` jobs in a random order in which each follows those it names.
template <typename Before, typename Run>
static Status runInAnyOrder(size_t count, const Before &before,
                            const Run &run) {
  std::vector<size_t> blockers(count);
  std::vector<std::vector<size_t>> next(count);
  std::vector<size_t> ready;
  for (size_t i = 0; i < count; ++i) {
    for (size_t other : before(i))
      next[other].push_back(i), ++blockers[i];
    if (blockers[i] == 0)
      ready.push_back(i);
  }
  while (!ready.empty()) {
    std::swap(ready[draw(ready.size())], ready.back());
    size_t chosen = ready.back();
    ready.pop_back();
    PEFT_TRY(run(chosen));
    for (size_t later : next[chosen])
      if (--blockers[later] == 0)
        ready.push_back(later);
  }
  return {};
}

static void collect(const std::shared_ptr<Task> &last,
                    std::vector<std::shared_ptr<Task>> &all,
                    std::unordered_map<Task *, size_t> &number) {
  std::vector<std::shared_ptr<Task>> open{last};
  while (!open.empty()) {
    std::shared_ptr<Task> task = open.back();
    open.pop_back();
    if (!task || task->done || !number.emplace(task.get(), all.size()).second)
      continue;
    all.push_back(task);
    open.insert(open.end(), task->before.begin(), task->before.end());
  }
}

void card::settle(const std::shared_ptr<Task> &last) {
  std::vector<std::shared_ptr<Task>> all;
  std::unordered_map<Task *, size_t> number;
  collect(last, all, number);
  auto before = [&](size_t i) {
    std::vector<size_t> indices;
    for (const std::shared_ptr<Task> &task : all[i]->before)
      if (task && !task->done)
        indices.push_back(number.at(task.get()));
    return indices;
  };
  Status status = runInAnyOrder(all.size(), before, [&](size_t i) -> Status {
    if (state() == cudaSuccess)
      PEFT_TRY(perform(all[i]->work));
    static uint64_t turns = 0;
    all[i]->turn = ++turns;
    all[i]->done = true;
    return {};
  });
  for (const std::shared_ptr<Task> &task : all)
    if (task->done)
      task->before.clear();
  if (!status.ok())
    (void)fail(status);
}

Status card::runGraph(const GraphData &graph) {
  std::unordered_map<cudaGraphNode_t, size_t> number;
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    number[graph.nodes[i].get()] = i;
  auto before = [&](size_t i) {
    std::vector<size_t> indices;
    for (cudaGraphNode_t node : graph.nodes[i]->before)
      indices.push_back(number.at(node));
    return indices;
  };
  return runInAnyOrder(graph.nodes.size(), before, [&](size_t i) {
    return perform(graph.nodes[i]->work);
  });
}

//===----------------------------------------------------------------------===//
// The machine
//===----------------------------------------------------------------------===//

static const size_t cardBytes = setting("PEFT_CARD_BYTES", size_t(1) << 30);
static size_t usedBytes = 0;
static std::unordered_map<void *, size_t> sizes;
static CUstream_st defaultStream;

cudaError_t cudaDriverGetVersion(int *version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int *count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) {
  return std::getenv("PEFT_CARD_BUSY") ? cudaErrorDevicesUnavailable
                                       : cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int) {
  *properties = {};
  std::strcpy(properties->name, "test card");
  const size_t capability = setting("PEFT_CARD_CAPABILITY", 90);
  properties->major = static_cast<int>(capability / 10);
  properties->minor = static_cast<int>(capability % 10);
  properties->totalGlobalMem = cardBytes;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
  *free = cardBytes - usedBytes;
  *total = cardBytes;
  return state();
}

static cudaError_t allocate(void **memory, size_t bytes) {
  if (forbidden)
    return cudaErrorNotPermitted;
  *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (!*memory)
    return cudaErrorMemoryAllocation;
  std::memset(*memory, 0xff, bytes);
  sizes[*memory] = bytes;
  ++blocks;
  return cudaSuccess;
}

static cudaError_t release(void *memory) {
  std::free(memory);
  sizes.erase(memory);
  // With the last plan gone, the next may ask for memory.
  forbidden &= --blocks > 0;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void **memory, size_t bytes) {
  if (bytes > cardBytes - usedBytes)
    return cudaErrorMemoryAllocation;
  cudaError_t error = allocate(memory, bytes);
  usedBytes += error == cudaSuccess ? bytes : 0;
  return error;
}
cudaError_t cudaFree(void *memory) {
  usedBytes -= sizes.at(memory);
  return release(memory);
}
cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned) {
  return allocate(memory, bytes);
}
cudaError_t cudaFreeHost(void *memory) { return release(memory); }

cudaError_t cudaMemset(void *memory, int value, size_t bytes) {
  return cudaMemsetAsync(memory, value, bytes, &defaultStream);
}
cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes,
                            cudaStream_t stream) {
  return append(stream, [=]() -> Status {
    std::memset(memory, value, bytes);
    return {};
  });
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes,
                            cudaMemcpyKind, cudaStream_t stream) {
  return append(stream, [=]() -> Status {
    std::memcpy(to, from, bytes);
    return {};
  });
}
cudaError_t cudaDeviceSynchronize() {
  settle(defaultStream.tail);
  return state();
}
