//===- AdapterMatching.cpp - which modules an adapter config means --------===//
#include "AdapterMatching.h"

#include "PythonRegex.h"

#include "peftc/AdapterScales.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <unordered_set>

using namespace peftc;
using peft::AdapterConfig;
using peft::badInput;
using peft::Expected;
using peft::ModuleSelection;
using peft::Status;

static bool endsWith(std::string_view text, std::string_view suffix) {
  return text.ends_with(suffix);
}

/// PEFT's rule for names in lists: the whole path, or its end after a dot.
static bool namesModule(std::string_view path, std::string_view name) {
  return path == name || (endsWith(path, name) && path.size() > name.size() &&
                          path[path.size() - name.size() - 1] == '.');
}

static std::string lastSegment(const std::string &path) {
  return path.substr(path.rfind('.') + 1);
}

/// Flags at the start, such as "(?i)", mean the whole expression.
static std::string globalFlags(const std::string &expression) {
  if (!expression.starts_with("(?"))
    return "";
  size_t end = expression.find_first_not_of("aimsux", 2);
  bool areFlags = end != std::string::npos && end > 2 && expression[end] == ')';
  return areFlags ? expression.substr(0, end + 1) : "";
}

/// The alternatives of `expression` that no group encloses: "a|b" has two.
static std::vector<std::string> alternatives(const std::string &expression) {
  const std::string flags = globalFlags(expression);
  std::vector<std::string> parts(1);
  int depth = 0;
  bool inClass = false;
  size_t classBegin = 0; // where "]" is an ordinary character
  for (size_t i = 0; i < expression.size(); ++i) {
    char c = expression[i];
    if (c == '\\' && i + 1 < expression.size()) {
      parts.back() += {c, expression[++i]};
      continue;
    }
    if (inClass) {
      inClass = c != ']' || i == classBegin;
    } else if (c == '[') {
      inClass = true;
      classBegin = expression.compare(i + 1, 1, "^") == 0 ? i + 2 : i + 1;
    } else {
      depth += (c == '(') - (c == ')');
    }
    if (c == '|' && depth == 0 && !inClass)
      parts.push_back(flags);
    else
      parts.back() += c;
  }
  return parts;
}

namespace {
/// A ModuleSelection made ready for many paths, which remembers what each of
/// its entries matched.
class Selector {
public:
  static Expected<Selector> make(const ModuleSelection &selection,
                                 std::string field) {
    Selector selector;
    selector.field = std::move(field);
    if (selection.kind == ModuleSelection::Kind::list) {
      selector.names = selection.names;
      selector.exact.insert(selection.names.begin(), selection.names.end());
    } else if (selection.kind == ModuleSelection::Kind::expression) {
      PEFT_ASSIGN(PythonRegex whole,
                  PythonRegex::compile(selection.expression));
      selector.whole = std::move(whole);
      selector.names = alternatives(selection.expression);
      for (const std::string &name : selector.names) {
        PEFT_ASSIGN(PythonRegex part, PythonRegex::compile(name));
        selector.parts.push_back(std::move(part));
      }
    }
    selector.used.resize(selector.names.size());
    return selector;
  }

  /// Whether `path` is selected; an entry counts as used only then.
  Expected<bool> selects(const std::string &path) {
    if (whole)
      return selectsByExpression(path);
    // Long lists are full paths, as all-linear gives them: one lookup, and no
    // path ends in another one.
    bool found = exact.contains(path);
    if (names.size() > 64 && found) {
      foundExact.insert(path);
      return true;
    }
    for (size_t i = 0; i < names.size(); ++i)
      if (namesModule(path, names[i]))
        found = used[i] = true;
    return found;
  }

  /// PEFT takes a full path in a list whatever layers_to_transform says.
  bool namesExactly(const std::string &path) const {
    return exact.contains(path);
  }

