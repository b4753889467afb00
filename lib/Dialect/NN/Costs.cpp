//===- Costs.cpp - what one execution of an nn op costs -------------------===//
//
// Flops count a multiply-add as two. Bytes count every operand and result once,
// as if nothing stayed in a cache. Both need static shapes.
//
//===----------------------------------------------------------------------===//
#include "peftc/Dialect/NN/Costs.h"
#include "peftc/Dialect/NN/NN.h"

using namespace mlir;
using namespace peftc;
using namespace peftc::nn;

uint64_t nn::elementsOf(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  return type.hasStaticShape() ? static_cast<uint64_t>(type.getNumElements())
                               : 0;
}

uint64_t nn::bytesOf(RankedTensorType type) {
  return type.hasStaticShape() ? qw::storedBytes(type) : 0;
}

uint64_t nn::bytesTouched(Operation *op, ArrayRef<StringRef> parameters) {
  uint64_t bytes = 0;
  for (Value operand : op->getOperands())
    bytes += bytesOf(cast<RankedTensorType>(operand.getType()));
  for (Value result : op->getResults())
    bytes += bytesOf(cast<RankedTensorType>(result.getType()));
  for (StringRef name : parameters)
    if (auto param =
            dyn_cast_or_null<ParamOp>(SymbolTable::lookupNearestSymbolFrom(
                op, StringAttr::get(op->getContext(), name))))
      bytes += bytesOf(param.getTensorType());
  return bytes;
}

/// Rows of `value`: the product of all dimensions but the last.
static uint64_t rowsOf(Value value) {
  int64_t width = features(value);
  return width > 0 ? elementsOf(value) / static_cast<uint64_t>(width) : 0;
}

//===----------------------------------------------------------------------===//
// embed: a copy of one row per token, so only those rows of the table
//===----------------------------------------------------------------------===//

SmallVector<StringRef> EmbedOp::getParameters() { return {getTable()}; }
uint64_t EmbedOp::getFlops() { return 0; }
uint64_t EmbedOp::getBytes() {
  uint64_t bytes = bytesTouched(*this, {});
  auto table =
      SymbolTable::lookupNearestSymbolFrom<ParamOp>(*this, getTableAttr());
  if (table)
    bytes += rowsOf(getResult()) * (bytesOf(table.getTensorType()) /
                                    table.getTensorType().getDimSize(0));
  return bytes;
}

SmallVector<StringRef> LinearOp::getParameters() {
  SmallVector<StringRef> names{getWeight()};
  if (getBiasAttr())
    names.push_back(*getBias());
  return names;
}
uint64_t LinearOp::getFlops() {
  return 2 * elementsOf(getResult()) *
         static_cast<uint64_t>(features(getInput()));
}
uint64_t LinearOp::getBytes() { return bytesTouched(*this, getParameters()); }

SmallVector<StringRef> RMSNormOp::getParameters() { return {getWeight()}; }
uint64_t RMSNormOp::getFlops() { return 4 * elementsOf(getInput()); }
uint64_t RMSNormOp::getBytes() { return bytesTouched(*this, getParameters()); }

SmallVector<StringRef> RopeOp::getParameters() { return {}; }
uint64_t RopeOp::getFlops() { return 3 * elementsOf(getInput()); }
uint64_t RopeOp::getBytes() { return bytesTouched(*this, {}); }

//===----------------------------------------------------------------------===//
// attention: two GEMMs per head over the pairs that the mask keeps
//===----------------------------------------------------------------------===//

SmallVector<StringRef> AttentionOp::getParameters() { return {}; }

uint64_t AttentionOp::getFlops() {
  auto query = cast<RankedTensorType>(getQuery().getType());
  if (!query.hasStaticShape() || query.getRank() < 2)
    return 0;
  auto seq = static_cast<uint64_t>(query.getDimSize(query.getRank() - 2));
  uint64_t window = getWindow() ? getWindow() : seq;
  uint64_t reach = std::min(window, seq);
  // The first `reach` queries see 1, 2, ... keys, the others `reach`.
  uint64_t pairs = reach * (reach + 1) / 2 + (seq - reach) * reach;
  uint64_t rows = seq ? rowsOf(getQuery()) / seq : 0;
  return 4 * rows * pairs * getHeads() * getHeadDim();
}

uint64_t AttentionOp::getBytes() { return bytesTouched(*this, {}); }

SmallVector<StringRef> SwigluOp::getParameters() { return {}; }
uint64_t SwigluOp::getFlops() { return 6 * elementsOf(getResult()); }
uint64_t SwigluOp::getBytes() { return bytesTouched(*this, {}); }

SmallVector<StringRef> GegluOp::getParameters() { return {}; }
uint64_t GegluOp::getFlops() { return 9 * elementsOf(getResult()); }
uint64_t GegluOp::getBytes() { return bytesTouched(*this, {}); }

SmallVector<StringRef> SoftcapOp::getParameters() { return {}; }
uint64_t SoftcapOp::getFlops() { return 3 * elementsOf(getResult()); }
uint64_t SoftcapOp::getBytes() { return bytesTouched(*this, {}); }

// A copy.
SmallVector<StringRef> SplitOp::getParameters() { return {}; }
uint64_t SplitOp::getFlops() { return 0; }
uint64_t SplitOp::getBytes() { return bytesTouched(*this, {}); }
