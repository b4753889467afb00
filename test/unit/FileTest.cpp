//===- FileTest.cpp - files, mappings, JSON -------------------------------===//
#include "peft/DirectoryLock.h"
#include "peft/File.h"
#include "TemporaryFiles.h"
#include "peft/Json.h"

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

using namespace peft;

namespace {

std::string textOf(const MappedFile &file) {
  return {reinterpret_cast<const char *>(file.bytes().data()),
          file.bytes().size()};
}

TEST(File, ReadsWhatWasWritten) {
  TemporaryDirectory folder;
  const std::string path = folder.write("a/b.txt", "one");
  EXPECT_EQ(*readFile(path), "one");
  EXPECT_EQ(*readFilePrefix(path, 2), "on");
  EXPECT_EQ(*readFilePrefix(path, 20), "one");
  EXPECT_EQ(*fileSize(path), 3u);
  ASSERT_TRUE(writeFileAtomically(path, "two!").ok());
  EXPECT_EQ(*readFile(path), "two!");
  EXPECT_EQ(*listDirectory(folder.path("a")),
            std::vector<std::string>{"b.txt"});
}

TEST(File, Errors) {
  TemporaryDirectory folder;
  const std::string path = folder.write("a", "12345");
  EXPECT_TRUE(failsWith(readFile(path, 4).status(), Code::badInput, "5 bytes"));
  EXPECT_TRUE(failsWith(readFile(folder.path("none")).status(), Code::io,
                        "cannot be opened"));
  EXPECT_TRUE(failsWith(readFile(folder.path()).status(), Code::badInput,
                        "not a regular file"));
  EXPECT_TRUE(failsWith(MappedFile::open(folder.path("none")).status(),
                        Code::io, "cannot be opened"));
  EXPECT_TRUE(failsWith(MappedFile::open(folder.path()).status(),
                        Code::badInput, "not a regular file"));
  EXPECT_TRUE(failsWith(listDirectory(path).status(), Code::io, "listed"));
  EXPECT_TRUE(failsWith(createDirectory(path + "/x"), Code::io, "created"));
  EXPECT_TRUE(failsWith(writeFileAtomically(folder.path("no/such/dir"), "x"),
                        Code::io, "cannot be created"));
  EXPECT_TRUE(failsWith(writeFileAtomically(folder.path(), "x"), Code::io,
                        "is a directory"));
}

TEST(File, PipesAndLinksAreWrittenThrough) {
  TemporaryDirectory folder;
  const std::string pipe = folder.path("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(reader, 0);
  EXPECT_TRUE(writeFileAtomically(pipe, "text").ok());
  char text[8] = {};
  EXPECT_EQ(::read(reader, text, sizeof(text)), 4);
  EXPECT_STREQ(text, "text");
  ::close(reader);
  struct stat info;
  ASSERT_EQ(stat(pipe.c_str(), &info), 0);
  EXPECT_TRUE(S_ISFIFO(info.st_mode));

  const std::string target = folder.write("a/file", "old");
  const std::string link = folder.path("link");
  ASSERT_EQ(symlink("a/file", link.c_str()), 0);
  EXPECT_TRUE(writeFileAtomically(link, "new").ok());
  EXPECT_EQ(*readFile(target), "new");
  ASSERT_EQ(lstat(link.c_str(), &info), 0);
  EXPECT_TRUE(S_ISLNK(info.st_mode));
}

TEST(File, AFailedWriteLeavesTheOldFileAndNothingElse) {
  TemporaryDirectory folder;
  const std::string path = folder.write("a", "old");
  const Status status = writeFileAtomically(path, [](FileSink &sink) -> Status {
    PEFT_TRY(sink.write(asBytes("half of the new")));
    return internalError("the other half is missing");
  });
  EXPECT_TRUE(failsWith(status, Code::internal, "the other half"));
  EXPECT_EQ(*readFile(path), "old");
  EXPECT_EQ(*listDirectory(folder.path()), std::vector<std::string>{"a"});
}

TEST(File, WritesLargeAndSmallPiecesInOrder) {
  TemporaryDirectory folder;
  const std::string path = folder.path("a"), large(3 << 20, 'x');
  ASSERT_TRUE(writeFileAtomically(path, [&](FileSink &sink) -> Status {
                PEFT_TRY(sink.write(asBytes("begin")));
                PEFT_TRY(sink.write(asBytes(large)));
                return sink.write(asBytes("end"));
              }).ok());
  EXPECT_EQ(*readFile(path), "begin" + large + "end");
}

TEST(File, NewFilesFollowTheUmask) {
  TemporaryDirectory folder;
  const mode_t before = umask(027);
  const std::string path = folder.write("a", "x");
  umask(before);
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
}

TEST(File, Paths) {
  EXPECT_EQ(joinPath("a/", "b"), "a/b");
  EXPECT_EQ(joinPath("a", "b"), "a/b");
  EXPECT_EQ(joinPath("", "b"), "b");
  EXPECT_EQ(joinPath("/", "b"), "/b");
  EXPECT_EQ(parentPath("a/b/"), "a");
  EXPECT_EQ(parentPath("a"), ".");
  EXPECT_EQ(parentPath("/a"), "/");
  EXPECT_EQ(fileName("a/b/"), "b");
  EXPECT_EQ(fileName("a"), "a");
}

TEST(File, MappingsMoveAndKeepTheirAddress) {
  TemporaryDirectory folder;
  Expected<MappedFile> opened = MappedFile::open(folder.write("a", "mapped"));
  ASSERT_TRUE(opened.ok());
  const void *address = opened->bytes().data();
  MappedFile first = std::move(*opened);
  MappedFile second;
  second = std::move(first);
  EXPECT_EQ(second.bytes().data(), address);
  EXPECT_EQ(textOf(second), "mapped");
  EXPECT_TRUE(first.bytes().empty());
  Expected<MappedFile> empty = MappedFile::open(folder.write("e", ""));
  ASSERT_TRUE(empty.ok());
  EXPECT_TRUE(empty->bytes().empty());
}

/// Touches a page that a truncation took away.
[[noreturn]] void readTruncated(const std::string &path) {
  installTruncationHandler();
  Expected<MappedFile> file = MappedFile::open(path);
  MappedFile moved = std::move(*file); // the registry must follow the move
  if (truncate(path.c_str(), 4096) != 0)
    _exit(1);
  volatile auto lost = moved.bytes()[3 * 4096];
  (void)lost;
  _exit(2);
}

TEST(FileDeathTest, ATruncatedMappingIsNamed) {
  TemporaryDirectory folder;
  const std::string path =
      folder.write("weights.bin", std::string(4 * 4096, 'x'));
  EXPECT_EXIT(readTruncated(path), ::testing::ExitedWithCode(74),
              "weights.bin was truncated while it was mapped");
}

TEST(Json, ParsesAndKeepsOrder) {
  auto value = parseJson(R"({"b": [1, 2.5, null, true], "a": "\u00e9"})", "x");
  ASSERT_TRUE(value.ok());
  EXPECT_EQ((*value)["a"], "é");
  auto ordered = parseOrderedJson(R"({"b": 1, "a": 2})", "x");
  ASSERT_TRUE(ordered.ok());
  EXPECT_EQ(ordered->begin().key(), "b");
}

TEST(Json, Errors) {
  const std::string tooDeep =
      std::string(100000, '[') + std::string(100000, ']');
  const struct {
    std::string text, fragment;
  } cases[] = {
      {"", "x: not valid JSON at line 1, column 1"},
      {"{\n  \"a\": 1,\n  b\n}", "line 3, column 3"},
      {"{\"a\": 1} 2", "line 1, column 10"},
      {"{\"a\": 1, \"a\": 2}", "the key \"a\" stands twice"},
      {"{\"a\": {\"b\": 1, \"b\": 2}}", "the key \"b\" stands twice"},
      {tooDeep, "nested deeper than 64"},
      {"{\"a\": NaN}", "not valid JSON"},
      {"[1e999]", "not valid JSON"},
      {"\"\xff\"", "not valid JSON"},
      {std::string("{}\0x", 4), "a zero byte"},
      {"{\"a\": \"unfinished", "not valid JSON"},
  };
  for (const auto &[text, fragment] : cases) {
    EXPECT_TRUE(
        failsWith(parseJson(text, "x").status(), Code::badInput, fragment));
    EXPECT_FALSE(parseOrderedJson(text, "x").ok());
  }
  const std::string deep = std::string(64, '[') + std::string(64, ']');
  EXPECT_TRUE(parseJson(deep, "x").ok());
}

TEST(Json, ShowsValuesBriefly) {
  EXPECT_EQ(describe(nlohmann::json{{"a", 1}}), "{\"a\":1}");
  const std::string shown = describe(nlohmann::json(std::string(500, 'x')));
  EXPECT_EQ(shown.size(), 63u);
  EXPECT_TRUE(shown.ends_with("..."));
  EXPECT_EQ(quoteJson("a\"b\n"), "\"a\\\"b\\n\"");
}

} // namespace

TEST(DirectoryLock, KeepsOthersOutAsLongAsItLives) {
  TemporaryDirectory folder;
  {
    auto first = DirectoryLock::take(folder.path());
    ASSERT_TRUE(first.ok()) << first.status().message();
    DirectoryLock moved = std::move(*first);
    auto second = DirectoryLock::take(folder.path());
    const std::string mine = "(process " + std::to_string(getpid()) + ")";
    EXPECT_TRUE(failsWith(second.status(), Code::io, mine));
  }
  EXPECT_TRUE(DirectoryLock::take(folder.path()).ok());
  EXPECT_TRUE(listDirectory(folder.path())->empty());
  EXPECT_TRUE(failsWith(DirectoryLock::take(folder.path("none")).status(),
                        Code::io, "cannot open"));
}