  /// Errors with the first entry that selected nothing, and `hint`.
  Status checkAllUsed(const std::string &hint = "") const {
    for (size_t i = 0; i < names.size(); ++i)
      if (!used[i] && !foundExact.contains(names[i]))
        return badInput(field + ": '" + names[i] +
                        "' matches no module of the model" + hint);
    return {};
  }

private:
  Expected<bool> selectsByExpression(const std::string &path) {
    PEFT_ASSIGN(bool found, whole->fullMatch(path));
    if (!found)
      return false;
    for (size_t i = 0; i < parts.size(); ++i) {
      PEFT_ASSIGN(bool matches, parts[i].fullMatch(path));
      if (matches)
        used[i] = true;
    }
    return true;
  }

  std::string field;
  std::vector<std::string> names;
  std::unordered_set<std::string> exact, foundExact;
  std::vector<bool> used;
  std::optional<PythonRegex> whole;
  std::vector<PythonRegex> parts;
};

/// layers_to_transform: the first number of a path that stands where a layer's
/// index does.
class LayerFilter {
public:
  static Expected<LayerFilter> make(const AdapterConfig &config) {
    LayerFilter filter;
    filter.layers.insert(config.layersToTransform.begin(),
                         config.layersToTransform.end());
    std::vector<std::string> expressions;
    if (config.layersPattern.empty())
      expressions.push_back(R"(.*?\.[^.]*\.(?<idx>\d+)\.)");
    for (const std::string &pattern : config.layersPattern)
      expressions.push_back("(?:^|.*?\\.)" + pattern + "\\.(?<idx>\\d+)\\.");
    for (const std::string &expression : expressions) {
      PEFT_ASSIGN(PythonRegex regex, PythonRegex::compile(expression));
      filter.regexes.push_back(std::move(regex));
    }
    return filter;
  }

  Expected<bool> accepts(const std::string &path) {
    if (layers.empty())
      return true;
    for (const PythonRegex &regex : regexes) {
      PEFT_ASSIGN(std::string index, regex.matchGroup(path, "idx"));
      if (index.empty())
        continue;
      int64_t layer = index.size() < 10 ? std::stoll(index) : -1;
      if (!layers.contains(layer))
        return false;
      found.insert(layer);
      return true;
    }
    return false;
  }

  Status checkAllUsed() const {
    for (int64_t layer : layers)
      if (!found.contains(layer))
        return badInput("layers_to_transform: layer " + std::to_string(layer) +
                        " has no target module");
    return {};
  }

private:
  std::set<int64_t> layers, found;
  std::vector<PythonRegex> regexes;
};

class Matcher {
public:
  Matcher(AdapterConfig config, bool tied,
          const std::vector<ModuleInfo> &modules)
      : tied(tied), modules(modules) {
    result.config = std::move(config);
  }

  Expected<AdapterMatch> run(const std::string &modelType) {
    PEFT_TRY(resolveTargets(modelType));
    PEFT_TRY(findSavedModules());
    PEFT_TRY(findTargets());
    PEFT_TRY(checkTied());
    PEFT_TRY(assignRanks());
    listNestedTargets();
    return std::move(result);
  }

private:
  Status resolveTargets(const std::string &modelType);
  Status findSavedModules();
  Status findTargets();
  Status checkTied();
  Status assignRanks();
  void listNestedTargets();
  std::string linearNames() const;
  Expected<bool> isInsideSaved(const std::string &path);

  bool tied;
  const std::vector<ModuleInfo> &modules;
  AdapterMatch result;
  std::vector<PythonRegex> savedRegexes;
};
} // namespace

