#include "nn/torch_file.h"

#include <zip.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ATen/ops/empty.h"
#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nn/unpickler.h"
#include "plugin/status.h"

namespace graticule {
namespace {

using Index = PickleValue::Index;
using Kind = PickleValue::Kind;

// Where files have their state dict, the usual name first.
constexpr const char* kModelKeys[] = {"state_dict", "model", "model_state", "module"};
constexpr const char* kEmaKeys[] = {"state_dict_ema", "model_ema"};

// The magic number and the protocol number with which files began before PyTorch 1.6, two pickles.
constexpr std::string_view kLegacyMagic("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);
constexpr std::string_view kLegacyProtocol("\x80\x02M\xe9\x03.", 6);
constexpr std::string_view kZipMagic = "PK\x03\x04";

// LibTorch iterates over at most 64.
constexpr size_t kMaxDimensions = 64;
// By how much strided tensors, such as one number expanded to a table, may take more than the file.
constexpr int64_t kMaxExpansion = 16 << 20;

template <typename... What>
absl::Status Error(const What&... what) {
  return absl::InvalidArgumentError(absl::StrCat(what...));
}

std::string Quoted(std::string_view text) {
  return absl::StrCat("'", absl::CHexEscape(std::string(text.substr(0, 200))), "'");
}

// The bytes that a storage has.
std::optional<int64_t> StorageSize(const PickleValue& storage) {
  int64_t size;
  if (__builtin_mul_overflow(storage.number, static_cast<int64_t>(c10::elementSize(storage.type)), &size)) return {};
  return size;
}

// A zip archive in memory. By libzip, which checks what it reads and is fuzzed by many; the reader inside LibTorch
// takes its sizes from the file unchecked, and its zip functions have no header.
class Archive {
 public:
  static absl::StatusOr<Archive> Open(std::string_view bytes) {
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t* source = zip_source_buffer_create(bytes.data(), bytes.size(), /*freep=*/0, &error);
    zip_t* zip = source == nullptr ? nullptr : zip_open_from_source(source, ZIP_RDONLY, &error);
    const std::string reason = zip_error_strerror(&error);
    zip_error_fini(&error);
    if (zip == nullptr) {
      zip_source_free(source);
      return Error("a damaged or truncated zip file: ", reason);
    }
    Archive archive(zip, bytes.size());
    const zip_int64_t entries = zip_get_num_entries(zip, 0);
    for (zip_int64_t i = 0; i < entries; ++i) {
      const char* name = zip_get_name(zip, i, ZIP_FL_ENC_RAW);
      if (name == nullptr) return Error("a damaged zip file: ", zip_strerror(zip));
      if (!archive.entries_.emplace(name, i).second) return Error("its zip has ", Quoted(name), " twice");
    }
    return archive;
  }

  const std::map<std::string, zip_int64_t, std::less<>>& entries() const { return entries_; }

  bool Has(const std::string& name) const { return entries_.count(name) > 0; }

  // An entry's size. Only of what is stored as it is, as torch.save does, so that nothing grows beyond the file.
  absl::StatusOr<uint64_t> Size(const std::string& name) const {
    const auto entry = entries_.find(name);
    if (entry == entries_.end()) return Error("its zip has no ", Quoted(name));
    constexpr zip_uint64_t kNeeded =
        ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    zip_stat_t stat;
    if (zip_stat_index(zip_.get(), entry->second, 0, &stat) != 0) return ReadError(name);
    if ((stat.valid & kNeeded) != kNeeded || stat.comp_method != ZIP_CM_STORE ||
        stat.encryption_method != ZIP_EM_NONE) {
      return Error(Quoted(name), " is compressed or encrypted, which torch.save does not do");
    }
    if (stat.size != stat.comp_size || stat.size > size_) {
      return Error(Quoted(name), " says that it has ", stat.size, " bytes, more than there are: the file is damaged");
    }
    return stat.size;
  }

  // Reads the entry whole, of that size, and checks its checksum.
  absl::Status Read(const std::string& name, char* data, uint64_t size) const {
    const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> file(
        zip_fopen_index(zip_.get(), entries_.find(name)->second, 0), zip_fclose);
    if (file == nullptr) return ReadError(name);
    const zip_int64_t read = zip_fread(file.get(), data, size);
    char beyond;
    // The checksum is compared at the end.
    if (read < 0 || static_cast<uint64_t>(read) != size || zip_fread(file.get(), &beyond, 1) != 0) {
      return Error("cannot read ", Quoted(name), " of its zip: ", zip_error_strerror(zip_file_get_error(file.get())));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Read(const std::string& name) const {
    ASSIGN_OR_RETURN(const uint64_t size, Size(name));
    std::string bytes(size, '\0');
    RETURN_IF_ERROR(Read(name, bytes.data(), size));
    return bytes;
  }

 private:
  Archive(zip_t* zip, uint64_t size) : zip_(zip, zip_discard), size_(size) {}

  absl::Status ReadError(const std::string& name) const {
    return Error("cannot read ", Quoted(name), " of its zip: ", zip_strerror(zip_.get()));
  }

  std::unique_ptr<zip_t, void (*)(zip_t*)> zip_;
  uint64_t size_;
  std::map<std::string, zip_int64_t, std::less<>> entries_;
};

// Makes tensors of a pickle's descriptions.
class TensorReader {
 public:
  // Gives the data of a storage that has StorageSize, as bytes.
  using Load = std::function<absl::StatusOr<at::Tensor>(const PickleValue& storage)>;

  TensorReader(const Unpickler& pickle, Load load, int64_t file_size)
      : pickle_(pickle), load_(std::move(load)), spare_(file_size + kMaxExpansion) {}

  absl::StatusOr<Safetensors> Read(Index root, bool ema) {
    Safetensors contents;
    ASSIGN_OR_RETURN(const Index dict, FindStateDict(root, ema, contents.metadata));
    std::set<std::string_view> names;
    for (const auto& [key, value] : TensorsOf(dict)) {
      // safetensors' own word.
      if (key == "__metadata__" || !names.insert(key).second) {
        return Error("its state dict has a tensor named ", Quoted(key), key == "__metadata__" ? "" : " twice");
      }
      ASSIGN_OR_RETURN(at::Tensor tensor, ReadTensor(pickle_[value]), absl::StrCat("tensor ", Quoted(key)));
      contents.tensors.emplace_back(std::string(key), std::move(tensor));
    }
    return contents;
  }

 private:
  std::vector<std::pair<std::string_view, Index>> TensorsOf(Index dict) const {
    std::vector<std::pair<std::string_view, Index>> tensors;
    const PickleValue& value = pickle_[dict];
    for (size_t i = 0; value.kind == Kind::kDict && i < value.items.size(); i += 2) {
      const PickleValue& key = pickle_[value.items[i]];
      if (key.kind == Kind::kText && pickle_[value.items[i + 1]].kind == Kind::kTensor) {
        tensors.emplace_back(key.text, value.items[i + 1]);
      }
    }
    return tensors;
  }

  absl::StatusOr<Index> FindStateDict(Index root, bool ema, std::map<std::string, std::string>& metadata) const {
    const PickleValue& top = pickle_[root];
    if (top.kind != Kind::kDict) return Error("it holds no state dict but something else");
    std::vector<std::string> keys(std::begin(kModelKeys), std::end(kModelKeys));
    keys.insert(ema ? keys.begin() : keys.end(), std::begin(kEmaKeys), std::end(kEmaKeys));
    for (const std::string& wanted : keys) {
      for (size_t i = 0; i < top.items.size(); i += 2) {
        const PickleValue& key = pickle_[top.items[i]];
        if (key.kind == Kind::kText && key.text == wanted && !TensorsOf(top.items[i + 1]).empty()) {
          metadata[kStateDictKey] = wanted;
          return top.items[i + 1];
        }
      }
    }
    if (!TensorsOf(root).empty()) return root;
    std::vector<std::string> found;
    for (size_t i = 0; i < top.items.size(); i += 2) {
      const PickleValue& key = pickle_[top.items[i]];
      if (key.kind == Kind::kText) found.push_back(Quoted(key.text));
    }
    return Error("it has no state dict, neither as a whole nor under ", absl::StrJoin(keys, ", "),
                 found.empty() ? "" : absl::StrCat("; it has ", FirstFew(found)));
  }

  absl::StatusOr<std::vector<int64_t>> ReadSizes(Index tuple, std::string_view what) const {
    std::vector<int64_t> sizes;
    for (const Index item : pickle_[tuple].items) {
      if (pickle_[item].kind != Kind::kInt || pickle_[item].number < 0) {
        return Error("has a ", std::string(what), " of other than whole numbers from 0 up");
      }
      sizes.push_back(pickle_[item].number);
    }
    if (sizes.size() > kMaxDimensions) return Error("has ", sizes.size(), " dimensions; at most ", kMaxDimensions);
    return sizes;
  }

  absl::StatusOr<at::Tensor> ReadTensor(const PickleValue& tensor) {
    if (tensor.type == at::ScalarType::Undefined) {
      return Error("is of another type than float 64, 32, 16, bfloat16, int 64, 32, 16, 8, uint8 and bool");
    }
    const PickleValue& storage = pickle_[tensor.items[0]];
    ASSIGN_OR_RETURN(const std::vector<int64_t> sizes, ReadSizes(tensor.items[1], "shape"));
    ASSIGN_OR_RETURN(const std::vector<int64_t> strides, ReadSizes(tensor.items[2], "stride"));
    const std::string shape = absl::StrCat("[", absl::StrJoin(sizes, ","), "]");
    if (sizes.size() != strides.size()) return Error("has the shape ", shape, " and ", strides.size(), " strides");

    // Factors of 0 are left out, since LibTorch multiplies the other ones for the strides.
    int64_t size = static_cast<int64_t>(c10::elementSize(tensor.type));
    int64_t end = tensor.number;  // one after the last element
    bool overflow = tensor.number < 0 || __builtin_add_overflow(end, 1, &end);
    for (size_t i = 0; i < sizes.size(); ++i) {
      const int64_t length = std::max<int64_t>(sizes[i], 1);
      int64_t reach;
      overflow |= __builtin_mul_overflow(size, length, &size) ||
                  __builtin_mul_overflow(length - 1, strides[i], &reach) || __builtin_add_overflow(end, reach, &end);
    }
    if (overflow) return Error("has a shape ", shape, ", strides or an offset too large for any memory");
    if (std::find(sizes.begin(), sizes.end(), 0) != sizes.end()) return at::empty(sizes, tensor.type);
    if (end > storage.number) {
      return Error("of shape ", shape, " reaches to element ", end, " of a storage of ", storage.number);
    }

    ASSIGN_OR_RETURN(const at::Tensor data, ReadStorage(storage));
    at::Tensor view = at::empty({0}, tensor.type).set_(data.storage(), tensor.number, sizes, strides);
    if (view.is_contiguous()) return view;
    if ((spare_ -= size) < 0) return Error("of shape ", shape, " and those before it are far larger than the file");
    return view.contiguous();
  }

  absl::StatusOr<at::Tensor> ReadStorage(const PickleValue& storage) {
    const auto known = loaded_.find(storage.text);
    if (known != loaded_.end()) return known->second;
    ASSIGN_OR_RETURN(at::Tensor data, load_(storage));
    // Other bytes than 0 and 1 are no values of a bool.
    if (storage.type == at::kBool) data = data.to(at::kBool);
    return loaded_[storage.text] = data;
  }

  const Unpickler& pickle_;
  const Load load_;
  int64_t spare_;
  std::map<std::string_view, at::Tensor> loaded_;
};

absl::StatusOr<Safetensors> ParseZip(std::string_view bytes, bool ema) {
  ASSIGN_OR_RETURN(const Archive archive, Archive::Open(bytes));
  // All entries are in one folder, named after the file or "archive".
  std::string folder;
  for (const auto& [name, entry] : archive.entries()) {
    const size_t slash = name.find('/');
    if (slash == std::string::npos || name.substr(slash) != "/data.pkl") continue;
    if (!folder.empty()) return Error("its zip has two data.pkl");
    folder = name.substr(0, slash + 1);
  }
  if (folder.empty()) return Error("a zip file that torch.save did not write: it has no FOLDER/data.pkl");
  const auto code = archive.entries().lower_bound(folder + "code/");
  if (archive.Has(folder + "constants.pkl") ||
      (code != archive.entries().end() && code->first.starts_with(folder + "code/"))) {
    return Error("a TorchScript archive, a program with weights in it. Keep its weights alone: ",
                 "torch.save(torch.jit.load(FILE).state_dict(), OTHER)");
  }
  // Files before PyTorch 2.1 do not say.
  if (const std::string name = folder + "byteorder"; archive.Has(name)) {
    ASSIGN_OR_RETURN(const std::string byte_order, archive.Read(name));
    if (byte_order != "little") return Error("its byte order is ", Quoted(byte_order), "; known is 'little'");
  }

  ASSIGN_OR_RETURN(const std::string program, archive.Read(folder + "data.pkl"));
  Unpickler pickle(program);
  ASSIGN_OR_RETURN(const Index root, pickle.Run());
  uint64_t loaded = 0;
  const auto load = [&](const PickleValue& storage) -> absl::StatusOr<at::Tensor> {
    const std::string name = absl::StrCat(folder, "data/", std::string(storage.text));
    ASSIGN_OR_RETURN(const uint64_t size, archive.Size(name));
    const std::optional<int64_t> needed = StorageSize(storage);
    if (needed != static_cast<int64_t>(size)) {
      return Error(Quoted(name), " has ", size, " bytes, not those of its ", storage.number, " elements");
    }
    // A zip may list the same bytes many times.
    if ((loaded += size) > bytes.size()) return Error("the data of its zip overlap");
    at::Tensor data = at::empty({*needed}, at::kByte);
    RETURN_IF_ERROR(archive.Read(name, static_cast<char*>(data.mutable_data_ptr()), size));
    return data;
  };
  return TensorReader(pickle, load, static_cast<int64_t>(bytes.size())).Read(root, ema);
}

// After the magic: the system's byte order, the object, the keys of its storages, and each one's length and data.
absl::StatusOr<Safetensors> ParseLegacy(std::string_view bytes, bool ema) {
  Unpickler system(bytes.substr(kLegacyMagic.size() + kLegacyProtocol.size()));
  ASSIGN_OR_RETURN(const Index system_root, system.Run());
  const std::vector<Index>& facts = system[system_root].items;
  for (size_t i = 0; system[system_root].kind == Kind::kDict && i < facts.size(); i += 2) {
    if (system[facts[i]].text == "little_endian" && system[facts[i + 1]].number != 1) {
      return Error("its byte order is another than little-endian");
    }
  }
  Unpickler pickle(system.rest());
  ASSIGN_OR_RETURN(const Index root, pickle.Run());
  Unpickler keys(pickle.rest());
  ASSIGN_OR_RETURN(const Index keys_root, keys.Run());
  if (keys[keys_root].kind != Kind::kList) return Error("it has no list of storages");

  std::map<std::string_view, std::string_view> data;
  std::string_view rest = keys.rest();
  for (const Index item : keys[keys_root].items) {
    const auto known = pickle.storages().find(keys[item].text);
    if (keys[item].kind != Kind::kText || known == pickle.storages().end()) {
      return Error("it has data of a storage that its pickle does not describe");
    }
    const PickleValue& storage = pickle[known->second];
    const std::string name = Quoted(storage.text);
    // Without the size of its elements, all after it is out of reach.
    if (storage.type == at::ScalarType::Undefined) return Error("its storage ", name, " is of an unknown type");
    int64_t elements;
    if (rest.size() < sizeof(elements)) return Error("it ends before storage ", name, ": it may be truncated");
    std::memcpy(&elements, rest.data(), sizeof(elements));
    rest.remove_prefix(sizeof(elements));
    const std::optional<int64_t> size = StorageSize(storage);
    if (elements != storage.number || !size) {
      return Error("its storage ", name, " has ", elements, " elements instead of ", storage.number);
    }
    if (static_cast<uint64_t>(*size) > rest.size()) return Error("it ends in storage ", name, ": it may be truncated");
    if (!data.emplace(storage.text, rest.substr(0, *size)).second) return Error("it has storage ", name, " twice");
    rest.remove_prefix(*size);
  }
  const auto load = [&](const PickleValue& storage) -> absl::StatusOr<at::Tensor> {
    const auto found = data.find(storage.text);
    if (found == data.end()) return Error("has no data: storage ", Quoted(storage.text), " is missing");
    at::Tensor copy = at::empty({static_cast<int64_t>(found->second.size())}, at::kByte);
    found->second.copy(static_cast<char*>(copy.mutable_data_ptr()), found->second.size());
    return copy;
  };
  return TensorReader(pickle, load, static_cast<int64_t>(bytes.size())).Read(root, ema);
}

}  // namespace

bool IsTorchFile(std::string_view bytes) {
  if (bytes.starts_with(kZipMagic)) return true;
  // A safetensors file may begin with the same two bytes, of its header's length; its header follows then.
  return bytes.size() >= 2 && bytes[0] == '\x80' && bytes[1] <= 5 && !(bytes.size() > 8 && bytes[8] == '{');
}

absl::StatusOr<Safetensors> ParseTorchFile(std::string_view bytes, bool ema) {
  if (bytes.starts_with(kZipMagic)) return ParseZip(bytes, ema);
  if (bytes.starts_with(kLegacyMagic) && bytes.substr(kLegacyMagic.size()).starts_with(kLegacyProtocol)) {
    return ParseLegacy(bytes, ema);
  }
  return Error("not a file of torch.save, or a truncated one: it begins neither as a zip nor with PyTorch's number");
}

}  // namespace graticule
