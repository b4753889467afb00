//===- Deferral.h - launches that wait for their turn -----------*- C++ -*-===//
#ifndef PEFT_CUDA_EMULATION_DEFERRAL_H
#define PEFT_CUDA_EMULATION_DEFERRAL_H

#include "cuda/Call.h"

#include <functional>

namespace peft::cuda::emulation {

/// Takes what a launch does instead of it being done at once: for tests that
/// have streams. Null: nobody does.
using Deferral = Status (*)(void *stream, std::function<Status()> work);
inline Deferral deferral = nullptr;

/// Told of every kernel before it is launched; may refuse: for tests that know
/// when code is loaded. Null: nobody is.
using Loading = Status (*)(void *stream, const void *kernel);
inline Loading loading = nullptr;

/// Does `work` of a call now, or gives it to whoever defers.
template <typename Work> Status runOrDefer(const Call &call, Work work) {
  return deferral ? deferral(call.stream, std::move(work)) : work();
}

} // namespace peft::cuda::emulation

#endif // PEFT_CUDA_EMULATION_DEFERRAL_H
