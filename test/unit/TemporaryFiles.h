//===- TemporaryFiles.h - files for one test --------------------*- C++ -*-===//
#ifndef PEFT_TEST_TEMPORARYFILES_H
#define PEFT_TEST_TEMPORARYFILES_H

#include "peft/File.h"

#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <string>
#include <string_view>

namespace peft {

/// A directory that is removed with everything in it.
class TemporaryDirectory {
public:
  TemporaryDirectory() {
    std::string pattern = ::testing::TempDir() + "/peft-test-XXXXXX";
    if (const char *made = mkdtemp(pattern.data()))
      root = made;
  }
  TemporaryDirectory(const TemporaryDirectory &) = delete;
  TemporaryDirectory &operator=(const TemporaryDirectory &) = delete;
  ~TemporaryDirectory() {
    std::error_code error;
    if (!root.empty())
      std::filesystem::remove_all(root, error);
  }

  const std::string &path() const { return root; }
  std::string path(std::string_view name) const { return joinPath(root, name); }

  /// Writes `name`, parent directories included, and gives its path.
  std::string write(const std::string &name, std::string_view bytes) const {
    const std::string file = path(name);
    EXPECT_TRUE(createDirectory(parentPath(file)).ok());
    EXPECT_TRUE(writeFileAtomically(file, bytes).ok());
    return file;
  }

private:
  std::string root;
};

/// A safetensors file with this header (its length in front) and `data`.
inline std::string safetensorsBytes(std::string_view header,
                                    std::string_view data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i)
    bytes += static_cast<char>(header.size() >> (8 * i) & 0xFF);
  return bytes.append(header).append(data);
}

/// Passes when `status` is an error whose message contains `fragment`.
inline ::testing::AssertionResult failsWith(const Status &status, Code code,
                                            std::string_view fragment) {
  if (status.ok())
    return ::testing::AssertionFailure() << "no error; expected " << fragment;
  if (status.code() != code)
    return ::testing::AssertionFailure()
           << "code " << static_cast<int>(status.code()) << " instead of "
           << static_cast<int>(code) << ": " << status.message();
  if (status.message().find(fragment) == std::string::npos)
    return ::testing::AssertionFailure()
           << "\"" << status.message() << "\" lacks \"" << fragment << "\"";
  return ::testing::AssertionSuccess();
}

} // namespace peft

#endif // PEFT_TEST_TEMPORARYFILES_H
