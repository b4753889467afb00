//===- card/Place.cpp - the CUDA kernels on the card ----------------------===//
//
// peft-card-conformance: every Case on card 0, with cuBLASLt where it computes.
// Exit 78 with one line when there is no usable card.
//
//===----------------------------------------------------------------------===//
#include "../Place.h"

#include "cuda/device/Answer.h"
#include "cuda/device/Card.h"
#include "cuda/library/Libraries.h"

#include <cstdio>
#include <cstdlib>
#include <gtest/gtest.h>
#include <set>

namespace peft::conformance {

namespace {

cudaStream_t stream = nullptr;
std::unique_ptr<cuda::Libraries> libraries;

/// What has no good answer here: the card does not work.
void require(const Status &status) {
  if (status.ok())
    return;
  std::fprintf(stderr, "peft-card-conformance: error: %s\n",
               status.message().c_str());
  std::exit(70);
}

Status openAll() {
  PEFT_ASSIGN(cuda::Card card, cuda::openCard(0));
  PEFT_TRY(cuda::openCublasLt().status());
  PEFT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  PEFT_ASSIGN(libraries, cuda::Libraries::create());
  std::printf("%s\n", card.describe().c_str());
  return {};
}

Status copy(void *to, const void *from, size_t bytes) {
  PEFT_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream));
  PEFT_CUDA(cudaStreamSynchronize(stream));
  return {};
}

} // namespace

Allocation::Allocation(const std::vector<std::byte> &content)
    : bytes(content.size()) {
  if (bytes == 0)
    return;
  require(cuda::answer(cudaMalloc(&memory, bytes), "cudaMalloc"));
  require(copy(memory, content.data(), bytes));
}

Allocation::~Allocation() {
  if (memory)
    (void)cudaFree(memory);
}

void Allocation::fill(int value) {
  if (bytes)
    require(cuda::answer(cudaMemsetAsync(memory, value, bytes, stream),
                         "cudaMemsetAsync"));
}

std::vector<std::byte> Allocation::content() const {
  std::vector<std::byte> content(bytes);
  if (bytes)
    require(copy(content.data(), memory, bytes));
  return content;
}

std::span<const char *const> orderNames() {
  static constexpr const char *names[] = {"as the card has them"};
  return names;
}

void setOrder(size_t) {}

Status runKernel(size_t number, cuda::Call call) {
  call.stream = stream;
  call.libraries = libraries.get();
  if (cuda::isLinear(number)) {
    PEFT_ASSIGN(cuda::LinearWork work, cuda::describeLinear(number, call));
    PEFT_ASSIGN(cuda::LibraryArea area, cuda::libraryArea(call, work));
    PEFT_TRY(libraries->prepare(work, area.bytes));
  }
  PEFT_TRY(cuda::findFunction(number)(call));
  return cuda::answer(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
}

bool looksAtGate(size_t number) { return !cuda::isLinear(number); }

/// The card's compiler joins products and sums where the CPU's does not.
bool givesTheSameBits(std::string_view kernel) {
  static const std::set<std::string_view> exact = {
      "embed_fwd",    "add_fwd",     "cast",         "fill_zero",
      "compact_rows", "gather_rows", "scatter_rows", "count_tokens"};
  return exact.count(kernel) > 0;
}

} // namespace peft::conformance

int main(int argc, char **argv) {
  using namespace peft;
  testing::InitGoogleTest(&argc, argv);
  if (Status status = conformance::openAll(); !status.ok()) {
    std::fprintf(stderr, "peft-card-conformance: error: %s\n",
                 status.message().c_str());
    return static_cast<int>(status.code());
  }
  int result = RUN_ALL_TESTS();
  conformance::libraries.reset();
  return result;
}
