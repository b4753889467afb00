//===- TokenFileFuzzer.cpp - any bytes as a token file --------------------===//
//
// An even first byte: the rest is the file. An odd one chooses a well-formed
// header, and the rest are the values, so that the checks of values are
// reached, at every alignment.
//
//===----------------------------------------------------------------------===//
#include "peft/TokenFile.h"

using namespace peft;

namespace {

void parseAndCheck(const std::string &bytes) {
  const auto file = TokenFile::parse(asBytes(bytes), "input");
  if (!file.ok())
    return;
  int64_t trained = 0;
  for (int64_t row = 0; row < file->rows(); ++row) {
    trained += file->trainedTokens(row) + file->inputIds(row).back() % 2;
    if (file->hasPositionIds())
      trained += file->positionIds(row).front() % 2;
  }
  volatile int64_t result = trained;
  (void)result;
  (void)file->check(100).ok();
}

/// A file of four columns of [rows, 2], whose values are `values`.
std::string wrap(std::string_view values, bool wide, size_t shift) {
  const size_t size = wide ? 8 : 4, rows = values.size() / (4 * 2 * size);
  std::string header = "{";
  size_t at = 0;
  for (const char *name :
       {"input_ids", "labels", "position_ids", "segment_ids"}) {
    const size_t bytes = rows * 2 * size;
    header += std::string(at ? ",\"" : "\"") + name + "\":{\"dtype\":\"" +
              (wide ? "I64" : "I32") + "\",\"shape\":[" + std::to_string(rows) +
              ",2],\"data_offsets\":[" + std::to_string(at) + "," +
              std::to_string(at + bytes) + "]}";
    at += bytes;
  }
  header += '}' + std::string(shift, ' ');
  std::string file;
  for (int i = 0; i < 8; ++i)
    file += static_cast<char>(header.size() >> (8 * i) & 0xFF);
  return file.append(header).append(values.substr(0, at));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  const std::string_view rest(reinterpret_cast<const char *>(data) + 1,
                              size - 1);
  if (data[0] % 2 == 0)
    parseAndCheck(std::string(rest));
  else
    parseAndCheck(wrap(rest, data[0] & 2, data[0] >> 2 & 7));
  return 0;
}
