//===- PeftData.cpp - the tokenizer, a Python program ---------------------===//
#include "PeftData.h"

#include "Metrics.h"
#include "Sha256.h"
#include "peft/Environment.h"
#include "peft/Json.h"
#include "peft/Session.h"
#include "peft/TokenFile.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <spawn.h>
#include <sstream>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

extern char **environ;

using namespace peft;

namespace {
/// A file without a name: no pipe, so neither side ever waits for the other.
class Scratch {
public:
  Scratch() : file(::memfd_create("peft-data", MFD_CLOEXEC)) {}
  ~Scratch() {
    if (file >= 0)
      ::close(file);
  }
  Scratch(const Scratch &) = delete;
  Scratch &operator=(const Scratch &) = delete;

  int descriptor() const { return file; }
  bool fill(std::string_view text) {
    return file >= 0 && writeAll(file, text) && ::lseek(file, 0, SEEK_SET) == 0;
  }
  uint64_t size() const {
    struct stat about = {};
    ::fstat(file, &about);
    return static_cast<uint64_t>(about.st_size);
  }
  std::string contents() {
    std::string text;
    std::array<char, 1 << 16> part;
    ::lseek(file, 0, SEEK_SET);
    for (ssize_t got; (got = ::read(file, part.data(), part.size())) > 0;)
      text.append(part.data(), static_cast<size_t>(got));
    return text;
  }

private:
  int file;
};

bool onPath(const std::string &program) {
  std::istringstream path(environment("PATH"));
  for (std::string directory; std::getline(path, directory, ':');)
    if (::access(joinPath(directory, program).c_str(), X_OK) == 0)
      return true;
  return false;
}

/// The words that start the tokenizer program.
std::vector<std::string> findProgram() {
  std::vector<std::string> words;
  std::istringstream chosen(environment("PEFT_DATA"));
  for (std::string word; chosen >> word;)
    words.push_back(word);
  if (!words.empty())
    return words;
  std::array<char, 4096> self;
  ssize_t length = ::readlink("/proc/self/exe", self.data(), self.size());
  if (length > 0) {
    std::string beside = joinPath(
        parentPath({self.data(), static_cast<size_t>(length)}), "peft-data");
    if (::access(beside.c_str(), X_OK) == 0)
      return {beside};
  }
  if (onPath("peft-data"))
    return {"peft-data"};
  return {"python3", "-m", "peft_data"};
}

/// ", or " and what serves as well as a command of peft-data.
std::string orInstead(const std::string &command) {
  if (command == "tokenize")
    return ", or give a token file (.safetensors) instead of text";
  if (command == "encode")
    return ", or give prompts as tokens ({\"ids\": [...]}) instead of text";
  if (command == "init-adapter")
    return ", or take the start of an earlier run (--init-adapter OUT/start)";
  return "";
}

Status notFound(const std::string &program, const std::string &command,
                const std::string &why) {
  return Status::error(Code::unsuitable,
                       "cannot run " + program + " " + command + ": " + why +
                           "; set PEFT_DATA to the command that starts "
                           "peft-data" +
                           orInstead(command));
}

/// The message of peft-data, which is its last line, or "" if that is none.
std::string messageOf(std::string said) {
  while (said.ends_with('\n'))
    said.pop_back();
  const size_t before = said.rfind('\n');
  const std::string last =
      before == std::string::npos ? said : said.substr(before + 1);
  constexpr std::string_view mark = "peft-data: error: ";
  return last.starts_with(mark) ? last.substr(mark.size()) : "";
}

/// `said`: what the program printed for people. Its message becomes ours, so
/// that there is one and not two; anything else is passed on as it is.
Status codeOf(const std::string &program, const std::string &command,
              int result, const std::string &said, bool silent) {
  const std::string message = messageOf(said);
  const int exit = WIFEXITED(result) ? WEXITSTATUS(result) : -1;
  for (Code code : {Code::usage, Code::badInput, Code::io, Code::unsuitable})
    if (exit == static_cast<int>(code) && !message.empty())
      return Status::error(code, message);
  if (!silent)
    writeAll(STDERR_FILENO, said);
  if (WIFSIGNALED(result))
    return internalError(program + " was ended by signal " +
                         std::to_string(WTERMSIG(result)));
  if (exit == 0)
    return {};
  std::string text = program + " ended with exit code " + std::to_string(exit) +
                     "; its own message stands above";
  for (Code code : {Code::usage, Code::badInput, Code::io, Code::unsuitable})
    if (exit == static_cast<int>(code))
      return Status::error(code, text);
  if (exit == 127)
    return notFound(program, command, "no such program");
  return Status::error(Code::unsuitable,
                       text + " (is peft_data installed for this Python?)");
}

/// Waits for `child` and gives back how it ended; tells `watch` every now and
/// then how many bytes are in `out`.
Expected<int> waitFor(pid_t child, const Scratch &out, const Watch &watch,
                      const std::string &program) {
  using namespace std::chrono_literals;
  for (int result = 0;;) {
    const pid_t ended = ::waitpid(child, &result, watch ? WNOHANG : 0);
    if (ended == child)
      return result;
    if (ended < 0 && errno != EINTR)
      return internalError(program + " was lost: " + std::strerror(errno));
    if (ended != 0)
      continue;
    watch(out.size());
    std::this_thread::sleep_for(50ms);
  }
}

Expected<std::string> cacheKey(const std::string &data,
                               const ModelDirectory &model, uint64_t seq) {
  Sha256 hash;
  hash.add(runtimeVersion);
  hash.add(" seq " + std::to_string(seq));
  std::vector<std::string> files = model.tokenizerFiles;
  files.insert(files.begin(), data);
  // They name the EOS token where the tokenizer's own files do not.
  for (const std::string &path : {model.configPath, model.generationConfigPath})
    if (!path.empty())
      files.push_back(path);
  for (const std::string &path : files) {
    PEFT_ASSIGN(MappedFile file, MappedFile::open(path));
    hash.add(" " + std::to_string(file.bytes().size()) + " ");
    hash.add(file.bytes());
  }
  return hash.finish();
}

std::vector<std::string> splitLines(const std::string &text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);)
    if (!line.empty())
      lines.push_back(line);
  return lines;
}

