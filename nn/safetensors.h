// Reads and writes safetensors files: named tensors behind a JSON header, with nothing in them that could run.
// https://github.com/huggingface/safetensors (format)
#ifndef GRATICULE_NN_SAFETENSORS_H_
#define GRATICULE_NN_SAFETENSORS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace graticule {

struct Safetensors {
  // On reading in the order of the data. On writing, tensors of larger elements go first and else keep their order.
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  std::map<std::string, std::string> metadata;  // the header's __metadata__

  // Undefined where there is none of this name.
  at::Tensor Find(std::string_view name) const;
};

// Gives the tensors of `into` the values of those of `from`, each of that of its name, whatever its type; all of them
// or none. Memory that fits and that nobody else holds is handed over, what is shared is copied. FailedPrecondition
// names those that are missing, of another shape or of a name that `into` lacks.
absl::Status LoadByName(Safetensors from, const Safetensors& into);

// The bytes of a file. Tensors are made contiguous on the CPU; the data starts at a multiple of 64 bytes, each tensor
// at a multiple of its element size. Types: float 64, 32, 16, bfloat16, int 64, 32, 16, 8, uint8, bool; names differ.
std::string SerializeSafetensors(const Safetensors& contents);

// The same bytes without a copy of them: those before the data, and the tensors whose data follows, each after the
// other.
struct SafetensorsLayout {
  std::string header;
  std::vector<at::Tensor> data;
};
SafetensorsLayout LayOutSafetensors(const Safetensors& contents);

// Writes `path` directly (not atomically), fsynced. Errors name the path.
absl::Status WriteSafetensors(const std::string& path, const Safetensors& contents);

// Refuses a header longer than the file, gaps, overlapping or out-of-range tensors, sizes that do not match their
// shapes, unknown types and duplicate names, each by a clear error that names the path and the tensor. The tensors own
// their memory.
absl::StatusOr<Safetensors> ReadSafetensors(const std::string& path);
absl::StatusOr<Safetensors> ParseSafetensors(std::string_view bytes);
// The same of `size` bytes that `read` gives in their order: the next ones, as many as there is room for in `into`. Its
// errors are passed on.
absl::StatusOr<Safetensors> ReadSafetensors(uint64_t size,
                                            const std::function<absl::Status(absl::Span<char> into)>& read);

}  // namespace graticule

#endif  // GRATICULE_NN_SAFETENSORS_H_
