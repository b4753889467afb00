//===- Options.cpp - whether options make sense together ------------------===//
#include "peft/Session.h"

#include "DeviceName.h"
#include "peft/FloatTypes.h"

#include <cmath>

using namespace peft;

namespace {
Status requireRange(const char *flag, double value, double least, double most,
                    bool openEnd = false) {
  if (std::isfinite(value) && value >= least &&
      (openEnd ? value < most : value <= most))
    return {};
  auto text = [](double x) {
    std::string digits = std::to_string(x);
    digits.erase(digits.find_last_not_of('0') + 1);
    return digits.back() == '.' ? digits.substr(0, digits.size() - 1) : digits;
  };
  return usageError(std::string(flag) + " must be at least " + text(least) +
                    (openEnd ? " and below " : " and at most ") + text(most));
}

Status checkTraining(const TrainOptions &train) {
  // The step is an i32 in the plan; so is the row inside a step.
  constexpr uint64_t mostSteps = INT32_MAX - 1;
  if (train.steps && (*train.steps == 0 || *train.steps > mostSteps))
    return usageError("--steps must be between 1 and " +
                      std::to_string(mostSteps));
  if (!(train.epochs > 0 && train.epochs <= 1e6))
    return usageError("--epochs must be above 0 and at most 1000000");
  if (train.gradAccum == 0 || train.gradAccum > 1u << 20)
    return usageError("--grad-accum must be between 1 and 1048576");
  PEFT_TRY(requireRange("--lr", train.learningRate, 0, 1000));
  PEFT_TRY(requireRange("--weight-decay", train.weightDecay, 0, 1000));
  PEFT_TRY(requireRange("--beta1", train.beta1, 0, 1, true));
  PEFT_TRY(requireRange("--beta2", train.beta2, 0, 1, true));
  PEFT_TRY(requireRange("--epsilon", train.epsilon, 0, 1));
  return requireRange("--max-grad-norm", train.maxGradNorm, 0, 1e9);
}

Status checkGeneration(const RunOptions &options) {
  const GenerateOptions &generate = options.generate;
  if (!generate.answerFile.empty() && generate.promptFile.empty())
    return usageError("--answers needs --prompts");
  if (generate.chat && !generate.any())
    return usageError("--chat needs --generate or --prompts");
  if (generate.maxNewTokens == 0)
    return usageError("--max-new-tokens must be at least 1");
  if (generate.noAdapter && !generate.adapter.empty())
    return usageError("--adapter and --no-adapter exclude each other");
  if (!options.data.empty() &&
      (generate.noAdapter || !generate.adapter.empty()))
    return usageError("--adapter and --no-adapter are for answers without "
                      "training; --init-adapter says where training starts");
  return {};
}
} // namespace

/// What is for training needs data.
static Status checkIdle(const RunOptions &options) {
  if (!options.data.empty())
    return {};
  if (!options.dumpGradients.empty())
    return usageError("--dump-gradients needs --data FILE");
  if (options.profile)
    return usageError("--profile needs --data FILE: it measures training");
  if (!options.trace.empty())
    return usageError("--trace needs --data FILE: it measures training");
  if (!options.initAdapter.empty())
    return usageError("--init-adapter needs --data FILE; to ask an adapter use "
                      "--adapter");
  return {};
}

/// --calibrate does one thing.
static Status checkCalibration(const RunOptions &options) {
  if (options.output.empty())
    return usageError("--calibrate needs -o FILE: the description to write");
  if (!options.output.ends_with(".json"))
    return usageError("-o " + options.output +
                      " must end in .json: that is how peftc compile --target "
                      "knows a file");
  if (!options.model.empty())
    return usageError("--calibrate takes the shapes of a plan and no weights; "
                      "leave out --model");
  if (!options.data.empty() || !options.evalData.empty() ||
      options.generate.any() || options.check || options.scheduleSeed ||
      options.json || !options.tuned.empty() ||
      options.attention != AttentionMode::planned)
    return usageError("--calibrate measures the device and does nothing else; "
                      "leave out --data, --eval-data, --generate, --prompts, "
                      "--check, --schedule-seed, --json, --tuned and "
                      "--attention");
  return {};
}

/// --tune does one thing, on a card.
static Status checkTuning(const RunOptions &options) {
  if (options.plan.empty() || options.model.empty())
    return usageError("--tune needs PLAN and --model: it measures what the "
                      "plan runs, where it runs");
  if (!options.output.ends_with(".json"))
    return usageError("--tune needs -o FILE.json: the choices to write");
  if (!options.data.empty() || !options.evalData.empty() ||
      options.generate.any() || options.check || options.scheduleSeed ||
      options.json || !options.tuned.empty())
    return usageError("--tune measures the card's libraries and does nothing "
                      "else; leave out --data, --eval-data, --generate, "
                      "--prompts, --check, --schedule-seed, --json and "
                      "--tuned");
  PEFT_TRY(checkIdle(options));
  PEFT_ASSIGN(DeviceName device, parseDeviceName(options.device));
  if (device.kind == DeviceName::Kind::cpu)
    return usageError("--tune chooses among the algorithms of a card's "
                      "libraries, and the CPU device has none; give --device "
                      "cuda");
  return {};
}

/// --save-quantized does one thing, too.
static Status checkSaving(const RunOptions &options) {
  if (!options.data.empty() || !options.evalData.empty() ||
      options.generate.any() || options.check || options.json ||
      !options.output.empty() || options.verify || !options.cache)
    return usageError("--save-quantized writes the model and does nothing "
                      "else; leave out --data, --eval-data, --generate, "
                      "--prompts, --check, --json, -o, --verify and "
                      "--no-cache");
  return {};
}

Status peft::checkOptions(const RunOptions &options) {
  const GenerateOptions &generate = options.generate;
  if (options.tune && options.calibrate)
    return usageError("--tune and --calibrate are two runs");
  if (options.tune)
    return checkTuning(options);
  if (options.calibrate) {
    PEFT_TRY(checkCalibration(options));
    PEFT_TRY(checkIdle(options));
    return checkDeviceName(options.device);
  }
  if (options.plan.empty())
    return usageError("which plan? peft-run PLAN --model DIR --data FILE -o "
                      "OUT");
  if (options.model.empty())
    return usageError("--model is needed: the directory with the weights that "
                      "the plan was compiled for");
  PEFT_TRY(checkTraining(options.train));
  PEFT_TRY(checkGeneration(options));
  if (options.verify && !options.cache)
    return usageError("--verify compares the cache, which --no-cache does not "
                      "use; leave one out");
  if (!options.saveQuantized.empty()) {
    PEFT_TRY(checkSaving(options));
    return checkIdle(options);
  }
  bool trains = !options.data.empty();
  bool works =
      trains || options.check || generate.any() || !options.evalData.empty();
  if (!works)
    return usageError("nothing to do: give --data FILE to train, --generate "
                      "TEXT, --eval-data FILE, --save-quantized DIR or --check");
  if (options.check && (trains || generate.any() || !options.evalData.empty()))
    return usageError(
        "--check runs one step on zeros and does nothing else; "
        "leave out --data, --eval-data, --generate and --prompts");
  if (trains && options.output.empty())
    return usageError("-o OUT is needed: the directory for the adapter");
  if (!trains && !options.output.empty())
    return usageError("-o OUT needs --data FILE: without training there is "
                      "nothing to write");
  PEFT_TRY(checkIdle(options));
  if (options.saveDType && !isFloat(*options.saveDType))
    return usageError("--save-dtype must be f32, bf16 or f16");
  return checkDeviceName(options.device);
}
