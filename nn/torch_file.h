// Reads weights that Python's torch.save wrote (.pth, .pt), and runs nothing of them: a pickle is a program, of which
// only the part that describes tensors is understood.
// https://docs.python.org/3/library/pickletools.html (opcodes)
// https://pytorch.org/docs/stable/notes/serialization.html (files)
#ifndef GRATICULE_NN_TORCH_FILE_H_
#define GRATICULE_NN_TORCH_FILE_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "nn/safetensors.h"

namespace graticule {

// In the metadata of what was read: the name under which the file has the state dict, such as "model_ema"; absent
// where the file is nothing else.
inline constexpr char kStateDictKey[] = "state_dict";

// Whether these are the first bytes of a zip file or of a pickle, rather than of a safetensors file.
bool IsTorchFile(std::string_view bytes);

// The state dict of a file of torch.save, zipped or of the format before PyTorch 1.6: the tensors by name, in the
// file's order, contiguous (tied ones share memory), of the types of safetensors. Entries that are no tensors are left
// out. It is the dict that is the file or that the file has under `state_dict`, `model`, `model_state`, `module` or,
// preferred where `ema` says so and else taken only for want of those, under `state_dict_ema` or `model_ema`.
//
// InvalidArgument for everything else, by a clear error: a pickle that names what is neither part of a tensor nor a
// plain holder of data (reading it in Python would run code), TorchScript, compressed or missing or doubled data,
// tensors larger than their storages. Memory stays within a few times the file's size and some 100 bytes for each value
// of the pickle, 4 million at most.
absl::StatusOr<Safetensors> ParseTorchFile(std::string_view bytes, bool ema);

}  // namespace graticule

#endif  // GRATICULE_NN_TORCH_FILE_H_
