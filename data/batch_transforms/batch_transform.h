// The interface of the batch transforms: steps that mix the images of a training batch and their labels.
#ifndef GRATICULE_DATA_BATCH_TRANSFORMS_BATCH_TRANSFORM_H_
#define GRATICULE_DATA_BATCH_TRANSFORMS_BATCH_TRANSFORM_H_

#include <cstdint>

#include "data/batch.h"
#include "data/random.h"

namespace graticule {

struct BatchTransformContext {
  int64_t num_classes = 0;  // K
};

class BatchTransform {
 public:
  static constexpr char kKind[] = "batch_transform";
  using Context = BatchTransformContext;
  virtual ~BatchTransform() = default;

  // In place, on the loader's batch of an epoch, which are counted from 0: images [B,3,H,W] uint8 in channels-last
  // memory. Called from many threads at once.
  // What it does to the labels stands in soft_labels [B,K] afterwards, before any label smoothing, which is the task's.
  virtual void Apply(Batch& batch, int64_t epoch, Draws& draws) const = 0;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_BATCH_TRANSFORMS_BATCH_TRANSFORM_H_
