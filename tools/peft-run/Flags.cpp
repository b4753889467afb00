//===- Flags.cpp - peft-run's command line --------------------------------===//
#include "Flags.h"

#include "peft/Session.h"

#include <CLI/CLI.hpp>
#include <map>

using namespace peft;

namespace {

/// Takes one of the names of `values`; the error lists them.
template <typename T>
CLI::Validator oneOf(const std::map<std::string, T> &values) {
  return CLI::Validator(
      [&values](std::string &input) -> std::string {
        if (auto found = values.find(input); found != values.end()) {
          input = std::to_string(static_cast<int>(found->second));
          return {};
        }
        std::string names;
        for (const auto &[name, value] : values)
          names += (names.empty() ? "" : ", ") + name;
        return "must be one of " + names + ", found '" + input + "'";
      },
      "");
}
constexpr const char *examples = R"(Examples:
  train a LoRA adapter, then look at it
    peft-run step.plan --model SmolLM2-135M-Instruct --data train.jsonl -o out
  40 steps of 8 rows, evaluated at the end
    peft-run step.plan --model DIR --data train.safetensors -o out --steps 40 \
      --grad-accum 2 --lr 5e-4 --schedule cosine --warmup-steps 4 \
      --eval-data test.safetensors
  ask the trained adapter, then the base model
    peft-run step.plan --model DIR --adapter out --chat --generate "2 + 3?"
    peft-run step.plan --model DIR --no-adapter --chat --generate "2 + 3?"
  does it fit? one step on zeros
    peft-run step.plan --model DIR --check
  write the model as a plan of --base nf4 quantizes it
    peft-run step.plan --model DIR --save-quantized DIR-nf4
  measure this machine, compile for it
    peft-run step.plan --calibrate -o here.json
    peftc compile DIR --target here.json -o step.plan
  measure a card's libraries, train with what was the fastest
    peft-run step.plan --model DIR --tune -o tuned.json
    peft-run step.plan --model DIR --data train.jsonl -o out --tuned tuned.json

Exit codes: 0, 64 usage, 65 bad input, 70 a bug of ours, 71 does not fit,
74 I/O, 76 stopped on non-finite values, 78 this machine does not fit.
)";

/// Flags of section 9 that later versions have. Accepting one and doing nothing
/// would be a lie; calling it unknown would be another.
const std::map<std::string, const char *> later = {
    {"--resume", "training starts from the beginning or from --init-adapter"},
    {"--save-every", "the adapter is written after the last step"},
    {"--eval-every", "--eval-data is evaluated after the last step"},
    {"--keep", "no checkpoints are written"},
    {"--reduction", "there is one rank"},
    {"-n", "there is one rank"},
};

Status refuseLater(int argc, char **argv) {
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    auto found = later.find(word.substr(0, word.find('=')));
    if (found != later.end())
      return usageError(found->first + ": not in this version; " +
                        found->second);
  }
  return {};
}

/// strtoull, which CLI11 uses, takes -1 for a large number.
CLI::Validator notNegative() {
  return CLI::Validator(
      [](std::string &text) {
        return text.starts_with("-") ? "must not be negative: " + text
                                     : std::string();
      },
      "");
}

void addFiles(CLI::App &app, RunOptions &options) {
  app.add_option("PLAN", options.plan, "the plan that peftc compile wrote")
      ->type_name("");
  app.add_option("--model", options.model,
                 "directory with the weights the plan names")
      ->type_name("DIR");
  app.add_option("--data", options.data,
                 "rows to train on, as tokens (.safetensors) or text (.jsonl)")
      ->type_name("FILE");
  app.add_option("-o,--output", options.output,
                 "directory for the adapter and metrics.jsonl; with "
                 "--calibrate and --tune a file")
      ->type_name("DIR");
  app.add_option("--init-adapter", options.initAdapter,
                 "start from this PEFT adapter")
      ->type_name("DIR");
  app.add_option("--eval-data", options.evalData,
                 "rows to evaluate after the last step")
      ->type_name("FILE");
  app.add_option("--dump-gradients", options.dumpGradients,
                 "write the first step's gradients before clipping")
      ->type_name("FILE");
}

