//===- Session.cpp - what peft-run does -----------------------------------===//
#include "peft/Session.h"

#include "AdapterFiles.h"
#include "Calibration.h"
#include "CheckPlan.h"
#include "Console.h"
#include "DataFeed.h"
#include "Generator.h"
#include "ModelFiles.h"
#include "OutputGuard.h"
#include "PeftData.h"
#include "Report.h"
#include "SaveQuantized.h"
#include "SelfCheck.h"
#include "Sha256.h"
#include "StartFactors.h"
#include "Trace.h"
#include "Trainer.h"
#include "peft/AdapterConfig.h"
#include "peft/DirectoryLock.h"
#include "peft/File.h"
#include "peft/Json.h"

#include <memory>
#include <optional>
#include <unistd.h>

using namespace peft;

namespace {
/// Biases and norm weights decay, too.
Status decayEverything(Plan &plan) {
  for (Entry &entry : plan.entries)
    for (Item &item : entry.items)
      if (auto *launch = std::get_if<Launch>(&item.action);
          launch && launch->kernel.starts_with("adamw")) {
        std::erase_if(launch->attributes,
                      [](const Attribute &a) { return a.name == "decay"; });
        launch->attributes.push_back({"decay", int64_t(1)});
      }
  for (Parameter &parameter : plan.parameters)
    parameter.decay = true;
  return verifyPlan(plan);
}

/// One run: what is opened, in the order of opening.
class Session {
public:
  Session(const RunOptions &options, const DeviceFactory &makeDevice)
      : options(options), makeDevice(makeDevice),
        console(options.json ? STDERR_FILENO : STDOUT_FILENO, options.quiet) {}

  Status run();

private:
  Expected<TokenFile> openData(const std::string &path, const Plan &plan);
  Expected<Plan> openPlan();
  Expected<BoundWeights> bind(const Plan &plan);
  Status prepare();
  Status quantizeOnly();
  Status readTuning(DeviceOptions &wanted);
  Status chooseAdapter();
  Status startFromWeights();
  Status train();
  Status save();
  Status measure();
  Status tune();
  Status printSummary();
  void printSchedule();
  void noteReplacement();

  const RunOptions &options;
  const DeviceFactory &makeDevice;
  Console console;
  ModelDirectory model;
  std::optional<TokenFile> data, evalData;
  Questions questions;
  std::string deviceNote;
  std::string tunedHash; ///< of the file of --tuned
  std::unique_ptr<Executor> executor;
  DirectoryLock outputLock; ///< of a run that trains
  std::optional<TrainSummary> trained;
  StepTimes stepTimes;
  std::optional<EvalSummary> evaluated;
  std::optional<Profile> profile;
};
} // namespace

Expected<TokenFile> Session::openData(const std::string &path,
                                      const Plan &plan) {
  std::string tokens = path;
  if (path.ends_with(".jsonl") || path.ends_with(".json")) {
    if (!isFile(path))
      return ioError("cannot read " + path + ": no such file");
    PEFT_ASSIGN(tokens, tokenizeFile(path, model, plan.seq));
  } else if (!path.ends_with(".safetensors") && isFile(path)) {
    return badInput(path + ": the ending says neither .jsonl (text, prompts, "
                           "chats: one JSON object a line) nor .safetensors "
                           "(tokens); docs/Data.md describes both");
  }
  PEFT_ASSIGN(TokenFile opened, openTokens(tokens, plan.vocab, plan.seq));
  if (!opened.ignored().empty())
    console.print("note", path + ": not used: " + opened.ignored());
  return opened;
}

/// Opens the plan and the model that it is for.
Expected<Plan> Session::openPlan() {
  PEFT_ASSIGN(Plan plan, loadPlan(options.plan));
  PEFT_TRY(checkTrainingPlan(plan).in(options.plan));
  PEFT_ASSIGN(model, openModel(options.model));
  if (!model.hasWeights())
    return badInput(options.model + " has no weights; --model must be the "
                                    "directory that the plan was compiled for");
  return plan;
}

Expected<BoundWeights> Session::bind(const Plan &plan) {
  if (!options.cache || options.verify) {
    PEFT_ASSIGN(const auto quantized, weightsToQuantize(plan, model));
    if (quantized.empty())
      return usageError(std::string(options.verify ? "--verify" : "--no-cache") +
                        " is for weights that are quantized on load; this plan "
                        "takes all as " +
                        options.model + " has them");
  }
  QuantizeProgress progress(console, options.model);
  BindOptions how;
  how.cache = options.cache;
  how.verify = options.verify;
  how.threads = options.threads;
  how.progress = [&](uint64_t done, uint64_t all) { progress(done, all); };
  how.note = [&](const std::string &name, const std::string &text) {
    console.print(name, text);
  };
  return bindWeights(plan, options.model, how);
}

