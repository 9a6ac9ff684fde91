#include "labels/objective.h"

namespace graticule {

void AddMetrics(ObjectiveOutput& output, int64_t batch, const at::Tensor& found, int64_t count) {
  output.metrics.Add("loss", output.loss.detach().mul(batch), batch);
  output.metrics.Add("accuracy", found.mul(100.0), count);
}

}  // namespace graticule
