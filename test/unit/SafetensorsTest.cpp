//===- SafetensorsTest.cpp - headers, lies in headers, writing ------------===//
#include "peft/Safetensors.h"
#include "TemporaryFiles.h"

#include <cstring>

using namespace peft;

namespace {

Expected<SafetensorsHeader> parse(const std::string &bytes) {
  return parseSafetensorsHeader(asBytes(bytes), bytes.size(), "m.safetensors");
}

const char *twoTensors =
    R"({"__metadata__":{"format":"pt"},)"
    R"("b":{"dtype":"F32","shape":[2,2],"data_offsets":[2,18]},)"
    R"("a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]}} )";

TEST(Safetensors, ParsesAHeader) {
  const auto header = parse(safetensorsBytes(twoTensors, std::string(18, 0)));
  ASSERT_TRUE(header.ok()) << header.status().message();
  EXPECT_EQ(header->metadata.at("format"), "pt");
  EXPECT_EQ(header->dataOffset, 8 + std::strlen(twoTensors));
  ASSERT_EQ(header->tensors.size(), 2u);
  EXPECT_EQ(header->tensors[0].name, "a"); // by offset
  const TensorHeader *b = header->find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->dtype, DType::f32);
  EXPECT_EQ(b->describe(), "f32[2, 2]");
  EXPECT_EQ(b->byteCount(), 16u);
  EXPECT_EQ(b->elementCount(), 4u);
  EXPECT_EQ(header->find("a")->elementCount(), 1u);
  EXPECT_EQ(header->find("c"), nullptr);
}

TEST(Safetensors, AcceptsWhatTheFormatAllows) {
  const std::string header =
      R"({"e":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]},)"
      R"("f":{"dtype":"F4","shape":[4],"data_offsets":[3,5]},)"
      R"("z":{"dtype":"I64","shape":[0,7],"data_offsets":[5,5]}})";
  const auto parsed = parse(safetensorsBytes(header, "12345"));
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  EXPECT_EQ(parsed->find("e")->dtype, std::nullopt);
  EXPECT_EQ(parsed->find("e")->describe(), "F8_E4M3[3]");
  EXPECT_EQ(parsed->find("z")->elementCount(), 0u);
  EXPECT_TRUE(parse(safetensorsBytes("{}", "")).ok());
  const char *noMetadata = R"({"__metadata__":null})";
  EXPECT_TRUE(parse(safetensorsBytes(noMetadata, "")).ok());
}

/// A header of one tensor "t", to be damaged.
std::string oneTensor(const std::string &fields) {
  return "{\"t\":{" + fields + "}}";
}

struct Lie {
  const char *name;
  std::string bytes;
  const char *fragment;
};

/// Lies about the header as a whole.
std::vector<Lie> headerLies() {
  const std::string length8("\x08\0\0\0\0\0\0\0", 8);
  const std::string huge("\xff\xff\xff\xff\xff\xff\xff\xff", 8);
  const std::string over100MB("\x01\xe1\xf5\x05\0\0\0\0", 8);
  const auto file = [](const std::string &header, const std::string &data) {
    return safetensorsBytes(header, data);
  };
  return {
      {"empty", "", "has only 0 bytes"},
      {"seven bytes", "1234567", "has only 7 bytes"},
      {"length beyond the file", length8 + "{}", "it is truncated"},
      {"length of 2^64-1", huge + "{}", "this is no safetensors file"},
      {"length past 100 MB", over100MB + "{}", "at most 100000000"},
      {"header of no bytes", file("", ""), "does not start with '{'"},
      {"leading space", file(" {}", ""), "does not start with '{'"},
      {"an array", file("[]", ""), "does not start with '{'"},
      {"broken JSON", file("{\"a\":", ""), "not valid JSON"},
      {"text after the object", file("{}x", ""), "not valid JSON"},
      {"zero padding", file(std::string("{}\0", 3), ""), "a zero byte"},
      {"invalid UTF-8", file("{\"\xff\":1}", ""), "not valid JSON"},
      {"too deep",
       file("{\"a\":" + std::string(70, '[') + std::string(70, ']') + "}", ""),
       "nested deeper"},
      {"metadata is a list", file(R"({"__metadata__":[]})", ""),
       "__metadata__ must be an object"},
      {"metadata holds a number", file(R"({"__metadata__":{"n":1}})", ""),
       "only strings, but \"n\" is 1"},
  };
}