/// Spells out the family's defaults and all-linear, whose head PEFT leaves out.
Status Matcher::resolveTargets(const std::string &modelType) {
  AdapterConfig &config = result.config;
  ModuleSelection &targets = config.targetModules;
  if (targets.empty()) {
    targets = ModuleSelection::ofNames(peft::defaultTargetModules(modelType));
    if (targets.names.empty())
      return badInput("target_modules: PEFT has no default for model_type '" +
                      modelType + "'; name the modules, or take all-linear");
  }
  bool isExpression = targets.kind == ModuleSelection::Kind::expression;
  std::string lower = targets.expression;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  bool allLinear = isExpression && lower == "all-linear";
  if (isExpression && !allLinear &&
      (!config.layersToTransform.empty() || !config.layersPattern.empty()))
    return badInput(
        "layers_to_transform and layers_pattern apply to lists only; "
        "target_modules is the expression '" +
        targets.expression + "': put the layers into it, or list the modules");
  if (!config.layersPattern.empty() && config.layersToTransform.empty())
    return badInput("layers_pattern needs layers_to_transform");
  if (!allLinear)
    return {};

  std::set<std::string> paths, segments;
  for (const ModuleInfo &module : modules)
    if (module.kind == ModuleKind::linear) {
      paths.insert(module.path);
      segments.insert(lastSegment(module.path));
    }
  // Short names where they mean the same modules.
  bool shortNames = std::ranges::all_of(modules, [&](const ModuleInfo &module) {
    return paths.contains(module.path) ||
           !segments.contains(lastSegment(module.path));
  });
  if (!shortNames && !config.layersToTransform.empty())
    return badInput(
        "all-linear with layers_to_transform: this model has linear "
        "and other modules of the same name; list the modules");
  const std::set<std::string> &names = shortNames ? segments : paths;
  targets = ModuleSelection::ofNames({names.begin(), names.end()});
  return {};
}

/// modules_to_save takes every module whose path ends with an entry, without a
/// dot: "norm" means input_layernorm, too.
Status Matcher::findSavedModules() {
  std::vector<bool> used(result.config.modulesToSave.size());
  for (size_t i = 0; i < modules.size(); ++i) {
    bool saved = false;
    for (size_t entry = 0; entry < used.size(); ++entry)
      if (endsWith(modules[i].path, result.config.modulesToSave[entry]))
        saved = used[entry] = true;
    if (saved)
      result.saved.push_back(i);
  }
  for (size_t entry = 0; entry < used.size(); ++entry) {
    const std::string &name = result.config.modulesToSave[entry];
    if (!used[entry] || name.empty())
      return badInput("modules_to_save: '" + name +
                      "' matches no module of the model");
    PEFT_ASSIGN(PythonRegex regex,
                PythonRegex::compile("(^|.*\\.)" + name + "($|\\..*)"));
    savedRegexes.push_back(std::move(regex));
  }
  return {};
}

Expected<bool> Matcher::isInsideSaved(const std::string &path) {
  for (const PythonRegex &regex : savedRegexes) {
    PEFT_ASSIGN(bool inside, regex.match(path));
    if (inside)
      return true;
  }
  return false;
}

/// The last part of every linear module's path: "down_proj, gate_proj".
std::string Matcher::linearNames() const {
  std::set<std::string> names;
  for (const ModuleInfo &module : modules)
    if (module.kind == ModuleKind::linear || module.kind == ModuleKind::head)
      names.insert(module.path.substr(module.path.rfind('.') + 1));
  std::string text;
  for (const std::string &name : names)
    text += (text.empty() ? "" : ", ") + name;
  return text;
}

