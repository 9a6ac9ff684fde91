#include "data/loader/cached_dataset.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <variant>

#include "plugin/logging.h"
#include "plugin/status.h"

namespace graticule {

CachedDataset::CachedDataset(std::unique_ptr<Dataset> dataset, Cache::Kind kind,
                             std::shared_ptr<std::atomic<int64_t>> budget, const DecodeOptions& decode)
    : dataset_(std::move(dataset)),
      kind_(kind),
      budget_(std::move(budget)),
      decode_(decode),
      kept_(std::make_unique<std::atomic<const Sample*>[]>(dataset_->size())) {
  CHECK(kind_ == Cache::ENCODED || kind_ == Cache::DECODED);
}

CachedDataset::~CachedDataset() {
  for (int64_t i = 0; i < size(); ++i) delete kept_[i].load();
}

absl::StatusOr<Sample> CachedDataset::Read(int64_t index) const {
  if (const Sample* kept = kept_[index].load(std::memory_order_acquire)) return *kept;
  ASSIGN_OR_RETURN(Sample sample, dataset_->Read(index));
  const EncodedImage* const encoded = std::get_if<EncodedImage>(&sample.image);
  if (kind_ == Cache::DECODED && encoded != nullptr) {
    ASSIGN_OR_RETURN(Image image, DecodeImage(encoded->bytes, decode_));
    sample.image = std::move(image);
  }
  if (kind_ == Cache::DECODED || encoded != nullptr) Keep(index, sample);
  return sample;
}

void CachedDataset::Keep(int64_t index, const Sample& sample) const {
  const EncodedImage* const encoded = std::get_if<EncodedImage>(&sample.image);
  const size_t content = encoded != nullptr ? encoded->bytes.size() : std::get<Image>(sample.image).pixels.size();
  const int64_t bytes = static_cast<int64_t>(sizeof(Sample) + content);
  if (budget_->fetch_sub(bytes) < bytes) {
    budget_->fetch_add(bytes);
    if (!full_.exchange(true)) {
      const auto kept =
          std::count_if(kept_.get(), kept_.get() + size(), [](const auto& one) { return one != nullptr; });
      LOG(INFO) << "the cache is full: it keeps about " << kept << " of " << size()
                << " images, the others are read every time";
    }
    return;
  }
  // A copy of the bytes: their owner may be a file that is mapped, or more than this image.
  auto copy = encoded != nullptr
                  ? std::make_unique<const Sample>(Sample{EncodedImage(std::string(encoded->bytes)), sample.label})
                  : std::make_unique<const Sample>(sample);
  const Sample* none = nullptr;
  if (kept_[index].compare_exchange_strong(none, copy.get(), std::memory_order_acq_rel)) {
    copy.release();
  } else {
    budget_->fetch_add(bytes);
  }
}

}  // namespace graticule
