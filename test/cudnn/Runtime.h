//===- Runtime.h - a card that is only described ----------------*- C++ -*-===//
#ifndef PEFT_TEST_CUDNN_RUNTIME_H
#define PEFT_TEST_CUDNN_RUNTIME_H

namespace peft {

/// The compute capability that the CUDA runtime names from now on: 90 for 9.0.
void pretendCapability(int capability);

} // namespace peft

#endif // PEFT_TEST_CUDNN_RUNTIME_H
