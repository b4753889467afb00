//===- ModelDirectoryTest.cpp - finding a model's files -------------------===//
#include "peft/ModelDirectory.h"
#include "TemporaryFiles.h"

#include <cstdlib>
#include <filesystem>

using namespace peft;
namespace fs = std::filesystem;

namespace {

const char *configText = R"({"model_type": "llama"})";
const char *lfsPointer = "version https://git-lfs.github.com/spec/v1\n"
                         "oid sha256:4d7a2146\nsize 135\n";

/// A safetensors file of one-byte tensors with these names.
std::string shard(const std::vector<std::string> &names) {
  std::string header = "{";
  for (size_t i = 0; i < names.size(); ++i)
    header += (i ? ",\"" : "\"") + names[i] +
              R"(":{"dtype":"U8","shape":[1],"data_offsets":[)" +
              std::to_string(i) + "," + std::to_string(i + 1) + "]}";
  return safetensorsBytes(header + "}", std::string(names.size(), 'x'));
}

std::string index(const std::string &map) {
  return R"({"metadata": {"total_size": 2}, "weight_map": {)" + map + "}}";
}

const char *twoShards = R"("a": "model-00001-of-00002.safetensors",
                           "b": "model-00002-of-00002.safetensors")";
const std::string first = "model-00001-of-00002.safetensors";
const std::string second = "model-00002-of-00002.safetensors";
const std::string indexName = "model.safetensors.index.json";

/// Opens with an empty hub cache, whatever the machine has.
Expected<ModelDirectory> open(const std::string &path) {
  return openModel(path, "/nonexistent-hub-cache");
}

TEST(ModelDirectory, OneFile) {
  TemporaryDirectory folder;
  folder.write("config.json", configText);
  folder.write("model.safetensors", shard({"b", "a"}));
  folder.write("tokenizer.json", "{}");
  folder.write("generation_config.json", "{}");
  const auto model = open(folder.path());
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(model->configPath, folder.path("config.json"));
  EXPECT_EQ(model->generationConfigPath, folder.path("generation_config.json"));
  EXPECT_EQ(model->tokenizerFiles,
            std::vector<std::string>{folder.path("tokenizer.json")});
  ASSERT_EQ(model->shards.size(), 1u);
  ASSERT_TRUE(model->find("a"));
  EXPECT_EQ(model->find("a").header->begin, 1u);
  EXPECT_FALSE(model->find("c"));
  EXPECT_EQ(model->tensors()[0].header->name, "a");
}

TEST(ModelDirectory, ShardsAndTheirHash) {
  TemporaryDirectory one, two;
  for (const TemporaryDirectory *folder : {&one, &two})
    folder->write("config.json", configText);
  one.write("model.safetensors", shard({"a", "b"}));
  two.write(indexName, index(twoShards));
  two.write(first, shard({"a"}));
  two.write(second, shard({"b"}));
  const auto whole = open(one.path()), split = open(two.path());
  ASSERT_TRUE(whole.ok() && split.ok()) << split.status().message();
  EXPECT_EQ(split->shards.size(), 2u);
  EXPECT_EQ(split->find("b").shard->path, two.path(second));
  EXPECT_EQ(whole->headerHash(), split->headerHash());
  EXPECT_NE(whole->headerHash(), 0u);
  two.write(second, shard({"b", "c"}));
  EXPECT_NE(open(two.path())->headerHash(), whole->headerHash());
}

TEST(ModelDirectory, ABareConfigNeedsNoWeights) {
  TemporaryDirectory folder;
  const std::string path = folder.write("config.json", configText);
  const auto model = open(path);
  ASSERT_TRUE(model.ok());
  EXPECT_FALSE(model->hasWeights());
  EXPECT_EQ(model->headerHash(), 0u);
  EXPECT_EQ(model->directory, folder.path());
}

/// A hub cache with one model whose files are links into blobs/.
struct HubCacheTest : ::testing::Test {
  HubCacheTest() {
    cache.write(repository + "/blobs/1", configText);
    cache.write(repository + "/blobs/2", shard({"a"}));
    cache.write(repository + "/refs/main", "c0ffee\n");
    link("1", "config.json");
    link("2", "model.safetensors");
  }
  void link(const std::string &blob, const std::string &name) {
    const std::string path = cache.path(snapshot + "/" + name);
    ASSERT_TRUE(createDirectory(parentPath(path)).ok());
    fs::create_symlink("../../blobs/" + blob, path);
  }
  void remove(const std::string &name) {
    fs::remove_all(cache.path(repository + "/" + name));
  }

