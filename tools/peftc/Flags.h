//===- Flags.h - peftc's command line ---------------------------*- C++ -*-===//
#ifndef PEFTC_TOOLS_FLAGS_H
#define PEFTC_TOOLS_FLAGS_H

#include "Options.h"

#include "peft/Status.h"

#include <variant>

/// Text to print (--help, --version), or the options of a subcommand.
using CommandLine = std::variant<std::string, ImportOptions, CompileOptions,
                                 ExplainOptions, AssembleOptions,
                                 MergeModelOptions, ExportOptions>;

peft::Expected<CommandLine> parseCommandLine(int argc, char **argv);

/// Refuses flags, and values of flags, that later versions have: accepting one
/// and doing nothing would be a lie, calling it unknown would be another.
peft::Status refuseLater(int argc, char **argv);

#endif // PEFTC_TOOLS_FLAGS_H
