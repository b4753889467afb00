//===- TrainFilesTest.cpp - conversions, hashes and option checks ---------===//
#include "peft/Session.h"

#include "peft/FloatTypes.h"
#include "train/Sha256.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>

using namespace peft;

TEST(FloatTypes, everyHalfSurvivesTheWayThroughFloat) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    float value = halfToFloat(static_cast<uint16_t>(bits));
    if (std::isnan(value))
      EXPECT_TRUE(std::isnan(halfToFloat(floatToHalf(value))));
    else
      ASSERT_EQ(floatToHalf(value), bits);
  }
}

TEST(FloatTypes, halvesAreRoundedToNearestEven) {
  EXPECT_EQ(floatToHalf(1 + 0x1p-11f), 0x3c00) << "a tie goes to the even";
  EXPECT_EQ(floatToHalf(1 + 3 * 0x1p-11f), 0x3c02);
  EXPECT_EQ(floatToHalf(1 + 0x1.1p-11f), 0x3c01);
  EXPECT_EQ(floatToHalf(65519.0f), 0x7bff);
  EXPECT_EQ(floatToHalf(65520.0f), 0x7c00) << "beyond the largest";
  EXPECT_EQ(floatToHalf(-0x1p-25f), 0x8000) << "a tie below the smallest";
  EXPECT_EQ(floatToHalf(0x1.8p-25f), 0x0001);
}

TEST(FloatTypes, bfloatsAreRoundedToNearestEven) {
  EXPECT_EQ(floatToBfloat(1 + 0x1p-8f), 0x3f80);
  EXPECT_EQ(floatToBfloat(1 + 3 * 0x1p-8f), 0x3f82);
  EXPECT_EQ(floatToBfloat(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_TRUE(floatToBfloat(std::nanf("")) & 0x40) << "NaN stays NaN";
}

TEST(FloatTypes, elementsAreReadAtAnyAddress) {
  std::byte storage[16] = {};
  storeFloat(storage + 1, DType::f32, 1, 2.5f);
  EXPECT_EQ(loadFloat(storage + 1, DType::f32, 1), 2.5f);
  storeFloat(storage + 3, DType::bf16, 2, -3.0f);
  EXPECT_EQ(loadFloat(storage + 3, DType::bf16, 2), -3.0f);
}

TEST(Sha256, standardVectors) {
  EXPECT_EQ(Sha256().finish(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  Sha256 abc;
  abc.add("a");
  abc.add("bc");
  EXPECT_EQ(abc.finish(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Sha256 two;
  two.add("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq");
  EXPECT_EQ(two.finish(),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

namespace {
RunOptions training() {
  RunOptions options;
  options.plan = "p.plan";
  options.model = "model";
  options.data = "rows.safetensors";
  options.output = "out";
  return options;
}

void expectUsage(const RunOptions &options, const char *part) {
  Status status = checkOptions(options);
  EXPECT_EQ(status.code(), Code::usage);
  EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
}
} // namespace

TEST(RunOptions, aTrainingRunIsFine) {
  EXPECT_TRUE(checkOptions(training()).ok());
}

TEST(RunOptions, nothingToDoIsAnError) {
  RunOptions options = training();
  options.data = options.output = "";
  expectUsage(options, "nothing to do");
}

TEST(RunOptions, anOptionThatWouldBeIgnoredIsAnError) {
  RunOptions options = training();
  options.generate.noAdapter = true;
  expectUsage(options, "--init-adapter");
  options = training();
  options.check = true;
  expectUsage(options, "--check");
  options = training();
  options.output = "";
  expectUsage(options, "-o OUT");
  options = training();
  options.data = "";
  options.evalData = "rows.safetensors";
  expectUsage(options, "-o OUT needs --data");
}

TEST(RunOptions, tuningIsARunOfItsOwnOnACard) {
  RunOptions options;
  options.plan = "p.plan";
  options.model = "model";
  options.output = "t.json";
  options.tune = true;
  EXPECT_TRUE(checkOptions(options).ok());
  auto refused = [&](auto change, const char *part) {
    RunOptions other = options;
    change(other);
    expectUsage(other, part);
  };
  refused([](RunOptions &o) { o.model = ""; }, "--tune needs PLAN and --model");
  refused([](RunOptions &o) { o.output = "out"; }, "-o FILE.json");
  refused([](RunOptions &o) { o.data = "d"; }, "leave out --data");
  refused([](RunOptions &o) { o.tuned = "t.json"; }, "--tuned");
  refused([](RunOptions &o) { o.device = "cpu"; }, "give --device cuda");
  refused([](RunOptions &o) { o.device = "tpu"; }, "--device must be");
  refused([](RunOptions &o) { o.calibrate = true; }, "two runs");
}

TEST(RunOptions, namesOfDevices) {
  RunOptions options = training();
  for (const char *name : {"auto", "cpu", "cuda", "cuda:0", "cuda:63"}) {
    options.device = name;
    EXPECT_TRUE(checkOptions(options).ok()) << name;
  }
  for (const char *name : {"tpu", "cuda:", "cuda:x", "cuda:-1", "cuda:64",
                           "cuda:1 ", "CUDA", ""}) {
    options.device = name;
    expectUsage(options, "--device must be auto, cpu, cuda or cuda:N");
  }
}

TEST(RunOptions, ratesOutsideTheirRange) {
  RunOptions options = training();
  options.train.beta2 = 1;
  expectUsage(options, "--beta2 must be at least 0 and below 1");
  options = training();
  options.train.learningRate = std::numeric_limits<double>::infinity();
  expectUsage(options, "--lr");
  options = training();
  options.train.steps = 0;
  expectUsage(options, "--steps");
  options = training();
  options.train.epochs = -1;
  expectUsage(options, "--epochs");
}
