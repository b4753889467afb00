//===- LibraryAttention.cpp - a launch of attention by a library ----------===//
#include "LibraryAttention.h"

namespace peft::cuda {

namespace fwd = kernels::attention_fwd;
namespace bwd = kernels::attention_bwd;

static AttentionMemory forwardMemory(const Call &call) {
  AttentionMemory memory;
  memory.q = call[fwd::q].data;
  memory.k = call[fwd::k].data;
  memory.v = call[fwd::v].data;
  memory.o = call[fwd::o].data;
  memory.lse = call[fwd::lse].as<float>();
  return memory;
}

static AttentionMemory backwardMemory(const Call &call) {
  AttentionMemory memory;
  memory.q = call[bwd::q].data;
  memory.k = call[bwd::k].data;
  memory.v = call[bwd::v].data;
  memory.o = call[bwd::o].data;
  memory.dO = call[bwd::d_o].data;
  memory.lse = call[bwd::lse].as<float>();
  memory.dq = call[bwd::dq].data;
  memory.dk = call[bwd::dk].data;
  memory.dv = call[bwd::dv].data;
  return memory;
}

Status runLibraryAttention(const Call &call, const AttentionChoice &choice) {
  const AttentionProblem &problem = choice.problem;
  Call open = call;
  open.gate = {};
  AttentionMemory memory =
      problem.backward ? backwardMemory(call) : forwardMemory(call);
  const QueryNumberShape shape = {problem.batch, problem.heads, problem.seq};
  float *planned = memory.lse;
  // With one batch row the two layouts are the same.
  if (choice.areas.hasNumbers)
    memory.lse = reinterpret_cast<float *>(call.workspace + choice.areas.numbers);
  if (memory.lse != planned && problem.backward)
    PEFT_TRY(numbersByRow(open, shape, planned, memory.lse));
  PEFT_TRY(
      choice.graph->run(open, memory, call.workspace + choice.areas.library));
  if (memory.lse != planned && !problem.backward)
    PEFT_TRY(numbersByHead(open, shape, memory.lse, planned));
  return {};
}

} // namespace peft::cuda
