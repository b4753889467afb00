//===- AdapterConfig.h - PEFT's adapter_config.json -------------*- C++ -*-===//
//
// The LoRA fields of adapter_config.json that are implemented, read and
// written. A field of PEFT's that is not implemented and has another value
// than its default, and an unknown field that is set, are errors by name:
// ignoring either would silently change what is trained.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_ADAPTERCONFIG_H
#define PEFT_ADAPTERCONFIG_H

#include "peft/Safetensors.h"
#include "peft/Status.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace peft {

/// target_modules and exclude_modules: nothing, a list of names (exact or
/// suffix), or one string (a full-match regular expression over the module's
/// path, or the word "all-linear").
struct ModuleSelection {
  enum class Kind : uint8_t { none, list, expression };
  Kind kind = Kind::none;
  std::vector<std::string> names; ///< Kind::list, in the file's order
  std::string expression;         ///< Kind::expression

  bool empty() const { return kind == Kind::none; }
  bool allLinear() const {
    return kind == Kind::expression && expression == "all-linear";
  }
  static ModuleSelection ofNames(std::vector<std::string> names) {
    return {Kind::list, std::move(names), {}};
  }
  static ModuleSelection ofExpression(std::string expression) {
    return {Kind::expression, {}, std::move(expression)};
  }
  bool operator==(const ModuleSelection &) const = default;
};

enum class LoraBias : uint8_t { none, all, loraOnly };
enum class LoraInit : uint8_t {
  kaiming,  ///< init_lora_weights: true
  gaussian, ///< "gaussian"
  random,   ///< false: PEFT leaves A *and B* random, for its own tests
  pissa,    ///< "pissa", "pissa_niter_4": principal singular vectors of W
  olora,    ///< "olora": the QR decomposition of W
};
/// Whether A and B start as a function of W, and what they start as is taken
/// off again by a frozen pair of the same rank.
constexpr bool startsFromWeights(LoraInit init) {
  return init == LoraInit::pissa || init == LoraInit::olora;
}

struct AdapterConfig {
  int64_t rank = 8;
  double alpha = 8;
  double dropout = 0;
  ModuleSelection targetModules;
  ModuleSelection excludeModules;
  std::vector<int64_t> layersToTransform; ///< empty: every layer
  std::vector<std::string> layersPattern;
  /// In the file's order, which decides: the first key that matches wins.
  std::vector<std::pair<std::string, int64_t>> rankPattern;
  std::vector<std::pair<std::string, double>> alphaPattern;
  LoraBias bias = LoraBias::none;
  bool rsLora = false;
  bool dora = false;
  bool loraBias = false; ///< B has a bias of its own; only merged, not trained
  LoraInit init = LoraInit::kaiming;
  int64_t pissaIterations = 0; ///< 0: the exact decomposition
  std::vector<std::string> modulesToSave;
  std::string taskType;      ///< "CAUSAL_LM", or empty
  std::string baseModelName; ///< base_model_name_or_path, or empty
  std::string revision;
  bool inferenceMode = false;

  /// alpha / rank, or alpha / sqrt(rank) with rsLoRA.
  double scale(int64_t moduleRank, double moduleAlpha) const;
  bool operator==(const AdapterConfig &) const = default;
};

/// Why these settings do not go together, and what instead; empty if they do.
std::string conflictIn(const AdapterConfig &config);

/// The config of what is saved after training: of an adapter that starts from
/// the weights, the plain one of twice the rank that stands for B A - B0 A0.
AdapterConfig convertedConfig(AdapterConfig config);

/// PEFT's target_modules where the config has none; empty for a family that
/// has no default.
std::vector<std::string> defaultTargetModules(std::string_view modelType);

std::string_view name(LoraBias bias); ///< "none", "all", "lora_only"

Expected<AdapterConfig> parseAdapterConfig(std::string_view text,
                                           const std::string &what);
Expected<AdapterConfig> readAdapterConfig(const std::string &path);

/// The text of adapter_config.json as PEFT writes it: two spaces, keys sorted,
/// lists of names sorted, too; only fields that PEFT has had for long, because
/// old versions refuse keys that they do not know. Ends with a newline. Parsing
/// it gives an equal config, up to the order of those lists and of patterns.
std::string writeAdapterConfig(const AdapterConfig &config);

/// An adapter on disk.
struct AdapterDirectory {
  std::string directory;
  AdapterConfig config;
  SafetensorsFile tensors;
};

/// In the metadata of what a run starts from, as peft-data writes it.
constexpr const char *startMark = "start_of";

/// Opens adapter_config.json and adapter_model.safetensors of `path`, or of
/// its only sub-directory that has them (PEFT saves adapters that are not
/// called "default" that way). What a run starts from counts only where `path`
/// names it.
Expected<AdapterDirectory> openAdapter(const std::string &path);

} // namespace peft

#endif // PEFT_ADAPTERCONFIG_H
