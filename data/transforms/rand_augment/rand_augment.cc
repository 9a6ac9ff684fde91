#include "data/transforms/rand_augment/rand_augment.h"

#include <numeric>

#include "data/color.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

constexpr char kDefault[] = "rand-m9-mstd0.5-inc1";

// timm's names of these that do or do not grow with the magnitude.
std::vector<std::string> UsualOperations(bool increasing) {
  const std::string suffix = increasing ? "Increasing" : "";
  return {"AutoContrast",
          "Equalize",
          "Invert",
          "Rotate",
          "Posterize" + suffix,
          "Solarize" + suffix,
          "SolarizeAdd",
          "Color" + suffix,
          "Contrast" + suffix,
          "Brightness" + suffix,
          "Sharpness" + suffix,
          "ShearX",
          "ShearY",
          "TranslateXRel",
          "TranslateYRel"};
}

struct Weighted {
  const char* operation;
  double weight;
};

constexpr Weighted kWeights[] = {{"Rotate", 3},
                                 {"ShearX", 2},
                                 {"ShearY", 2},
                                 {"TranslateXRel", 1},
                                 {"TranslateYRel", 1},
                                 {"ColorIncreasing", 0.25},
                                 {"SharpnessIncreasing", 0.25},
                                 {"AutoContrast", 0.25},
                                 {"SolarizeIncreasing", 0.05},
                                 {"SolarizeAdd", 0.05},
                                 {"ContrastIncreasing", 0.05},
                                 {"BrightnessIncreasing", 0.05},
                                 {"Equalize", 0.05},
                                 {"PosterizeIncreasing", 0.05},
                                 {"Invert", 0.05}};

constexpr Weighted k3aWeights[] = {{"SolarizeIncreasing", 6},
                                   {"Desaturate", 6},
                                   {"GaussianBlur", 6},
                                   {"Rotate", 3},
                                   {"ShearX", 2},
                                   {"ShearY", 2},
                                   {"PosterizeIncreasing", 1},
                                   {"AutoContrast", 1},
                                   {"ColorIncreasing", 1},
                                   {"SharpnessIncreasing", 1},
                                   {"ContrastIncreasing", 1},
                                   {"BrightnessIncreasing", 1},
                                   {"Equalize", 1},
                                   {"Invert", 1}};

// The operations and weights of a set by its name, "" for the usual ones.
void ChooseSet(const std::string& set, bool increasing, RandAugmentPolicy& policy) {
  const auto choose = [&policy](const auto& weighted) {
    for (const auto& [operation, weight] : weighted) {
      policy.operations.push_back(operation);
      policy.weights.push_back(weight);
    }
  };
  if (set == "weights") {
    choose(kWeights);
  } else if (set == "3aw") {
    choose(k3aWeights);
  } else if (set == "3a") {
    policy.operations = {"SolarizeIncreasing", "Desaturate", "GaussianBlur"};
  } else {
    policy.operations = UsualOperations(increasing);
  }
}

}  // namespace

RandAugmentPolicy ParseRandAugment(std::string_view text, FieldErrors& errors) {
  const PolicyString string(text, {"m", "n", "p", "mstd", "mmax", "inc", "t"}, errors);
  if (string.name() != "rand") {
    string.AddError("must begin with 'rand', as rand-m9-mstd0.5-inc1 does");
  }
  RandAugmentPolicy policy;
  ChooseSet(string.Choice("t", {"weights", "3a", "3aw"}), string.WholeNumber("inc", 1, 1, 0) == 1, policy);
  const int most = policy.weights.empty() ? 100 : static_cast<int>(policy.weights.size());
  policy.operations_per_image = string.WholeNumber("n", 1, most, 2);
  policy.probability = string.Number("p", 0, 1, 0.5);
  policy.magnitude = string.Number("m", 0, kMaxMagnitude, 10);
  policy.magnitude_deviation = string.MagnitudeDeviation();
  policy.max_magnitude = string.Number("mmax", 1, kMaxMagnitude, 10);
  return policy;
}

std::vector<int> DrawOperations(const RandAugmentPolicy& policy, Draws& draws) {
  std::vector<int> drawn(policy.operations_per_image);
  if (policy.weights.empty()) {
    for (int& index : drawn) index = static_cast<int>(draws.Below(policy.operations.size()));
    return drawn;
  }
  std::vector<double> weights = policy.weights;
  for (int& index : drawn) {
    double rest = draws.Uniform() * std::accumulate(weights.begin(), weights.end(), 0.0);
    // Rounding may leave a rest behind the last weight: the last operation that is still there stands for it.
    for (size_t i = 0; i < weights.size() && rest >= 0; ++i) {
      if (weights[i] == 0) continue;
      index = static_cast<int>(i);
      rest -= weights[i];
    }
    weights[index] = 0;
  }
  return drawn;
}

absl::StatusOr<std::unique_ptr<Transform>> RandAugmentTransform::Create(const RandAugment& config,
                                                                        const TransformContext& context) {
  FieldErrors errors;
  RandAugmentPolicy policy = ParseRandAugment(config.policy().empty() ? kDefault : config.policy(), errors);
  if (!errors.empty()) return errors.ToStatus();
  const AugmentationSettings settings{policy.magnitude_deviation, policy.max_magnitude, config.interpolation(),
                                      MeanColor(context.statistics)};
  return std::make_unique<RandAugmentTransform>(std::move(policy), settings);
}

RandAugmentTransform::RandAugmentTransform(RandAugmentPolicy policy, const AugmentationSettings& settings)
    : policy_(std::move(policy)), settings_(settings) {
  for (const std::string& operation : policy_.operations) {
    augmentations_.push_back({operation, policy_.probability, policy_.magnitude});
  }
}

void RandAugmentTransform::Apply(Image& image, Draws& draws) const {
  for (const int index : DrawOperations(policy_, draws)) Augment(augmentations_[index], settings_, image, draws);
}

namespace {
const Registration<Transform, RandAugment> kRegistration("Operations of one magnitude, drawn from a set (RandAugment)",
                                                         "policy: \"rand-m9-mstd0.5-inc1\"",
                                                         &RandAugmentTransform::Create);
}  // namespace

}  // namespace graticule
