//===- peftc.cpp - compiles training steps --------------------------------===//
#include "Commands.h"
#include "Flags.h"

#include "llvm/Support/raw_ostream.h"

#include <csignal>
#include <cstdio>
#include <new>

static int report(const peft::Status &status) {
  std::fprintf(stderr, "peftc: error: %s\n", status.message().c_str());
  return static_cast<int>(status.code());
}

static peft::Status run(const std::string &text) {
  std::fputs(text.c_str(), stdout);
  return {};
}

static int compileOrExplain(int argc, char **argv) {
  // A file past the size limit is an error that is reported, not a signal.
  std::signal(SIGXFSZ, SIG_IGN);
  auto line = parseCommandLine(argc, argv);
  if (!line.ok())
    return report(line.status());
  peft::Status status =
      std::visit([](const auto &options) { return run(options); }, *line);
  llvm::outs().flush();
  if (std::error_code error = llvm::outs().error()) {
    // Else the stream's destructor ends the process its own way.
    llvm::outs().clear_error();
    return report(
        peft::ioError("standard output cannot be written: " + error.message()));
  }
  return status.ok() ? 0 : report(status);
}

int main(int argc, char **argv) {
  try {
    return compileOrExplain(argc, argv);
  } catch (const std::bad_alloc &) {
    return report(
        peft::Status::error(peft::Code::doesNotFit, "memory ran out"));
  }
}
