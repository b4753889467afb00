//===- Flags.cpp - peftc's command line -----------------------------------===//
#include "Flags.h"

#include "peftc/Target.h"
#include "peftc/Version.h"

#include <CLI/CLI.hpp>

using namespace peft;

namespace {

constexpr const char *examples = R"(Examples:
  peftc import SmolLM2-135M-Instruct -o model.mlir
  peftc compile model.mlir --lora-rank 16 --batch 4 --seq 256 -o step.plan
  peftc explain step.plan --peak
  peftc estimate config.json --lora-rank 16 --batch 1 --seq 2048
  peftc merge SmolLM2-135M-Instruct --adapter out -o merged

Exit codes: 0, 64 usage, 65 bad input, 70 a bug of ours, 71 does not fit,
74 I/O.)";

constexpr const char *importExamples = R"(Examples:
  peftc import SmolLM2-135M-Instruct -o model.mlir
  peftc import Qwen/Qwen3-0.6B            # from the local hub cache
  peftc import config.json | less         # no weights needed)";

constexpr const char *compileExamples = R"(Examples:
  peftc compile model.mlir --lora-rank 16 -o step.plan
  peftc compile SmolLM2-135M-Instruct --batch 4 --seq 256 \
    --lora-targets q_proj,v_proj --lora-alpha 32 --lora-dropout 0.05
  peftc compile DIR --lora-targets 're:.*\.mlp\..*' --rslora
  peftc compile DIR --lora-targets '*.layers.0.*_proj'
  peftc compile DIR --adapter adapter_config.json --compute f32
  peftc compile DIR --base nf4 --double-quant --recompute layers
  peftc compile DIR --target h200 --batch 2 --seq 2048
  peftc compile DIR --train all)";

constexpr const char *estimateExamples = R"(Examples:
  peftc estimate config.json --lora-rank 16 --seq 4096
  peftc estimate config.json --target rtx4090 --batch 2   # does it fit?
  peftc estimate DIR --train all --json)";

constexpr const char *explainExamples = R"(Examples:
  peftc explain step.plan                 # bytes by class
  peftc explain step.plan --peak          # what is live at the worst moment
  peftc explain step.plan --why model.layers.0.mlp.up_proj
  peftc explain step.plan --dtypes
  peftc explain step.plan --text > step.plan.mlir)";

constexpr const char *assembleExamples = R"(Examples:
  peftc explain step.plan --text > step.plan.mlir
  peftc assemble step.plan.mlir -o again.plan   # the same bytes)";

constexpr const char *mergeExamples = R"(Examples:
  peftc merge SmolLM2-135M-Instruct --adapter out -o merged
  peftc merge DIR --adapter out --type f32 -o merged
  peftc merge DIR --adapter out --untie -o merged   # an adapter on a tied head)";

constexpr const char *exportExamples = R"(Examples:
  peftc export --gguf out --model SmolLM2-135M-Instruct -o adapter.gguf
  llama-cli -m base.gguf --lora adapter.gguf)";

constexpr const char *adapterGroup = "ADAPTER";
constexpr const char *trainingGroup = "TRAINING OF THE ADAPTER";