  TemporaryDirectory cache;
  const std::string repository = "models--org--tiny";
  const std::string snapshot = repository + "/snapshots/c0ffee";
};

TEST_F(HubCacheTest, ANameAFolderAndASnapshotAreTheSame) {
  for (const std::string &name :
       {std::string("org/tiny"), cache.path(repository),
        cache.path(snapshot)}) {
    const auto model = openModel(name, cache.path());
    ASSERT_TRUE(model.ok()) << model.status().message();
    EXPECT_EQ(model->directory, cache.path(snapshot));
    EXPECT_EQ(model->shards.size(), 1u);
  }
  remove("refs"); // the only snapshot is taken
  EXPECT_TRUE(openModel("org/tiny", cache.path()).ok());
}

TEST_F(HubCacheTest, Errors) {
  EXPECT_TRUE(failsWith(openModel("org/other", cache.path()).status(),
                        Code::badInput, "fetch it with `hf download"));
  EXPECT_TRUE(failsWith(openModel("a/b/c", cache.path()).status(),
                        Code::badInput, "no such directory or config.json"));
  EXPECT_TRUE(failsWith(openModel("../x", cache.path()).status(),
                        Code::badInput, "no such directory or config.json"));
  cache.write(repository + "/blobs/3.incomplete", "");
  remove("blobs/2");
  EXPECT_TRUE(failsWith(
      openModel("org/tiny", cache.path()).status(), Code::badInput,
      "the download is incomplete (the hub cache holds 1 unfinished"));
  remove("snapshots/c0ffee/model.safetensors");
  EXPECT_TRUE(failsWith(openModel("org/tiny", cache.path()).status(),
                        Code::badInput, "holds 1 unfinished downloads"));
  remove("snapshots/c0ffee/config.json");
  EXPECT_TRUE(failsWith(openModel("org/tiny", cache.path()).status(),
                        Code::badInput, "has no config.json"));
  remove("snapshots/c0ffee");
  EXPECT_TRUE(failsWith(openModel("org/tiny", cache.path()).status(),
                        Code::badInput, "snapshot that refs/main names"));
  cache.write(repository + "/refs/main", "../../../etc");
  EXPECT_TRUE(failsWith(openModel("org/tiny", cache.path()).status(),
                        Code::badInput, "does not hold the name"));
  remove("refs");
  EXPECT_TRUE(failsWith(openModel("org/tiny", cache.path()).status(),
                        Code::badInput, "no refs/main and 0 snapshots"));
}

TEST(ModelDirectory, TheEnvironmentNamesTheHubCache) {
  const auto with = [](const char *cache, const char *home, const char *xdg) {
    for (const auto &[name, value] :
         {std::pair("HF_HUB_CACHE", cache), std::pair("HF_HOME", home),
          std::pair("XDG_CACHE_HOME", xdg)})
      setenv(name, value, 1);
    return hubCacheDirectory();
  };
  const char *oldHome = std::getenv("HOME");
  const std::string saved = oldHome ? oldHome : "";
  setenv("HOME", "/h", 1);
  EXPECT_EQ(with("/c", "/m", "/x"), "/c");
  EXPECT_EQ(with("", "/m", "/x"), "/m/hub");
  EXPECT_EQ(with("", "", "/x"), "/x/huggingface/hub");
  EXPECT_EQ(with("", "", ""), "/h/.cache/huggingface/hub");
  setenv("HOME", saved.c_str(), 1);
  for (const char *name : {"HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"})
    unsetenv(name);
}

using Files = std::vector<std::pair<std::string, std::string>>;

struct BadDirectory {
  const char *name;
  Files files;
  const char *fragment;
};

const std::pair<std::string, std::string> config = {"config.json", configText};

const BadDirectory weightCases[] = {
    {"nothing but a config", {config}, "to compile without weights"},
    {"pickled weights",
     {config, {"pytorch_model.bin", "x"}, {"training_args.bin", "x"}},
     "only pickled weights (pytorch_model.bin), which can run code when they "
     "are read; convert them once: python3 -c \"import glob, sys, torch"},
    {"a .pth file", {config, {"consolidated.00.pth", "x"}}, "'/*.pt*'"},
    {"shards without an index",
     {config, {first, "x"}},
     "no model.safetensors.index.json, only model-00001"},
    {"pointer for weights",
     {config, {"model.safetensors", lfsPointer}},
     "model.safetensors: is a Git LFS pointer, not the file itself; run `git "
     "lfs pull` in "},
    {"truncated weights",
     {config, {"model.safetensors", shard({"a"}).substr(0, 40)}},
     "it is truncated"},
    {"missing shard",
     {config, {indexName, index(twoShards)}, {first, shard({"a"})}},
     "is incomplete: 1 of 2 weight files are missing (model-00002"},
    {"index is a pointer", {config, {indexName, lfsPointer}}, "LFS pointer"},
    {"index is broken", {config, {indexName, "{"}}, "not valid JSON"},
    {"index is a list", {config, {indexName, "[]"}}, "a JSON object"},
    {"no weight_map", {config, {indexName, "{}"}}, "has no weight_map"},
    {"weight_map is empty", {config, {indexName, index("")}}, "no weight_map"},
    {"shard is a number",
     {config, {indexName, index("\"a\": 1")}},
     "the shard must be a file name, not 1"},
    {"shard outside",
     {config, {indexName, index("\"a\": \"../x.safetensors\"")}},
     "is no name of a safetensors file in the directory"},
    {"shard is no safetensors",
     {config, {indexName, index("\"a\": \"x.bin\"")}},
     "is no name of a safetensors file"},
    {"shard lacks a tensor",
     {config,
      {indexName, index(twoShards)},
      {first, shard({"a"})},
      {second, shard({"c"})}},
     "says that tensor \"b\" is in model-00002-of-00002.safetensors, but that "
     "file lacks it"},
    {"tensor elsewhere",
     {config,
      {indexName, index(twoShards)},
      {first, shard({"b"})},
      {second, shard({"a"})}},
     "but it is in model-00002"},
    {"tensor twice",
     {config,
      {indexName, index(twoShards)},
      {first, shard({"a", "b"})},
      {second, shard({"b"})}},
     "may be stored only once"},
};

const BadDirectory configCases[] = {
    {"empty", {}, "has no config.json; a model directory"},
    {"an adapter", {{"adapter_config.json", "{}"}}, "is a PEFT adapter"},
    {"GGUF", {{"m.gguf", "x"}}, "peft_data.import_gguf"},
    {"Meta's layout", {{"params.json", "{}"}}, "transformers layout"},
    {"config is a pointer", {{"config.json", lfsPointer}}, "LFS pointer"},
};

TEST(ModelDirectory, RefusesWhatIsNotThere) {
  std::vector<BadDirectory> cases(std::begin(weightCases),
                                  std::end(weightCases));
  cases.insert(cases.end(), std::begin(configCases), std::end(configCases));
  for (const BadDirectory &bad : cases) {
    SCOPED_TRACE(bad.name);
    TemporaryDirectory folder;
    for (const auto &[name, bytes] : bad.files)
      folder.write(name, bytes);
    const Status status = open(folder.path()).status();
    EXPECT_TRUE(failsWith(status, Code::badInput, bad.fragment));
    EXPECT_TRUE(status.message().starts_with(folder.path()));
  }
}

TEST(ModelDirectory, RefusesOtherFiles) {
  TemporaryDirectory folder;
  EXPECT_TRUE(failsWith(open(folder.write("m.gguf", "x")).status(),
                        Code::badInput, "peft_data.import_gguf"));
  EXPECT_TRUE(failsWith(open(folder.write("a.safetensors", "x")).status(),
                        Code::badInput, "name the directory"));
  fs::create_symlink("/nonexistent", folder.path("link"));
  EXPECT_TRUE(failsWith(open(folder.path("link")).status(), Code::badInput,
                        "a link to something that does not exist"));
  fs::create_symlink("nowhere", folder.path("config.json"));
  EXPECT_TRUE(failsWith(open(folder.path()).status(), Code::badInput,
                        "a link to a file that does not exist"));
}

} // namespace
