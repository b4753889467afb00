//===- Units.cpp - numbers as people read them ----------------------------===//
#include "Units.h"

#include <cstdio>
#include <iterator>

static std::string format(const char *form, double value, const char *unit) {
  char text[64];
  std::snprintf(text, sizeof text, form, value, unit);
  return text;
}

std::string formatBytes(uint64_t bytes) {
  const char *units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  double value = static_cast<double>(bytes);
  for (; value >= 1024 && unit + 1 < std::size(units); ++unit)
    value /= 1024;
  return format(unit == 0    ? "%.0f %s"
                : value < 10 ? "%.2f %s"
                             : "%.1f %s",
                value, units[unit]);
}

std::string formatCount(double count) {
  const char *prefixes[] = {"", "k", "M", "G", "T", "P"};
  size_t prefix = 0;
  for (; count >= 1000 && prefix + 1 < std::size(prefixes); ++prefix)
    count /= 1000;
  return format("%.3g %s", count, prefixes[prefix]);
}

std::string formatSeconds(double seconds) {
  const char *units[] = {"s", "ms", "us"};
  size_t unit = 0;
  for (; seconds < 1 && unit + 1 < std::size(units); ++unit)
    seconds *= 1000;
  return format("%.3g %s", seconds, units[unit]);
}

std::string formatRatio(double ratio) { return format("%.3f%s", ratio, ""); }

std::string column(std::string_view text, size_t width) {
  std::string padded(text);
  if (padded.size() < width)
    padded.resize(width, ' ');
  return padded;
}

std::string rightColumn(std::string_view text, size_t width) {
  std::string padded(text);
  if (padded.size() < width)
    padded.insert(0, width - padded.size(), ' ');
  return padded;
}
