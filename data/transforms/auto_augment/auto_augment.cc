#include "data/transforms/auto_augment/auto_augment.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "data/color.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

using Sequences = std::vector<std::vector<Augmentation>>;

// The paper's policy for ImageNet, its table 9, with this operation in the place of posterize.
Sequences Original(const std::string& posterize) {
  return {
      {{posterize, 0.4, 8}, {"Rotate", 0.6, 9}},    {{"Solarize", 0.6, 5}, {"AutoContrast", 0.6, 5}},
      {{"Equalize", 0.8, 8}, {"Equalize", 0.6, 3}}, {{posterize, 0.6, 7}, {posterize, 0.6, 6}},
      {{"Equalize", 0.4, 7}, {"Solarize", 0.2, 4}}, {{"Equalize", 0.4, 4}, {"Rotate", 0.8, 8}},
      {{"Solarize", 0.6, 3}, {"Equalize", 0.6, 7}}, {{posterize, 0.8, 5}, {"Equalize", 1, 2}},
      {{"Rotate", 0.2, 3}, {"Solarize", 0.6, 8}},   {{"Equalize", 0.6, 8}, {posterize, 0.4, 6}},
      {{"Rotate", 0.8, 8}, {"Color", 0.4, 0}},      {{"Rotate", 0.4, 9}, {"Equalize", 0.6, 2}},
      {{"Equalize", 0, 7}, {"Equalize", 0.8, 8}},   {{"Invert", 0.6, 4}, {"Equalize", 1, 8}},
      {{"Color", 0.6, 4}, {"Contrast", 1, 8}},      {{"Rotate", 0.8, 8}, {"Color", 1, 2}},
      {{"Color", 0.8, 8}, {"Solarize", 0.8, 7}},    {{"Sharpness", 0.4, 7}, {"Invert", 0.6, 8}},
      {{"ShearX", 0.6, 5}, {"Equalize", 1, 9}},     {{"Color", 0.4, 0}, {"Equalize", 0.6, 3}},
      {{"Equalize", 0.4, 7}, {"Solarize", 0.2, 4}}, {{"Solarize", 0.6, 5}, {"AutoContrast", 0.6, 5}},
      {{"Invert", 0.6, 4}, {"Equalize", 1, 8}},     {{"Color", 0.6, 4}, {"Contrast", 1, 8}},
      {{"Equalize", 0.8, 8}, {"Equalize", 0.6, 3}},
  };
}

// The policy "v0" of EfficientNet's code.
Sequences V0(const std::string& posterize) {
  return {
      {{"Equalize", 0.8, 1}, {"ShearY", 0.8, 4}},      {{"Color", 0.4, 9}, {"Equalize", 0.6, 3}},
      {{"Color", 0.4, 1}, {"Rotate", 0.6, 8}},         {{"Solarize", 0.8, 3}, {"Equalize", 0.4, 7}},
      {{"Solarize", 0.4, 2}, {"Solarize", 0.6, 2}},    {{"Color", 0.2, 0}, {"Equalize", 0.8, 8}},
      {{"Equalize", 0.4, 8}, {"SolarizeAdd", 0.8, 3}}, {{"ShearX", 0.2, 9}, {"Rotate", 0.6, 8}},
      {{"Color", 0.6, 1}, {"Equalize", 1, 2}},         {{"Invert", 0.4, 9}, {"Rotate", 0.6, 0}},
      {{"Equalize", 1, 9}, {"ShearY", 0.6, 3}},        {{"Color", 0.4, 7}, {"Equalize", 0.6, 0}},
      {{posterize, 0.4, 6}, {"AutoContrast", 0.4, 7}}, {{"Solarize", 0.6, 8}, {"Color", 0.6, 9}},
      {{"Solarize", 0.2, 4}, {"Rotate", 0.8, 9}},      {{"Rotate", 1, 7}, {"TranslateYRel", 0.8, 9}},
      {{"ShearX", 0, 0}, {"Solarize", 0.8, 4}},        {{"ShearY", 0.8, 0}, {"Color", 0.6, 4}},
      {{"Color", 1, 0}, {"Rotate", 0.6, 2}},           {{"Equalize", 0.8, 4}, {"Equalize", 0, 8}},
      {{"Equalize", 1, 4}, {"AutoContrast", 0.6, 2}},  {{"ShearY", 0.4, 7}, {"SolarizeAdd", 0.6, 7}},
      {{posterize, 0.8, 2}, {"Solarize", 0.6, 10}},    {{"Solarize", 0.6, 8}, {"Equalize", 0.6, 1}},
      {{"Color", 0.8, 6}, {"Rotate", 0.4, 5}},
  };
}

// DeiT III's 3-Augment.
Sequences ThreeOperations() { return {{{"Solarize", 1, 5}}, {{"Desaturate", 1, 10}}, {{"GaussianBlurRand", 1, 10}}}; }

}  // namespace

AutoAugmentPolicy ParseAutoAugment(std::string_view text, FieldErrors& errors) {
  const PolicyString string(text, {"mstd"}, errors);
  AutoAugmentPolicy policy{.magnitude_deviation = string.MagnitudeDeviation()};
  const std::string& name = string.name();
  if (name == "original") {
    policy.sequences = Original("PosterizeOriginal");
  } else if (name == "originalr") {
    policy.sequences = Original("PosterizeIncreasing");
  } else if (name == "v0") {
    policy.sequences = V0("Posterize");
  } else if (name == "v0r") {
    policy.sequences = V0("PosterizeIncreasing");
  } else if (name == "3a") {
    policy.sequences = ThreeOperations();
  } else {
    const std::vector<std::string> names = {"original", "originalr", "v0", "v0r", "3a"};
    string.AddError(absl::StrCat("must begin with one of ", absl::StrJoin(names, ", "), DidYouMean(name, names)));
  }
  return policy;
}

absl::StatusOr<std::unique_ptr<Transform>> AutoAugmentTransform::Create(const AutoAugment& config,
                                                                        const TransformContext& context) {
  FieldErrors errors;
  AutoAugmentPolicy policy = ParseAutoAugment(config.policy().empty() ? "original" : config.policy(), errors);
  if (!errors.empty()) return errors.ToStatus();
  const AugmentationSettings settings{.magnitude_deviation = policy.magnitude_deviation,
                                      .interpolation = config.interpolation(),
                                      .fill = MeanColor(context.statistics)};
  return std::make_unique<AutoAugmentTransform>(std::move(policy.sequences), settings);
}

void AutoAugmentTransform::Apply(Image& image, Draws& draws) const {
  const std::vector<Augmentation>& sequence = sequences_[draws.Below(sequences_.size())];
  for (const Augmentation& augmentation : sequence) Augment(augmentation, settings_, image, draws);
}

namespace {
const Registration<Transform, AutoAugment> kRegistration("One of a learned policy's pairs of operations (AutoAugment)",
                                                         "policy: \"original\"", &AutoAugmentTransform::Create);
}  // namespace

}  // namespace graticule
