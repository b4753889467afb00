//===- HostMultiply.h - what a product asks of the test card ----*- C++ -*-===//
//
// Without the types of CUDA, whose headers do not stand beside the emulation.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_TEST_CARD_HOSTMULTIPLY_H
#define PEFT_TEST_CARD_HOSTMULTIPLY_H

#include "cuda/library/Linear.h"

#include <string>

namespace peft::card {

/// The candidate that was chosen for a product when the plan was loaded. Error
/// internal: none was.
Expected<uint32_t> candidateOf(const cuda::Libraries &libraries,
                               const cuda::ProductShape &shape);

/// Loads `code` (of a kernel or a product) for a launch. Error internal: it is
/// new, and the stream records.
Status loadFor(void *stream, const std::string &code);

} // namespace peft::card

#endif // PEFT_TEST_CARD_HOSTMULTIPLY_H