void addTraining(CLI::App &app, TrainOptions &train) {
  CLI::Option *steps = app.add_option("--steps", train.steps, "optimizer steps")
                           ->check(notNegative());
  app.add_option("--epochs", train.epochs,
                 "times every row is seen, instead of --steps")
      ->capture_default_str()
      ->excludes(steps);
  app.add_option("--grad-accum", train.gradAccum,
                 "micro-batches per optimizer step")
      ->capture_default_str();
  app.add_option("--lr", train.learningRate, "learning rate")
      ->capture_default_str();
  static const std::map<std::string, Schedule> schedules = {
      {"linear", Schedule::linear},
      {"cosine", Schedule::cosine},
      {"constant", Schedule::constant}};
  app.add_option("--schedule", train.schedule,
                 "linear, cosine or constant (default linear)")
      ->type_name("NAME")
      ->transform(oneOf(schedules));
  app.add_option("--warmup-steps", train.warmupSteps,
                 "steps over which the rate rises")
      ->check(notNegative())
      ->capture_default_str();
  app.add_option("--weight-decay", train.weightDecay,
                 "not on biases and norm weights")
      ->capture_default_str();
  app.add_flag("--decay-all", train.decayAll, "decay those, too");
  app.add_option("--beta1", train.beta1, "of AdamW")->capture_default_str();
  app.add_option("--beta2", train.beta2, "of AdamW")->capture_default_str();
  app.add_option("--epsilon", train.epsilon, "of AdamW")->capture_default_str();
  app.add_option("--max-grad-norm", train.maxGradNorm,
                 "clip the global norm; 0: never")
      ->capture_default_str();
  app.add_flag_callback(
      "--no-shuffle", [&train] { train.shuffle = false; },
      "rows in the file's order");
}

void addGeneration(CLI::App &app, GenerateOptions &generate) {
  app.add_option("--generate", generate.prompts, "answer TEXT; may be repeated")
      ->type_name("TEXT")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--prompts", generate.promptFile,
                 "answer every line of a JSON-lines file")
      ->type_name("FILE");
  app.add_option("--answers", generate.answerFile,
                 "write those answers as JSON lines")
      ->type_name("FILE");
  app.add_option("--max-new-tokens", generate.maxNewTokens,
                 "tokens of an answer")
      ->capture_default_str();
  app.add_option("--log-probs", generate.logProbs,
                 "write with each answer the logarithms of the probabilities of "
                 "so many tokens, the likeliest, for each choice")
      ->check(CLI::Range(1u, 1000u).description(""))
      ->type_name("N");
  app.add_flag("--chat", generate.chat,
               "put prompts into the model's chat template");
  app.add_option("--adapter", generate.adapter, "answer with this adapter")
      ->type_name("[NAME=]DIR");
  app.add_flag("--no-adapter", generate.noAdapter, "answer with the base");
}