/// --save-quantized: no device, no data.
Status Session::quantizeOnly() {
  PEFT_ASSIGN(const Plan plan, openPlan());
  PEFT_TRY(checkSameModel(plan, model));
  PEFT_TRY(checkOutputs(options, plan, model));
  return saveQuantized(plan, model, options, console);
}

/// Everything that can be wrong with the input is found here, before memory is
/// reserved and before anything is written.
Status Session::prepare() {
  PEFT_ASSIGN(Plan plan, openPlan());
  if (uint64_t(plan.batch) * options.train.gradAccum > INT32_MAX)
    return usageError("--grad-accum " +
                      std::to_string(options.train.gradAccum) + " with " +
                      std::to_string(plan.batch) +
                      " rows each: a step has more rows than fit 31 bits");
  if (options.saveDType && !plan.adapterConfig.empty())
    return usageError("--save-dtype is for plans of --train all; adapters are "
                      "saved in f32");
  if (options.train.decayAll)
    PEFT_TRY(decayEverything(plan));
  PEFT_TRY(checkOutputs(options, plan, model));
  if (!options.data.empty()) {
    PEFT_ASSIGN(data, openData(options.data, plan));
  }
  if (!options.evalData.empty()) {
    PEFT_ASSIGN(evalData, openData(options.evalData, plan));
  }
  PEFT_ASSIGN(BoundWeights weights, bind(plan));
  PEFT_TRY(checkSameModel(plan, model));
  DeviceOptions wanted;
  wanted.threads = options.threads;
  wanted.scheduleSeed = options.scheduleSeed;
  wanted.scheduleMode = options.scheduleInterleave ? ScheduleMode::interleave
                                                   : ScheduleMode::shuffle;
  wanted.attention = options.attention;
  PEFT_TRY(readTuning(wanted));
  // There is nothing to measure on the CPU.
  const bool needsCard = options.tune && options.device == "auto";
  PEFT_ASSIGN(ChosenDevice chosen,
              makeDevice(needsCard ? "cuda" : options.device, plan, wanted));
  deviceNote = chosen.note;
  PEFT_ASSIGN(executor, Executor::create(std::move(plan), std::move(weights),
                                         std::move(chosen.device),
                                         {.seed = options.seed}));
  PEFT_TRY(chooseAdapter());
  if (options.generate.any()) {
    PEFT_ASSIGN(questions,
                readQuestions(executor->plan(), model, options.generate));
  }
  return {};
}

Status Session::readTuning(DeviceOptions &wanted) {
  if (options.tuned.empty())
    return {};
  PEFT_ASSIGN(std::string text, readFile(options.tuned, 64 << 20));
  PEFT_ASSIGN(Tuning tuning, parseTuning(text, options.tuned));
  wanted.tuning = std::make_shared<const Tuning>(std::move(tuning));
  Sha256 hash;
  hash.add(text);
  tunedHash = hash.finish();
  return {};
}

Status Session::chooseAdapter() {
  if (!options.initAdapter.empty())
    return loadAdapter(*executor, options.initAdapter).in("--init-adapter");
  if (data)
    return {};
  const GenerateOptions &generate = options.generate;
  if (generate.noAdapter)
    return clearAdapter(*executor);
  // NAME=DIR as well as DIR: a plan has one adapter in this version.
  std::string directory = generate.adapter;
  if (size_t at = directory.find('=');
      at != std::string::npos && !isDirectory(directory))
    directory.erase(0, at + 1);
  if (!directory.empty())
    return loadAdapter(*executor, directory).in("--adapter");
  bool asks = generate.any() || evalData;
  if (asks && !data && !executor->plan().adapterConfig.empty())
    return usageError("whose answers? give --adapter DIR, or --no-adapter for "
                      "the base model, or --data FILE to train first");
  return {};
}

