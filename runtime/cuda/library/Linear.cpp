//===- Linear.cpp - the linear family as matrix products ------------------===//
#include "Linear.h"

#include <iterator>
#include <string>

namespace peft::cuda {

namespace {

using Kind = LinearStep::Kind;

/// Collects the steps of one call and cuts areas from its workspace.
class Builder {
public:
  Builder(const Call &call, DType compute) : call(call), compute(compute) {}

  /// `operand` in the compute type: itself, or a rounded copy.
  Operand rounded(const Operand &operand, DType type) {
    if (!operand || operand.type == type)
      return operand;
    Operand copy = area(operand.rows, operand.columns, type);
    convert(operand, copy);
    return copy;
  }
  Operand rounded(const Operand &operand) { return rounded(operand, compute); }

  /// A weight in the compute type: itself, or a copy that is rounded or made
  /// from codes.
  Operand weight(const QuantizedOperands &parts) {
    const Operand &stored = call[parts.codes];
    if (!isQuantized(stored.type))
      return rounded(stored);
    LinearStep step;
    step.kind = Kind::dequantize;
    step.weight = readQuantized(call, parts);
    step.to = area(stored.rows, stored.columns, compute);
    work.steps.push_back(step);
    return step.to;
  }

  /// `operand` with zeros in the rows that the count leaves out.
  Operand counted(const Operand &operand, const Operand &count,
                  int64_t rowStart) {
    if (!count)
      return operand;
    LinearStep step;
    step.kind = Kind::rows;
    step.from = operand;
    step.to = area(operand.rows, operand.columns, operand.type);
    step.count = count;
    step.rowStart = rowStart;
    work.steps.push_back(step);
    return step.to;
  }

  /// The products scale (init + bias + p[0] + p[1]) into `out`. A start that
  /// `out` cannot hold exactly lets them add up in f32 first.
  void products(const Operand &out, std::vector<Product> list, Operand init,
                Operand bias, float scale) {
    Operand sum = init ? wide(out) : out;
    addUp(sum, std::move(list), init, bias, scale);
    if (sum.type != out.type)
      convert(sum, out);
  }

  /// The same into `sum`, which holds the start exactly; `init` may be `sum`.
  void addUp(const Operand &sum, std::vector<Product> list, Operand init,
             const Operand &bias, float scale) {
    // The library adds a bias of the output's type; one that was rounded to a
    // narrower type, or is scaled, is written as the start.
    bool written = bias && (init || scale != 1 || sum.type != compute);
    if (written) {
      start(init, bias, sum);
      init = sum;
    } else if (bias) {
      list.front().bias = rounded(bias);
    }
    Operand addend = init;
    for (Product &product : list) {
      product.out = sum;
      product.alpha = scale;
      product.addend = addend;
      addend = sum;
      LinearStep step;
      step.product = product;
      work.steps.push_back(step);
    }
  }

  void convert(const Operand &from, const Operand &to) {
    LinearStep step;
    step.kind = Kind::convert;
    step.from = from;
    step.to = to;
    work.steps.push_back(step);
  }

  /// A kernel that reads the call itself; `from` and `to` only where it takes
  /// them.
  void ofCall(Kind kind, const Operand &to = {}, const Operand &from = {}) {
    LinearStep step;
    step.kind = kind;
    step.from = from;
    step.to = to;
    work.steps.push_back(step);
  }

  /// `out`, or f32 of its shape where a sum goes on.
  Operand wide(const Operand &out) {
    return out.type == DType::f32 ? out
                                  : area(out.rows, out.columns, DType::f32);
  }

  Operand area(uint64_t rows, uint64_t columns, DType type) {
    Operand operand{nullptr, type, rows, columns};
    uint64_t bytes = rows * columns * byteSize(type);
    // A null workspace only counts.
    if (call.workspace)
      operand.data = call.workspace + work.areaBytes;
    work.areaBytes += (bytes + areaAlignment - 1) / areaAlignment * areaAlignment;
    return operand;
  }

  LinearWork take() { return std::move(work); }

private:
  void start(const Operand &init, const Operand &bias, const Operand &to) {
    LinearStep step;
    step.kind = Kind::start;
    step.from = init;
    step.bias = bias;
    step.to = to;
    step.compute = compute;
    work.steps.push_back(step);
  }