void addMachine(CLI::App &app, RunOptions &options) {
  static const std::map<std::string, DType> types = {
      {"f32", DType::f32}, {"bf16", DType::bf16}, {"f16", DType::f16}};
  app.add_option("--save-dtype", options.saveDType,
                 "f32, bf16 or f16, for a plan of --train all (default: as "
                 "the source)")
      ->type_name("TYPE")
      ->transform(oneOf(types));
  app.add_flag_callback(
      "--no-cache", [&options] { options.cache = false; },
      "keep nothing of what is quantized on load");
  app.add_flag("--verify", options.verify,
               "quantize again and compare before the cache is used");
  app.add_option("--save-quantized", options.saveQuantized,
                 "write the model as the plan quantizes it, for transformers "
                 "and bitsandbytes, and stop")
      ->type_name("DIR");
  app.add_option("--seed", options.seed,
                 "of the order of rows, dropout and initial values")
      ->check(notNegative())
      ->capture_default_str();
  app.add_option("--schedule-seed", options.scheduleSeed,
                 "run launches in another legal order; changes no result")
      ->check(notNegative());
  static const std::map<std::string, bool> modes = {{"shuffle", false},
                                                    {"interleave", true}};
  app.add_option("--schedule-mode", options.scheduleInterleave,
                 "shuffle (default), or interleave: streams only")
      ->type_name("NAME")
      ->transform(oneOf(modes));
  app.add_option("--device", options.device,
                 "auto, cpu, cuda or cuda:N")
      ->capture_default_str();
  app.add_option("--threads", options.threads,
                 "(default: all this process may use, at most the plan's)")
      ->check(CLI::Range(1u, 65536u).description(""));
  app.add_flag("--check", options.check,
               "run one step on zeros and compare memory with the plan");
  app.add_flag("--profile", options.profile,
               "after training, show the time by kernel");
  app.add_option("--trace", options.trace,
                 "at the end, run one micro-batch and update more and write "
                 "when each launch ran, for Perfetto")
      ->type_name("FILE");
  app.add_flag("--calibrate", options.calibrate,
               "measure the device and write its description to -o FILE.json, "
               "at the shapes of PLAN if there is one");
  app.add_flag("--tune", options.tune,
               "measure what the card's libraries offer for PLAN and write the "
               "choices to -o FILE.json");
  app.add_option("--tuned", options.tuned,
                 "use the choices that --tune wrote for this card")
      ->type_name("FILE");
  static const std::map<std::string, AttentionMode> attentions = {
      {"planned", AttentionMode::planned},
      {"own", AttentionMode::own},
      {"fast", AttentionMode::fast}};
  app.add_option("--attention", options.attention,
                 "on a card: planned (default), own: no library, or fast: a "
                 "library wherever it can, bits may differ from run to run")
      ->type_name("NAME")
      ->transform(oneOf(attentions));
  app.add_flag("--quiet", options.quiet, "only errors and answers");
  app.add_flag("--json", options.json, "a JSON summary on standard output");
}
/// A flag that would do nothing here is a mistake of whoever gave it.
Status refuseIdle(const CLI::App &app) {
  struct Need {
    const char *flag, *other, *why;
  };
  static const Need needs[] = {
      {"--steps", "--data", "it is for training"},
      {"--epochs", "--data", "it is for training"},
      {"--grad-accum", "--data", "it is for training"},
      {"--lr", "--data", "it is for training"},
      {"--schedule", "--data", "it is for training"},
      {"--warmup-steps", "--data", "it is for training"},
      {"--weight-decay", "--data", "it is for training"},
      {"--decay-all", "--data", "it is for training"},
      {"--beta1", "--data", "it is for training"},
      {"--beta2", "--data", "it is for training"},
      {"--epsilon", "--data", "it is for training"},
      {"--max-grad-norm", "--data", "it is for training"},
      {"--no-shuffle", "--data", "it is for training"},
      {"--save-dtype", "--data", "it is for training"},
      {"--schedule-mode", "--schedule-seed", "it says what the seed orders"}};
  for (const Need &need : needs)
    if (app.count(need.flag) && !app.count(need.other))
      return usageError(std::string(need.flag) + " needs " + need.other + ": " +
                        need.why);
  if (app.count("--log-probs") && !app.count("--answers"))
    return usageError("--log-probs needs --answers FILE: it is written there");
  if (app.count("--max-new-tokens") && !app.count("--generate") &&
      !app.count("--prompts"))
    return usageError("--max-new-tokens needs --generate or --prompts");
  return {};
}
} // namespace

Expected<CommandLine> parseCommandLine(int argc, char **argv) {
  CommandLine line;
  CLI::App app("Executes a training plan: trains, evaluates and answers.",
               "peft-run");
  app.set_version_flag("--version", std::string("peft-run ") + runtimeVersion);
  app.footer(examples);
  app.get_formatter()->column_width(34);
  app.get_formatter()->label("OPTIONS", "FLAGS");
  addFiles(app, line.options);
  addTraining(app, line.options.train);
  addGeneration(app, line.options.generate);
  addMachine(app, line.options);
  PEFT_TRY(refuseLater(argc, argv));
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp &) {
    line.text = app.help();
  } catch (const CLI::CallForVersion &version) {
    line.text = std::string(version.what()) + "\n";
  } catch (const CLI::ParseError &error) {
    return usageError(std::string(error.what()) +
                      "; peft-run --help shows all flags");
  }
  if (!line.text)
    PEFT_TRY(refuseIdle(app));
  return line;
}
