// Mixup and CutMix of a training batch.
#ifndef GRATICULE_DATA_BATCH_TRANSFORMS_MIXUP_MIXUP_H_
#define GRATICULE_DATA_BATCH_TRANSFORMS_MIXUP_MIXUP_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "data/batch_transforms/batch_transform.h"
#include "data/batch_transforms/mixup/mixup.pb.h"
#include "data/fields.h"
#include "data/image.h"
#include "nn/size2d.h"

namespace graticule {

// What becomes of one image.
struct Mixing {
  double lambda = 1;       // its own share, of the pixels and of the label
  std::optional<Box> box;  // that its partner's pixels fill, which is CutMix; else mixup
};

// CutMix's box: a share 1 - lambda of the image around a uniform centre, less what of it lies outside.
Box DrawCutMixBox(Size2d image, double lambda, Draws& draws);
// The box of shares of the sides in `minmax`, inside of the image.
Box DrawCutMixBox(Size2d image, Range minmax, Draws& draws);

// Mixes image i, and row i of soft_labels [B,K], with those of B-1-i as they were before, as mixings[i] says. Where
// there are no soft_labels yet, they start as the labels' one-hot vectors. Pixels are rounded.
void Mix(const std::vector<Mixing>& mixings, int64_t num_classes, Batch& batch);

class MixupTransform : public BatchTransform {
 public:
  static absl::StatusOr<std::unique_ptr<BatchTransform>> Create(const Mixup& config,
                                                                const BatchTransformContext& context);

  void Apply(Batch& batch, int64_t epoch, Draws& draws) const override;
  // What becomes of the images [B] of this size.
  std::vector<Mixing> DrawMixings(int64_t batch_size, Size2d image, Draws& draws) const;

 private:
  MixupTransform() = default;
  Mixing DrawMixing(Size2d image, Draws& draws) const;

  int64_t num_classes_;
  double probability_;
  double cutmix_probability_;  // where images are mixed
  double mixup_alpha_;
  double cutmix_alpha_;
  std::optional<Range> cutmix_minmax_;
  Mixup::Mode mode_;
  int64_t off_epoch_;  // 0: none
};

}  // namespace graticule

#endif  // GRATICULE_DATA_BATCH_TRANSFORMS_MIXUP_MIXUP_H_