void addAdapterFlags(CLI::App &app, CompileOptions &options) {
  AdapterFlags &lora = options.adapter;
  auto add = [&](const char *name, auto &value, const char *help) {
    return app.add_option(name, value, help)->group(adapterGroup);
  };
  add("--adapter", options.adapterFile,
      "a PEFT adapter_config.json, or the directory it is in, instead of the "
      "flags below")
      ->type_name("PATH");
  add("--lora-rank", lora.rank, "rank of A and B")
      ->check(CLI::Range(int64_t(1), int64_t(65536)))
      ->capture_default_str();
  add("--lora-alpha", lora.alpha, "scale is alpha/rank (twice the rank)");
  add("--lora-dropout", lora.dropout, "on the adapter's input")
      ->check(CLI::Range(0.0, 0.999))
      ->capture_default_str();
  add("--lora-targets", lora.targets,
      "names, a glob, or re:EXPRESSION over the module path")
      ->capture_default_str();
  add("--lora-exclude", lora.exclude, "as --lora-targets");
  add("--lora-layers", lora.layers, "layers with adapters: 0-15, or 0,2,4");
  app.add_flag("--rslora", lora.rsLora, "scale is alpha/sqrt(rank)")
      ->group(adapterGroup);
  app.add_flag("--dora", lora.dora,
               "DoRA: magnitudes of the output features train, too")
      ->group(adapterGroup);
  add("--lora-bias", lora.bias, "biases that train: none, all, lora_only")
      ->check(CLI::IsMember({"none", "all", "lora_only"}))
      ->capture_default_str();
  add("--lora-init", lora.init,
      "how A starts: kaiming, gaussian; A and B of the weights: pissa, "
      "pissa_niter_N (nearly pissa, in N iterations: much faster), olora")
      ->capture_default_str();
}

/// How an adapter trains: PEFT's config says nothing about it, so these go with
/// `--adapter` as well.
void addTrainingFlags(CLI::App &app, CompileOptions &options) {
  app.add_option("--lora-plus-ratio", options.loraPlusRatio,
                 "LoRA+: rate of B and of vectors over that of A (1)")
      ->check(CLI::Range(1e-3, 1e6))
      ->group(trainingGroup);
  app.add_flag("--lora-fa", options.loraFA,
               "LoRA-FA: A keeps its initial values, B trains")
      ->group(trainingGroup);
}

/// "a100, cpu, ..."
std::string targetList() {
  std::string list;
  for (const std::string &name : peftc::targetNames())
    list += (list.empty() ? "" : ", ") + name;
  return list;
}

void addQuantizeFlags(CLI::App &app, QuantizeFlags &quantize) {
  constexpr const char *group = "QUANTIZED BASE";
  app.add_flag("--double-quant", quantize.doubleQuant,
               "nf4, fp4: the scales are quantized, too")
      ->group(group);
  app.add_option("--quantize-block", quantize.block,
                 "nf4, fp4: weights that share a scale (64)")
      ->check(CLI::IsMember({32, 64, 128, 256, 512, 1024, 2048, 4096}))
      ->group(group);
  app.add_flag("--quantize-head", quantize.head,
               "the head and the embedding, too")
      ->group(group);
  app.add_option("--quantize-include", quantize.include,
                 "only these modules; as --lora-targets")
      ->group(group);
  app.add_option("--quantize-exclude", quantize.exclude,
                 "these modules stay as they are stored")
      ->group(group);
}