/// Where the adapter starts as a function of the weights, that is made first:
/// it takes long, and it is written to the output, which has to be ours.
Status Session::startFromWeights() {
  const Plan &plan = executor->plan();
  if (plan.adapterConfig.empty() || !options.initAdapter.empty())
    return {};
  PEFT_ASSIGN(AdapterConfig config,
              parseAdapterConfig(plan.adapterConfig, "the plan's adapter"));
  if (!peft::startsFromWeights(config.init))
    return {};
  std::string directory = joinPath(options.output, "start");
  PEFT_TRY(makeStart(plan, config, model, directory, console));
  console.print("start", directory + ": what the adapter starts from; "
                                     "--init-adapter takes it again");
  return loadAdapter(*executor, directory);
}

void Session::printSchedule() {
  if (!options.scheduleSeed)
    return;
  for (const Entry &entry : executor->plan().entries) {
    ScheduleReport report =
        executor->device().schedule(executor->plan().findEntry(entry.name));
    console.print("schedule", entry.name + ": " + std::to_string(report.moved) +
                                  " of " + std::to_string(report.launches) +
                                  " launches moved");
  }
}

/// Until training ends the directory holds the earlier result beside the new
/// metrics; whoever stops the run should know.
void Session::noteReplacement() {
  const char *result = executor->plan().adapterConfig.empty()
                           ? "config.json"
                           : "adapter_config.json";
  if (isFile(joinPath(options.output, result)))
    console.print("note", options.output +
                              " holds the result of an earlier run: its "
                              "metrics are replaced now, the rest when this "
                              "run ends");
}

Status Session::train() {
  DataFeed feed(*data, options.train, options.seed, executor->plan().batch);
  if (feed.steps() > INT32_MAX - 1)
    return usageError("--epochs asks for " + std::to_string(feed.steps()) +
                      " steps, more than fit 31 bits");
  printRow(console, *data, feed.rowsOf(0, 0).front(), model);
  PEFT_TRY(createDirectory(options.output));
  PEFT_ASSIGN(outputLock, DirectoryLock::take(options.output));
  noteReplacement();
  if (Status made = startFromWeights(); !made.ok()) {
    ::rmdir(options.output.c_str()); // unless something is in it
    return made;
  }
  MetricsFile metrics;
  std::string path = joinPath(options.output, "metrics.jsonl");
  PEFT_TRY(metrics.open(path));
  PEFT_TRY(metrics.writeChoices(name(options.attention), tunedHash));
  Trainer trainer(*executor, options, model, feed, metrics, console);
  auto result = trainer.run();
  if (!result.ok()) {
    // An empty file says nothing; lines of finished steps do. The directory
    // goes only if nothing else is in it.
    if (auto size = fileSize(path); size.ok() && *size == 0) {
      ::unlink(path.c_str());
      ::rmdir(options.output.c_str());
    }
    return result.status();
  }
  trained = *result;
  if (uint64_t empty = trained->skipped - trained->overflowed)
    console.print("note",
                  std::to_string(empty) +
                      " steps had no trained token and changed nothing");
  if (trained->overflowed)
    console.print("note", std::to_string(trained->overflowed) +
                              " steps overflowed in f16 and were skipped");
  if (evalData) {
    PEFT_ASSIGN(evaluated, evaluate(*executor, *evalData, model));
    PEFT_TRY(metrics.writeEvaluation(trained->steps, evaluated->loss,
                                     evaluated->tokens));
  }
  stepTimes = trainer.stepTimes();
  return save();
}

/// Runs launches once more, which changes what was trained: all that is to be
/// written or answered is done before.
Status Session::measure() {
  if (options.profile) {
    PEFT_ASSIGN(profile, profileSteps(*executor, stepTimes,
                                      options.train.gradAccum, console));
  }
  if (options.trace.empty())
    return {};
  PEFT_TRY(writeTrace(*executor, options.trace).in("--trace"));
  console.print("wrote", options.trace + ": the times of one step's launches");
  return {};
}

/// The candidates run on what a micro-batch leaves behind, so that the numbers
/// are of the size that they have in training.
Status Session::tune() {
  PEFT_TRY(executor->run("micro_step"));
  PEFT_ASSIGN(Tuning tuning, executor->device().tune());
  PEFT_TRY(writeFileAtomically(options.output, formatTuning(tuning)));
  double first = 0, best = 0;
  for (const TunedProduct &product : tuning.products) {
    first += product.firstSeconds;
    best += product.seconds;
  }
  Line line;
  line << tuning.products.size() << " shapes, each once: ";
  line.fixed(1e6 * first, 1) << " us untuned, ";
  line.fixed(1e6 * best, 1) << " us tuned";
  console.print("products", line.view());
  for (const TunedAttention &attention : tuning.attentions) {
    line.clear();
    line << (attention.backward ? "backward, " : "forward, ")
         << attention.batch << " x " << attention.seq << " tokens: ";
    line.fixed(1e6 * attention.ownSeconds, 1) << " us by our own kernel, ";
    line.fixed(1e6 * attention.librarySeconds, 1)
        << " us by " << tuning.attentionLibrary;
    console.print("attention", line.view());
  }
  console.print("wrote", options.output + ": peft-run --tuned " +
                             options.output);
  return {};
}