  const Call &call;
  DType compute;
  LinearWork work;
};

LinearWork linearFwd(const Call &call) {
  using namespace kernels::linear_fwd;
  Builder builder(call, call[x].type);
  Operand weight = builder.weight({w, absmax, nested_absmax, tables, block, nested});
  builder.products(call[y], {{.left = call[x], .right = weight, .out = {},
                              .rightTransposed = true}},
                   call[init], call[bias], static_cast<float>(call.real(scale)));
  return builder.take();
}

LinearWork linearLoraFwd(const Call &call) {
  using namespace kernels::linear_lora_fwd;
  Builder builder(call, call[x].type);
  Operand up = builder.rounded(call[b]), weight = builder.weight({w, absmax, nested_absmax, tables, block, nested});
  Product small{.left = call[t], .right = up, .out = {}, .rightTransposed = true};
  Product large{.left = call[x], .right = weight, .out = {},
                .rightTransposed = true};
  builder.products(call[y], {small, large}, call[init], call[bias], 1);
  return builder.take();
}

LinearWork linearDx(const Call &call) {
  using namespace kernels::linear_dx;
  Builder builder(call, call[dy].type);
  Operand weight = builder.weight({w, absmax, nested_absmax, tables, block, nested});
  builder.products(call[dx], {{.left = call[dy], .right = weight, .out = {}}},
                   call[init], {}, static_cast<float>(call.real(scale)));
  return builder.take();
}

LinearWork linearLoraDx(const Call &call) {
  using namespace kernels::linear_lora_dx;
  Builder builder(call, call[dy].type);
  Operand weight = builder.weight({w, absmax, nested_absmax, tables, block, nested});
  Product large{.left = call[dy], .right = weight, .out = {}};
  if (call.real(dropout) > 0) {
    Operand sum = builder.wide(call[dx]);
    builder.ofCall(Kind::maskedDx, sum);
    builder.addUp(sum, {large}, sum, {}, 1);
    if (sum.type != call[dx].type)
      builder.convert(sum, call[dx]);
    return builder.take();
  }
  Product small{.left = call[dt], .right = builder.rounded(call[a]), .out = {}};
  builder.products(call[dx], {small, large}, call[init], {}, 1);
  return builder.take();
}

/// sums += left^T right over the counted rows.
LinearWork overRows(const Call &call, const Operand &left, const Operand &right,
                    const Operand &count, int64_t rowStart,
                    const Operand &sums) {
  Builder builder(call, left.type);
  // Both: zero times the NaN that an undefined row may hold is NaN.
  Product product{.left = builder.counted(left, count, rowStart),
                  .right = builder.counted(right, count, rowStart),
                  .out = {},
                  .leftTransposed = true};
  builder.products(sums, {product}, sums, {}, 1);
  return builder.take();
}

LinearWork linearDw(const Call &call) {
  using namespace kernels::linear_dw;
  return overRows(call, call[dy], call[x], call[count], call.integer(row_start),
                  call[dw]);
}

LinearWork loraDownFwd(const Call &call) {
  using namespace kernels::lora_down_fwd;
  Builder builder(call, call[x].type);
  if (call.real(dropout) > 0) {
    builder.ofCall(Kind::maskedDown);
    return builder.take();
  }
  builder.products(call[t], {{.left = call[x],
                              .right = builder.rounded(call[a]),
                              .out = {},
                              .rightTransposed = true}},
                   {}, {}, static_cast<float>(call.real(scale)));
  return builder.take();
}

/// One product for all adapters: they are put one below the other, its sums lie
/// side by side.
LinearWork loraDownGroupFwd(const Call &call) {
  using namespace kernels::lora_down_group_fwd;
  Builder builder(call, call[x].type);
  if (call.real(dropout) > 0) {
    builder.ofCall(Kind::maskedDownGroup);
    return builder.take();
  }
  const uint64_t ranks = call[a0].rows + call[a1].rows + call[a2].rows;
  Operand stacked = builder.area(ranks, call[x].columns, call[x].type);
  Operand sums = builder.area(call[x].rows, ranks, DType::f32);
  builder.ofCall(Kind::stackDown, stacked);
  builder.addUp(sums, {{.left = call[x],
                        .right = stacked,
                        .out = {},
                        .rightTransposed = true}},
                {}, {}, 1);
  builder.ofCall(Kind::splitDown, {}, sums);
  return builder.take();
}

LinearWork loraDownDw(const Call &call) {
  using namespace kernels::lora_down_dw;
  if (call.real(dropout) > 0) {
    Builder builder(call, call[x].type);
    builder.ofCall(Kind::maskedSums);
    return builder.take();
  }
  return overRows(call, call[dt], call[x], call[count], call.integer(row_start),
                  call[da]);
}

struct Member {
  const char *name;
  LinearWork (*describe)(const Call &call);
};
constexpr Member family[] = {
    {"linear_fwd", linearFwd},        {"linear_lora_fwd", linearLoraFwd},
    {"linear_dx", linearDx},          {"linear_lora_dx", linearLoraDx},
    {"linear_dw", linearDw},          {"lora_down_fwd", loraDownFwd},
    {"lora_down_group_fwd", loraDownGroupFwd},
    {"lora_down_dw", loraDownDw},
};

const Member *findMember(size_t kernel) {
  for (const Member &member : family)
    if (allKernels()[kernel].name == member.name)
      return &member;
  return nullptr;
}

} // namespace

bool isLinear(size_t kernel) { return findMember(kernel) != nullptr; }

Expected<LinearWork> describeLinear(size_t kernel, const Call &call) {
  const Member *member = findMember(kernel);
  if (!member)
    return internalError("kernel " + std::string(allKernels()[kernel].name) +
                         " is no matrix product");
  return member->describe(call);
}

ProductShape shapeOf(const Product &product, uint64_t workspaceBytes) {
  ProductShape shape;
  shape.rows = product.rows();
  shape.columns = product.columns();
  shape.depth = product.depth();
  shape.in = product.left.type;
  shape.out = product.out.type;
  shape.leftTransposed = product.leftTransposed;
  shape.rightTransposed = product.rightTransposed;
  shape.addend = static_cast<bool>(product.addend);
  shape.bias = static_cast<bool>(product.bias);
  shape.workspaceBytes = workspaceBytes;
  return shape;
}

Expected<LibraryArea> libraryArea(const Call &call, const LinearWork &work) {
  if (work.areaBytes > call.workspaceBytes)
    return internalError("the launch has a workspace of " +
                         std::to_string(call.workspaceBytes) +
                         " bytes, its copies need " +
                         std::to_string(work.areaBytes));
  return LibraryArea{call.workspace ? call.workspace + work.areaBytes : nullptr,
                     call.workspaceBytes - work.areaBytes};
}

} // namespace peft::cuda
