#include "nn/safetensors.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "ATen/ops/empty.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "c10/core/GradMode.h"
#include "nlohmann/json.hpp"
#include "plugin/file.h"
#include "plugin/logging.h"
#include "plugin/status.h"

namespace graticule {
namespace {

using Json = nlohmann::json;

// The format's own limit.
constexpr uint64_t kMaxHeaderSize = 100'000'000;
constexpr size_t kAlignment = 64;
constexpr char kMetadata[] = "__metadata__";

constexpr std::pair<const char*, at::ScalarType> kTypes[] = {
    {"F64", at::kDouble}, {"F32", at::kFloat}, {"F16", at::kHalf}, {"BF16", at::kBFloat16}, {"I64", at::kLong},
    {"I32", at::kInt},    {"I16", at::kShort}, {"I8", at::kChar},  {"U8", at::kByte},       {"BOOL", at::kBool},
};

const char* TypeName(at::ScalarType type) {
  for (const auto& [name, scalar_type] : kTypes) {
    if (scalar_type == type) return name;
  }
  LOG(FATAL) << "safetensors has no type for " << at::toString(type);
}

// A tensor as the header describes it.
struct Entry {
  std::string name;
  at::ScalarType type;
  std::vector<int64_t> shape;
  uint64_t begin;
  uint64_t end;
};

// A list of numbers from 0 to the greatest int64.
bool ReadSizes(const Json& object, const char* key, std::vector<int64_t>& sizes) {
  const auto list = object.find(key);
  if (list == object.end() || !list->is_array()) return false;
  for (const Json& element : *list) {
    if (!element.is_number_unsigned()) return false;
    const uint64_t size = element.get<uint64_t>();
    if (size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return false;
    sizes.push_back(static_cast<int64_t>(size));
  }
  return true;
}

// Without the place in the file among the other tensors, which ParseHeader checks.
absl::StatusOr<Entry> ParseEntry(const std::string& name, const Json& value) {
  const auto error = [&](const auto&... what) {
    return absl::InvalidArgumentError(absl::StrCat("tensor '", name, "' ", what...));
  };
  if (!value.is_object()) return error("is described by something else than an object");
  Entry entry{};
  entry.name = name;
  const auto type_name = value.find("dtype");
  if (type_name == value.end() || !type_name->is_string()) return error("has no dtype");
  const auto type = std::find_if(std::begin(kTypes), std::end(kTypes),
                                 [&](const auto& candidate) { return *type_name == candidate.first; });
  if (type == std::end(kTypes)) {
    return error("has the unknown dtype '", type_name->get<std::string>(), "'; known are ",
                 absl::StrJoin(kTypes, " ", [](std::string* out, const auto& known) { *out += known.first; }));
  }
  entry.type = type->second;
  if (!ReadSizes(value, "shape", entry.shape)) return error("has no shape of whole numbers from 0 up");
  std::vector<int64_t> offsets;
  if (!ReadSizes(value, "data_offsets", offsets) || offsets.size() != 2 || offsets[0] > offsets[1]) {
    return error("has no data_offsets [begin, end] with 0 <= begin <= end");
  }
  entry.begin = offsets[0];
  entry.end = offsets[1];

  // Factors of 0 are left out of the overflow check, since LibTorch multiplies the other ones for the strides.
  int64_t bound = static_cast<int64_t>(c10::elementSize(entry.type));
  bool empty = false;
  for (const int64_t size : entry.shape) {
    empty |= size == 0;
    if (__builtin_mul_overflow(bound, std::max<int64_t>(size, 1), &bound)) {
      return error("has a shape [", absl::StrJoin(entry.shape, ","), "] too large for any memory");
    }
  }
  const uint64_t size = empty ? 0 : bound;
  if (entry.end - entry.begin != size) {
    return error("takes ", entry.end - entry.begin, " bytes, but its shape [", absl::StrJoin(entry.shape, ","), "] of ",
                 type->first, " needs ", size);
  }
  return entry;
}

// The tensors in the order of their data, which must fill `data_size` bytes without gap or overlap.
absl::StatusOr<std::vector<Entry>> ParseHeader(std::string_view header, uint64_t data_size,
                                               std::map<std::string, std::string>& metadata) {
  std::vector<std::set<std::string>> names(3);  // of the objects around the place being read, by depth
  std::string duplicate;
  bool too_deep = false;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
      case Json::parse_event_t::array_start:
        // {"name": {"shape": [ is as deep as it goes.
        if (depth >= 3) return !(too_deep = true);
        if (depth < 2) names[depth + 1].clear();
        return true;
      case Json::parse_event_t::key: {
        const std::string& name = parsed.get_ref<const std::string&>();
        if (depth < 3 && !names[depth].insert(name).second) duplicate = name;
        return true;
      }
      default:
        return true;
    }
  };
  if (header.empty() || header.front() != '{') return absl::InvalidArgumentError("its header is not a JSON object");
  const Json json = Json::parse(header.begin(), header.end(), watch, /*allow_exceptions=*/false);
  if (too_deep) return absl::InvalidArgumentError("its header is nested more deeply than the format allows");
  if (!json.is_object()) return absl::InvalidArgumentError("its header is not valid JSON");
  if (!duplicate.empty()) return absl::InvalidArgumentError(absl::StrCat("its header has '", duplicate, "' twice"));

