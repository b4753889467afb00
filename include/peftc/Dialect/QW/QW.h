//===- QW.h - element types of quantized weights ----------------*- C++ -*-===//
//
// See QWTypes.td. The types have no op: a kernel decodes what it reads.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_DIALECT_QW_QW_H
#define PEFTC_DIALECT_QW_QW_H

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpImplementation.h"

#include <optional>

#include "peftc/Dialect/QW/QWDialect.h.inc"

#define GET_TYPEDEF_CLASSES
#include "peftc/Dialect/QW/QWTypes.h.inc"

namespace peftc::qw {

/// Whether `element` is one of the dialect's types.
bool isQuantized(mlir::Type element);

/// What the types have in common.
struct Format {
  enum class Kind { nf4, fp4, int8 };
  Kind kind = Kind::nf4;
  int64_t block = 0;  ///< elements that share a scale; int8: 0, it is a row
  int64_t nested = 0; ///< scales that share a nested one; 0: none
  bool operator==(const Format &) const = default;

  /// Scales of a tensor [rows, columns], and nested scales.
  int64_t scales(int64_t rows, int64_t columns) const;
  int64_t nestedScales(int64_t rows, int64_t columns) const;
  /// "nf4 in blocks of 64, nested 256": the words of peft::QuantFormat, which a
  /// dialect does not know.
  std::string describe() const;
};

/// The format of an element type; nothing if it is not quantized.
std::optional<Format> formatOf(mlir::Type element);
/// The element type of a format, whose block and nested are valid.
mlir::Type typeOf(mlir::MLIRContext *context, const Format &format);
/// "nf4", "fp4", "int8", and back; nothing for another word.
llvm::StringRef nameOf(Format::Kind kind);
std::optional<Format::Kind> parseKind(llvm::StringRef word);

/// Bytes of a tensor of any element type, scales and tables included.
uint64_t storedBytes(mlir::RankedTensorType type);

} // namespace peftc::qw

#endif // PEFTC_DIALECT_QW_QW_H
