//===- PlainLinear.cu - the calls of the linear family as PlainGemm -------===//
#include "cuda/PlainGemm.h"

namespace peft::cuda {

namespace {

/// What the calls with rows of `out` have in common.
PlainGemm rowsGemm(const Operand &left, uint64_t columns, const Operand &out,
                   const Operand &count, int64_t rowStart) {
  PlainGemm gemm;
  gemm.compute = left.type;
  gemm.rows = left.rows;
  gemm.columns = columns;
  gemm.out = out;
  gemm.count = count;
  gemm.rowStart = rowStart;
  return gemm;
}

/// sums += left^T right over the rows of the launch.
PlainGemm sumsGemm(const Call &call, const Operand &left, const Operand &right,
                   const Operand &sums, const Operand &count,
                   int64_t rowStart) {
  PlainGemm gemm;
  gemm.compute = left.type;
  gemm.rows = left.columns;
  gemm.columns = right.columns;
  gemm.products[0] = {left, right, true, false, left.rows};
  gemm.init = sums;
  gemm.out = sums;
  gemm.count = count;
  gemm.rowStart = rowStart;
  gemm.countsDepth = true;
  gemm.scratch = call.workspace;
  gemm.scratchBytes = call.workspaceBytes;
  return gemm;
}

} // namespace

Status plainLinearFwd(const Call &call) {
  using namespace kernels::linear_fwd;
  PlainGemm gemm = rowsGemm(call[x], call[w].rows, call[y], call[count],
                            call.integer(row_start));
  gemm.products[0] = {call[x], call[w], false, true, call[x].columns};
  gemm.init = call[init];
  gemm.bias = call[bias];
  gemm.scale = static_cast<float>(call.real(scale));
  return plainGemm(call, gemm);
}

Status plainLinearLoraFwd(const Call &call) {
  using namespace kernels::linear_lora_fwd;
  PlainGemm gemm = rowsGemm(call[x], call[w].rows, call[y], call[count],
                            call.integer(row_start));
  gemm.products[0] = {call[x], call[w], false, true, call[x].columns};
  gemm.products[1] = {call[t], call[b], false, true, call[t].columns};
  gemm.productCount = 2;
  gemm.init = call[init];
  gemm.bias = call[bias];
  return plainGemm(call, gemm);
}

Status plainLinearDx(const Call &call) {
  using namespace kernels::linear_dx;
  PlainGemm gemm = rowsGemm(call[dy], call[w].columns, call[dx], call[count],
                            call.integer(row_start));
  gemm.products[0] = {call[dy], call[w], false, false, call[dy].columns};
  gemm.init = call[init];
  gemm.scale = static_cast<float>(call.real(scale));
  return plainGemm(call, gemm);
}

Status plainLinearLoraDx(const Call &call) {
  using namespace kernels::linear_lora_dx;
  PlainGemm gemm = rowsGemm(call[dy], call[w].columns, call[dx], call[count],
                            call.integer(row_start));
  gemm.products[0] = {call[dt], call[a], false, false, call[dt].columns};
  gemm.products[1] = {call[dy], call[w], false, false, call[dy].columns};
  gemm.productCount = 2;
  gemm.firstApart = true;
  gemm.init = call[init];
  gemm.dropout = readDropout(
      call, {index, seed, step, first_row, dropout, module_key, seq});
  gemm.masked = Masked::first;
  return plainGemm(call, gemm);
}

Status plainLinearDw(const Call &call) {
  using namespace kernels::linear_dw;
  return plainGemm(call, sumsGemm(call, call[dy], call[x], call[dw],
                                  call[count], call.integer(row_start)));
}

Status plainLoraDownFwd(const Call &call) {
  using namespace kernels::lora_down_fwd;
  PlainGemm gemm = rowsGemm(call[x], call[a].rows, call[t], call[count],
                            call.integer(row_start));
  gemm.products[0] = {call[x], call[a], false, true, call[x].columns};
  gemm.scale = static_cast<float>(call.real(scale));
  gemm.dropout = readDropout(
      call, {index, seed, step, first_row, dropout, module_key, seq});
  gemm.masked = Masked::left;
  return plainGemm(call, gemm);
}

Status plainLoraDownGroupFwd(const Call &call) {
  using namespace kernels::lora_down_group_fwd;
  constexpr int weights[] = {a0, a1, a2}, outputs[] = {t0, t1, t2};
  constexpr int scales[] = {scale0, scale1, scale2};
  constexpr int keys[] = {module_key0, module_key1, module_key2};
  for (unsigned i = 0; i < 3 && call[weights[i]]; ++i) {
    const Operand &weight = call[weights[i]];
    PlainGemm gemm = rowsGemm(call[x], weight.rows, call[outputs[i]],
                              call[count], call.integer(row_start));
    gemm.products[0] = {call[x], weight, false, true, call[x].columns};
    gemm.scale = static_cast<float>(call.real(scales[i]));
    gemm.dropout = readDropout(
        call, {index, seed, step, first_row, dropout, keys[i], seq});
    gemm.masked = Masked::left;
    if (Status status = plainGemm(call, gemm); !status.ok())
      return status;
  }
  return {};
}

Status plainLoraDownDw(const Call &call) {
  using namespace kernels::lora_down_dw;
  PlainGemm gemm = sumsGemm(call, call[dt], call[x], call[da], call[count],
                            call.integer(row_start));
  gemm.dropout = readDropout(
      call, {index, seed, step, first_row, dropout, module_key, seq});
  gemm.masked = Masked::right;
  return plainGemm(call, gemm);
}

} // namespace peft::cuda
