//===- QWDialect.cpp - element types of quantized weights -----------------===//
#include "peftc/Dialect/QW/QW.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace peftc::qw;

#include "peftc/Dialect/QW/QWDialect.cpp.inc"

#define GET_TYPEDEF_CLASSES
#include "peftc/Dialect/QW/QWTypes.cpp.inc"

void QWDialect::initialize() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "peftc/Dialect/QW/QWTypes.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// Blocks (qw_c1)
//===----------------------------------------------------------------------===//

static LogicalResult verifyBlocks(function_ref<InFlightDiagnostic()> emitError,
                                  int64_t block, int64_t nested) {
  // Sizes travel as 32-bit numbers in a plan.
  if (block < 1 || block > INT32_MAX)
    return emitError() << "block must be between 1 and " << INT32_MAX
                       << " elements, is " << block;
  if (nested < 0 || nested > INT32_MAX)
    return emitError() << "nested must be between 0 (none) and " << INT32_MAX
                       << " scales, is " << nested;
  return success();
}

LogicalResult NF4Type::verify(function_ref<InFlightDiagnostic()> emitError,
                              int64_t block, int64_t nested) {
  return verifyBlocks(emitError, block, nested);
}

LogicalResult FP4Type::verify(function_ref<InFlightDiagnostic()> emitError,
                              int64_t block, int64_t nested) {
  return verifyBlocks(emitError, block, nested);
}

//===----------------------------------------------------------------------===//
// Formats
//===----------------------------------------------------------------------===//

bool peftc::qw::isQuantized(Type element) {
  return isa<NF4Type, FP4Type, Int8Type>(element);
}

std::optional<Format> peftc::qw::formatOf(Type element) {
  using Kind = Format::Kind;
  return TypeSwitch<Type, std::optional<Format>>(element)
      .Case([](NF4Type type) {
        return Format{Kind::nf4, type.getBlock(), type.getNested()};
      })
      .Case([](FP4Type type) {
        return Format{Kind::fp4, type.getBlock(), type.getNested()};
      })
      .Case([](Int8Type) { return Format{Kind::int8, 0, 0}; })
      .Default([](Type) { return std::nullopt; });
}

std::string Format::describe() const {
  std::string text = nameOf(kind).str();
  if (block)
    text += " in blocks of " + std::to_string(block);
  if (nested)
    text += ", nested " + std::to_string(nested);
  return text;
}

Type peftc::qw::typeOf(MLIRContext *context, const Format &format) {
  switch (format.kind) {
  case Format::Kind::nf4:
    return NF4Type::get(context, format.block, format.nested);
  case Format::Kind::fp4:
    return FP4Type::get(context, format.block, format.nested);
  case Format::Kind::int8:
    return Int8Type::get(context);
  }
  return {};
}

StringRef peftc::qw::nameOf(Format::Kind kind) {
  constexpr StringLiteral names[] = {"nf4", "fp4", "int8"};
  return names[static_cast<size_t>(kind)];
}

std::optional<Format::Kind> peftc::qw::parseKind(StringRef word) {
  return llvm::StringSwitch<std::optional<Format::Kind>>(word)
      .Case("nf4", Format::Kind::nf4)
      .Case("fp4", Format::Kind::fp4)
      .Case("int8", Format::Kind::int8)
      .Default(std::nullopt);
}

int64_t Format::scales(int64_t rows, int64_t columns) const {
  return kind == Kind::int8 ? rows : llvm::divideCeil(rows * columns, block);
}

int64_t Format::nestedScales(int64_t rows, int64_t columns) const {
  return nested ? llvm::divideCeil(scales(rows, columns), nested) : 0;
}

uint64_t peftc::qw::storedBytes(RankedTensorType type) {
  auto elements = static_cast<uint64_t>(type.getNumElements());
  std::optional<Format> format = formatOf(type.getElementType());
  if (!format)
    return elements * type.getElementTypeBitWidth() / 8;
  int64_t columns = type.getShape().back();
  int64_t rows = type.getNumElements() / columns;
  auto scales = static_cast<uint64_t>(format->scales(rows, columns));
  auto nested = static_cast<uint64_t>(format->nestedScales(rows, columns));
  if (format->kind == Format::Kind::int8)
    return elements + 4 * scales;
  constexpr uint64_t table = 16 * 4, nestedTable = 257 * 4;
  return llvm::divideCeil(elements, 2) + table +
         (nested ? scales + 4 * nested + nestedTable : 4 * scales);
}
