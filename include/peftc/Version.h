//===- Version.h - the version of peftc -------------------------*- C++ -*-===//
#ifndef PEFTC_VERSION_H
#define PEFTC_VERSION_H

namespace peftc {

/// Written into every plan, and printed by --version.
constexpr const char *compilerVersion = "0.1.0";

} // namespace peftc

#endif // PEFTC_VERSION_H
