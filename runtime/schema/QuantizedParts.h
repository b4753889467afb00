//===- QuantizedParts.h - the operands of a quantized weight ----*- C++ -*-===//
//
// Beside its codes a quantized weight has scales and what codes stand for, as
// plan.fbs describes them (Weight.part). The kernels that read one name these
// operands absmax [s], nested_absmax [u] and tables [t].
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_SCHEMA_QUANTIZEDPARTS_H
#define PEFT_SCHEMA_QUANTIZEDPARTS_H

#include "peft/KernelSpec.h"

namespace peft {

/// Operands and attributes by their enumerators in one kernel.
struct QuantizedOperands {
  int codes, absmax, nestedAbsmax, tables;
  int block, nested; ///< attributes
};

/// Whether the parts of a weight [rows, columns] are those that the type of its
/// codes needs: none of a weight that is not quantized.
inline bool hasItsScales(const LaunchShape &d, const QuantizedOperands &parts,
                         Saturating rows, Saturating columns) {
  DType type = d.types[parts.codes];
  bool nested = d[parts.nested] > 0;
  if (!isPacked(type)) {
    bool scales = type == DType::i8;
    return d.has(parts.absmax) == scales && !d.has(parts.nestedAbsmax) &&
           !d.has(parts.tables) && !nested && d[parts.block] == 0 &&
           (!scales ||
            (d.types[parts.absmax] == DType::f32 && d.s == rows));
  }
  Saturating block = d[parts.block];
  if (block == 0 || !d.has(parts.absmax) || !d.has(parts.tables) ||
      d.has(parts.nestedAbsmax) != nested)
    return false;
  auto quotientUp = [](Saturating value, Saturating step) {
    return value / step + (value % step > 0 ? 1 : 0);
  };
  if (d.s != quotientUp(rows * columns, block) ||
      d.t != (nested ? nestedTables : codeTable) ||
      d.types[parts.absmax] != (nested ? DType::u8 : DType::f32))
    return false;
  return !nested || d.u == quotientUp(d.s, d[parts.nested]);
}

} // namespace peft

#endif // PEFT_SCHEMA_QUANTIZEDPARTS_H
