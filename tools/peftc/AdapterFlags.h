//===- AdapterFlags.h - the --lora-* flags as a PEFT config -----*- C++ -*-===//
#ifndef PEFTC_TOOLS_ADAPTERFLAGS_H
#define PEFTC_TOOLS_ADAPTERFLAGS_H

#include "peft/AdapterConfig.h"
#include "peft/Status.h"

#include <optional>
#include <string>

/// The flags of `peftc compile` that describe an adapter, as they were typed.
struct AdapterFlags {
  int64_t rank = 16;
  std::optional<double> alpha; ///< twice the rank where absent
  double dropout = 0;
  /// `all-linear`, a comma list of names and globs (`*.layers.0.*_proj`), or
  /// `re:` and a regular expression over whole module paths.
  std::string targets = "all-linear";
  std::string exclude; ///< the same forms; empty: nothing
  std::string layers;  ///< "0-15" or "0,2,5-7"; empty: all
  bool rsLora = false;
  bool dora = false;
  std::string bias = "none";    ///< none, all or lora_only
  /// kaiming, gaussian, pissa, pissa_niter_N or olora
  std::string init = "kaiming";
};

/// The config that PEFT would need for the same adapter. Globs become regular
/// expressions. Errors (Code::usage) name the flag and its value.
peft::Expected<peft::AdapterConfig>
adapterConfigFromFlags(const AdapterFlags &flags);

/// `text` in the forms of `targets`, without all-linear, as one expression over
/// whole module paths. Errors (Code::usage) name `flag`.
peft::Expected<std::string> moduleExpression(const std::string &flag,
                                             const std::string &text);

#endif // PEFTC_TOOLS_ADAPTERFLAGS_H
