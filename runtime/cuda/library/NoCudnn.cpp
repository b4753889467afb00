//===- NoCudnn.cpp - a build without cuDNN's frontend ---------------------===//
#include "AttentionLibrary.h"

namespace peft::cuda {

Expected<std::unique_ptr<AttentionLibrary>> openAttentionLibrary() {
  return Status::error(Code::unsuitable,
                       "this build is without cuDNN: the Python package "
                       "nvidia-cudnn-frontend was not there");
}

} // namespace peft::cuda
