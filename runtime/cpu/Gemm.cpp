//===- Gemm.cpp - reads the calls of the linear family --------------------===//
#include "Gemm.h"

namespace peft::cpu {

namespace {

/// The rows of a compacted launch index `index`; kernels.def cannot say this,
/// as the number of rows is known only in the step.
Fault checkIndex(const Dropout &dropout, uint64_t rows) {
  uint64_t last = dropout.rowStart + rows;
  if (rows && dropout.active && dropout.index &&
      last > dropout.index.columns)
    return {"the launch has more rows than its index",
            static_cast<int64_t>(last),
            static_cast<int64_t>(dropout.index.columns)};
  return {};
}

} // namespace

Fault describeLinearFwd(const Call &call, Gemm &gemm) {
  using namespace kernels::linear_fwd;
  gemm.compute = call[x].type;
  gemm.rows = activeRows(call[count], call.integer(row_start), call[x].rows);
  gemm.columns = call[w].rows;
  gemm.products[0] = {call[x], call[w], false, true, call[x].columns,
                      readQuantized(call, {w, absmax, nested_absmax, tables, block, nested})};
  gemm.init = call[init];
  gemm.bias = call[bias];
  gemm.out = call[y];
  gemm.scale = static_cast<float>(call.real(scale));
  return {};
}

Fault describeLinearLoraFwd(const Call &call, Gemm &gemm) {
  using namespace kernels::linear_lora_fwd;
  gemm.compute = call[x].type;
  gemm.rows = activeRows(call[count], call.integer(row_start), call[x].rows);
  gemm.columns = call[w].rows;
  gemm.products[0] = {call[x], call[w], false, true, call[x].columns,
                      readQuantized(call, {w, absmax, nested_absmax, tables, block, nested})};
  gemm.products[1] = {call[t], call[b], false, true, call[t].columns};
  gemm.productCount = 2;
  gemm.init = call[init];
  gemm.bias = call[bias];
  gemm.out = call[y];
  return {};
}

Fault describeLinearDx(const Call &call, Gemm &gemm) {
  using namespace kernels::linear_dx;
  gemm.compute = call[dy].type;
  gemm.rows = activeRows(call[count], call.integer(row_start), call[dy].rows);
  gemm.columns = call[w].columns;
  gemm.products[0] = {call[dy], call[w], false, false, call[dy].columns,
                      readQuantized(call, {w, absmax, nested_absmax, tables, block, nested})};
  gemm.init = call[init];
  gemm.out = call[dx];
  gemm.scale = static_cast<float>(call.real(scale));
  return {};
}

Fault describeLinearLoraDx(const Call &call, Gemm &gemm) {
  using namespace kernels::linear_lora_dx;
  gemm.compute = call[dy].type;
  gemm.rows = activeRows(call[count], call.integer(row_start), call[dy].rows);
  gemm.columns = call[w].columns;
  gemm.products[0] = {call[dt], call[a], false, false, call[dt].columns};
  gemm.products[1] = {call[dy], call[w], false, false, call[dy].columns,
                      readQuantized(call, {w, absmax, nested_absmax, tables, block, nested})};
  gemm.productCount = 2;
  gemm.firstApart = true;
  gemm.init = call[init];
  gemm.out = call[dx];
  gemm.dropout = readDropout(call, {index, seed, step, first_row, row_start,
                                    dropout, module_key, seq});
  gemm.masked = gemm.dropout.active ? Masked::first : Masked::nothing;
  return checkIndex(gemm.dropout, gemm.rows);
}

Fault describeLinearDw(const Call &call, Gemm &gemm) {
  using namespace kernels::linear_dw;
  gemm.compute = call[dy].type;
  gemm.rows = call[dy].columns;
  gemm.columns = call[x].columns;
  gemm.products[0] = {
      call[dy], call[x], true, false,
      activeRows(call[count], call.integer(row_start), call[dy].rows)};
  gemm.init = call[dw];
  gemm.out = call[dw];
  return {};
}

Fault describeLoraDownFwd(const Call &call, Gemm &gemm) {
  using namespace kernels::lora_down_fwd;
  gemm.compute = call[x].type;
  gemm.rows = activeRows(call[count], call.integer(row_start), call[x].rows);
  gemm.columns = call[a].rows;
  gemm.products[0] = {call[x], call[a], false, true, call[x].columns};
  gemm.out = call[t];
  gemm.scale = static_cast<float>(call.real(scale));
  gemm.dropout = readDropout(call, {index, seed, step, first_row, row_start,
                                    dropout, module_key, seq});
  gemm.masked = gemm.dropout.active ? Masked::left : Masked::nothing;
  return checkIndex(gemm.dropout, gemm.rows);
}

unsigned downGroupSize(const Call &call) {
  return call[kernels::lora_down_group_fwd::a2] ? 3 : 2;
}

Fault describeLoraDownGroupFwd(const Call &call, unsigned member, Gemm &gemm) {
  using namespace kernels::lora_down_group_fwd;
  constexpr int weights[] = {a0, a1, a2}, outputs[] = {t0, t1, t2};
  constexpr int scales[] = {scale0, scale1, scale2};
  constexpr int keys[] = {module_key0, module_key1, module_key2};
  const Operand &weight = call[weights[member]];
  gemm.compute = call[x].type;
  gemm.rows = activeRows(call[count], call.integer(row_start), call[x].rows);
  gemm.columns = weight.rows;
  gemm.products[0] = {call[x], weight, false, true, call[x].columns};
  gemm.out = call[outputs[member]];
  gemm.scale = static_cast<float>(call.real(scales[member]));
  gemm.dropout = readDropout(call, {index, seed, step, first_row, row_start,
                                    dropout, keys[member], seq});
  gemm.masked = gemm.dropout.active ? Masked::left : Masked::nothing;
  return checkIndex(gemm.dropout, gemm.rows);
}

Fault describeLoraDownDw(const Call &call, Gemm &gemm) {
  using namespace kernels::lora_down_dw;
  gemm.compute = call[x].type;
  gemm.rows = call[dt].columns;
  gemm.columns = call[x].columns;
  gemm.products[0] = {
      call[dt], call[x], true, false,
      activeRows(call[count], call.integer(row_start), call[x].rows)};
  gemm.init = call[da];
  gemm.out = call[da];
  gemm.dropout = readDropout(call, {index, seed, step, first_row, row_start,
                                    dropout, module_key, seq});
  gemm.masked = gemm.dropout.active ? Masked::right : Masked::nothing;
  return checkIndex(gemm.dropout, gemm.products[0].depth);
}

} // namespace peft::cpu
