// Training batches without end.
#ifndef GRATICULE_APP_FEED_H_
#define GRATICULE_APP_FEED_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "data/batch.h"
#include "data/loader/loader.h"
#include "plugin/status.h"
#include "trainer/parts.h"

namespace graticule {

// A training loader that goes on from epoch to epoch. `data` outlives it and holds a batch at least.
class Feed {
 public:
  Feed(const Experiment& experiment, const DataParts& data) : loader_(data.TrainLoader(experiment)) {}

  absl::StatusOr<Batch> Next() {
    while (true) {
      ASSIGN_OR_RETURN(std::optional<Batch> batch, loader_->Next());
      if (batch.has_value()) return *std::move(batch);
      loader_->Start(epochs_++);
    }
  }
  absl::Status Skip(int batches) {
    for (int i = 0; i < batches; ++i) RETURN_IF_ERROR(Next().status());
    return absl::OkStatus();
  }
  LoaderTimes times() const { return loader_->times(); }

 private:
  std::unique_ptr<Loader> loader_;
  int64_t epochs_ = 0;
};

}  // namespace graticule

#endif  // GRATICULE_APP_FEED_H_
