//===- AttentionChoices.cpp - which engine runs each attention ------------===//
#include "AttentionChoices.h"

#include "Extra.h"
#include "peft/AttentionEngine.h"
#include "peft/KernelSpec.h"
#include "schema/CudaParts.h"

#include <algorithm>
#include <cstdio>
#include <optional>

namespace peft::cuda {

static bool isBackward(const Launch &launch) {
  return launch.kernel == "attention_bwd";
}
static bool isAttention(const Launch &launch) {
  return launch.kernel == "attention_fwd" || isBackward(launch);
}

/// The bytes that our own kernel uses: those of a launch that names it.
static Expected<uint64_t> ownBytes(const Plan &plan, Launch launch) {
  std::erase_if(launch.attributes,
                [](const Attribute &a) { return a.name == "engine"; });
  return workspaceBytes(plan, launch);
}

static bool asksForLibrary(const Launch &launch) {
  for (const Attribute &attribute : launch.attributes)
    if (const auto *value = std::get_if<int64_t>(&attribute.value);
        value && attribute.name == "engine")
      return *value == static_cast<int64_t>(AttentionEngine::library);
  return false;
}

Expected<AttentionChoice> describeAttention(const Plan &plan,
                                            const Launch &launch) {
  const KernelSpec &spec = *findKernel(launch.kernel);
  PEFT_ASSIGN(std::vector<AttributeValue> values, bindAttributes(spec, launch));
  auto number = [&](std::string_view attribute) {
    return static_cast<uint64_t>(values[spec.findAttribute(attribute)].integer);
  };
  AttentionChoice choice;
  AttentionProblem &problem = choice.problem;
  const Buffer &q = plan.buffers[launch.operands[spec.findOperand("q")]];
  problem.backward = isBackward(launch);
  problem.type = q.dtype;
  problem.seq = number("seq");
  problem.batch = q.shape[0] / problem.seq;
  problem.heads = number("heads");
  problem.kvHeads = number("kv_heads");
  problem.headDim = number("head_dim");
  problem.window = number("window");
  if (problem.window >= problem.seq)
    problem.window = 0;
  problem.scale = values[spec.findAttribute("scale")].real;
  AttentionAreas &areas = choice.areas;
  areas.hasGates = launch.operands[spec.findOperand("segments")] != none;
  areas.hasNumbers = problem.batch > 1;
  PEFT_ASSIGN(areas.gates, ownBytes(plan, launch));
  areas.numbers =
      areas.gates + (areas.hasGates ? cudaAreaBytes(2 * sizeof(int32_t)) : 0);
  areas.library = areas.numbers +
                  (areas.hasNumbers ? cudaAreaBytes(problem.rows() *
                                                    problem.heads * 4)
                                    : 0);
  return choice;
}

/// Calls `visit(entry, item, launch)` for every launch that `mode` would give to
/// a library, until it gives an error.
template <typename Visit>
static Status forLibraryLaunches(const Plan &plan, AttentionMode mode,
                                 Visit visit) {
  if (mode == AttentionMode::own)
    return {};
  for (uint32_t entry = 0; entry < plan.entries.size(); ++entry)
    for (uint32_t item = 0; item < plan.entries[entry].items.size(); ++item) {
      const auto *launch =
          std::get_if<Launch>(&plan.entries[entry].items[item].action);
      if (launch && isAttention(*launch) &&
          (mode == AttentionMode::fast || asksForLibrary(*launch)))
        PEFT_TRY(visit(entry, item, *launch));
    }
  return {};
}

bool wantsAttentionLibrary(const Plan &plan, AttentionMode mode) {
  bool found = false;
  (void)forLibraryLaunches(plan, mode, [&](uint32_t, uint32_t, const Launch &) {
    found = true;
    return Status();
  });
  return found;
}

//===----------------------------------------------------------------------===//
// Asking the library
//===----------------------------------------------------------------------===//

static std::string mebibytes(uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MiB",
                static_cast<double>(bytes) / (1 << 20));
  return text;
}

static bool sameShape(const TunedAttention &tuned,
                      const AttentionProblem &problem) {
  return tuned.backward == problem.backward && tuned.type == problem.type &&
         tuned.batch == problem.batch && tuned.seq == problem.seq &&
         tuned.heads == problem.heads && tuned.kvHeads == problem.kvHeads &&
         tuned.headDim == problem.headDim && tuned.window == problem.window &&
         tuned.deterministic == problem.deterministic;
}

