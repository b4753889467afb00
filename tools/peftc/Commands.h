//===- Commands.h - the subcommands of peftc --------------------*- C++ -*-===//
//
// Each runs one subcommand to its end: reads, computes, writes files and
// prints its report on standard output.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_TOOLS_COMMANDS_H
#define PEFTC_TOOLS_COMMANDS_H

#include "Options.h"

#include "peft/Status.h"

peft::Status run(const ImportOptions &options);
/// Also `estimate`, which writes no file.
peft::Status run(const CompileOptions &options);
peft::Status run(const ExplainOptions &options);
peft::Status run(const AssembleOptions &options);
peft::Status run(const MergeModelOptions &options);
peft::Status run(const ExportOptions &options);

#endif // PEFTC_TOOLS_COMMANDS_H