  std::vector<Entry> entries;
  for (const auto& [name, value] : json.items()) {
    if (name == kMetadata) {
      if (!value.is_object()) return absl::InvalidArgumentError("its __metadata__ is not an object");
      for (const auto& [key, text] : value.items()) {
        if (!text.is_string()) {
          return absl::InvalidArgumentError(absl::StrCat("'", key, "' of its __metadata__ is not a string"));
        }
        metadata[key] = text.get<std::string>();
      }
      continue;
    }
    ASSIGN_OR_RETURN(Entry entry, ParseEntry(name, value));
    if (entry.end > data_size) {
      return absl::InvalidArgumentError(absl::StrCat("the data of tensor '", name, "' ends at byte ", entry.end,
                                                     " of the ", data_size,
                                                     " that the file has: the file may be truncated"));
    }
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  uint64_t at = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != at) {
      return absl::InvalidArgumentError(
          absl::StrCat("the data of tensor '", entry.name, "' begins at byte ", entry.begin,
                       entry.begin < at ? ", inside that of another, which ends at " : ", after a gap from byte ", at));
    }
    at = entry.end;
  }
  if (at != data_size) {
    return absl::InvalidArgumentError(absl::StrCat(data_size - at, " bytes after the last tensor belong to none"));
  }
  return entries;
}

}  // namespace

at::Tensor Safetensors::Find(std::string_view name) const {
  for (const auto& [candidate, tensor] : tensors) {
    if (candidate == name) return tensor;
  }
  return at::Tensor();
}

SafetensorsLayout LayOutSafetensors(const Safetensors& contents) {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const auto& [name, tensor] : contents.tensors) {
    CHECK(tensor.defined() && !tensor.is_meta()) << "'" << name << "' has no data to write";
    tensors.emplace_back(name, tensor.detach().cpu().contiguous());
  }
  // Gaps are not allowed, so only the order keeps each tensor aligned to its elements.
  std::stable_sort(tensors.begin(), tensors.end(),
                   [](const auto& a, const auto& b) { return a.second.element_size() > b.second.element_size(); });

  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!contents.metadata.empty()) header[kMetadata] = contents.metadata;
  size_t data_size = 0;
  for (const auto& [name, tensor] : tensors) {
    CHECK(name != kMetadata && !header.contains(name)) << "'" << name << "' cannot be written twice";
    const size_t begin = data_size;
    data_size += tensor.nbytes();
    header[name] = {{"dtype", TypeName(tensor.scalar_type())},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {begin, data_size}}};
  }
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  uint64_t header_size = text.size() + sizeof(header_size);
  text.append((kAlignment - header_size % kAlignment) % kAlignment, ' ');
  header_size = text.size();

  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little-endian");
  text.insert(0, reinterpret_cast<const char*>(&header_size), sizeof(header_size));
  SafetensorsLayout layout{.header = std::move(text)};
  for (auto& [name, tensor] : tensors) layout.data.push_back(std::move(tensor));
  return layout;
}

