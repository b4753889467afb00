//===- AdapterMatching.h - which modules an adapter config means -*- C++ -*-==//
//
// PEFT's rules over module paths; knows neither IR nor parameters. See
// check_target_module_exists and get_pattern_key in PEFT.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_LIB_TRANSFORMS_ADAPTERMATCHING_H
#define PEFTC_LIB_TRANSFORMS_ADAPTERMATCHING_H

#include "peft/AdapterConfig.h"

#include <set>
#include <string>
#include <vector>

namespace peftc {

/// What a module of the model is, as far as matching cares.
enum class ModuleKind : uint8_t { linear, head, embedding, other };

struct ModuleInfo {
  std::string path; ///< "model.layers.0.self_attn.q_proj"
  ModuleKind kind = ModuleKind::other;
};

struct AdaptedModule {
  size_t module = 0; ///< index into the modules given
  int64_t rank = 0;
  double alpha = 0;
  double scale = 0;
};

struct AdapterMatch {
  std::vector<AdaptedModule> adapted; ///< in the order of the modules
  std::vector<size_t> excluded;       ///< targeted, but excluded
  std::vector<size_t> saved;          ///< trained in full: modules_to_save
  /// The config with target_modules as names or an expression: defaults of the
  /// family and `all-linear` are spelled out; in a model that has more beside
  /// its text model all of them, by path.
  peft::AdapterConfig config;
};

/// Applies `config` to `modules` (every module path of the model once, in model
/// order). Errors by name: nothing matches, an entry that matches nothing, a
/// module that cannot have an adapter, overlapping patterns, a trained tied
/// side (`tied`: the head is the embedding table).
peft::Expected<AdapterMatch>
matchAdapters(peft::AdapterConfig config, const std::string &modelType,
              bool tied, const std::vector<ModuleInfo> &modules);

} // namespace peftc

#endif // PEFTC_LIB_TRANSFORMS_ADAPTERMATCHING_H
