#include "data/batch_transforms/mixup/mixup.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string_view>
#include <utility>

#include "ATen/ops/empty.h"
#include "absl/strings/str_cat.h"
#include "data/transforms/clones.h"
#include "plugin/logging.h"
#include "plugin/registry.h"

namespace graticule {
namespace {

constexpr int64_t kPixel = Image::kChannels;
constexpr double kMinAlpha = 1e-3, kMaxAlpha = 1e3;

// In single precision, halves rounded to even, as timm's FastCollateMixup.
GRATICULE_CLONES void BlendPixels(uint8_t* values, const uint8_t* others, int64_t count, float share) {
  for (int64_t i = 0; i < count; ++i) {
    const float mixed = static_cast<float>(values[i]) * share + static_cast<float>(others[i]) * (1 - share);
    // Floats from 2^23 to 2^24 are the integers, and their last bits count them.
    values[i] = static_cast<uint8_t>(std::bit_cast<uint32_t>(mixed + 0x1p23f));
  }
}

void CopyBox(const Box& box, Size2d image, const uint8_t* from, uint8_t* to) {
  for (int64_t y = box.top; y < box.top + box.size.height; ++y) {
    const int64_t start = kPixel * (y * image.width + box.left);
    std::memcpy(to + start, from + start, kPixel * box.size.width);
  }
}

void MixImage(const Mixing& mixing, Size2d size, const uint8_t* other, uint8_t* image) {
  if (mixing.box.has_value()) {
    CopyBox(*mixing.box, size, other, image);
  } else if (mixing.lambda < 1) {
    BlendPixels(image, other, kPixel * size.area(), static_cast<float>(mixing.lambda));
  }
}

void MixImages(const std::vector<Mixing>& mixings, const at::Tensor& images) {
  const Size2d size{images.size(2), images.size(3)};
  const int64_t bytes = kPixel * size.area();
  Pixels before(bytes);
  uint8_t* first = images.data_ptr<uint8_t>();
  uint8_t* last = first + bytes * (images.size(0) - 1);
  auto mixing = mixings.begin(), mixing_of_last = mixings.end();
  for (; first < last; first += bytes, last -= bytes) {
    std::memcpy(before.data(), first, bytes);
    MixImage(*mixing++, size, last, first);
    MixImage(*--mixing_of_last, size, before.data(), last);
  }
}

at::Tensor OneHot(const at::Tensor& labels, int64_t num_classes) {
  const int64_t* const label = labels.data_ptr<int64_t>();
  at::Tensor result = at::empty({labels.size(0), num_classes}, at::kFloat);
  float* row = result.data_ptr<float>();
  std::fill(row, row + result.numel(), 0.f);
  for (int64_t i = 0; i < labels.size(0); ++i, row += num_classes) {
    CHECK(label[i] >= 0 && label[i] < num_classes) << label[i];
    row[label[i]] = 1;
  }
  return result;
}

// A box from `top` and `left` to `bottom` and `right`, of which what lies outside is cut off.
Box Clipped(int64_t top, int64_t left, int64_t bottom, int64_t right, Size2d image) {
  top = std::max<int64_t>(top, 0);
  left = std::max<int64_t>(left, 0);
  return {top, left, {std::min(bottom, image.height) - top, std::min(right, image.width) - left}};
}

void CheckAlpha(double alpha, std::string_view path, FieldErrors& errors) {
  if (!(alpha == 0 || (alpha >= kMinAlpha && alpha <= kMaxAlpha))) {
    errors.Add(path, absl::StrCat("must be 0 or in [", kMinAlpha, ", ", kMaxAlpha, "], found ", alpha));
  }
}

}  // namespace

Box DrawCutMixBox(Size2d image, double lambda, Draws& draws) {
  const double side = std::sqrt(1 - lambda);
  // Halves, rounded down twice, as in timm.
  const int64_t height = static_cast<int64_t>(static_cast<double>(image.height) * side) / 2;
  const int64_t width = static_cast<int64_t>(static_cast<double>(image.width) * side) / 2;
  const int64_t y = draws.Below(image.height);
  const int64_t x = draws.Below(image.width);
  return Clipped(y - height, x - width, y + height, x + width, image);
}

Box DrawCutMixBox(Size2d image, Range minmax, Draws& draws) {
  const auto draw_side = [&](int64_t side) {
    const int64_t low = static_cast<int64_t>(static_cast<double>(side) * minmax.low);
    const int64_t high = static_cast<int64_t>(static_cast<double>(side) * minmax.high);
    // timm fails where an image is too small for the two to differ.
    return low + draws.Below(std::max<int64_t>(high - low, 1));
  };
  const int64_t height = draw_side(image.height);
  const int64_t width = draw_side(image.width);
  const int64_t top = draws.Below(image.height - height);
  const int64_t left = draws.Below(image.width - width);
  return {top, left, {height, width}};
}

void Mix(const std::vector<Mixing>& mixings, int64_t num_classes, Batch& batch) {
  CHECK_EQ(static_cast<int64_t>(mixings.size()), batch.size());
  CHECK(batch.images.scalar_type() == at::kByte && batch.images.size(1) == kPixel &&
        batch.images.is_contiguous(at::MemoryFormat::ChannelsLast));
  MixImages(mixings, batch.images);

  const at::Tensor before =
      batch.soft_labels.defined() ? batch.soft_labels.contiguous() : OneHot(batch.labels, num_classes);
  const int64_t classes = before.size(1);
  at::Tensor mixed = at::empty(before.sizes(), at::TensorOptions(at::kFloat).pinned_memory(batch.labels.is_pinned()));
  for (int64_t i = 0; i < batch.size(); ++i) {
    const float* const own = before.data_ptr<float>() + classes * i;
    const float* const other = before.data_ptr<float>() + classes * (batch.size() - 1 - i);
    float* const row = mixed.data_ptr<float>() + classes * i;
    const float share = static_cast<float>(mixings[i].lambda);
    for (int64_t k = 0; k < classes; ++k) row[k] = own[k] * share + other[k] * (1 - share);
  }
  batch.soft_labels = mixed;
}

absl::StatusOr<std::unique_ptr<BatchTransform>> MixupTransform::Create(const Mixup& config,
                                                                       const BatchTransformContext& context) {
  FieldErrors errors;
  std::unique_ptr<MixupTransform> transform(new MixupTransform);
  transform->num_classes_ = context.num_classes;
  transform->mode_ = config.mode();
  transform->mixup_alpha_ = config.has_mixup_alpha() ? config.mixup_alpha() : 1;
  CheckAlpha(transform->mixup_alpha_, "mixup_alpha", errors);
  transform->cutmix_alpha_ = config.cutmix_alpha();
  CheckAlpha(transform->cutmix_alpha_, "cutmix_alpha", errors);
  if (config.cutmix_minmax_size() > 0) {
    const Range minmax = RangeFromField(config.cutmix_minmax(), "cutmix_minmax", {}, {0, 1}, errors);
    if (minmax.low == 1) errors.Add("cutmix_minmax", "leaves nothing of an image");
    if (transform->cutmix_alpha_ > 0) {
      errors.Add("cutmix_alpha", "has no effect beside cutmix_minmax; give one of them");
    }
    transform->cutmix_minmax_ = minmax;
  }
  transform->probability_ = config.has_probability() ? config.probability() : 1;
  CheckProbability(transform->probability_, "probability", errors);
  const double switch_probability = config.has_switch_probability() ? config.switch_probability() : 0.5;
  CheckProbability(switch_probability, "switch_probability", errors);
  transform->off_epoch_ = config.off_epoch();
  if (config.off_epoch() < 0) {
    errors.Add("off_epoch", absl::StrCat("must not be negative, found ", config.off_epoch()));
  }
  const bool mixup = transform->mixup_alpha_ != 0;
  const bool cutmix = transform->cutmix_alpha_ != 0 || transform->cutmix_minmax_.has_value();
  if (!mixup && !cutmix) errors.Add("", "does nothing: mixup_alpha, cutmix_alpha or cutmix_minmax must be given");
  transform->cutmix_probability_ = mixup && cutmix ? switch_probability : cutmix;
  if (!errors.empty()) return errors.ToStatus();
  return transform;
}

Mixing MixupTransform::DrawMixing(Size2d image, Draws& draws) const {
  if (!draws.Bernoulli(probability_)) return {};
  if (!draws.Bernoulli(cutmix_probability_)) return {.lambda = draws.Beta(mixup_alpha_, mixup_alpha_)};
  const Box box = cutmix_minmax_.has_value() ? DrawCutMixBox(image, *cutmix_minmax_, draws)
                                             : DrawCutMixBox(image, draws.Beta(cutmix_alpha_, cutmix_alpha_), draws);
  return {1 - static_cast<double>(box.size.area()) / static_cast<double>(image.area()), box};
}

std::vector<Mixing> MixupTransform::DrawMixings(int64_t batch_size, Size2d image, Draws& draws) const {
  if (mode_ == Mixup::ELEM) {
    std::vector<Mixing> mixings(batch_size);
    for (Mixing& mixing : mixings) mixing = DrawMixing(image, draws);
    return mixings;
  }
  if (mode_ != Mixup::PAIR) return std::vector<Mixing>(batch_size, DrawMixing(image, draws));
  std::vector<Mixing> mixings(batch_size);
  for (int64_t i = 0; i < batch_size / 2; ++i) {
    mixings[i] = DrawMixing(image, draws);
    mixings[batch_size - 1 - i] = mixings[i];
  }
  return mixings;
}

void MixupTransform::Apply(Batch& batch, int64_t epoch, Draws& draws) const {
  if (off_epoch_ > 0 && epoch >= off_epoch_) return;
  const Size2d image{batch.images.size(2), batch.images.size(3)};
  Mix(DrawMixings(batch.size(), image, draws), num_classes_, batch);
}

namespace {
const Registration<BatchTransform, Mixup> kRegistration("Mixes images and labels of a batch: mixup and CutMix",
                                                        "mixup_alpha: 0.8 cutmix_alpha: 1", &MixupTransform::Create);
}  // namespace

}  // namespace graticule