Status Session::save() {
  if (executor->plan().adapterConfig.empty()) {
    PEFT_TRY(writeModel(*executor, model, options.output,
                        {.dtype = options.saveDType}));
    console.print("wrote", options.output + ": the trained model");
    return {};
  }
  PEFT_TRY(writeAdapter(*executor, options.output, options.model));
  console.print("wrote", options.output + ": a PEFT adapter");
  return {};
}

Status Session::printSummary() {
  MemoryUse memory = executor->device().memoryUse();
  std::string text = "{\"plan\": " + quoteJson(options.plan);
  Line line;
  if (trained)
    line << ", \"steps\": " << trained->steps
         << ", \"skipped\": " << trained->skipped
         << ", \"first_loss\": " << trained->firstLoss
         << ", \"last_loss\": " << trained->lastLoss
         << ", \"tokens\": " << trained->tokens << ", \"tokens_per_second\": "
         << static_cast<double>(trained->present) / trained->seconds
         << ", \"seconds\": " << trained->seconds;
  if (trained && trained->lossScale)
    line << ", \"overflowed\": " << trained->overflowed
         << ", \"loss_scale\": " << static_cast<double>(*trained->lossScale);
  text += line.view();
  line.clear();
  if (evaluated)
    line << ", \"eval_loss\": " << evaluated->loss
         << ", \"eval_tokens\": " << evaluated->tokens;
  if (profile)
    line << ", \"step_seconds\": " << profile->stepSeconds
         << ", \"core_seconds\": " << profile->coreSeconds;
  line << ", \"arena_bytes\": " << memory.arenaBytes
       << ", \"host_scratch_bytes\": " << memory.scratchBytes
       << ", \"high_water_bytes\": " << usedBytes(memory)
       << ", \"mapped_bytes\": " << mappedBytes(*executor)
       << ", \"peak_resident_bytes\": " << peakResidentBytes()
       << ", \"threads\": " << executor->device().threads();
  text += line.view();
  if (options.attention != AttentionMode::planned)
    text += ", \"attention\": " + quoteJson(name(options.attention));
  if (!tunedHash.empty())
    text += ", \"tuned_sha256\": " + quoteJson(tunedHash);
  if (options.scheduleSeed) {
    ScheduleReport report;
    for (uint32_t i = 0; i < executor->plan().entries.size(); ++i) {
      ScheduleReport part = executor->device().schedule(i);
      report.launches += part.launches;
      report.moved += part.moved;
    }
    text += ", \"launches\": " + std::to_string(report.launches) +
            ", \"launches_moved\": " + std::to_string(report.moved);
  }
  if (!options.output.empty())
    text += ", \"output\": " + quoteJson(options.output);
  text += "}\n";
  return writeAll(STDOUT_FILENO, text)
             ? Status()
             : ioError("cannot write to standard output");
}

Status Session::run() {
  if (!options.saveQuantized.empty())
    return quantizeOnly();
  PEFT_TRY(prepare());
  printPlan(console, *executor, deviceNote);
  printSchedule();
  if (options.tune)
    return tune();
  if (options.check)
    PEFT_TRY(checkMemory(*executor, console));
  if (data)
    PEFT_TRY(train());
  else if (evalData) {
    PEFT_ASSIGN(evaluated, evaluate(*executor, *evalData, model));
  }
  if (evaluated) {
    Line line;
    line.fixed(evaluated->loss, 4)
        << " over " << evaluated->tokens << " tokens";
    console.print("eval loss", line.view());
  }
  if (options.generate.any())
    PEFT_TRY(answer(*executor, model, questions, options.generate, console));
  PEFT_TRY(measure());
  return options.json ? printSummary() : Status();
}

Status peft::runSession(const RunOptions &options,
                        const DeviceFactory &makeDevice) {
  PEFT_TRY(checkOptions(options));
  if (options.calibrate) {
    Console console(STDOUT_FILENO, options.quiet);
    return calibrate(options, makeDevice, console);
  }
  return Session(options, makeDevice).run();
}
