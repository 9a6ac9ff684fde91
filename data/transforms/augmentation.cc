#include "data/transforms/augmentation.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "data/transforms/affine.h"
#include "data/transforms/blur.h"
#include "data/transforms/colors.h"
#include "plugin/logging.h"

namespace graticule {
namespace {

using Arguments = OperationArguments;

// The share of the usual range that a level asks for.
double Share(const Arguments& a) { return a.level / 10; }
double Signed(const Arguments& a, double value) { return a.negative ? -value : value; }

// ImageEnhance's factor, where more is more and where both sides of 1 are more.
double Factor(const Arguments& a) { return Share(a) * 1.8 + 0.1; }
double FactorAroundOne(const Arguments& a) { return std::max(0.1, 1 + Signed(a, Share(a) * 0.9)); }

int SolarizeThreshold(const Arguments& a) { return std::min(256, static_cast<int>(Share(a) * 256)); }
int PosterizeBits(const Arguments& a) { return static_cast<int>(Share(a) * 4); }
void KeepBits(int bits, Image& image) { Posterize(image, std::clamp(bits, 0, 8)); }

void Transform(const AffineMatrix& matrix, const Arguments& a, Image& image) {
  ApplyAffine(image, matrix, a.interpolation, a.fill);
}

void Shear(bool along_x, const Arguments& a, Image& image) {
  const double factor = Signed(a, Share(a) * 0.3);
  Transform({1, along_x ? factor : 0, 0, along_x ? 0 : factor, 1, 0}, a, image);
}

void Translate(bool along_x, const Arguments& a, Image& image) {
  const double shift = Signed(a, Share(a) * 0.45) * static_cast<double>(along_x ? image.width : image.height);
  Transform({1, 0, along_x ? shift : 0, 0, 1, along_x ? 0 : shift}, a, image);
}

const std::map<std::string, Operation, std::less<>>& Operations() {
  static const auto* const operations = new std::map<std::string, Operation, std::less<>>{
      {"AutoContrast", [](const Arguments&, Image& i) { AutoContrast(i); }},
      {"Equalize", [](const Arguments&, Image& i) { Equalize(i); }},
      {"Invert", [](const Arguments&, Image& i) { Invert(i); }},
      {"Rotate", [](const Arguments& a, Image& i) { Transform(Rotation(i.size(), Signed(a, Share(a) * 30)), a, i); }},
      {"Posterize", [](const Arguments& a, Image& i) { KeepBits(PosterizeBits(a), i); }},
      {"PosterizeIncreasing", [](const Arguments& a, Image& i) { KeepBits(4 - PosterizeBits(a), i); }},
      {"PosterizeOriginal", [](const Arguments& a, Image& i) { KeepBits(4 + PosterizeBits(a), i); }},
      {"Solarize", [](const Arguments& a, Image& i) { Solarize(i, SolarizeThreshold(a)); }},
      {"SolarizeIncreasing", [](const Arguments& a, Image& i) { Solarize(i, 256 - SolarizeThreshold(a)); }},
      {"SolarizeAdd",
       [](const Arguments& a, Image& i) { SolarizeAdd(i, std::min(128, static_cast<int>(Share(a) * 110)), 128); }},
      {"Color", [](const Arguments& a, Image& i) { AdjustSaturation(i, Factor(a)); }},
      {"ColorIncreasing", [](const Arguments& a, Image& i) { AdjustSaturation(i, FactorAroundOne(a)); }},
      {"Contrast", [](const Arguments& a, Image& i) { AdjustContrast(i, Factor(a)); }},
      {"ContrastIncreasing", [](const Arguments& a, Image& i) { AdjustContrast(i, FactorAroundOne(a)); }},
      {"Brightness", [](const Arguments& a, Image& i) { AdjustBrightness(i, Factor(a)); }},
      {"BrightnessIncreasing", [](const Arguments& a, Image& i) { AdjustBrightness(i, FactorAroundOne(a)); }},
      {"Sharpness", [](const Arguments& a, Image& i) { AdjustSharpness(i, Factor(a)); }},
      {"SharpnessIncreasing", [](const Arguments& a, Image& i) { AdjustSharpness(i, FactorAroundOne(a)); }},
      {"ShearX", [](const Arguments& a, Image& i) { Shear(true, a, i); }},
      {"ShearY", [](const Arguments& a, Image& i) { Shear(false, a, i); }},
      {"TranslateXRel", [](const Arguments& a, Image& i) { Translate(true, a, i); }},
      {"TranslateYRel", [](const Arguments& a, Image& i) { Translate(false, a, i); }},
      {"Desaturate",
       [](const Arguments& a, Image& i) { AdjustSaturation(i, 1 - std::min(0.5 + 0.5 * Share(a), 1.0)); }},
      {"GaussianBlur", [](const Arguments& a, Image& i) { BlurGaussian(i, std::min(0.1 + 1.9 * Share(a), 2.0)); }},
      {"GaussianBlurRand",
       [](const Arguments& a, Image& i) { BlurGaussian(i, 0.1 + (2 * std::min(Share(a), 1.0) - 0.1) * a.uniform); }},
  };
  return *operations;
}

}  // namespace

Operation FindOperation(std::string_view name) {
  const auto found = Operations().find(name);
  CHECK(found != Operations().end()) << name;
  return found->second;
}

double DrawLevel(double magnitude, const AugmentationSettings& settings, Draws& draws) {
  if (std::isinf(settings.magnitude_deviation)) {
    magnitude = draws.Uniform(0, magnitude);
  } else if (settings.magnitude_deviation > 0) {
    magnitude += settings.magnitude_deviation * draws.Normal();
  }
  return std::clamp(magnitude, 0.0, settings.max_magnitude);
}

void Augment(const Augmentation& augmentation, const AugmentationSettings& settings, Image& image, Draws& draws) {
  if (!draws.Bernoulli(augmentation.probability)) return;
  OperationArguments arguments{.fill = settings.fill};
  arguments.level = DrawLevel(augmentation.magnitude, settings, draws);
  arguments.negative = draws.Bernoulli(0.5);
  arguments.uniform = draws.Uniform();
  arguments.interpolation = settings.interpolation;
  if (settings.interpolation == RANDOM) arguments.interpolation = draws.Bernoulli(0.5) ? BILINEAR : BICUBIC;
  FindOperation(augmentation.name)(arguments, image);
}

PolicyString::PolicyString(std::string_view policy, const std::vector<std::string>& keys, FieldErrors& errors)
    : policy_(policy), errors_(errors) {
  const std::vector<std::string> sections = absl::StrSplit(policy_, '-');
  name_ = sections[0];
  for (size_t i = 1; i < sections.size(); ++i) {
    const std::string& section = sections[i];
    // A key is letters, then comes a number; but sets of operations and infinity are words.
    size_t end = section.find_first_not_of("abcdefghijklmnopqrstuvwxyz");
    if (section[0] == 't') end = 1;
    if (section == "mstdinf") end = 4;
    const std::string key = section.substr(0, end);
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
      AddError(absl::StrCat("section '", section, "' does not begin with one of ", absl::StrJoin(keys, ", "),
                            DidYouMean(key, keys)));
    } else if (!values_.emplace(key, section.substr(key.size())).second) {
      AddError(absl::StrCat("says ", key, " twice"));
    }
  }
}

