// Understands the pickles in which torch.save describes tensors, and runs nothing.
#ifndef GRATICULE_NN_UNPICKLER_H_
#define GRATICULE_NN_UNPICKLER_H_

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace graticule {

// Values refer to each other by their places in a list, so that neither depth nor cycles cost any recursion.
struct PickleValue {
  using Index = uint32_t;
  enum class Kind : uint8_t { kOpaque, kNone, kInt, kText, kTuple, kList, kDict, kGlobal, kStorage, kTensor };

  Kind kind = Kind::kOpaque;
  // Of kStorage and kTensor; Undefined for the types that safetensors lacks.
  at::ScalarType type = at::ScalarType::Undefined;
  // Of kInt; of kGlobal what it is to a state dict; of kStorage the number of elements; of kTensor the offset in its
  // storage, in elements.
  int64_t number = 0;
  // Of kText; of kGlobal its name, without the module; of kStorage the key that finds its data. Points into the
  // pickle.
  std::string_view text = {};
  // Of kTuple and kList; of kDict keys and values by turns; of kTensor the storage, the sizes, the strides (tuples).
  std::vector<Index> items = {};
};

// A reader of one pickle, of protocol 2 to 5. Globals other than those of tensors and of plain holders of data are
// errors. What those holders hold becomes kOpaque, and so does all that has no part in a state dict.
class Unpickler {
 public:
  using Index = PickleValue::Index;

  // `bytes` must outlive this.
  explicit Unpickler(std::string_view bytes);

  // Reads up to the end of the pickle.
  absl::StatusOr<Index> Run();

  const PickleValue& operator[](Index index) const { return values_[index]; }
  // Those that tensors may lie in, by key.
  const std::map<std::string_view, Index>& storages() const { return storages_; }
  // The bytes after the pickle.
  std::string_view rest() const { return rest_; }

 private:
  absl::Status Step(uint8_t opcode);

  template <typename... What>
  absl::Status Error(const What&... what) const {
    return absl::InvalidArgumentError(absl::StrCat("byte ", position_, " of its pickle ", what...));
  }
  absl::Status CodeError(std::string_view what) const;

  absl::StatusOr<std::string_view> Take(uint64_t size);
  absl::StatusOr<uint64_t> TakeUnsigned(int width);       // little-endian
  absl::StatusOr<int64_t> TakeSigned(uint64_t width);     // at most 8 bytes
  absl::StatusOr<std::string_view> TakeSized(int width);  // a size of that width, then as many bytes
  absl::StatusOr<std::string_view> TakeLine();

  absl::Status Push(PickleValue value);
  absl::StatusOr<Index> Pop();
  absl::StatusOr<std::vector<Index>> PopToMark();
  absl::StatusOr<Index> Top() const;
  absl::Status PushTuple(int size);
  absl::Status Memoize(uint64_t key);
  absl::Status Recall(uint64_t key);
  absl::Status Extend(PickleValue::Kind kind, const std::vector<Index>& items);

  absl::Status PushGlobal(std::string_view module, std::string_view name);
  absl::Status PushStorage(Index id);
  // What calling a global with the arguments would give.
  absl::Status Call(Index callable, Index arguments);
  absl::Status PushTensor(const std::vector<Index>& arguments, bool typed_storage);

  const std::string_view bytes_;
  std::string_view rest_;
  uint64_t position_ = 0;  // of the opcode
  std::deque<PickleValue> values_;
  std::vector<Index> stack_;
  std::vector<size_t> marks_;  // heights of the stack
  std::unordered_map<uint64_t, Index> memo_;
  std::map<std::string_view, Index> storages_;
};

}  // namespace graticule

#endif  // GRATICULE_NN_UNPICKLER_H_
