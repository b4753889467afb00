//===- PlanTypes.cpp - element types of plan and IR -----------------------===//
#include "peftc/Target/PlanTypes.h"

#include "peftc/Dialect/Plan/Plan.h"

using namespace mlir;
using peft::DType;

std::optional<DType> peftc::dtypeOf(Type element) {
  if (element.isF32())
    return DType::f32;
  if (element.isBF16())
    return DType::bf16;
  if (element.isF16())
    return DType::f16;
  if (element.isF64())
    return DType::f64;
  if (element.isSignlessInteger(32))
    return DType::i32;
  if (element.isSignlessInteger(64))
    return DType::i64;
  if (element.isSignlessInteger(8))
    return DType::i8;
  if (element.isUnsignedInteger(8))
    return DType::u8;
  if (isa<plan::NF4Type>(element))
    return DType::nf4;
  if (isa<plan::FP4Type>(element))
    return DType::fp4;
  return std::nullopt;
}

Type peftc::elementType(MLIRContext *context, DType type) {
  switch (type) {
  case DType::f32:
    return Float32Type::get(context);
  case DType::bf16:
    return BFloat16Type::get(context);
  case DType::f16:
    return Float16Type::get(context);
  case DType::f64:
    return Float64Type::get(context);
  case DType::i32:
    return IntegerType::get(context, 32);
  case DType::i64:
    return IntegerType::get(context, 64);
  case DType::u8:
    return IntegerType::get(context, 8, IntegerType::Unsigned);
  case DType::i8:
    return IntegerType::get(context, 8);
  case DType::nf4:
    return plan::NF4Type::get(context);
  case DType::fp4:
    return plan::FP4Type::get(context);
  }
  return {};
}
