//===- Options.h - what peftc was asked for ---------------------*- C++ -*-===//
//
// One struct per subcommand; Flags.cpp fills them, Commands.h runs them.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_TOOLS_OPTIONS_H
#define PEFTC_TOOLS_OPTIONS_H

#include "AdapterFlags.h"

#include <cstdint>
#include <optional>
#include <string>

struct ImportOptions {
  std::string model;
  std::string output; ///< empty: standard output
  bool quiet = false;
};

/// How the base is quantized; only with --base nf4, fp4 or int8.
struct QuantizeFlags {
  std::optional<int64_t> block; ///< 64 where absent
  bool doubleQuant = false;
  bool head = false;
  std::string include, exclude; ///< as --lora-targets
};

struct CompileOptions {
  std::string model;
  std::string output; ///< empty: the model's name with .plan
  std::string adapterFile;
  AdapterFlags adapter;
  std::optional<double> loraPlusRatio; ///< of the rates of B and A
  bool loraFA = false;                 ///< A is frozen
  bool trainAll = false;
  std::string base;    ///< empty: the target's default
  QuantizeFlags quantize;
  std::string compute; ///< empty: the target's default
  std::string optimizer = "adamw";
  std::string target;  ///< name or file; empty: cpu
  std::string recompute = "none"; ///< none or layers
  int64_t batch = 1;
  int64_t seq = 2048;
  bool groupDownProjections = true;
  int64_t maxThreads = 8;
  bool timing = false; ///< print the time of each stage
  bool quiet = false;
  bool json = false;
  bool estimateOnly = false; ///< no file is written
};

struct ExplainOptions {
  std::string plan;
  std::string why; ///< buffer or module name
  bool peak = false;
  bool dtypes = false;
  bool text = false;
  bool json = false;
};

struct MergeModelOptions {
  std::string model, adapter, output;
  std::string compare; ///< another form of the model; empty: none
  std::string dtype = "stored"; ///< stored, bf16, f16 or f32
  bool untie = false;
  uint64_t shardBytes = 5'000'000'000;
  bool quiet = false;
  bool json = false;
};

struct ExportOptions {
  std::string adapter, model, output;
  bool quiet = false;
};

struct AssembleOptions {
  std::string text;
  std::string output;
  bool quiet = false;
};

#endif // PEFTC_TOOLS_OPTIONS_H
