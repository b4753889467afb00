//===- HostAttention.cpp - attention by plain loops -----------------------===//
//
// What the attention library of a card does: a graph that computes at its turn,
// in double, and fills its workspace with NaNs meanwhile.
//   PEFT_CARD_ATTENTION=none   there is no library
//   PEFT_CARD_ATTENTION_BYTES  workspace that it asks for (128)
//
//===----------------------------------------------------------------------===//
#include "cuda/library/AttentionLibrary.h"

#include "cuda/Grid.h"
#include "cuda/Numbers.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

using namespace peft;
using namespace peft::cuda;

namespace {

/// A [batch, seq, heads, headDim] tensor.
struct Tensor {
  std::byte *data;
  DType type;
  uint64_t seq, heads, headDim;

  uint64_t at(uint64_t row, uint64_t position, uint64_t head) const {
    return ((row * seq + position) * heads + head) * headDim;
  }
  double load(uint64_t element) const {
    return withFloat(type, [&](auto kind) -> double {
      return toFloat(reinterpret_cast<const decltype(kind) *>(data)[element]);
    });
  }
  void store(uint64_t element, double value) const {
    withFloat(type, [&](auto kind) {
      using T = decltype(kind);
      reinterpret_cast<T *>(data)[element] =
          fromFloat<T>(static_cast<float>(value));
    });
  }
};

class HostGraph final : public AttentionGraph {
public:
  HostGraph(const AttentionProblem &problem, uint64_t bytes)
      : problem(problem), bytes(bytes) {}
  uint64_t workspaceBytes() const override { return bytes; }
  std::string engine() const override { return "loops"; }
  Status run(const Call &call, const AttentionMemory &memory,
             std::byte *workspace) const override {
    return emulation::runOrDefer(
        call, [problem = problem, memory, workspace, bytes = bytes]() -> Status {
          std::memset(workspace, 0xff, bytes);
          problem.backward ? backward(problem, memory)
                           : forward(problem, memory);
          return {};
        });
  }

private:
  static Tensor queries(const AttentionProblem &of, std::byte *data) {
    return {data, of.type, of.seq, of.heads, of.headDim};
  }
  static Tensor keys(const AttentionProblem &of, std::byte *data) {
    return {data, of.type, of.seq, of.kvHeads, of.headDim};
  }
  static uint64_t firstKey(const AttentionProblem &of, uint64_t query) {
    return of.window && query + 1 > of.window ? query + 1 - of.window : 0;
  }
  static double score(const AttentionProblem &of, const Tensor &q,
                      const Tensor &k, uint64_t query, uint64_t key) {
    double sum = 0;
    for (uint64_t d = 0; d < of.headDim; ++d)
      sum += q.load(query + d) * k.load(key + d);
    return sum * of.scale;
  }
  static void forward(const AttentionProblem &of, const AttentionMemory &memory);
  static void backward(const AttentionProblem &of,
                       const AttentionMemory &memory);

  AttentionProblem problem;
  uint64_t bytes;
};

/// Calls `visit(row, head, query)` for every query.
template <typename Visit>
void forQueries(const AttentionProblem &of, const Visit &visit) {
  for (uint64_t row = 0; row < of.batch; ++row)
    for (uint64_t head = 0; head < of.heads; ++head)
      for (uint64_t query = 0; query < of.seq; ++query)
        visit(row, head, query);
}

void HostGraph::forward(const AttentionProblem &of,
                        const AttentionMemory &memory) {
  const Tensor q = queries(of, memory.q), o = queries(of, memory.o);
  const Tensor k = keys(of, memory.k), v = keys(of, memory.v);
  const uint64_t group = of.heads / of.kvHeads;
  forQueries(of, [&](uint64_t row, uint64_t head, uint64_t query) {
    const uint64_t begin = firstKey(of, query), at = q.at(row, query, head);
    std::vector<double> p;
    double most = -INFINITY, total = 0;
    for (uint64_t key = begin; key <= query; ++key) {
      p.push_back(score(of, q, k, at, k.at(row, key, head / group)));
      most = std::max(most, p.back());
    }
    for (double &x : p)
      total += x = std::exp(x - most);
    for (uint64_t d = 0; d < of.headDim; ++d) {
      double sum = 0;
      for (uint64_t i = 0; i < p.size(); ++i)
        sum += p[i] / total * v.load(v.at(row, begin + i, head / group) + d);
      o.store(at + d, sum);
    }
    memory.lse[(row * of.heads + head) * of.seq + query] =
        static_cast<float>(most + std::log(total));
  });
}

void HostGraph::backward(const AttentionProblem &of,
                         const AttentionMemory &memory) {
  const Tensor q = queries(of, memory.q), o = queries(of, memory.o);
  const Tensor dO = queries(of, memory.dO), dq = queries(of, memory.dq);
  const Tensor k = keys(of, memory.k), v = keys(of, memory.v);
  const Tensor dk = keys(of, memory.dk), dv = keys(of, memory.dv);
  const uint64_t group = of.heads / of.kvHeads, dim = of.headDim;
  std::vector<double> keySums(of.rows() * of.kvHeads * dim);
  std::vector<double> valueSums = keySums;
  forQueries(of, [&](uint64_t row, uint64_t head, uint64_t query) {
    const uint64_t at = q.at(row, query, head);
    const double lse = memory.lse[(row * of.heads + head) * of.seq + query];
    std::vector<double> querySums(dim);
    double delta = 0;
    for (uint64_t d = 0; d < dim; ++d)
      delta += o.load(at + d) * dO.load(at + d);
    for (uint64_t key = firstKey(of, query); key <= query; ++key) {
      const uint64_t to = k.at(row, key, head / group);
      const double p = std::exp(score(of, q, k, at, to) - lse);
      double dp = 0;
      for (uint64_t d = 0; d < dim; ++d)
        dp += dO.load(at + d) * v.load(to + d);
      const double ds = p * (dp - delta) * of.scale;
      for (uint64_t d = 0; d < dim; ++d) {
        querySums[d] += ds * k.load(to + d);
        keySums[to + d] += ds * q.load(at + d);
        valueSums[to + d] += p * dO.load(at + d);
      }
    }
    for (uint64_t d = 0; d < dim; ++d)
      dq.store(at + d, querySums[d]);
  });
  for (uint64_t i = 0; i < keySums.size(); ++i) {
    dk.store(i, keySums[i]);
    dv.store(i, valueSums[i]);
  }
}

class HostLibrary final : public AttentionLibrary {
public:
  std::string name() const override { return "host attention 1.0"; }
  Expected<std::shared_ptr<AttentionGraph>>
  build(const AttentionProblem &problem) override {
    const char *wanted = std::getenv("PEFT_CARD_ATTENTION_BYTES");
    return std::shared_ptr<AttentionGraph>(std::make_shared<HostGraph>(
        problem, wanted ? std::strtoull(wanted, nullptr, 10) : 128));
  }
};

} // namespace

Expected<std::unique_ptr<AttentionLibrary>> cuda::openAttentionLibrary() {
  const char *kind = std::getenv("PEFT_CARD_ATTENTION");
  if (kind && std::strcmp(kind, "none") == 0)
    return Status::error(Code::unsuitable,
                         "the test card has no attention library");
  return std::unique_ptr<AttentionLibrary>(std::make_unique<HostLibrary>());
}