std::string SerializeSafetensors(const Safetensors& contents) {
  const SafetensorsLayout layout = LayOutSafetensors(contents);
  size_t size = layout.header.size();
  for (const at::Tensor& tensor : layout.data) size += tensor.nbytes();
  std::string bytes;
  bytes.reserve(size);
  bytes.append(layout.header);
  for (const at::Tensor& tensor : layout.data) {
    bytes.append(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
  }
  return bytes;
}

namespace {

// Whether `own`, the only one that looks at its memory, can have that of `loaded` instead.
bool CanTakeOver(const at::Tensor& own, const at::Tensor& loaded) {
  const auto is_alone = [](const at::Tensor& tensor) { return tensor.storage().use_count() == 1; };
  return own.is_cpu() && loaded.is_cpu() && own.scalar_type() == loaded.scalar_type() &&
         own.strides() == loaded.strides() && loaded.use_count() == 1 && is_alone(own) && is_alone(loaded);
}

}  // namespace

absl::Status LoadByName(Safetensors from, const Safetensors& into) {
  std::map<std::string, at::Tensor> given(std::move_iterator(from.tensors.begin()),
                                          std::move_iterator(from.tensors.end()));
  from.tensors.clear();
  std::vector<std::string> problems;
  std::vector<std::pair<at::Tensor, at::Tensor>> loads;  // into the first, of the second
  for (const auto& [name, own] : into.tensors) {
    const auto found = given.find(name);
    if (found == given.end()) {
      problems.push_back(absl::StrCat(name, " is missing"));
      continue;
    }
    at::Tensor loaded = std::move(found->second);
    given.erase(found);
    if (loaded.sizes() == own.sizes()) {
      loads.emplace_back(own, std::move(loaded));
    } else {
      problems.push_back(absl::StrCat(name, " has shape [", absl::StrJoin(loaded.sizes(), ","), "] instead of [",
                                      absl::StrJoin(own.sizes(), ","), "]"));
    }
  }
  for (const auto& [name, tensor] : given) problems.push_back(absl::StrCat(name, " has no counterpart"));
  if (!problems.empty()) return absl::FailedPreconditionError(FirstFew(problems));
  c10::NoGradGuard no_grad;
  for (auto& [own, loaded] : loads) {
    if (CanTakeOver(own, loaded)) {
      own.set_data(loaded);
    } else {
      own.copy_(loaded);
    }
  }
  return absl::OkStatus();
}

absl::Status WriteSafetensors(const std::string& path, const Safetensors& contents) {
  return WriteFile(path, SerializeSafetensors(contents));
}

absl::StatusOr<Safetensors> ReadSafetensors(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  ASSIGN_OR_RETURN(Safetensors contents, ParseSafetensors(bytes), path);
  return contents;
}

absl::StatusOr<Safetensors> ParseSafetensors(std::string_view bytes) {
  return ReadSafetensors(bytes.size(), [&](absl::Span<char> into) {
    bytes.remove_prefix(bytes.copy(into.data(), into.size()));
    return absl::OkStatus();
  });
}

absl::StatusOr<Safetensors> ReadSafetensors(uint64_t size,
                                            const std::function<absl::Status(absl::Span<char> into)>& read) {
  uint64_t header_size;
  if (size < sizeof(header_size)) {
    return absl::InvalidArgumentError(absl::StrCat("not a safetensors file: it has only ", size, " bytes"));
  }
  RETURN_IF_ERROR(read(absl::MakeSpan(reinterpret_cast<char*>(&header_size), sizeof(header_size))));
  size -= sizeof(header_size);
  if (header_size > kMaxHeaderSize || header_size > size) {
    return absl::InvalidArgumentError(absl::StrCat("not a safetensors file, or a cut one: it announces a header of ",
                                                   header_size, " bytes and has ", size));
  }
  std::string header(header_size, '\0');
  RETURN_IF_ERROR(read(absl::MakeSpan(header)));
  Safetensors contents;
  ASSIGN_OR_RETURN(const std::vector<Entry> entries, ParseHeader(header, size - header_size, contents.metadata),
                   "damaged, or not a safetensors file");
  for (const Entry& entry : entries) {
    // Other bytes than 0 and 1 are no values of a bool.
    const bool is_bool = entry.type == at::kBool;
    at::Tensor tensor = at::empty(entry.shape, at::TensorOptions(is_bool ? at::kByte : entry.type));
    RETURN_IF_ERROR(read(absl::MakeSpan(static_cast<char*>(tensor.mutable_data_ptr()), tensor.nbytes())));
    contents.tensors.emplace_back(entry.name, is_bool ? tensor.to(at::kBool) : tensor);
  }
  return contents;
}

}  // namespace graticule
