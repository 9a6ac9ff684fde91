#include "app/model_summary.h"

#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "nn/layers.h"
#include "nn/transformer_block.h"

namespace graticule {
namespace {

// DeiT-Ti with MPVG and an absolute positional label, whose data set does not exist.
constexpr char kDeitTiny[] = R"pb(
  task {
    [type.googleapis.com/graticule.Classification] { num_classes: 1000 }
  }
  backbone {
    [type.googleapis.com/graticule.Vit] {}
  }
  pooling {
    [type.googleapis.com/graticule.Mpvg] {}
  }
  objectives {
    objective {
      [type.googleapis.com/graticule.AbsolutePositionalLabel] {}
    }
  }
  data { image_size: 224 }
)pb";

Experiment Parse(const std::string& text) {
  Experiment experiment;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &experiment));
  return experiment;
}

TEST(ModelSummaryTest, CountsWithoutDataSet) {
  const auto summary = SummariseModel(Parse(kDeitTiny), 2);
  ASSERT_TRUE(summary.ok()) << summary.status();
  // Published for DeiT-Ti with MPVG.
  EXPECT_EQ(summary->parameters, 5721640);
  // Half of the width, 96, to 96 to 48 to the 196 places.
  EXPECT_EQ(summary->objective_parameters,
            (std::map<std::string, int64_t>{{"apl", 96 * 96 + 96 + 96 * 48 + 48 + 48 * 196 + 196}}));
  const int64_t n = 196, d = 192;
  EXPECT_EQ(summary->macs.total, n * 768 * d + 12 * (n * 12 * d * d + 2 * n * n * d) + d * 1000);
  EXPECT_EQ(summary->image_size.height, 224);
  EXPECT_TRUE(absl::StrContains(summary->table, "blocks.0–11 (×12)")) << summary->table;
  EXPECT_TRUE(absl::StrContains(summary->table, "12 × 444,864")) << summary->table;
}

TEST(ModelSummaryTest, TheDataSetsClassesCount) {
  const auto summary = SummariseModel(Parse(kDeitTiny), 2, {"a", "b", "c"});
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->parameters, 5721640 - 997 * 193);
  EXPECT_EQ(summary->class_names.size(), 3);
}

TEST(ModelSummaryTest, SaysWhatItLacksWithoutClasses) {
  Experiment experiment = Parse(kDeitTiny);
  experiment.mutable_task()->set_value("");
  const auto summary = SummariseModel(experiment, 2);
  EXPECT_EQ(summary.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(summary.status().message(), "task.num_classes")) << summary.status();
}

// Its own parameter, unlike blocks, and a level without a name.
class Toy : public Module {
 public:
  Toy() : head_(4, 3) {
    RegisterParameter("token", NewParameter({1, 1, 4}));
    inner_ = RegisterModule("", std::make_unique<Inner>());
    RegisterModule("head", &head_);
  }

 private:
  struct Inner : Module {
    Inner() {
      RegisterParameter("scale", NewParameter({4}));
      for (int i = 0; i < 4; ++i) {
        RegisterModule("layers." + std::to_string(i), std::make_unique<Linear>(4, 4, /*bias=*/i < 3));
      }
    }
  };
  Inner* inner_;
  Linear head_;
};

TEST(ModelSummaryTest, TableOfModules) {
  MetaScope meta;
  const Toy toy;
  MacCount macs;
  for (const char* name : {"layers.0.weight", "layers.1.weight", "layers.2.weight"}) macs.by_parameter[name] = 16000000;
  macs.by_operator["bmm"] = 5000;
  EXPECT_EQ(ModuleTable(toy, macs, 3),
            "module           type       shapes              parameters         MACs\n"
            "token            parameter  1×1×4                        4\n"
            "scale            parameter  4                            4\n"
            "layers.0–2 (×3)  Linear     weight 4×4, bias 4      3 × 20  3 × 16.00 M\n"
            "layers.3         Linear     weight 4×4                  16\n"
            "head             Linear     weight 3×4, bias 3          15\n"
            "bmm              operator                                        0.01 M\n");
}

TEST(ModelSummaryTest, DepthLimitsTheTable) {
  MetaScope meta;
  TransformerBlockOptions options;
  options.attention = {.width = 4, .heads = 1};
  options.mlp_hidden = 8;
  const TransformerBlock block(options);
  const std::string shallow = ModuleTable(block, {}, 1), deep = ModuleTable(block, {}, 2);
  EXPECT_TRUE(absl::StrContains(shallow, "attn"));
  EXPECT_FALSE(absl::StrContains(shallow, "qkv"));
  EXPECT_TRUE(absl::StrContains(deep, "  qkv"));
}

}  // namespace
}  // namespace graticule