/// Lies about what a tensor is.
std::vector<Lie> typeLies() {
  const std::string four(4, '\0');
  const auto file = [](const std::string &header, const std::string &data) {
    return safetensorsBytes(header, data);
  };
  const auto tensor = [&](const std::string &fields, const std::string &data) {
    return file(oneTensor(fields), data);
  };
  const std::string f32 = R"("dtype":"F32",)", one = R"("shape":[1],)",
                    offsets = R"("data_offsets":[0,4])";
  return {
      {"tensor is a number", file(R"({"t":1})", ""), "described by an object"},
      {"no dtype", tensor(one + offsets, four), "has no dtype"},
      {"no shape", tensor(f32 + offsets, four), "has no shape"},
      {"no offsets", tensor(f32 + R"("shape":[1])", four), "no data_offsets"},
      {"unknown dtype", tensor(R"("dtype":"Q4",)" + one + offsets, four),
       "unknown dtype \"Q4\""},
      {"dtype is a number", tensor(R"("dtype":4,)" + one + offsets, four),
       "unknown dtype 4"},
      {"shape is a number", tensor(f32 + R"("shape":1,)" + offsets, four),
       "shape must be a list"},
      {"negative size", tensor(f32 + R"("shape":[-1],)" + offsets, four),
       "whole numbers from 0 on, not -1"},
      {"fractional size", tensor(f32 + R"("shape":[1.0],)" + offsets, four),
       "whole numbers from 0 on, not 1.0"},
      {"size beyond int64",
       tensor(f32 + R"("shape":[18446744073709551615],)" + offsets, four),
       "whole numbers"},
      {"shape overflows",
       tensor(f32 + R"("shape":[4294967296,4294967296],)" + offsets, four),
       "overflow"},
      {"overflow to the right size",
       tensor(f32 + R"("shape":[4611686018427387905],)" + offsets, four),
       "overflow"},
      {"overflow hidden by a zero",
       tensor(f32 + R"("shape":[4611686018427387904,4,0],)" +
                  R"("data_offsets":[0,0])",
              ""),
       "overflow"},
      {"half a byte",
       tensor(R"("dtype":"F4","shape":[3],"data_offsets":[0,1])", "x"),
       "no whole number"},
      {"fewer bytes than the shape",
       tensor(f32 + R"("shape":[2],)" + offsets, four),
       "needs 8 bytes, but data_offsets [0, 4) hold 4"},
  };
}

/// Lies about where tensors are.
std::vector<Lie> placeLies() {
  const std::string four(4, '\0'), eight(8, '\0');
  const auto file = [](const std::string &header, const std::string &data) {
    return safetensorsBytes(header, data);
  };
  const auto tensor = [&](const std::string &fields, const std::string &data) {
    return file(oneTensor(fields), data);
  };
  const std::string f32 = R"("dtype":"F32",)", one = R"("shape":[1],)",
                    offsets = R"("data_offsets":[0,4])";
  const std::string a = R"("a":{"dtype":"U8","shape":[4],"data_offsets":)",
                    b = R"("b":{"dtype":"U8","shape":[4],"data_offsets":)";
  return {
      {"twice the same tensor",
       file("{" + a + "[0,4]}," + a + "[4,8]}}", eight), "stands twice"},
      {"offsets backwards", tensor(f32 + one + R"("data_offsets":[4,0])", four),
       "end before they begin"},
      {"negative offset", tensor(f32 + one + R"("data_offsets":[-4,0])", four),
       "data_offsets must be two"},
      {"three offsets", tensor(f32 + one + R"("data_offsets":[0,4,8])", four),
       "data_offsets must be two"},
      {"offsets beyond 2^64",
       tensor(f32 + one + R"("data_offsets":[0,99999999999999999999])", four),
       "data_offsets must be two"},
      {"hole at the start",
       tensor(f32 + one + R"("data_offsets":[4,8])", eight), "hole of 4 bytes"},
      {"hole between",
       file("{" + a + "[0,4]}," + b + "[5,9]}}", std::string(9, 'x')),
       "hole of 1 bytes"},
      {"overlap", file("{" + a + "[0,4]}," + b + "[2,6]}}", "123456"),
       "overlap the tensor before"},
      {"data cut off", tensor(f32 + one + offsets, "123"), "it is truncated"},
      {"data left over", tensor(f32 + one + offsets, "12345"),
       "1 bytes after its last tensor"},
      {"data without tensors", file("{}", "x"), "1 bytes after"},
  };
}

