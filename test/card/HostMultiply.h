//===- HostMultiply.h - which algorithm a product has -----------*- C++ -*-===//
#ifndef PEFT_TEST_CARD_HOSTMULTIPLY_H
#define PEFT_TEST_CARD_HOSTMULTIPLY_H

#include "cuda/library/Linear.h"

namespace peft::card {

/// The candidate that was chosen for a product when the plan was loaded. Error
/// internal: none was.
Expected<uint32_t> candidateOf(const cuda::Libraries &libraries,
                               const cuda::ProductShape &shape);

} // namespace peft::card

#endif // PEFT_TEST_CARD_HOSTMULTIPLY_H
