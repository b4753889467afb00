//===- Libraries.cpp - the libraries of the test card ---------------------===//
#include "cuda/library/Libraries.h"

using namespace peft;
using namespace peft::cuda;

Expected<const CublasLt *> cuda::openCublasLt() {
  static const CublasLt none;
  return &none;
}

Libraries::~Libraries() = default;

Expected<std::unique_ptr<Libraries>> Libraries::create() {
  return std::make_unique<Libraries>();
}

Status Libraries::prepare(const LinearWork &work, uint64_t workspaceBytes) {
  for (const LinearStep &step : work.steps)
    if (step.kind == LinearStep::Kind::product)
      choices[shapeOf(step.product, workspaceBytes)].found = true;
  return {};
}
