// A plugin that the linker drops is missing from the program while its own test passes. This one links as the program
// does.
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

std::set<std::string> Names(const std::string& kind) {
  std::set<std::string> names;
  for (const PluginInfo& info : RegisteredPlugins(kind)) names.insert(info.name);
  return names;
}

TEST(LinkTest, TheProgramHasThePluginsOfTheTree) {
  using ::testing::IsSupersetOf;
  EXPECT_THAT(Names("backbone"), IsSupersetOf({"graticule.Ceit", "graticule.Nest", "graticule.Swin", "graticule.T2tVit",
                                               "graticule.Vit", "graticule.VitLite"}));
  EXPECT_THAT(Names("pooling"), IsSupersetOf({"graticule.Average", "graticule.ClassToken", "graticule.Mpvg",
                                              "graticule.Pvg", "graticule.SeqPool"}));
  EXPECT_THAT(Names("objective"), IsSupersetOf({"graticule.AbsolutePositionalLabel", "graticule.Drloc",
                                                "graticule.Jigsaw", "graticule.RelativePositionalLabel"}));
  EXPECT_THAT(Names("task"), IsSupersetOf({"graticule.Classification"}));
  EXPECT_THAT(Names("dataset"),
              IsSupersetOf({"graticule.Caltech256", "graticule.Cifar", "graticule.Digits", "graticule.ImageFolder",
                            "graticule.Imagenet", "graticule.MiniImagenet", "graticule.Synthetic",
                            "graticule.TinyImagenet", "graticule.WebDataset"}));
  EXPECT_THAT(Names("transform"),
              IsSupersetOf({"graticule.AutoAugment", "graticule.CenterCrop", "graticule.ColorJitter",
                            "graticule.GaussianBlur", "graticule.RandAugment", "graticule.RandomCrop",
                            "graticule.RandomErasing", "graticule.RandomGrayscale", "graticule.RandomHorizontalFlip",
                            "graticule.RandomResizedCrop", "graticule.RandomSolarize", "graticule.Resize",
                            "graticule.SimpleRandomCrop", "graticule.ThreeAugment"}));
  EXPECT_THAT(Names("batch_transform"), IsSupersetOf({"graticule.Mixup"}));
  EXPECT_THAT(Names("optimizer"), IsSupersetOf({"graticule.AdamW"}));
  EXPECT_THAT(Names("schedule"), IsSupersetOf({"graticule.Cosine"}));
  EXPECT_THAT(Names("sink"), IsSupersetOf({"graticule.Csv", "graticule.TensorBoard"}));
}

}  // namespace
}  // namespace graticule