void addCompileFlags(CLI::App &app, CompileOptions &options) {
  app.add_option("MODEL", options.model,
                 "model directory, config.json, model.mlir, or org/name in "
                 "the local hub cache")
      ->required();
  if (!options.estimateOnly)
    app.add_option("-o,--output", options.output,
                   "the plan (input's name with .plan)");
  addAdapterFlags(app, options);
  addTrainingFlags(app, options);
  app.add_option_function<std::string>(
         "--train",
         [&options](const std::string &what) {
           options.trainAll = what == "all";
         },
         "lora: adapters; all: every parameter (lora)")
      ->check(CLI::IsMember({"lora", "all"}));
  app.add_option("--target", options.target,
                 "the machine that the plan is for: " + targetList() +
                     ", or a description FILE.json (cpu)")
      ->type_name("NAME|FILE")
      ->check(CLI::Validator(
          [](std::string &text) {
            return text.empty() ? "must not be empty" : std::string();
          },
          ""));
  app.add_option("--base", options.base,
                 "storage of frozen weights: stored, f32, bf16, f16 (stored; "
                 "on a card the compute type for those in matrix products); "
                 "nf4, fp4, int8: the linears of the layers as codes")
      ->check(CLI::IsMember(
          {"stored", "f32", "bf16", "f16", "nf4", "fp4", "int8"}));
  addQuantizeFlags(app, options.quantize);
  app.add_option("--compute", options.compute,
                 "compute type: bf16, f16, f32 (bf16; f16 on a target without "
                 "it)")
      ->check(CLI::IsMember({"bf16", "f16", "f32"}));
  app.add_option("--batch", options.batch, "rows of one micro-batch")
      ->check(CLI::Range(int64_t(1), int64_t(1) << 20))
      ->capture_default_str();
  app.add_option("--seq", options.seq, "tokens of a row")
      ->check(CLI::Range(int64_t(1), int64_t(1) << 24))
      ->capture_default_str();
  app.add_option_function<std::string>(
         "--group-down-projections",
         [&options](const std::string &what) {
           options.groupDownProjections = what == "on";
         },
         "q, k, v (and gate, up) through their A in one launch: on, off (on)")
      ->check(CLI::IsMember({"on", "off"}));
  app.add_option("--recompute", options.recompute,
                 "activations that are not kept: none, or layers: those inside "
                 "a layer are computed again from its input")
      ->check(CLI::IsMember({"none", "layers"}))
      ->capture_default_str();
  app.add_option("--optimizer", options.optimizer,
                 "adamw, or adamw8bit: moments in a byte each")
      ->check(CLI::IsMember({"adamw", "adamw8bit"}))
      ->capture_default_str();
  app.add_option("--max-threads", options.maxThreads,
                 "most threads that peft-run may use with the plan")
      ->check(CLI::Range(int64_t(1), int64_t(1024)))
      ->capture_default_str();
  app.add_flag("--timing", options.timing,
               "time of each stage, on standard error");
  app.add_flag("--quiet", options.quiet, "print errors only");
  app.add_flag("--json", options.json, "print one JSON object");
}

void addExplainFlags(CLI::App &app, ExplainOptions &options) {
  app.add_option("PLAN", options.plan, "what peftc compile wrote")->required();
  app.add_flag("--peak", options.peak,
               "what is live when most bytes are, by module");
  app.add_option("--why", options.why,
                 "a buffer or module: its bytes, lifetime and users")
      ->type_name("NAME");
  app.add_flag("--dtypes", options.dtypes, "what every tensor is stored and computed in, and every "
               "conversion");
  app.add_flag("--text", options.text, "the whole plan in the plan dialect");
  app.add_flag("--json", options.json, "print one JSON object");
}

void addMergeFlags(CLI::App &app, MergeModelOptions &options) {
  app.add_option("MODEL", options.model,
                 "model directory, or org/name in the local hub cache")
      ->required();
  app.add_option("--adapter", options.adapter, "PEFT adapter")
      ->required()
      ->type_name("DIR");
  app.add_option("-o,--output", options.output,
                 "the merged model: a directory that is absent or empty")
      ->required()
      ->type_name("DIR");
  app.add_option("--type", options.dtype,
                 "of the weights: stored (as the model has each), bf16, f16, "
                 "f32")
      ->check(CLI::IsMember({"stored", "bf16", "f16", "f32"}))
      ->capture_default_str();
  app.add_option("--compare", options.compare,
                 "another form of the model, such as the original of a "
                 "quantized one: say how far merging onto it would be from "
                 "model and adapter")
      ->type_name("DIR");
  app.add_flag("--untie", options.untie,
               "store embedding and head apart where the adapter changes one");
  app.add_option("--shard-size", options.shardBytes,
                 "most bytes of one file (5GB)")
      ->transform(CLI::AsSizeValue(true))
      ->type_name("SIZE");
  app.add_flag("--quiet", options.quiet, "print errors only");
  app.add_flag("--json", options.json, "print one JSON object");
}

void addExportFlags(CLI::App &app, ExportOptions &options) {
  app.add_option("--gguf", options.adapter,
                 "PEFT adapter to write as llama.cpp's")
      ->required()
      ->type_name("DIR");
  app.add_option("--model", options.model, "the adapter's base model")
      ->required()
      ->type_name("DIR");
  app.add_option("-o,--output", options.output, "the GGUF file")
      ->required()
      ->type_name("FILE");
  app.add_flag("--quiet", options.quiet, "print errors only");
}

