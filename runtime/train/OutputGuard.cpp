//===- OutputGuard.cpp - no output over an input --------------------------===//
#include "OutputGuard.h"

#include "peft/File.h"
#include "peft/ModelWriter.h"

#include <filesystem>
#include <vector>

namespace fs = std::filesystem;
using namespace peft;

namespace {

/// A path and the flag that gave it.
struct Named {
  std::string flag, path;
};

bool sameFile(const std::string &a, const std::string &b) {
  std::error_code ignored;
  if (fs::equivalent(a, b, ignored))
    return true;
  // Neither may exist yet.
  return fs::weakly_canonical(a, ignored) == fs::weakly_canonical(b, ignored);
}

/// Whether `path` lies in `directory`, at any depth.
bool isInside(const std::string &path, const std::string &directory) {
  std::error_code ignored;
  fs::path inner = fs::weakly_canonical(path, ignored);
  fs::path outer = fs::weakly_canonical(directory, ignored);
  for (fs::path at = inner; at.has_relative_path(); at = at.parent_path())
    if (at == outer)
      return true;
  return false;
}

void add(std::vector<Named> &list, const char *flag, const std::string &path) {
  if (!path.empty())
    list.push_back({flag, path});
}

Status checkFiles(const RunOptions &options, const ModelDirectory &model) {
  std::vector<Named> inputs, directories, outputs;
  add(inputs, "the plan", options.plan);
  add(inputs, "--data", options.data);
  add(inputs, "--eval-data", options.evalData);
  add(inputs, "--prompts", options.generate.promptFile);
  add(inputs, "--tuned", options.tuned);
  add(directories, "--model", model.directory);
  add(directories, "--init-adapter", options.initAdapter);
  add(directories, "--adapter", options.generate.adapter);
  add(outputs, "--dump-gradients", options.dumpGradients);
  add(outputs, "--answers", options.generate.answerFile);
  add(outputs, "--trace", options.trace);
  if (options.tune)
    add(outputs, "-o", options.output);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Named &output = outputs[i];
    // Devices and pipes may be given twice.
    if (!isFile(output.path) && fs::exists(output.path))
      continue;
    std::string what = output.flag + " " + output.path;
    for (const Named &input : inputs)
      if (sameFile(output.path, input.path))
        return usageError(what + " is an input of this run (" + input.flag +
                          ") and would be overwritten; name another file");
    for (const Named &directory : directories)
      if (isInside(output.path, directory.path))
        return usageError(what + " lies in " + directory.path + " (" +
                          directory.flag +
                          "), which is never written; name another place");
    for (size_t j = 0; j < i; ++j)
      if (sameFile(output.path, outputs[j].path))
        return usageError(what + " is also the file of " + outputs[j].flag +
                          "; name two files");
    if (!options.output.empty() && !options.tune &&
        sameFile(parentPath(output.path), options.output))
      for (const char *own : {"adapter_model.safetensors", "config.json",
                              "adapter_config.json", "metrics.jsonl",
                              "model.safetensors"})
        if (fileName(output.path) == own)
          return usageError(what + " is a file that the run itself writes; "
                                   "name another one");
  }
  return {};
}

} // namespace

Status peft::checkOutputs(const RunOptions &options, const Plan &plan,
                          const ModelDirectory &model) {
  PEFT_TRY(checkFiles(options, model));
  if (const std::string &saved = options.saveQuantized; !saved.empty()) {
    if (sameFile(saved, model.directory) || isInside(saved, model.directory))
      return usageError("--save-quantized " + saved + " lies in " +
                        model.directory +
                        " (--model), which is never written; name another "
                        "place");
    PEFT_TRY(checkNewDirectory(saved));
  }
  if (options.output.empty() || options.tune)
    return {};
  if (sameFile(options.output, model.directory))
    return usageError("-o " + options.output +
                      " is the model's own directory, which is never "
                      "written; name another one");
  auto holds = [&](const char *name) {
    return isFile(joinPath(options.output, name));
  };
  if (plan.adapterConfig.empty() && holds("adapter_config.json"))
    return usageError("-o " + options.output +
                      " holds an adapter, which transformers would load on top "
                      "of the trained model; name another directory");
  if (!plan.adapterConfig.empty() &&
      (holds("model.safetensors") || holds("model.safetensors.index.json")))
    return usageError("-o " + options.output +
                      " holds a whole model, on top of which transformers "
                      "would load the adapter; name another directory");
  return {};
}