TEST(Safetensors, RefusesEveryLie) {
  TemporaryDirectory folder;
  std::vector<Lie> lies = headerLies();
  for (const std::vector<Lie> &more : {typeLies(), placeLies()})
    lies.insert(lies.end(), more.begin(), more.end());
  ASSERT_GE(lies.size(), 40u);
  for (const Lie &lie : lies) {
    SCOPED_TRACE(lie.name);
    const Status status = parse(lie.bytes).status();
    EXPECT_TRUE(failsWith(status, Code::badInput, lie.fragment));
    EXPECT_TRUE(status.message().starts_with("m.safetensors: "));
    // From disk the same, whether mapped or only the header read.
    const std::string path = folder.write("x.safetensors", lie.bytes);
    EXPECT_TRUE(failsWith(SafetensorsFile::open(path).status(), Code::badInput,
                          lie.fragment));
    EXPECT_TRUE(failsWith(readSafetensorsHeader(path).status(), Code::badInput,
                          lie.fragment));
  }
}

TEST(Safetensors, RefusesEveryTruncation) {
  const std::string bytes = safetensorsBytes(twoTensors, std::string(18, 0));
  for (size_t length = 0; length < bytes.size(); ++length)
    EXPECT_FALSE(parse(bytes.substr(0, length)).ok()) << length;
}

TEST(Safetensors, WritesWhatItReads) {
  TemporaryDirectory folder;
  const std::string path = folder.path("w.safetensors");
  const float values[] = {1, 2, 3, 4, 5, 6};
  const ByteSpan floats = std::as_bytes(std::span(values));
  std::vector<TensorToWrite> tensors(3);
  tensors[0] = {"half", DType::bf16, {3}, asBytes("abcdef"), nullptr};
  tensors[1] = {"z\"", DType::f32, {2, 3}, floats, nullptr};
  tensors[2] = {"made", DType::f32, {}, {}, [&](FileSink &sink) -> Status {
                  PEFT_TRY(sink.write(floats.first(1)));
                  return sink.write(floats.subspan(1, 3));
                }};
  ASSERT_TRUE(writeSafetensors(path, tensors).ok());
  const auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->header().dataOffset % 8, 0u);
  EXPECT_EQ(file->header().metadata.at("format"), "pt");
  ASSERT_EQ(file->header().tensors.size(), 3u);
  EXPECT_EQ(file->header().tensors[0].name, "made");
  EXPECT_EQ(file->header().tensors[2].name, "half"); // smaller types last
  const auto z = file->get("z\"");
  ASSERT_TRUE(z.ok());
  EXPECT_EQ(std::memcmp(file->bytes(**z).data(), values, sizeof values), 0);
  const auto made = file->get("made");
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(std::memcmp(file->bytes(**made).data(), values, 4), 0);
}

TEST(Safetensors, AWriteThatFailsLeavesNothing) {
  TemporaryDirectory folder;
  const std::string path = folder.path("w.safetensors");
  const auto nothing = [](FileSink &) { return Status(); };
  EXPECT_TRUE(
      failsWith(writeSafetensors(path, {{"t", DType::f32, {2}, {}, nothing}}),
                Code::internal, "needs 8 bytes, but 0 were written"));
  EXPECT_TRUE(failsWith(
      writeSafetensors(path, {{"t", DType::f32, {2}, asBytes("123"), nullptr}}),
      Code::internal, "needs 8 bytes, but has 3"));
  EXPECT_TRUE(
      failsWith(writeSafetensors(
                    path, {{"t", DType::u8, {1}, asBytes("1"), nullptr},
                           {"a", DType::u8, {1}, asBytes("1"), nullptr},
                           {"t", DType::i32, {1}, asBytes("1234"), nullptr}}),
                Code::internal, "written twice"));
  EXPECT_TRUE(listDirectory(folder.path())->empty());
}

TEST(Safetensors, SaysWhatIsThereInstead) {
  TemporaryDirectory folder;
  const std::string header =
      R"({"e":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]}})";
  const auto file = SafetensorsFile::open(
      folder.write("a.safetensors", safetensorsBytes(header, "123")));
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(failsWith(file->get("e").status(), Code::badInput,
                        "unsupported type F8_E4M3"));
  EXPECT_TRUE(failsWith(file->get("f").status(), Code::badInput,
                        "has no tensor \"f\"; it has 1, the first being"));
}

} // namespace