/// The subcommands and where their flags go.
struct Parser {
  CLI::App app{"Compiles the training step of a language model into a plan.",
               "peftc"};
  ImportOptions import;
  CompileOptions compile, estimate;
  ExplainOptions explain;
  AssembleOptions assemble;
  MergeModelOptions merge;
  ExportOptions exporting;

  CLI::App *add(const char *name, const char *what, const char *footer) {
    CLI::App *command = app.add_subcommand(name, what);
    command->footer(footer);
    command->set_version_flag("--version", versionText());
    command->get_formatter()->column_width(34);
    return command;
  }
  static std::string versionText() {
    return std::string("peftc ") + peftc::compilerVersion;
  }
  Parser() {
    app.set_version_flag("--version", versionText());
    app.footer(examples);
    app.require_subcommand(1);
    CLI::App *command =
        add("import", "a Hugging Face model as MLIR", importExamples);
    command
        ->add_option("MODEL", import.model,
                     "directory, config.json, or "
                     "org/name")
        ->required();
    command->add_option("-o,--output", import.output, "file (standard output)");
    command->add_flag("--quiet", import.quiet, "print errors only");
    addCompileFlags(*add("compile", "a model as a plan", compileExamples),
                    compile);
    estimate.estimateOnly = true;
    addCompileFlags(*add("estimate", "memory and work of a step, no file",
                         estimateExamples),
                    estimate);
    addExplainFlags(
        *add("explain", "where the bytes of a plan go", explainExamples),
        explain);
    command = add("assemble", "a plan from its text form", assembleExamples);
    command->add_option("TEXT", assemble.text, "what explain --text printed")
        ->required();
    command->add_option("-o,--output", assemble.output, "the plan")->required();
    command->add_flag("--quiet", assemble.quiet, "print errors only");
    addMergeFlags(
        *add("merge", "a model and an adapter as one model", mergeExamples),
        merge);
    addExportFlags(
        *add("export", "an adapter for llama.cpp", exportExamples), exporting);
  }

  /// With `--train all` there is no adapter to describe, and with `--adapter`
  /// the file describes it.
  static Status checkAdapter(const CLI::App &command,
                             const CompileOptions &options) {
    for (const CLI::Option *option : command.get_options()) {
      bool describes = option->get_group() == adapterGroup;
      if (!option->count() ||
          (!describes && option->get_group() != trainingGroup))
        continue;
      if (options.trainAll)
        return usageError("--train all excludes " + option->get_name() +
                          ": every parameter trains, there is no adapter");
      if (describes && !options.adapterFile.empty() && option->get_name() != "--adapter")
        return usageError("--adapter excludes " + option->get_name() +
                          ": the file says what the adapter is");
    }
    return {};
  }

  CommandLine result() const {
    if (app.got_subcommand("import"))
      return import;
    if (app.got_subcommand("compile"))
      return compile;
    if (app.got_subcommand("estimate"))
      return estimate;
    if (app.got_subcommand("explain"))
      return explain;
    if (app.got_subcommand("merge"))
      return merge;
    if (app.got_subcommand("export"))
      return exporting;
    return assemble;
  }
};

} // namespace

Expected<CommandLine> parseCommandLine(int argc, char **argv) {
  PEFT_TRY(refuseLater(argc, argv));
  Parser parser;
  try {
    parser.app.parse(argc, argv);
  } catch (const CLI::CallForHelp &) {
    return CommandLine(parser.app.help());
  } catch (const CLI::CallForVersion &version) {
    return CommandLine(std::string(version.what()) + "\n");
  } catch (const CLI::ParseError &error) {
    return usageError(std::string(error.what()) +
                      "; peftc --help shows the commands");
  }
  PEFT_TRY(Parser::checkAdapter(*parser.app.get_subcommand("compile"),
                                parser.compile));
  PEFT_TRY(Parser::checkAdapter(*parser.app.get_subcommand("estimate"),
                                parser.estimate));
  return parser.result();
}
