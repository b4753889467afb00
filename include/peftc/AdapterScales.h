//===- AdapterScales.h - rank and scale of each adapted module --*- C++ -*-===//
//
// PEFT's get_pattern_key over rank_pattern and alpha_pattern. Knows paths only,
// so it serves a model in the IR and an adapter on disk alike.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_ADAPTERSCALES_H
#define PEFTC_ADAPTERSCALES_H

#include "peft/AdapterConfig.h"

#include <cstdint>
#include <memory>
#include <string>

namespace peftc {

struct AdapterScale {
  int64_t rank = 0;
  double alpha = 0;
  double scale = 0; ///< alpha / rank, or alpha / sqrt(rank) with rsLoRA
};

/// What holds where several keys of a pattern match a module.
enum class Overlap : uint8_t {
  refused, ///< of a config that will be saved, which sorts the keys
  first,   ///< of an adapter as it is on disk: the first in the file's order
};

/// The scales of one config; remembers which patterns were used.
class AdapterScales {
public:
  /// An error if a pattern is no regular expression. `config` must outlive the
  /// result.
  static peft::Expected<AdapterScales> make(const peft::AdapterConfig &config,
                                            Overlap overlap = Overlap::refused);

  /// Of the module called `path`. An error where two keys of a pattern match
  /// and that is refused.
  peft::Expected<AdapterScale> of(const std::string &path);

  /// An error with the first key that matched no path.
  peft::Status checkAllUsed() const;

private:
  struct Tables;
  explicit AdapterScales(std::shared_ptr<Tables> tables)
      : tables(std::move(tables)) {}
  std::shared_ptr<Tables> tables;
};

} // namespace peftc

#endif // PEFTC_ADAPTERSCALES_H
