#include "data/loader/loader.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "ATen/Parallel.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/index_select.h"
#include "ATen/ops/tensor.h"
#include "absl/strings/str_cat.h"
#include "data/decode/decode.h"
#include "data/loader/order.h"
#include "data/random.h"
#include "data/transforms/geometry.h"
#include "plugin/logging.h"
#include "plugin/status.h"

// Of the OpenMP runtime that LibTorch brings along; sets the calling thread's own number.
extern "C" void omp_set_num_threads(int);

namespace graticule {
namespace {

// They keep the draws of samples and of batches apart from each other and from other draws of the same seed.
constexpr uint64_t kSampleSalt = 0x6175676d656e74;
constexpr uint64_t kBatchSalt = 0x6d6978696e67;

// A thread takes at most so many samples at a time: enough that the lock costs nothing for tiny images.
constexpr int64_t kMaxChunk = 32;

struct BrokenSample {
  int64_t place;  // in the epoch's order
  int64_t index;  // in the dataset
  absl::Status reason;
  bool wrong_size;  // after the transforms, which is no fault of the sample
};

// A batch while it is filled. A chunk is written by one thread, without the lock; so is all of it, by the thread that
// finishes the last chunk.
struct Slot {
  int64_t first_position;
  int64_t size;
  Batch batch;         // images [B,3,H,W] uint8, channels-last; indices are negative where nothing came of the sample
  absl::Status error;  // of its memory or the batch transforms
  // Under the lock:
  int64_t claimed = 0;   // samples that a thread has begun
  int64_t finished = 0;  // samples that are done
  bool ready = false;    // the whole batch is
  std::vector<BrokenSample> broken;
};

// One epoch under way. Threads hold on to it while they work on it, so the next one need not wait for them.
struct Epoch {
  int64_t number;
  int64_t next_batch;                       // that no slot has been made for
  std::optional<ShuffledOrder> order;       // else the dataset's
  std::deque<std::shared_ptr<Slot>> slots;  // that Next() has not handed out, in order
  std::atomic<bool> cancelled = false;
  std::set<int64_t> broken;  // indices, of the batches that Next() has reached
  absl::Status error;        // that ended it
};

// Times what a thread does.
class Stopwatch {
 public:
  // What was done since the last call, or since the start, was this.
  void Lap(double LoaderTimes::*stage) {
    const Clock::time_point now = Clock::now();
    times_.*stage += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }
  const LoaderTimes& times() const { return times_; }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point last_ = Clock::now();
  LoaderTimes times_;
};

}  // namespace

class Loader::Impl {
 public:
  Impl(const Dataset* dataset, std::vector<const Transform*> transforms,
       std::vector<const BatchTransform*> batch_transforms, LoaderOptions options)
      : dataset_(dataset),
        transforms_(std::move(transforms)),
        batch_transforms_(std::move(batch_transforms)),
        options_(options),
        samples_(dataset->size()),
        chunk_(std::clamp<int64_t>(options.batch_size / (2 * std::max(options.threads, 1)), 1, kMaxChunk)) {
    CHECK_GT(options_.batch_size, 0);
    CHECK_GT(options_.repeats, 0);
    CHECK_GT(options_.threads, 0);
    CHECK_GT(options_.batches_ahead, 0);
    CHECK(options_.rank >= 0 && options_.rank < options_.world_size);
    CHECK(options_.max_broken >= 0 && options_.max_broken <= 1);
    shown_ = (samples_ + options_.repeats - 1) / options_.repeats;
    // Rounded up, so that one broken sample of a small dataset can be passed over; and one must be good.
    const double share = options_.max_broken * static_cast<double>(shown_) / options_.world_size;
    allowed_broken_ = std::min(static_cast<int64_t>(std::ceil(share)), std::max<int64_t>(samples_ - 1, 0));
    for (int i = 0; i < options_.threads; ++i) threads_.emplace_back([this] { Work(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
      if (epoch_ != nullptr) epoch_->cancelled = true;
    }
    work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  int64_t batches_per_epoch() const {
    const int64_t global = options_.batch_size * options_.world_size;
    const int64_t rest = samples_ % global;
    // Of a last, smaller global batch this rank may have a part.
    const bool part = !options_.drop_last && rest > options_.rank * options_.batch_size;
    return samples_ / global + part;
  }

  void Start(int64_t number, int64_t first_batch) {
    CHECK_GE(first_batch, 0);
    auto epoch = std::make_shared<Epoch>();
    epoch->number = number;
    epoch->next_batch = first_batch;
    if (options_.shuffle) {
      epoch->order.emplace(samples_, dataset_->Runs(), options_.shuffle_buffer, options_.seed, number);
    }
    {
      const std::lock_guard lock(mutex_);
      if (epoch_ != nullptr) epoch_->cancelled = true;
      epoch_ = std::move(epoch);
    }
    work_.notify_all();
  }

  absl::StatusOr<std::optional<Batch>> Next() {
    if (epoch_ == nullptr) return std::nullopt;
    while (epoch_->error.ok()) {
      std::shared_ptr<Slot> slot = NextSlot();
      if (slot == nullptr) return std::nullopt;
      CountBroken(*slot);
      if (epoch_->error.ok() && !slot->error.ok()) End(slot->error);
      if (epoch_->error.ok() && slot->batch.size() > 0) return std::move(slot->batch);
    }
    return epoch_->error;
  }

  int64_t broken() const { return static_cast<int64_t>(broken_.size()); }
  double wait_seconds() const { return wait_seconds_; }
  LoaderTimes times() const {
    const std::lock_guard lock(mutex_);
    return times_;
  }

 private:
  // The next slot, once its batch is ready; null at the end of the epoch.
  std::shared_ptr<Slot> NextSlot() {
    std::unique_lock lock(mutex_);
    if (epoch_->slots.empty() && epoch_->next_batch >= batches_per_epoch()) return nullptr;
    const auto ready = [this] { return !epoch_->slots.empty() && epoch_->slots.front()->ready; };
    if (!ready()) {
      const auto start = std::chrono::steady_clock::now();
      done_.wait(lock, ready);
      wait_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    std::shared_ptr<Slot> slot = std::move(epoch_->slots.front());
    epoch_->slots.pop_front();
    lock.unlock();
    work_.notify_all();
    return slot;
  }

  // In the order of the epoch, whichever thread met them first, so that the log and the error are always the same.
  void CountBroken(Slot& slot) {
    std::sort(slot.broken.begin(), slot.broken.end(),
              [](const BrokenSample& a, const BrokenSample& b) { return a.place < b.place; });
    for (const BrokenSample& sample : slot.broken) {
      if (options_.stop_at_truncated && absl::IsOutOfRange(sample.reason)) {
        End(absl::DataLossError(absl::StrCat("a truncated file ends the run: ", sample.reason.message())));
        return;
      }
      if (sample.wrong_size) {
        End(sample.reason);
        return;
      }
      if (broken_.insert(sample.index).second) {
        LOG(WARNING) << "skipped a broken sample: " << sample.reason.message();
      }
      epoch_->broken.insert(sample.index);
      const int64_t count = static_cast<int64_t>(epoch_->broken.size());
      if (count <= allowed_broken_) continue;
      End(absl::DataLossError(absl::StrCat(count, " of ", shown_, " samples are broken so far, and max_broken ",
                                           options_.max_broken, " allows ", allowed_broken_,
                                           "; the last one: ", sample.reason.message())));
      return;
    }
  }

  void End(absl::Status error) {
    epoch_->error = std::move(error);
    epoch_->cancelled = true;
  }

  // What is done to a batch as a whole, once its rows are.
  void Finish(const Epoch& epoch, Slot& slot, Stopwatch& stopwatch) const {
    try {
      LeaveOutBroken(slot.batch);
      stopwatch.Lap(&LoaderTimes::collate);
      if (slot.batch.size() == 0) return;
      Draws draws(
          {options_.seed, static_cast<uint64_t>(epoch.number), static_cast<uint64_t>(slot.first_position), kBatchSalt});
      for (const BatchTransform* transform : batch_transforms_) transform->Apply(slot.batch, epoch.number, draws);
      stopwatch.Lap(&LoaderTimes::augment);
    } catch (...) {
      slot.error = CurrentExceptionToStatus("data.batch_transforms");
    }
  }

  static void LeaveOutBroken(Batch& batch) {
    if (std::find(batch.indices.begin(), batch.indices.end(), -1) == batch.indices.end()) return;
    std::vector<int64_t> good;
    for (int64_t i = 0; i < batch.size(); ++i) {
      if (batch.indices[i] >= 0) good.push_back(i);
    }
    const at::Tensor rows = at::tensor(good, at::kLong);
    batch.images = batch.images.index_select(0, rows).contiguous(at::MemoryFormat::ChannelsLast);
    batch.labels = batch.labels.index_select(0, rows);
    std::erase(batch.indices, -1);
  }

  void Work() {
    if (options_.on_thread_start) options_.on_thread_start();
    // One thread a thread: the kernels that transforms call would else each start a team of their own. The first call
    // makes LibTorch set this thread's number, which the second then overrides. at::set_num_threads(1) would also
    // change what threads made later get.
    at::get_num_threads();
    omp_set_num_threads(1);

    std::unique_lock lock(mutex_);
    while (true) {
      work_.wait(lock, [this] { return stopped_ || HasWork(); });
      if (stopped_) return;
      const std::shared_ptr<Epoch> epoch = epoch_;
      const std::shared_ptr<Slot> slot = ClaimableSlot(*epoch);
      const int64_t begin = slot->claimed;
      const int64_t end = std::min(begin + chunk_, slot->size);
      slot->claimed = end;
      lock.unlock();

      std::vector<BrokenSample> broken;
      Stopwatch stopwatch;
      for (int64_t i = begin; i < end && !epoch->cancelled; ++i) {
        if (!FillRow(*epoch, *slot, i, broken, stopwatch)) break;
      }

      lock.lock();
      slot->finished += end - begin;
      slot->broken.insert(slot->broken.end(), broken.begin(), broken.end());
      if (slot->finished == slot->size) {
        lock.unlock();
        if (!epoch->cancelled && slot->error.ok()) Finish(*epoch, *slot, stopwatch);
        lock.lock();
        slot->ready = true;
        done_.notify_one();
      }
      times_.read += stopwatch.times().read;
      times_.decode += stopwatch.times().decode;
      times_.resize += stopwatch.times().resize;
      times_.augment += stopwatch.times().augment;
      times_.collate += stopwatch.times().collate;
    }
  }

  // Both under the lock.
  bool HasWork() const {
    if (epoch_ == nullptr || epoch_->cancelled) return false;
    if (!epoch_->slots.empty() && epoch_->slots.back()->claimed < epoch_->slots.back()->size) return true;
    return static_cast<int>(epoch_->slots.size()) < options_.batches_ahead && epoch_->next_batch < batches_per_epoch();
  }

  std::shared_ptr<Slot> ClaimableSlot(Epoch& epoch) const {
    if (!epoch.slots.empty() && epoch.slots.back()->claimed < epoch.slots.back()->size) return epoch.slots.back();
    auto slot = std::make_shared<Slot>();
    slot->first_position = (epoch.next_batch++ * options_.world_size + options_.rank) * options_.batch_size;
    slot->size = std::min(options_.batch_size, samples_ - slot->first_position);
    try {
      Allocate(*slot);
    } catch (...) {
      // An empty batch that tells why, and is the last.
      slot->error = CurrentExceptionToStatus("memory of a batch");
      slot->size = 0;
      epoch.next_batch = batches_per_epoch();
    }
    epoch.slots.push_back(slot);
    return slot;
  }

  void Allocate(Slot& slot) const {
    slot.batch.images =
        at::empty({slot.size, Image::kChannels, options_.image_size.height, options_.image_size.width},
                  at::TensorOptions().dtype(at::kByte).pinned_memory(options_.pinned), at::MemoryFormat::ChannelsLast);
    slot.batch.labels = at::empty({slot.size}, at::TensorOptions().dtype(at::kLong).pinned_memory(options_.pinned));
    slot.batch.indices.resize(slot.size, -1);
  }

  // The sample of the row's position, or in its place, in training, the next good one of the order. False where the
  // epoch ends for it: so many were broken, or the image has the wrong size.
  bool FillRow(const Epoch& epoch, Slot& slot, int64_t row, std::vector<BrokenSample>& broken,
               Stopwatch& stopwatch) const {
    const int64_t position = slot.first_position + row;
    // A longer run of broken ones than is allowed ends the epoch anyway.
    const int64_t tries = options_.drop_last ? allowed_broken_ + 1 : 1;
    for (int64_t i = 0; i < tries; ++i) {
      const int64_t place = position / options_.repeats + i;
      const int64_t index = epoch.order ? (*epoch.order)(place % samples_) : place % samples_;
      // A substitute may meet itself in its own place, so it must not look the same.
      Draws draws({options_.seed, static_cast<uint64_t>(epoch.number), static_cast<uint64_t>(index),
                   static_cast<uint64_t>(position % options_.repeats), kSampleSalt + static_cast<uint64_t>(i)});
      const int64_t image_bytes = Image::kChannels * options_.image_size.area();
      bool wrong_size = false;
      const absl::StatusOr<int64_t> label =
          Load(index, draws, slot.batch.images.data_ptr<uint8_t>() + row * image_bytes, wrong_size, stopwatch);
      if (label.ok()) {
        slot.batch.labels.data_ptr<int64_t>()[row] = *label;
        slot.batch.indices[row] = index;
        return true;
      }
      broken.push_back({place, index, label.status(), wrong_size});
      if (wrong_size) return false;
    }
    return !options_.drop_last;
  }

  // Writes the transformed image to `pixels` and returns the label; an error names the sample. What a dataset or a
  // transform throws is an error too: an exception would end the program.
  absl::StatusOr<int64_t> Load(int64_t index, Draws& draws, uint8_t* pixels, bool& wrong_size,
                               Stopwatch& stopwatch) const {
    try {
      ASSIGN_OR_RETURN(Sample sample, dataset_->Read(index), dataset_->SampleName(index));
      stopwatch.Lap(&LoaderTimes::read);
      return Transformed(std::move(sample), index, draws, pixels, wrong_size, stopwatch);
    } catch (...) {
      return CurrentExceptionToStatus(absl::StrCat("sample ", index));
    }
  }

  absl::StatusOr<int64_t> Transformed(Sample sample, int64_t index, Draws& draws, uint8_t* pixels, bool& wrong_size,
                                      Stopwatch& stopwatch) const {
    try {
      std::optional<ResizedWindow> resized;
      ASSIGN_OR_RETURN(Image image, Decode(sample, draws, resized, stopwatch), dataset_->SampleName(index));
      if (resized) {
        ApplyWindow(*resized, image);
        stopwatch.Lap(&LoaderTimes::resize);
      }
      for (size_t i = resized ? 1 : 0; i < transforms_.size(); ++i) transforms_[i]->Apply(image, draws);
      stopwatch.Lap(&LoaderTimes::augment);
      if (image.size() != options_.image_size) {
        wrong_size = true;
        return absl::FailedPreconditionError(absl::StrCat(dataset_->SampleName(index), ": ", image.height, "x",
                                                          image.width,
                                                          " pixels after the transforms, but the model wants ",
                                                          options_.image_size.height, "x", options_.image_size.width));
      }
      std::memcpy(pixels, image.pixels.data(), image.pixels.size());
      stopwatch.Lap(&LoaderTimes::collate);
      return sample.label;
    } catch (...) {
      return CurrentExceptionToStatus(dataset_->SampleName(index));
    }
  }

  // The image of a sample, or as much of it as the first transform wants; `resized` says where in it the window lies,
  // if that is all that the first transform does.
  absl::StatusOr<Image> Decode(Sample& sample, Draws& draws, std::optional<ResizedWindow>& resized,
                               Stopwatch& stopwatch) const {
    const auto ask = [&](Size2d size) {
      if (!transforms_.empty()) resized = transforms_[0]->Window(size, draws);
    };
    EncodedImage* const encoded = std::get_if<EncodedImage>(&sample.image);
    if (encoded != nullptr && !options_.exact) {
      const auto choose = [&](Size2d size) -> std::optional<WantedRegion> {
        ask(size);
        if (!resized) return std::nullopt;
        // Without antialiasing the result depends on single pixels, which a smaller image has no more.
        return WantedRegion{resized->window, resized->antialias ? resized->size : resized->window.size};
      };
      ASSIGN_OR_RETURN(DecodedRegion region, DecodeRegion(encoded->bytes, options_.decode, choose));
      if (resized) resized->window = region.window;
      stopwatch.Lap(&LoaderTimes::decode);
      return std::move(region.image);
    }
    if (encoded != nullptr) {
      ASSIGN_OR_RETURN(Image image, DecodeImage(encoded->bytes, options_.decode));
      sample.image = std::move(image);
      stopwatch.Lap(&LoaderTimes::decode);
    }
    Image& image = std::get<Image>(sample.image);
    ask(image.size());
    return std::move(image);
  }

  const Dataset* const dataset_;
  const std::vector<const Transform*> transforms_;
  const std::vector<const BatchTransform*> batch_transforms_;
  const LoaderOptions options_;
  const int64_t samples_;
  const int64_t chunk_;
  int64_t shown_;  // samples of an epoch, each `repeats` times
  int64_t allowed_broken_;

  mutable std::mutex mutex_;
  std::condition_variable work_;  // there is room for a batch, another epoch, or the end
  std::condition_variable done_;  // a batch is ready
  bool stopped_ = false;          // under mutex_
  LoaderTimes times_;             // under mutex_
  // The pointer and the slots are under mutex_; the caller's thread alone changes the pointer.
  std::shared_ptr<Epoch> epoch_;

  // Of the caller's thread.
  std::set<int64_t> broken_;
  double wait_seconds_ = 0;

  std::vector<std::thread> threads_;  // last, so that they see the rest whole
};

Loader::Loader(const Dataset* dataset, std::vector<const Transform*> transforms,
               std::vector<const BatchTransform*> batch_transforms, LoaderOptions options)
    : impl_(std::make_unique<Impl>(dataset, std::move(transforms), std::move(batch_transforms), options)) {}
Loader::~Loader() = default;
int64_t Loader::batches_per_epoch() const { return impl_->batches_per_epoch(); }
void Loader::Start(int64_t epoch, int64_t first_batch) { impl_->Start(epoch, first_batch); }
absl::StatusOr<std::optional<Batch>> Loader::Next() { return impl_->Next(); }
int64_t Loader::broken() const { return impl_->broken(); }
double Loader::wait_seconds() const { return impl_->wait_seconds(); }
LoaderTimes Loader::times() const { return impl_->times(); }

}  // namespace graticule
