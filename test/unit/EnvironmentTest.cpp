//===- EnvironmentTest.cpp - where caches are -----------------------------===//
#include "peft/Environment.h"

#include <cstdlib>
#include <gtest/gtest.h>

using namespace peft;

namespace {

/// The two variables, which other tests need as they were.
class CacheDirectory : public testing::Test {
protected:
  CacheDirectory()
      : cache(environment("XDG_CACHE_HOME")), home(environment("HOME")) {}
  ~CacheDirectory() override { set(cache, home); }

  static void set(const std::string &cache, const std::string &home) {
    const auto put = [](const char *name, const std::string &value) {
      if (value.empty())
        ::unsetenv(name);
      else
        ::setenv(name, value.c_str(), 1);
    };
    put("XDG_CACHE_HOME", cache);
    put("HOME", home);
  }

private:
  std::string cache, home;
};

TEST_F(CacheDirectory, IsTheFirstThatTheEnvironmentNames) {
  set("/c", "/h");
  EXPECT_EQ(cacheDirectory("weights"), "/c/peftc/weights");
  set("", "/h");
  EXPECT_EQ(cacheDirectory("tokens"), "/h/.cache/peftc/tokens");
  set("", "");
  EXPECT_TRUE(cacheDirectory("tokens").starts_with("/tmp/peftc-"));
  EXPECT_EQ(environment("XDG_CACHE_HOME"), "");
}

} // namespace
