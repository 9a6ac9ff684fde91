// Histograms with TensorBoard's buckets.
#ifndef GRATICULE_TRAINER_SINKS_TENSOR_BOARD_HISTOGRAM_H_
#define GRATICULE_TRAINER_SINKS_TENSOR_BOARD_HISTOGRAM_H_

#include <vector>

#include "trainer/sinks/tensor_board/event.pb.h"

namespace graticule::tensor_board {

// As TensorFlow makes one: the limits are 0, ±1e-12·1.1^k below 1e20, and ± the greatest double; a run of empty buckets
// becomes one. Values that are infinite or no numbers are left out.
// https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/lib/histogram/histogram.cc
Histogram MakeHistogram(const std::vector<double>& values);

}  // namespace graticule::tensor_board

#endif  // GRATICULE_TRAINER_SINKS_TENSOR_BOARD_HISTOGRAM_H_
