//===- PeftDataTest.cpp - calling the tokenizer program -------------------===//
//
// A shell script stands in for peft-data, so that the calls, the cache and the
// errors are tested without Python.
//
//===----------------------------------------------------------------------===//
#include "train/PeftData.h"

#include "TemporaryFiles.h"

#include <algorithm>
#include <cstdlib>
#include <gtest/gtest.h>

using namespace peft;

namespace {
class PeftDataTest : public testing::Test {
protected:
  void SetUp() override {
    model.directory = files.path("model");
    model.tokenizerFiles = {files.write("model/tokenizer.json", "{}")};
    ::setenv("XDG_CACHE_HOME", files.path("cache").c_str(), 1);
  }
  void TearDown() override {
    ::unsetenv("PEFT_DATA");
    ::unsetenv("XDG_CACHE_HOME");
  }
  /// The program becomes `sh SCRIPT`; every call leaves its arguments in `log`.
  void program(const std::string &body) {
    std::string script = files.write(
        "program.sh", "echo \"$@\" >> " + files.path("log") + "\n" + body);
    ::setenv("PEFT_DATA", ("sh " + script).c_str(), 1);
  }
  std::string log() { return *readFile(files.path("log")); }

  TemporaryDirectory files;
  ModelDirectory model;
};
} // namespace

TEST_F(PeftDataTest, textGoesInOnALineAndIdsComeBackOnALine) {
  program("while read line; do echo \"[1, 2, ${#line}]\"; done\n");
  auto rows = encodeTexts(model, {"\"a\"", "{\"prompt\": \"b\"}"}, true);
  ASSERT_TRUE(rows.ok()) << rows.status().message();
  EXPECT_EQ(*rows, (std::vector<std::vector<int32_t>>{{1, 2, 3}, {1, 2, 15}}));
  EXPECT_EQ(log(), "encode --model " + model.directory + " --chat\n");
}

TEST_F(PeftDataTest, answersThatDoNotFitTheQuestionsAreOurFault) {
  program("echo '[1]'\n");
  EXPECT_TRUE(failsWith(encodeTexts(model, {"\"a\"", "\"b\""}, false).status(),
                        Code::internal, "1 lines for 2"));
  program("echo '[true]'\n");
  EXPECT_TRUE(failsWith(encodeTexts(model, {"\"a\""}, false).status(),
                        Code::internal, "printed [true]"));
  program("echo '{\"no\": 1}'\n");
  EXPECT_TRUE(failsWith(decodeTokens(model, {{1}}).status(), Code::internal,
                        "peft-data decode"));
}

TEST_F(PeftDataTest, itsExitCodeIsOurs) {
  for (Code code : {Code::usage, Code::badInput, Code::io}) {
    program("exit " + std::to_string(static_cast<int>(code)) + "\n");
    EXPECT_TRUE(failsWith(runPeftData({"show"}, "").status(), code,
                          "its own message stands above"));
  }
  program("exit 1\n");
  EXPECT_TRUE(failsWith(runPeftData({"show"}, "").status(), Code::unsuitable,
                        "is peft_data installed"));
  program("kill -9 $$\n");
  EXPECT_TRUE(failsWith(runPeftData({"show"}, "").status(), Code::internal,
                        "signal 9"));
  ::setenv("PEFT_DATA", "/nonexistent/peft-data", 1);
  EXPECT_TRUE(failsWith(runPeftData({"show"}, "").status(), Code::unsuitable,
                        "set PEFT_DATA"));
}

TEST_F(PeftDataTest, whatToDoWithoutItDependsOnWhatItIsFor) {
  ::setenv("PEFT_DATA", "/nonexistent/peft-data", 1);
  for (auto [command, help] :
       {std::pair("init-adapter", "or take the start of an earlier run"),
        std::pair("tokenize", "or give a token file"),
        std::pair("encode", "or give prompts as tokens")}) {
    Status status = runPeftData({command}, "").status();
    EXPECT_TRUE(failsWith(status, Code::unsuitable, command));
    EXPECT_TRUE(failsWith(status, Code::unsuitable, help));
  }
}

TEST_F(PeftDataTest, whatItPrintsSoFarIsWatched) {
  program("printf ..; sleep 0.3; printf .\n");
  std::vector<uint64_t> seen;
  auto printed = runPeftData({"init-adapter"}, "", false,
                             [&](uint64_t bytes) { seen.push_back(bytes); });
  ASSERT_TRUE(printed.ok()) << printed.status().message();
  EXPECT_EQ(*printed, "...");
  EXPECT_TRUE(std::ranges::is_sorted(seen));
  EXPECT_NE(std::ranges::find(seen, 2u), seen.end()) << "while it sleeps";
}

TEST_F(PeftDataTest, aFileIsTokenizedOnceForEachContentAndLength) {
  // tokenize --model DIR --seq N --data FILE -o OUT
  const std::string tokens = safetensorsBytes(
      R"({"input_ids":{"dtype":"I32","shape":[1,1],"data_offsets":[0,4]},)"
      R"("labels":{"dtype":"I32","shape":[1,1],"data_offsets":[4,8]}})",
      "\1\1\1\1\1\1\1\1");
  program("cp " + files.write("tokens", tokens) + " \"$9\"\n");
  std::string data = files.write("rows.jsonl", "{\"text\": \"one\"}\n");
  auto first = tokenizeFile(data, model, 8);
  ASSERT_TRUE(first.ok()) << first.status().message();
  EXPECT_EQ(*readFile(*first), tokens);
  auto calls = [&] {
    std::string text = log();
    return std::count(text.begin(), text.end(), '\n');
  };
  EXPECT_EQ(calls(), 1);
  EXPECT_EQ(*tokenizeFile(data, model, 8), *first);
  EXPECT_EQ(calls(), 1) << "from the cache";
  ASSERT_TRUE(writeFileAtomically(*first, tokens.substr(0, 20)).ok());
  EXPECT_EQ(*tokenizeFile(data, model, 8), *first);
  EXPECT_EQ(calls(), 2) << "a damaged entry is made again";
  EXPECT_EQ(*readFile(*first), tokens);
  EXPECT_NE(*tokenizeFile(data, model, 9), *first);
  EXPECT_EQ(calls(), 3);
  files.write("rows.jsonl", "{\"text\": \"two\"}\n");
  EXPECT_NE(*tokenizeFile(data, model, 8), *first);
  EXPECT_EQ(calls(), 4);
  files.write("model/tokenizer.json", "{\"other\": 1}");
  EXPECT_NE(*tokenizeFile(data, model, 8), *first);
  EXPECT_EQ(calls(), 5);
}

TEST_F(PeftDataTest, aFailedTokenizationLeavesNothingInTheCache) {
  program("echo half > \"$9\"; exit 65\n");
  std::string data = files.write("rows.jsonl", "{}\n");
  EXPECT_TRUE(
      failsWith(tokenizeFile(data, model, 8).status(), Code::badInput, data));
  auto left = listDirectory(files.path("cache/peftc/tokens"));
  ASSERT_TRUE(left.ok());
  EXPECT_TRUE(left->empty());
}

TEST_F(PeftDataTest, aModelWithoutTokenizerCannotReadText) {
  model.tokenizerFiles.clear();
  EXPECT_TRUE(failsWith(tokenizeFile("rows.jsonl", model, 8).status(),
                        Code::badInput, "tokenizer.json"));
  EXPECT_TRUE(failsWith(encodeTexts(model, {"\"a\""}, false).status(),
                        Code::badInput, "tokenizer.json"));
}
