//===- NestedNamesTest.cpp - the two places of a nested text model --------===//
#include "peft/NestedNames.h"

#include <gtest/gtest.h>

using namespace peft;

namespace {

TEST(NestedNames, EachOfAPairGivesTheOther) {
  const std::pair<const char *, const char *> pairs[] = {
      {"model.language_model.layers.0.mlp.up_proj.weight",
       "language_model.model.layers.0.mlp.up_proj.weight"},
      {"model.language_model.norm", "language_model.model.norm"},
      {"lm_head.weight", "language_model.lm_head.weight"},
      {"lm_head", "language_model.lm_head"},
  };
  for (const auto &[newer, older] : pairs) {
    EXPECT_EQ(otherNestedName(newer), older);
    EXPECT_EQ(otherNestedName(older), newer);
  }
}

TEST(NestedNames, OthersHaveNone) {
  for (const char *name :
       {"model.layers.0.mlp.up_proj.weight", "model.language_models.norm",
        "lm_heads.weight", "vision_tower.lm_head.weight", ""})
    EXPECT_FALSE(otherNestedName(name)) << name;
}

} // namespace