/// Our own kernel was measured to be faster.
static bool tunedToOwn(const Tuning *tuning, const AttentionProblem &problem) {
  return tuning && std::any_of(tuning->attentions.begin(),
                               tuning->attentions.end(),
                               [&](const TunedAttention &tuned) {
                                 return sameShape(tuned, problem) &&
                                        !tuned.byLibrary;
                               });
}

namespace {

/// One answer for each problem.
class Answers {
public:
  explicit Answers(AttentionLibrary &library) : library(library) {}
  Expected<std::shared_ptr<AttentionGraph>> ask(const AttentionProblem &problem) {
    auto found = answers.find(problem);
    if (found == answers.end())
      found = answers.emplace(problem, library.build(problem)).first;
    return found->second;
  }

private:
  AttentionLibrary &library;
  std::map<AttentionProblem, Expected<std::shared_ptr<AttentionGraph>>> answers;
};

} // namespace

static uint64_t reservedBytes(const Plan &plan, const Launch &launch) {
  uint32_t own = launch.sharedWorkspace;
  return own == none ? 0 : plan.buffers[own].size;
}

Expected<AttentionChoices>
AttentionChoices::make(const Plan &plan, AttentionLibrary *library,
                       const std::string &missing, AttentionMode mode,
                       const Tuning *tuning) {
  AttentionChoices choices;
  const bool fast = mode == AttentionMode::fast;
  if (fast && !library)
    return Status::error(Code::unsuitable,
                         "--attention fast: " + missing + "; leave it out");
  std::optional<Answers> answers;
  if (library) {
    answers.emplace(*library);
    choices.libraryName = library->name();
  }
  bool backwards = false;
  std::string refusal = "the plan has no attention backward";
  auto visit = [&](uint32_t entry, uint32_t item,
                   const Launch &launch) -> Status {
    PEFT_ASSIGN(AttentionChoice choice, describeAttention(plan, launch));
    choice.problem.deterministic = !(fast && choice.problem.backward);
    if (!library) {
      choice.reason = missing;
    } else if (tunedToOwn(tuning, choice.problem)) {
      choice.reason = "measured to be faster by peft-run --tune";
    } else if (auto answer = answers->ask(choice.problem); !answer.ok()) {
      if (answer.status().code() != Code::unsuitable)
        return answer.status();
      choice.reason = library->name() + " has no engine: " +
                      answer.status().message();
    } else {
      choice.graph = *answer;
    }
    // What is not in the plan is never taken but where it was asked for.
    if (uint64_t reserved = reservedBytes(plan, launch);
        !fast && choice.needBytes() > reserved) {
      choice.reason = library->name() + " asks for a workspace of " +
                      mebibytes(choice.needBytes()) + ", the plan reserves " +
                      mebibytes(reserved);
      choice.graph = nullptr;
    }
    backwards |= choice.problem.backward && choice.graph;
    if (choice.problem.backward && !choice.graph)
      refusal = choice.reason;
    choices.launches[{entry, item}] = std::move(choice);
    return {};
  };
  PEFT_TRY(forLibraryLaunches(plan, mode, visit));
  if (fast && !backwards)
    return Status::error(Code::unsuitable,
                         "--attention fast changes nothing here: " + refusal +
                             "; leave it out");
  return choices;
}

const AttentionChoice *AttentionChoices::find(uint32_t entry,
                                              uint32_t item) const {
  auto found = launches.find({entry, item});
  return found == launches.end() ? nullptr : &found->second;
}

uint64_t AttentionChoices::libraryBytes() const {
  uint64_t most = 0;
  for (const auto &[place, choice] : launches)
    if (choice.graph)
      most = std::max(most, choice.graph->workspaceBytes());
  return most;
}

std::vector<std::string> AttentionChoices::describe() const {
  // By what stands behind the number, in the order of the plan.
  std::vector<std::pair<std::string, uint64_t>> lines;
  for (const auto &[place, choice] : launches) {
    std::string text =
        choice.problem.backward ? " x attention_bwd by " : " x attention_fwd by ";
    if (choice.graph) {
      text += libraryName + " (" + choice.graph->engine() + ")";
      if (!choice.problem.deterministic)
        text += ", bits may differ from run to run";
      if (choice.areas.hasGates)
        text += "; packed or padded rows by our own kernel";
    } else {
      text += "our own kernel: " + choice.reason;
    }
    auto same = std::find_if(lines.begin(), lines.end(),
                             [&](const auto &line) { return line.first == text; });
    if (same == lines.end())
      lines.emplace_back(text, 1);
    else
      ++same->second;
  }
  std::vector<std::string> texts;
  for (const auto &[text, count] : lines)
    texts.push_back(std::to_string(count) + text);
  return texts;
}

} // namespace peft::cuda
