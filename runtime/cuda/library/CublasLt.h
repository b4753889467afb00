//===- CublasLt.h - cuBLASLt, opened at run time ----------------*- C++ -*-===//
//
// The plug-in must load where the library is missing, to say so. Only what is
// used is looked up.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_LIBRARY_CUBLASLT_H
#define PEFT_CUDA_LIBRARY_CUBLASLT_H

#include "peft/Status.h"

#include <cublasLt.h>

namespace peft::cuda {

#define PEFT_CUBLASLT_FUNCTIONS(X)                                             \
  X(cublasLtCreate)                                                            \
  X(cublasLtDestroy)                                                           \
  X(cublasLtGetVersion)                                                        \
  X(cublasLtGetStatusString)                                                   \
  X(cublasLtMatmul)                                                            \
  X(cublasLtMatmulDescCreate)                                                  \
  X(cublasLtMatmulDescDestroy)                                                 \
  X(cublasLtMatmulDescSetAttribute)                                            \
  X(cublasLtMatrixLayoutCreate)                                                \
  X(cublasLtMatrixLayoutDestroy)                                               \
  X(cublasLtMatmulPreferenceCreate)                                            \
  X(cublasLtMatmulPreferenceDestroy)                                           \
  X(cublasLtMatmulPreferenceSetAttribute)                                      \
  X(cublasLtMatmulAlgoGetHeuristic)                                            \
  X(cublasLtMatmulAlgoConfigGetAttribute)

struct CublasLt {
#define PEFT_MEMBER(function) decltype(&::function) function = nullptr;
  PEFT_CUBLASLT_FUNCTIONS(PEFT_MEMBER)
#undef PEFT_MEMBER
};

/// The library, opened once. Error unsuitable: it is missing or too old.
Expected<const CublasLt *> openCublasLt();

} // namespace peft::cuda

#endif // PEFT_CUDA_LIBRARY_CUBLASLT_H