Status wrongCount(const char *what, size_t found, size_t needed) {
  return internalError(std::string("peft-data ") + what + " printed " +
                       std::to_string(found) + " lines for " +
                       std::to_string(needed));
}
} // namespace

Expected<std::string>
peft::runPeftData(const std::vector<std::string> &arguments,
                  std::string_view input, bool silent, const Watch &watch) {
  std::vector<std::string> words = findProgram();
  std::string program = words.front();
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char *> argv;
  for (std::string &word : words)
    argv.push_back(word.data());
  argv.push_back(nullptr);

  Scratch in, out, said;
  if (!in.fill(input) || out.descriptor() < 0 || said.descriptor() < 0)
    return ioError(std::string("cannot make a temporary file: ") +
                   std::strerror(errno));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.descriptor(), 0);
  posix_spawn_file_actions_adddup2(&actions, out.descriptor(), 1);
  posix_spawn_file_actions_adddup2(&actions, said.descriptor(), 2);
  pid_t child = 0;
  int failed =
      ::posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed)
    return notFound(program, arguments.front(), std::strerror(failed));
  PEFT_ASSIGN(const int result, waitFor(child, out, watch, program));
  PEFT_TRY(codeOf(program, arguments.front(), result, said.contents(), silent));
  return out.contents();
}

bool peft::hasTokenizer(const ModelDirectory &model) {
  for (const std::string &path : model.tokenizerFiles)
    if (fileName(path) == "tokenizer.json")
      return true;
  return false;
}

Expected<std::string> peft::tokenizeFile(const std::string &data,
                                         const ModelDirectory &model,
                                         uint64_t seq) {
  if (!hasTokenizer(model))
    return badInput(data + " is text, but " + model.directory +
                    " has no tokenizer.json; give a token file "
                    "(.safetensors) instead");
  PEFT_ASSIGN(std::string key, cacheKey(data, model, seq));
  std::string directory = cacheDirectory("tokens");
  if (Status made = createDirectory(directory); !made.ok())
    return ioError(made.message() + "; tokens are kept there: set "
                                    "XDG_CACHE_HOME to a directory that can be "
                                    "written");
  std::string cached = joinPath(directory, key + ".safetensors");
  // An entry that a full disk cut short is made again.
  if (isFile(cached) && TokenFile::open(cached).ok())
    return cached;
  // Another process may be writing the same entry: each has its own file, and
  // the rename is atomic.
  std::string unfinished = joinPath(
      directory, key + "." + std::to_string(::getpid()) + ".safetensors");
  auto printed =
      runPeftData({"tokenize", "--model", model.directory, "--seq",
                   std::to_string(seq), "--data", data, "-o", unfinished},
                  "");
  if (!printed.ok()) {
    ::unlink(unfinished.c_str());
    const Status failed = printed.status();
    // Most messages name the data and its line already.
    const bool named = failed.message().find(data) != std::string::npos;
    return named ? failed : failed.in(data);
  }
  if (::rename(unfinished.c_str(), cached.c_str()) != 0)
    return ioError("cannot rename " + unfinished + ": " + std::strerror(errno));
  return cached;
}

Expected<std::vector<std::vector<int32_t>>>
peft::encodeTexts(const ModelDirectory &model,
                  const std::vector<std::string> &lines, bool chat) {
  if (!hasTokenizer(model))
    return badInput("a prompt is text, but " + model.directory +
                    " has no tokenizer.json");
  std::string input;
  for (const std::string &line : lines)
    input += line + "\n";
  std::vector<std::string> arguments = {"encode", "--model", model.directory};
  if (chat)
    arguments.push_back("--chat");
  PEFT_ASSIGN(std::string printed, runPeftData(arguments, input));
  std::vector<std::vector<int32_t>> rows;
  for (const std::string &line : splitLines(printed)) {
    PEFT_ASSIGN(nlohmann::json row, parseJson(line, "peft-data encode"));
    std::vector<int32_t> ids;
    for (const nlohmann::json &id : row) {
      if (!id.is_number_integer())
        return internalError("peft-data encode printed " + peft::describe(row));
      ids.push_back(id.get<int32_t>());
    }
    rows.push_back(std::move(ids));
  }
  if (rows.size() != lines.size())
    return wrongCount("encode", rows.size(), lines.size());
  return rows;
}

Expected<std::vector<std::string>>
peft::decodeTokens(const ModelDirectory &model,
                   const std::vector<std::vector<int32_t>> &rows) {
  std::string input;
  for (const std::vector<int32_t> &row : rows)
    input += nlohmann::json(row).dump() + "\n";
  PEFT_ASSIGN(
      std::string printed,
      runPeftData({"decode", "--model", model.directory, "--skip-special"},
                  input));
  std::vector<std::string> texts;
  for (const std::string &line : splitLines(printed)) {
    PEFT_ASSIGN(nlohmann::json text, parseJson(line, "peft-data decode"));
    if (!text.is_string())
      return internalError("peft-data decode printed " + peft::describe(text));
    texts.push_back(text.get<std::string>());
  }
  if (texts.size() != rows.size())
    return wrongCount("decode", texts.size(), rows.size());
  return texts;
}