void PolicyString::AddError(std::string_view message) const {
  errors_.Add("policy", absl::StrCat("'", policy_, "' ", std::string(message)));
}

const std::string* PolicyString::Find(const std::string& key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

double PolicyString::Number(const std::string& key, double low, double high, double otherwise) const {
  const std::string* text = Find(key);
  if (text == nullptr) return otherwise;
  double value;
  if (absl::SimpleAtod(*text, &value) && value >= low && value <= high) return value;
  AddError(absl::StrCat("needs a number from ", low, " to ", high, " after ", key, ", found '", *text, "'"));
  return otherwise;
}

int PolicyString::WholeNumber(const std::string& key, int low, int high, int otherwise) const {
  const std::string* text = Find(key);
  if (text == nullptr) return otherwise;
  int value;
  if (absl::SimpleAtoi(*text, &value) && value >= low && value <= high) return value;
  const std::string allowed = low == high ? absl::StrCat(low) : absl::StrCat("a whole number from ", low, " to ", high);
  AddError(absl::StrCat("needs ", allowed, " after ", key, ", found '", *text, "'"));
  return otherwise;
}

std::string PolicyString::Choice(const std::string& key, const std::vector<std::string>& allowed) const {
  const std::string* text = Find(key);
  if (text == nullptr) return "";
  if (std::find(allowed.begin(), allowed.end(), *text) != allowed.end()) return *text;
  AddError(absl::StrCat("needs one of ", absl::StrJoin(allowed, ", "), " after ", key, ", found '", *text, "'",
                        DidYouMean(*text, allowed)));
  return "";
}

double PolicyString::MagnitudeDeviation() const {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double deviation = Number("mstd", 0, kInfinity, 0);
  return deviation > 100 ? kInfinity : deviation;
}

}  // namespace graticule
