#include "data/transforms/color_jitter/color_jitter.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "data/transforms/colors.h"
#include "data/transforms/hue.h"
#include "google/protobuf/repeated_field.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

// The factors of a field: around `neutral` by its one number, or between its two.
Range FactorFromField(const google::protobuf::RepeatedField<double>& field, std::string_view path, double neutral,
                      double strength, Range allowed, FieldErrors& errors) {
  if (field.size() > 1) return RangeFromField(field, path, {neutral, neutral}, allowed, errors);
  if (field.size() == 1) strength = field[0];
  if (!(strength >= 0 && strength <= allowed.high)) {
    errors.Add(path, absl::StrCat("must be a strength in [0, ", allowed.high, "] or two factors, found ", strength));
  }
  return {std::max(neutral - strength, allowed.low), neutral + strength};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Transform>> ColorJitterTransform::Create(const ColorJitter& config,
                                                                        const TransformContext& context) {
  const double probability = config.has_probability() ? config.probability() : 1;
  std::unique_ptr<ColorJitterTransform> transform(new ColorJitterTransform(probability));
  FieldErrors errors;
  CheckProbability(probability, "probability", errors);
  const auto add = [&](Property property, const auto& field, const char* path, double neutral, double strength,
                       Range allowed) {
    const Range factor = FactorFromField(field, path, neutral, strength, allowed, errors);
    if (factor != Range{neutral, neutral}) transform->jitters_.push_back({property, factor});
  };
  constexpr Range kFactors{0, 100}, kTurns{-0.5, 0.5};
  add(kBrightness, config.brightness(), "brightness", 1, 0.4, kFactors);
  add(kContrast, config.contrast(), "contrast", 1, 0.4, kFactors);
  add(kSaturation, config.saturation(), "saturation", 1, 0.4, kFactors);
  add(kHue, config.hue(), "hue", 0, 0, kTurns);
  if (!errors.empty()) return errors.ToStatus();
  return transform;
}

void ColorJitterTransform::Apply(Image& image, Draws& draws) const {
  if (!draws.Bernoulli(probability_)) return;
  std::vector<Jitter> order = jitters_;
  for (size_t left = order.size(); left > 0; --left) {
    std::swap(order[left - 1], order[draws.Below(left)]);
    const auto& [property, range] = order[left - 1];
    const double factor = draws.Uniform(range.low, range.high);
    switch (property) {
      case kBrightness:
        AdjustBrightness(image, factor);
        break;
      case kContrast:
        AdjustContrast(image, factor);
        break;
      case kSaturation:
        AdjustSaturation(image, factor);
        break;
      case kHue:
        AdjustHue(image, factor);
        break;
    }
  }
}

namespace {
const Registration<Transform, ColorJitter> kRegistration(
    "Changes brightness, contrast, saturation and hue by random factors", "brightness: 0.3",
    &ColorJitterTransform::Create);
}  // namespace

}  // namespace graticule
