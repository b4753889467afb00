//===- AdapterScales.cpp - rank and scale of each adapted module ----------===//
#include "peftc/AdapterScales.h"

#include "PythonRegex.h"

#include <optional>

using namespace peftc;
using peft::AdapterConfig;
using peft::badInput;
using peft::Expected;
using peft::Status;

namespace {
/// rank_pattern or alpha_pattern.
template <typename T> class PatternTable {
public:
  static Expected<PatternTable>
  make(const std::vector<std::pair<std::string, T>> &patterns,
       std::string field, Overlap overlap) {
    PatternTable table;
    table.overlap = overlap;
    table.field = std::move(field);
    table.patterns = &patterns;
    for (const auto &[key, value] : patterns) {
      PEFT_ASSIGN(PythonRegex regex,
                  PythonRegex::compile("(.*\\.)?(" + key + ")$"));
      table.regexes.push_back(std::move(regex));
    }
    table.used.resize(patterns.size());
    return table;
  }

  /// The value of the key that matches `path`, else `otherwise`. PEFT takes the
  /// first of several in file order, but sorts keys when it saves, so an
  /// overlap would mean something else after loading.
  Expected<T> lookup(const std::string &path, T otherwise) {
    std::optional<size_t> match;
    for (size_t i = 0; i < regexes.size(); ++i) {
      PEFT_ASSIGN(bool matches, regexes[i].match(path));
      if (!matches)
        continue;
      used[i] = true;
      if (match && overlap == Overlap::first)
        continue;
      if (match)
        return badInput(field + ": '" + (*patterns)[*match].first + "' and '" +
                        (*patterns)[i].first + "' both match '" + path +
                        "'; which one wins would change when the config is "
                        "saved, so make them disjoint");
      match = i;
    }
    return match ? (*patterns)[*match].second : otherwise;
  }

  Status checkAllUsed() const {
    for (size_t i = 0; i < used.size(); ++i)
      if (!used[i])
        return badInput(field + ": '" + (*patterns)[i].first +
                        "' matches no adapted module");
    return {};
  }

private:
  std::string field;
  Overlap overlap = Overlap::refused;
  const std::vector<std::pair<std::string, T>> *patterns = nullptr;
  std::vector<PythonRegex> regexes;
  std::vector<bool> used;
};
} // namespace

struct AdapterScales::Tables {
  const AdapterConfig &config;
  PatternTable<int64_t> ranks;
  PatternTable<double> alphas;
};

Expected<AdapterScales> AdapterScales::make(const AdapterConfig &config,
                                            Overlap overlap) {
  PEFT_ASSIGN(
      PatternTable<int64_t> ranks,
      PatternTable<int64_t>::make(config.rankPattern, "rank_pattern", overlap));
  PEFT_ASSIGN(PatternTable<double> alphas,
              PatternTable<double>::make(config.alphaPattern, "alpha_pattern",
                                         overlap));
  return AdapterScales(std::make_shared<Tables>(
      Tables{config, std::move(ranks), std::move(alphas)}));
}

Expected<AdapterScale> AdapterScales::of(const std::string &path) {
  AdapterScale found;
  PEFT_ASSIGN(found.rank, tables->ranks.lookup(path, tables->config.rank));
  PEFT_ASSIGN(found.alpha, tables->alphas.lookup(path, tables->config.alpha));
  if (found.rank < 1)
    return badInput("the rank of '" + path + "' is " +
                    std::to_string(found.rank) + ", it must be positive");
  found.scale = tables->config.scale(found.rank, found.alpha);
  return found;
}

Status AdapterScales::checkAllUsed() const {
  PEFT_TRY(tables->ranks.checkAllUsed());
  return tables->alphas.checkAllUsed();
}
