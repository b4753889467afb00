//===- Libraries.cpp - the libraries of the test card ---------------------===//
#include "cuda/library/Libraries.h"

#include "HostMultiply.h"

#include <algorithm>

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

std::string Libraries::name() const { return "host products 1.0"; }

/// Three that give the same bits; the one in the middle is the fastest
/// (HostMultiply.cpp).
Expected<std::vector<ProductChoice>>
Libraries::candidates(const ProductShape &, uint32_t most) const {
  std::vector<ProductChoice> choices(std::min<uint32_t>(most, 3));
  for (uint32_t i = 0; i < choices.size(); ++i) {
    choices[i].found = true;
    choices[i].candidate = i;
    choices[i].description[0] = 100 + i;
  }
  return choices;
}

Expected<uint32_t> card::candidateOf(const Libraries &libraries,
                                     const ProductShape &shape) {
  const auto chosen = libraries.choices.find(shape);
  if (chosen == libraries.choices.end())
    return internalError("no algorithm was chosen for a product");
  return chosen->second.candidate;
}
