//===- AdapterFlags.cpp - the --lora-* flags as a PEFT config -------------===//
#include "AdapterFlags.h"

#include "peft/Json.h"

#include <algorithm>
#include <charconv>
#include <cmath>

using peft::Expected;
using peft::ModuleSelection;
using peft::Status;
using peft::usageError;

static std::vector<std::string> splitAtCommas(const std::string &text) {
  std::vector<std::string> parts(1);
  for (char c : text) {
    if (c == ',')
      parts.emplace_back();
    else if (c != ' ' || !parts.back().empty())
      parts.back() += c;
  }
  return parts;
}

static bool isGlob(const std::string &text) {
  return text.find_first_of("*?") != std::string::npos;
}

/// `text` as an expression that matches only it.
static std::string escapeRegex(std::string_view text) {
  std::string escaped;
  for (char c : text) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_')
      escaped += '\\';
    escaped += c;
  }
  return escaped;
}

/// `*` is any text, dots included; `?` any one character.
static std::string globToRegex(const std::string &glob) {
  std::string regex;
  for (char c : glob) {
    if (c == '*')
      regex += ".*";
    else if (c == '?')
      regex += '.';
    else
      regex += escapeRegex({&c, 1});
  }
  return regex;
}

/// Names, exact or behind a dot, and globs as one expression.
static std::string listToRegex(const std::vector<std::string> &names) {
  std::string expression;
  for (const std::string &name : names) {
    expression += expression.empty() ? "" : "|";
    expression +=
        isGlob(name) ? globToRegex(name) : "(?:.*\\.)?" + escapeRegex(name);
  }
  return expression;
}

static Expected<ModuleSelection> parseSelection(const std::string &flag,
                                                const std::string &text) {
  if (text.starts_with("re:")) {
    std::string expression = text.substr(3);
    if (expression.empty())
      return usageError(flag + ": the expression after re: is empty");
    return ModuleSelection::ofExpression(expression);
  }
  if (text == "all-linear")
    return ModuleSelection::ofExpression(text);
  std::vector<std::string> names = splitAtCommas(text);
  for (const std::string &name : names) {
    if (name.empty())
      return usageError(flag + " '" + text + "' has an empty name in its list");
    if (name == "all-linear")
      return usageError(flag + ": all-linear stands alone, not in a list");
  }
  if (std::ranges::none_of(names, isGlob))
    return ModuleSelection::ofNames(std::move(names));
  // PEFT knows no globs: one expression that means the whole list.
  return ModuleSelection::ofExpression(listToRegex(names));
}

Expected<std::string> moduleExpression(const std::string &flag,
                                       const std::string &text) {
  if (text.empty())
    return text;
  PEFT_ASSIGN(ModuleSelection selection, parseSelection(flag, text));
  if (selection.allLinear())
    return usageError(flag + ": all-linear is what is quantized anyway; name "
                             "modules");
  return selection.kind == ModuleSelection::Kind::list
             ? listToRegex(selection.names)
             : selection.expression;
}

static Expected<int64_t> parseLayer(const std::string &list,
                                    std::string_view text) {
  int64_t layer = 0;
  auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), layer);
  if (error != std::errc() || end != text.data() + text.size() || layer < 0 ||
      layer > 9999)
    return usageError("--lora-layers '" + list + "': '" + std::string(text) +
                      "' is no layer; write ranges and numbers, as 0-3,7");
  return layer;
}

static Expected<std::vector<int64_t>> parseLayers(const std::string &list) {
  std::vector<int64_t> layers;
  if (list.empty())
    return layers;
  for (const std::string &part : splitAtCommas(list)) {
    size_t dash = part.find('-');
    std::string_view view = part;
    PEFT_ASSIGN(int64_t first, parseLayer(list, view.substr(0, dash)));
    int64_t last = first;
    if (dash != std::string::npos) {
      PEFT_ASSIGN(last, parseLayer(list, view.substr(dash + 1)));
    }
    if (last < first)
      return usageError("--lora-layers '" + list + "': " + part +
                        " runs backwards");
    for (int64_t layer = first; layer <= last; ++layer)
      layers.push_back(layer);
  }
  std::ranges::sort(layers);
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
  return layers;
}

/// The words of PEFT's init_lora_weights, read as in a config, and kaiming,
/// which is `true` there.
static Status setInit(const std::string &init, peft::AdapterConfig &config) {
  if (init == "kaiming")
    return {};
  auto parsed = peft::parseAdapterConfig(
      R"({"peft_type": "LORA", "init_lora_weights": )" + peft::quoteJson(init) +
          "}",
      "--lora-init");
  if (!parsed.ok())
    return usageError("--lora-init '" + init +
                      "' is none of kaiming, gaussian, pissa, pissa_niter_N (N "
                      "from 1 to 1000), olora");
  config.init = parsed->init;
  config.pissaIterations = parsed->pissaIterations;
  return {};
}

static Status setChoices(const AdapterFlags &flags,
                         peft::AdapterConfig &config) {
  if (flags.bias == "all")
    config.bias = peft::LoraBias::all;
  else if (flags.bias == "lora_only")
    config.bias = peft::LoraBias::loraOnly;
  else if (flags.bias != "none")
    return usageError("--lora-bias '" + flags.bias +
                      "' is none of none, all, lora_only");
  PEFT_TRY(setInit(flags.init, config));
  if (std::string conflict = peft::conflictIn(config); !conflict.empty())
    return usageError("--lora-init: " + conflict);
  return {};
}

Expected<peft::AdapterConfig>
adapterConfigFromFlags(const AdapterFlags &flags) {
  peft::AdapterConfig config;
  if (flags.rank < 1 || flags.rank > 65536)
    return usageError("--lora-rank " + std::to_string(flags.rank) +
                      " must lie between 1 and 65536");
  config.rank = flags.rank;
  config.alpha = flags.alpha.value_or(2.0 * static_cast<double>(flags.rank));
  if (!std::isfinite(config.alpha) || config.alpha <= 0)
    return usageError("--lora-alpha " + std::to_string(config.alpha) +
                      " must be positive");
  if (!(flags.dropout >= 0 && flags.dropout < 1))
    return usageError("--lora-dropout " + std::to_string(flags.dropout) +
                      " must lie in [0, 1)");
  config.dropout = flags.dropout;
  config.rsLora = flags.rsLora;
  config.dora = flags.dora;
  PEFT_TRY(setChoices(flags, config));
  PEFT_ASSIGN(config.targetModules,
              parseSelection("--lora-targets", flags.targets));
  if (!flags.exclude.empty()) {
    PEFT_ASSIGN(config.excludeModules,
                parseSelection("--lora-exclude", flags.exclude));
    if (config.excludeModules.allLinear())
      return usageError("--lora-exclude all-linear would leave nothing");
  }
  PEFT_ASSIGN(config.layersToTransform, parseLayers(flags.layers));
  bool expression =
      config.targetModules.kind == ModuleSelection::Kind::expression &&
      !config.targetModules.allLinear();
  if (expression && !config.layersToTransform.empty())
    return usageError("--lora-layers applies to names and all-linear; put the "
                      "layers into the pattern of --lora-targets '" +
                      flags.targets + "'");
  return config;
}
