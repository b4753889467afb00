//===- HubCache.cpp - the local hub cache's layout ------------------------===//
//
// models--org--name/refs/main holds a commit; snapshots/<commit>/ holds links
// into blobs/, where a file that is still downloaded ends with .incomplete.
//
//===----------------------------------------------------------------------===//
#include "HubCache.h"
#include "peft/Environment.h"
#include "peft/File.h"
#include "peft/ModelDirectory.h"

#include <algorithm>
#include <cctype>

using namespace peft;

namespace {

/// `org/name` or `name`, made of the characters that the hub allows.
bool isHubName(std::string_view name) {
  if (name.empty() || name.front() == '.' || name.front() == '/' ||
      name.back() == '/' || std::count(name.begin(), name.end(), '/') > 1 ||
      name.find("..") != std::string_view::npos)
    return false;
  return std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '/';
  });
}

/// A commit becomes part of a path: it must not be able to leave its folder.
bool isPlainName(std::string_view name) {
  return !name.empty() && name.front() != '.' &&
         name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos;
}

/// The snapshot of models--org--name that `refs/main` names, or its only one.
Expected<std::string> currentSnapshot(const std::string &repository) {
  const std::string snapshots = joinPath(repository, "snapshots");
  const std::string reference = joinPath(repository, "refs/main");
  if (isFile(reference)) {
    PEFT_ASSIGN(std::string commit, readFile(reference, 4096));
    while (!commit.empty() &&
           std::isspace(static_cast<unsigned char>(commit.back())))
      commit.pop_back();
    if (!isPlainName(commit))
      return badInput(reference + ": does not hold the name of a snapshot");
    const std::string directory = joinPath(snapshots, commit);
    if (!isDirectory(directory))
      return badInput(directory +
                      ": the snapshot that refs/main names is not there; "
                      "the download is incomplete: download the model again");
    return directory;
  }
  std::vector<std::string> names;
  if (isDirectory(snapshots)) {
    PEFT_ASSIGN(names, listDirectory(snapshots));
  }
  if (names.size() != 1)
    return badInput(repository + ": has no refs/main and " +
                    std::to_string(names.size()) +
                    " snapshots; name one snapshot's directory");
  return joinPath(snapshots, names.front());
}

bool isRepositoryFolder(const std::string &path) {
  return isDirectory(joinPath(path, "snapshots")) &&
         !isFile(joinPath(path, "config.json"));
}

Expected<ResolvedModel> resolveFile(const std::string &path) {
  const std::string base = fileName(path);
  if (base.ends_with(".json") && !base.ends_with(".index.json"))
    return ResolvedModel{parentPath(path), path};
  if (base.ends_with(".gguf"))
    return badInput(path + ": is a GGUF file; turn it into a model directory "
                           "with `python3 -m peft_data.import_gguf`");
  return badInput(path + ": is neither a model directory nor a config.json; "
                         "name the directory that holds it");
}

} // namespace

std::string peft::hubCacheDirectory() {
  if (std::string path = environment("HF_HUB_CACHE"); !path.empty())
    return path;
  if (std::string path = environment("HF_HOME"); !path.empty())
    return joinPath(path, "hub");
  if (std::string path = environment("XDG_CACHE_HOME"); !path.empty())
    return joinPath(path, "huggingface/hub");
  return joinPath(environment("HOME"), ".cache/huggingface/hub");
}

Expected<ResolvedModel> peft::resolveModel(const std::string &name,
                                           const std::string &hubCache) {
  if (isDirectory(name)) {
    if (!isRepositoryFolder(name))
      return ResolvedModel{name, ""};
    PEFT_ASSIGN(std::string snapshot, currentSnapshot(name));
    return ResolvedModel{snapshot, ""};
  }
  if (isFile(name))
    return resolveFile(name);
  if (isBrokenLink(name))
    return badInput(name + ": is a link to something that does not exist");
  if (!isHubName(name))
    return badInput((name.empty() ? "\"\"" : name) +
                    ": no such directory or config.json");

  const std::string cache = hubCache.empty() ? hubCacheDirectory() : hubCache;
  std::string folder = "models--" + name;
  if (const size_t slash = folder.find('/'); slash != std::string::npos)
    folder.replace(slash, 1, "--");
  const std::string repository = joinPath(cache, folder);
  if (!isDirectory(repository))
    return badInput(name + ": no such directory, and the local hub cache " +
                    cache +
                    " does not have it either; nothing is downloaded here: "
                    "fetch it with `hf download " +
                    name + "` first");
  PEFT_ASSIGN(std::string snapshot, currentSnapshot(repository));
  return ResolvedModel{snapshot, ""};
}

std::string peft::interruptedDownload(const std::string &directory) {
  const std::string snapshots = parentPath(directory);
  if (fileName(snapshots) != "snapshots")
    return "";
  Expected<std::vector<std::string>> blobs =
      listDirectory(joinPath(parentPath(snapshots), "blobs"));
  if (!blobs.ok())
    return "";
  const long unfinished =
      std::count_if(blobs->begin(), blobs->end(), [](const std::string &blob) {
        return blob.ends_with(".incomplete");
      });
  if (unfinished == 0)
    return "";
  return " (the hub cache holds " + std::to_string(unfinished) +
         " unfinished downloads of it)";
}

Status peft::checkPresent(const std::string &path) {
  if (isBrokenLink(path))
    return badInput(path +
                    ": is a link to a file that does not exist; the download "
                    "is incomplete" +
                    interruptedDownload(parentPath(path)) +
                    ": download the model again");
  PEFT_ASSIGN(const std::string start, readFilePrefix(path, 64));
  if (start.starts_with("version https://git-lfs.github.com/spec/"))
    return badInput(path +
                    ": is a Git LFS pointer, not the file itself; run `git "
                    "lfs pull` in " +
                    parentPath(path));
  return Status();
}
