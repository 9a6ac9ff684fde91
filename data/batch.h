// What the loader hands to the trainer.
#ifndef GRATICULE_DATA_BATCH_H_
#define GRATICULE_DATA_BATCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"

namespace graticule {

struct Batch {
  // [B,3,H,W]. From the loader: uint8 in channels-last memory. For the model: float, normalised, on its device.
  at::Tensor images;
  at::Tensor labels;  // [B] int64
  // [B,K] float soft targets, where mixing made some; else undefined.
  at::Tensor soft_labels;
  // [B,K] float, what the teacher says of the images, where there is a teacher; else undefined.
  at::Tensor teacher_logits;
  std::vector<int64_t> indices;  // [B] of the samples in the dataset

  int64_t size() const { return images.size(0); }
};

}  // namespace graticule

#endif  // GRATICULE_DATA_BATCH_H_
