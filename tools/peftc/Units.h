//===- Units.h - numbers as people read them --------------------*- C++ -*-===//
#ifndef PEFTC_TOOLS_UNITS_H
#define PEFTC_TOOLS_UNITS_H

#include <cstdint>
#include <string>
#include <string_view>

/// Powers of two: "512 B", "1.5 KiB", "20.3 MiB", "7.25 GiB".
std::string formatBytes(uint64_t bytes);
/// Powers of ten with a unit's prefix: "12.3 G", "840 ".
std::string formatCount(double count);
/// "1.23 s", "4.56 ms", "7.89 us".
std::string formatSeconds(double seconds);
/// Three decimals.
std::string formatRatio(double ratio);
/// Padded on the right, or on the left, to `width`.
std::string column(std::string_view text, size_t width);
std::string rightColumn(std::string_view text, size_t width);

#endif // PEFTC_TOOLS_UNITS_H
