//===- Flags.h - peft-run's command line ------------------------*- C++ -*-===//
#ifndef PEFT_RUN_FLAGS_H
#define PEFT_RUN_FLAGS_H

#include "peft/RunOptions.h"
#include "peft/Status.h"

#include <optional>
#include <string>

/// What the command line asks for: a run, or only a text (--help, --version).
struct CommandLine {
  peft::RunOptions options;
  std::optional<std::string> text;
};

/// Errors have code usage: a flag that does not exist, has a wrong value, or is
/// not built yet ("not in this version").
peft::Expected<CommandLine> parseCommandLine(int argc, char **argv);

#endif // PEFT_RUN_FLAGS_H
