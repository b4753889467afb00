//===- emulated/Place.cpp - the CUDA kernels on the host ------------------===//
#include "../Place.h"

#include "cuda/Grid.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <set>

namespace peft::conformance {

using cuda::emulation::Order;

namespace {

struct Named {
  Order order;
  const char *name;
};
constexpr Named orders[] = {
    {Order::random, "random"},
#if !__has_feature(thread_sanitizer) // which sees races in every order
    {Order::ascending, "ascending"},
    {Order::descending, "descending"},
#endif
};

} // namespace

Allocation::Allocation(size_t bytes) : bytes(bytes) {
  if (bytes && posix_memalign(&memory, 64, bytes) != 0)
    throw std::bad_alloc();
}

Allocation::Allocation(const std::vector<std::byte> &content)
    : Allocation(content.size()) {
  if (bytes)
    std::memcpy(memory, content.data(), bytes);
}

Allocation::~Allocation() { std::free(memory); }

void Allocation::fill(int value) {
  if (bytes)
    std::memset(memory, value, bytes);
}

bool Allocation::holdsOnly(uint8_t value) const {
  return bytes == 0 || (data()[0] == std::byte(value) &&
                        std::memcmp(data(), data() + 1, bytes - 1) == 0);
}

std::vector<std::byte> Allocation::content() const {
  return {data(), data() + bytes};
}

std::span<const char *const> orderNames() {
  static const std::vector<const char *> names = [] {
    std::vector<const char *> list;
    for (const Named &each : orders)
      list.push_back(each.name);
    return list;
  }();
  return names;
}

void setOrder(size_t order) {
  cuda::emulation::setOrder(orders[order].order, 1);
}

Status runKernel(size_t number, cuda::Call call) {
  return cuda::findFunction(number)(call);
}

bool looksAtGate(size_t) { return true; }

/// Same operations in the same order, none of them a library function.
bool givesTheSameBits(std::string_view kernel) {
  static const std::set<std::string_view> exact = {
      "embed_fwd",    "embed_dw",     "add_fwd",      "cast",
      "fill_zero",    "accumulate",   "compact_rows", "gather_rows",
      "scatter_rows", "count_tokens", "finish_step",  "adjust_loss_scale",
      "rope_fwd",     "adamw",        "dora_scale",   "dropout_fwd",  "adamw8bit",
      "join",         "first_columns"};
  return exact.count(kernel) > 0;
}

} // namespace peft::conformance
