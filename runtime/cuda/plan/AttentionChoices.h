//===- AttentionChoices.h - which engine runs each attention ----*- C++ -*-===//
//
// The plan names an engine for every launch of attention and reserves what it
// needs. What the library of the actual card says decides whether it gets it:
// a library that wants more than is reserved, or that has no engine, leaves the
// launch to our own kernel. Pure functions of plan, library and mode.
//
// A launch by the library has in its workspace, in this order: what our own
// kernel uses, the gates of the two (with segments), the library's numbers of
// each query (with several batch rows), the library's own workspace.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_PLAN_ATTENTIONCHOICES_H
#define PEFT_CUDA_PLAN_ATTENTIONCHOICES_H

#include "cuda/library/AttentionLibrary.h"
#include "peft/Device.h"
#include "peft/Plan.h"

#include <map>

namespace peft::cuda {

/// Where things lie in the workspace of a launch by the library, bytes.
struct AttentionAreas {
  bool hasGates = false, hasNumbers = false;
  uint64_t gates = 0, numbers = 0, library = 0;
};

struct AttentionChoice {
  AttentionProblem problem;
  AttentionAreas areas;
  std::shared_ptr<AttentionGraph> graph; ///< null: our own kernel
  std::string reason;                    ///< why it is null, if asked for

  /// Workspace of the launch; 0: what kernels.def says.
  uint64_t needBytes() const {
    return graph ? areas.library + graph->workspaceBytes() : 0;
  }
};

/// What a launch of attention asks of a library, and how its workspace is
/// divided. `launch` must be of attention and verified.
Expected<AttentionChoice> describeAttention(const Plan &plan,
                                            const Launch &launch);

/// Whether a plan run in this mode has any launch for a library.
bool wantsAttentionLibrary(const Plan &plan, AttentionMode mode);

class AttentionChoices {
public:
  /// Asks `library` (or, where it is null, says `missing`) for every launch
  /// that `mode` gives it. Errors: unsuitable, when the mode is fast and the
  /// library computes no backward.
  static Expected<AttentionChoices> make(const Plan &plan,
                                         AttentionLibrary *library,
                                         const std::string &missing,
                                         AttentionMode mode,
                                         const Tuning *tuning);

  /// Of an item of an entry; null: nobody asked for a library.
  const AttentionChoice *find(uint32_t entry, uint32_t item) const;
  /// Bytes that the libraries use of the workspaces, at most at once.
  uint64_t libraryBytes() const;
  /// A line for each kind of launch: how many, by what, or why not.
  std::vector<std::string> describe() const;
  std::map<std::pair<uint32_t, uint32_t>, AttentionChoice> launches;

private:
  std::string libraryName;
};

} // namespace peft::cuda

#endif // PEFT_CUDA_PLAN_ATTENTIONCHOICES_H
