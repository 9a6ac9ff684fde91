// The operations of RandAugment and AutoAugment with timm's names and meanings, and the strings that choose them.
#ifndef GRATICULE_DATA_TRANSFORMS_AUGMENTATION_H_
#define GRATICULE_DATA_TRANSFORMS_AUGMENTATION_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "data/color.h"
#include "data/image.h"
#include "data/random.h"
#include "data/transforms/interpolation.pb.h"
#include "plugin/status.h"

namespace graticule {

// What one use of an operation depends on besides the image; each operation takes what it knows.
struct OperationArguments {
  double level = 0;                       // how much, in timm's units: 0 to 10, or beyond
  bool negative = false;                  // to which side
  double uniform = 0;                     // in [0, 1): of operations that draw their strength, up to the level
  Interpolation interpolation = BICUBIC;  // not RANDOM
  Color fill = {};
};
using Operation = void (*)(const OperationArguments& arguments, Image& image);

// By timm's name, such as "ShearX" or "PosterizeIncreasing"; the formulas from level to argument are in
// rand_augment/README.md. CHECKs that there is one.
Operation FindOperation(std::string_view name);

// The largest magnitude that a policy may ask for; the levels' meanings are made for 10.
inline constexpr double kMaxMagnitude = 100;

// What a policy says of all of its operations.
struct AugmentationSettings {
  double magnitude_deviation = 0;  // of a normal distribution; infinite: uniform from 0 to the magnitude
  double max_magnitude = 10;       // where drawn magnitudes are clipped
  Interpolation interpolation = BICUBIC;
  Color fill = {};
};

// An operation as a policy asks for it.
struct Augmentation {
  std::string name;
  double probability = 0.5;
  double magnitude = 10;

  bool operator==(const Augmentation&) const = default;
};

// The level of one use of an operation of this magnitude.
double DrawLevel(double magnitude, const AugmentationSettings& settings, Draws& draws);

// Applies the operation with its probability.
void Augment(const Augmentation& augmentation, const AugmentationSettings& settings, Image& image, Draws& draws);

// A policy's string, such as "rand-m9-mstd0.5": a name, then sections after dashes, each a key and its value. What is
// wrong with it goes to `errors`, which must outlive this.
class PolicyString {
 public:
  // `keys` are all that are allowed.
  PolicyString(std::string_view policy, const std::vector<std::string>& keys, FieldErrors& errors);

  const std::string& name() const { return name_; }
  // The value of a key in [low, high]; `otherwise` where the key is missing or its value is an error.
  double Number(const std::string& key, double low, double high, double otherwise) const;
  int WholeNumber(const std::string& key, int low, int high, int otherwise) const;
  // One of `allowed`.
  std::string Choice(const std::string& key, const std::vector<std::string>& allowed) const;
  // The deviation of magnitudes, mstd: infinite above 100.
  double MagnitudeDeviation() const;
  void AddError(std::string_view message) const;

 private:
  const std::string* Find(const std::string& key) const;

  std::string policy_;
  std::string name_;
  std::map<std::string, std::string> values_;
  FieldErrors& errors_;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_TRANSFORMS_AUGMENTATION_H_
