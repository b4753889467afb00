//===- ItemAccess.h - which bytes an item reads and writes ------*- C++ -*-===//
#ifndef PEFT_ITEMACCESS_H
#define PEFT_ITEMACCESS_H

#include "peft/KernelSpec.h"
#include "peft/Plan.h"

#include <vector>

namespace peft {

/// A byte range [begin, end) of an arena. Bytes of mapped weights are left out:
/// nothing writes them.
struct ByteAccess {
  uint32_t buffer = none;
  uint32_t arena = none;
  uint64_t begin = 0, end = 0;
  bool reads = false, writes = false;
};

/// Replaces `accesses` with those of `item`: operands by kernels.def,
/// workspaces as written, the predicate as read. Indices must have been
/// checked.
void collectAccesses(const Plan &plan, const Item &item,
                     std::vector<ByteAccess> &accesses);

/// "item 7 (launch rope_fwd of model.layers.0.self_attn)"
std::string describeItem(const Entry &entry, size_t item);

} // namespace peft

#endif // PEFT_ITEMACCESS_H
