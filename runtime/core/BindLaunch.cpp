//===- BindLaunch.cpp - a launch against its entry in kernels.def ---------===//
#include "peft/FloatTypes.h"
#include "peft/KernelSpec.h"

#include <cmath>

namespace peft {

static std::string quoted(std::string_view text) {
  return "'" + std::string(text) + "'";
}

static std::string shapeText(std::span<const uint64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

/// The text up to the next `separator`, which is removed from `rest` with it.
static std::string_view nextPart(std::string_view &rest, char separator) {
  size_t end = rest.find(separator);
  std::string_view part = rest.substr(0, end);
  rest =
      end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  return part;
}

//===----------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------===//

/// Whether a value lies in the range that kernels.def gives.
static Status checkValue(const AttributeSpec &spec,
                         const AttributeValue &value) {
  auto wrong = [&](const std::string &what) {
    return badInput("attribute " + quoted(spec.name) + " " + what);
  };
  auto range = [](auto number, auto least, auto most) {
    return "is " + std::to_string(number) + ", allowed is " +
           std::to_string(least) + " to " + std::to_string(most);
  };
  switch (spec.kind) {
  case AttributeSpec::Kind::integer:
    if (value.integer < spec.integerLeast || value.integer > spec.integerMost)
      return wrong(range(value.integer, spec.integerLeast, spec.integerMost));
    return {};
  case AttributeSpec::Kind::real:
    if (!(value.real >= spec.realLeast && value.real <= spec.realMost))
      return wrong(range(value.real, spec.realLeast, spec.realMost));
    return {};
  case AttributeSpec::Kind::reals:
    for (float number : value.reals)
      if (!std::isfinite(number))
        return wrong("holds a number that is not finite");
    return {};
  }
  return wrong("has an unknown kind");
}

static Status setAttribute(const AttributeSpec &spec, const Attribute &given,
                           AttributeValue &value) {
  auto wrong = [&](const std::string &what) {
    return badInput("attribute " + quoted(spec.name) + " " + what);
  };
  switch (spec.kind) {
  case AttributeSpec::Kind::integer: {
    const int64_t *integer = std::get_if<int64_t>(&given.value);
    if (!integer)
      return wrong("is not an integer");
    value.integer = *integer;
    break;
  }
  case AttributeSpec::Kind::real: {
    const double *real = std::get_if<double>(&given.value);
    if (!real)
      return wrong("is not a real number");
    value.real = *real;
    break;
  }
  case AttributeSpec::Kind::reals: {
    const auto *reals = std::get_if<std::vector<float>>(&given.value);
    if (!reals)
      return wrong("is not a list of numbers");
    value.reals = *reals;
    break;
  }
  }
  return checkValue(spec, value);
}

Status checkAttributes(const KernelSpec &spec,
                       std::span<const AttributeValue> values) {
  for (size_t i = 0; i < values.size(); ++i)
    PEFT_TRY(checkValue(spec.attributes[i], values[i]));
  return {};
}

Expected<std::vector<AttributeValue>> bindAttributes(const KernelSpec &spec,
                                                     const Launch &launch) {
  std::vector<AttributeValue> values(spec.attributes.size());
  for (size_t i = 0; i < values.size(); ++i) {
    values[i].integer = spec.attributes[i].integerDefault;
    values[i].real = spec.attributes[i].realDefault;
  }
  uint64_t seen = 0;
  for (const Attribute &attribute : launch.attributes) {
    int index = spec.findAttribute(attribute.name);
    if (index < 0)
      return badInput("there is no attribute " + quoted(attribute.name));
    if (seen >> index & 1)
      return badInput("attribute " + quoted(attribute.name) + " stands twice");
    seen |= uint64_t(1) << index;
    PEFT_TRY(setAttribute(spec.attributes[index], attribute, values[index]));
  }
  return values;
}

//===----------------------------------------------------------------------===//
// Types and shapes
//===----------------------------------------------------------------------===//

/// The compute type of a launch, once an operand has settled it.
struct ComputeType {
  bool known = false;
  DType type = DType::f32;
};

static bool typeFits(std::string_view alternatives, DType type,
                     ComputeType &compute) {
  bool mayCompute = false;
  while (!alternatives.empty()) {
    std::string_view one = nextPart(alternatives, '|');
    if (one == "C")
      mayCompute = true;
    else if ((one == "W" && isFloat(type)) || (one == "Q" && isQuantized(type)))
      return true;
    else if (one == name(type))
      return true;
  }
  if (!mayCompute || !isFloat(type))
    return false;
  if (compute.known && compute.type != type)
    return false;
  compute = {true, type};
  return true;
}

static Status wrongShape(const OperandSpec &spec, const OperandShape &operand,
                         const std::string &needed) {
  return badInput("operand " + quoted(spec.name) + " has shape " +
                  shapeText(operand.shape) + ", needed is " + needed);
}

/// Binds the symbols of one operand; `bound` has a bit per letter.
static Status bindShape(const OperandSpec &spec, const OperandShape &operand,
                        LaunchShape &shape, uint32_t &bound) {
  auto bind = [&](char letter, Saturating size) {
    uint32_t bit = uint32_t(1) << (letter - 'a');
    if (bound & bit)
      return shape.symbol(letter) == size;
    bound |= bit;
    shape.symbol(letter) = size;
    return true;
  };
  if (spec.shape[0] == '#') {
    Saturating elements = 1;
    for (uint64_t size : operand.shape)
      elements = elements * size;
    if (!bind(spec.shape[1], elements))
      return wrongShape(spec, operand,
                        std::to_string(shape.symbol(spec.shape[1]).value) +
                            " elements");
    return {};
  }
  std::string_view rest = spec.shape;
  size_t axis = 0;
  std::string needed;
  bool fits = true;
  while (!rest.empty()) {
    std::string_view part = nextPart(rest, ',');
    uint64_t size = axis < operand.shape.size() ? operand.shape[axis] : 0;
    bool isNumber = part[0] >= '0' && part[0] <= '9';
    uint64_t number = 0;
    for (char digit : part)
      number = number * 10 + (isNumber ? digit - '0' : 0);
    if (axis >= operand.shape.size())
      fits = false;
    else
      fits &= isNumber ? size == number : bind(part[0], size);
    uint64_t wanted = isNumber ? number : shape.symbol(part[0]).value;
    needed += (axis++ ? ", " : "") + std::string(part) +
              (isNumber ? "" : " = " + std::to_string(wanted));
  }
  if (!fits || axis != operand.shape.size())
    return wrongShape(spec, operand, "[" + needed + "]");
  return {};
}

static Status checkTypes(const KernelSpec &spec,
                         std::span<const OperandShape> operands) {
  ComputeType compute;
  // Operands that must have the compute type settle it before those that may.
  for (bool must : {true, false})
    for (size_t i = 0; i < operands.size(); ++i) {
      const OperandSpec &operand = spec.operands[i];
      if (!operands[i].present || (operand.types == "C") != must)
        continue;
      if (!typeFits(operand.types, operands[i].type, compute))
        return badInput("operand " + quoted(operand.name) + " has type " +
                        std::string(name(operands[i].type)) + ", needed is " +
                        std::string(operand.types) +
                        (compute.known
                             ? " with C = " + std::string(name(compute.type))
                             : ""));
    }
  return {};
}

Status wrongOperandCount(const KernelSpec &spec, size_t found) {
  return badInput("it has " + std::to_string(found) + " operands, needed are " +
                  std::to_string(spec.operands.size()) +
                  "; was the plan compiled for another version of the kernels? "
                  "compile it again");
}

Expected<LaunchShape> bindShapes(const KernelSpec &spec,
                                 std::span<const OperandShape> operands,
                                 std::span<const AttributeValue> attributes,
                                 std::vector<DType> &types) {
  if (operands.size() != spec.operands.size())
    return wrongOperandCount(spec, operands.size());
  if (attributes.size() != spec.attributes.size())
    return internalError("attributes were not bound first");
  LaunchShape shape;
  types.resize(operands.size());
  uint32_t bound = 0;
  for (size_t i = 0; i < operands.size(); ++i) {
    types[i] = operands[i].type;
    if (!operands[i].present) {
      if (!spec.operands[i].optional)
        return badInput("operand " + quoted(spec.operands[i].name) +
                        " is absent");
      continue;
    }
    shape.presentMask |= uint64_t(1) << i;
    PEFT_TRY(bindShape(spec.operands[i], operands[i], shape, bound));
  }
  PEFT_TRY(checkTypes(spec, operands));
  shape.types = types;
  shape.attributes = attributes;
  for (const Requirement &requirement : spec.requirements)
    if (!requirement.holds(shape))
      return badInput("it breaks the rule '" + std::string(requirement.text) +
                      "'");
  return shape;
}

} // namespace peft
