//===- Cudnn.h - cuDNN, opened at run time ----------------------*- C++ -*-===//
//
// The plug-in must load where the library is missing, to say so. Its frontend
// (headers of the package nvidia-cudnn-frontend) calls cuDNN by its C names;
// Cudnn.cpp defines these and forwards them to what was opened.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_LIBRARY_CUDNN_H
#define PEFT_CUDA_LIBRARY_CUDNN_H

#include "AttentionLibrary.h"

namespace peft::cuda {

/// Opens the library, once. Error unsuitable: it is missing or too old.
Status openCudnn();

/// "cuDNN 9.19.0", when it is open.
std::string cudnnName();

/// For whom a graph is made: for the current card by its handle (a
/// cudnnHandle_t), or, without a card, by a description as
/// CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION has it. The latter can be built and
/// asked, not run.
struct CudnnTarget {
  void *handle = nullptr;
  std::string description;
  int capability = 0; ///< of the description: 90 for 9.0
};

/// The first plan of cuDNN's heuristic that can be built. The library must be
/// open and the handle outlive the result. Error unsuitable: there is none.
Expected<std::shared_ptr<AttentionGraph>>
buildCudnnGraph(const AttentionProblem &problem, const CudnnTarget &target);

} // namespace peft::cuda

#endif // PEFT_CUDA_LIBRARY_CUDNN_H