Status Matcher::findTargets() {
  const AdapterConfig &config = result.config;
  PEFT_ASSIGN(Selector targets,
              Selector::make(config.targetModules, "target_modules"));
  PEFT_ASSIGN(Selector excludes,
              Selector::make(config.excludeModules, "exclude_modules"));
  PEFT_ASSIGN(LayerFilter layers, LayerFilter::make(config));
  for (size_t i = 0; i < modules.size(); ++i) {
    const std::string &path = modules[i].path;
    PEFT_ASSIGN(bool excluded, excludes.selects(path));
    PEFT_ASSIGN(bool targeted, targets.selects(path));
    if (!targeted)
      continue;
    PEFT_ASSIGN(bool inLayers, layers.accepts(path));
    if (!inLayers && !targets.namesExactly(path))
      continue;
    PEFT_ASSIGN(bool saved, isInsideSaved(path));
    if (excluded || saved) {
      result.excluded.push_back(i);
      continue;
    }
    if (std::ranges::binary_search(result.saved, i))
      return badInput("'" + path +
                      "' is both in target_modules and in "
                      "modules_to_save; a module trains one way");
    if (modules[i].kind == ModuleKind::embedding)
      return badInput("target_modules: '" + path +
                      "' is an embedding; adapters "
                      "on embeddings are not in this version, so train it "
                      "whole with modules_to_save, or leave it out");
    if (modules[i].kind == ModuleKind::other)
      return badInput("target_modules: '" + path +
                      "' is no linear layer; name "
                      "the linears inside it");
    result.adapted.push_back({i});
  }
  if (result.adapted.empty() && !result.excluded.empty())
    return badInput("every target module (" +
                    std::to_string(result.excluded.size()) +
                    ") is excluded by exclude_modules or modules_to_save");
  PEFT_TRY(targets.checkAllUsed("; its linear modules are " + linearNames()));
  PEFT_TRY(excludes.checkAllUsed());
  if (result.adapted.empty())
    return badInput("no module of the model is adapted: target_modules and "
                    "layers_to_transform have nothing in common");
  return layers.checkAllUsed();
}

/// With a tied head, training one side would silently untie the two.
Status Matcher::checkTied() {
  if (!tied)
    return {};
  auto refuse = [&](size_t module, const char *field) {
    return badInput(std::string(field) + ": '" + modules[module].path +
                    "' is one side of the tied embedding "
                    "(tie_word_embeddings); training one side would untie "
                    "them, so leave it out or train everything (--train all)");
  };
  auto isSide = [&](size_t module) {
    return modules[module].kind == ModuleKind::embedding ||
           modules[module].kind == ModuleKind::head;
  };
  auto holdsSide = [&](size_t module) {
    return std::ranges::any_of(modules, [&](const ModuleInfo &other) {
      return other.kind == ModuleKind::embedding &&
             other.path.starts_with(modules[module].path + ".");
    });
  };
  for (size_t module : result.saved)
    if (isSide(module) || holdsSide(module))
      return refuse(module, "modules_to_save");
  for (const AdaptedModule &adapted : result.adapted)
    if (isSide(adapted.module))
      return refuse(adapted.module, "target_modules");
  return {};
}

Status Matcher::assignRanks() {
  PEFT_ASSIGN(AdapterScales scales, AdapterScales::make(result.config));
  for (AdaptedModule &adapted : result.adapted) {
    PEFT_ASSIGN(AdapterScale found, scales.of(modules[adapted.module].path));
    adapted.rank = found.rank;
    adapted.alpha = found.alpha;
    adapted.scale = found.scale;
  }
  return scales.checkAllUsed();
}

/// PEFT looks at all of a model: names and expressions that mean modules of its
/// text model may mean some of the vision tower beside it, too. Paths do not.
void Matcher::listNestedTargets() {
  bool nested = std::ranges::any_of(modules, [](const ModuleInfo &module) {
    return module.path.starts_with("model.language_model.");
  });
  if (!nested)
    return;
  std::vector<std::string> paths;
  for (const AdaptedModule &adapted : result.adapted)
    paths.push_back(modules[adapted.module].path);
  result.config.targetModules = ModuleSelection::ofNames(std::move(paths));
}

Expected<AdapterMatch>
peftc::matchAdapters(AdapterConfig config, const std::string &modelType,
                     bool tied, const std::vector<ModuleInfo> &modules) {
  return Matcher(std::move(config), tied, modules).run(modelType);
}
