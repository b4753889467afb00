//===- ChooseProducts.cpp - which algorithm a product gets ----------------===//
#include "Libraries.h"

#include <algorithm>

namespace peft::cuda {

/// Candidates of a product that nothing was measured for.
constexpr uint32_t usualCandidates = 8;

static ProductShape shapeOf(const TunedProduct &tuned) {
  ProductShape shape;
  shape.rows = tuned.rows;
  shape.columns = tuned.columns;
  shape.depth = tuned.depth;
  shape.in = tuned.in;
  shape.out = tuned.out;
  shape.leftTransposed = tuned.leftTransposed;
  shape.rightTransposed = tuned.rightTransposed;
  shape.addend = tuned.addend;
  shape.bias = tuned.bias;
  shape.workspaceBytes = tuned.workspaceBytes;
  return shape;
}

static Expected<ProductChoice> choose(const Libraries &libraries,
                                      const ProductShape &shape) {
  const TunedProduct *tuned = nullptr;
  if (libraries.tuning)
    for (const TunedProduct &entry : libraries.tuning->products)
      if (shapeOf(entry) == shape)
        tuned = &entry;
  PEFT_ASSIGN(std::vector<ProductChoice> found,
              libraries.candidates(shape, tuned ? mostCandidates
                                                : usualCandidates));
  if (!tuned)
    return found.empty() ? ProductChoice{} : found.front();
  if (tuned->candidate >= found.size() ||
      found[tuned->candidate].description != tuned->algorithm)
    return Status::error(
        Code::unsuitable,
        "--tuned names candidate " + std::to_string(tuned->candidate) +
            " for the product [" + std::to_string(shape.rows) + ", " +
            std::to_string(shape.depth) + "] x [" +
            std::to_string(shape.depth) + ", " +
            std::to_string(shape.columns) +
            "], which the library does not propose here; measure again with "
            "peft-run --tune");
  ProductChoice choice = found[tuned->candidate];
  choice.tuned = true;
  return choice;
}

Status Libraries::prepare(const LinearWork &work, uint64_t workspaceBytes) {
  for (const LinearStep &step : work.steps) {
    if (step.kind != LinearStep::Kind::product)
      continue;
    ProductShape shape = cuda::shapeOf(step.product, workspaceBytes);
    if (choices.contains(shape))
      continue;
    PEFT_ASSIGN(ProductChoice choice, choose(*this, shape));
    choices.emplace(shape, choice);
  }
  return {};
}

size_t Libraries::tunedCount() const {
  return static_cast<size_t>(
      std::count_if(choices.begin(), choices.end(),
                    [](const auto &choice) { return choice.second.tuned; }));
}

size_t Libraries::ownCount() const {
  return static_cast<size_t>(
      std::count_if(choices.begin(), choices.end(),
                    [](const auto &choice) { return !choice.second.found; }));
}

Status checkTuning(const Tuning &tuning, const std::string &card,
                   const std::string &productLibrary,
                   const std::string &attentionLibrary) {
  auto differs = [](const std::string &measured, const std::string &here) {
    return Status::error(Code::unsuitable,
                         "--tuned was measured with " + measured +
                             ", and this is " + here +
                             "; measure again with peft-run --tune, or leave "
                             "it out");
  };
  if (tuning.card != card)
    return differs(tuning.card, card);
  if (tuning.productLibrary != productLibrary)
    return differs(tuning.productLibrary, productLibrary);
  // Nothing is asked of a library that is not used.
  if (!tuning.attentions.empty() && !attentionLibrary.empty() &&
      tuning.attentionLibrary != attentionLibrary)
    return differs(tuning.attentionLibrary, attentionLibrary);
  return {};
}

} // namespace peft::cuda
