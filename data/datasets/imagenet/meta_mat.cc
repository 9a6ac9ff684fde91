#include "data/datasets/imagenet/meta_mat.h"

#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "plugin/status.h"

static_assert(std::endian::native == std::endian::little);

namespace graticule {
namespace {

// Types of data elements.
enum : uint32_t {
  kInt8 = 1,
  kUint8 = 2,
  kInt16 = 3,
  kUint16 = 4,
  kInt32 = 5,
  kUint32 = 6,
  kDouble = 9,
  kMatrix = 14,
  kCompressed = 15,
  kUtf8 = 16,
};
constexpr uint8_t kStructClass = 2;

constexpr size_t kHeaderSize = 128;
// The real file has 1,860 classes and inflates to about 2 MiB.
constexpr size_t kMaxInflated = size_t{64} << 20;

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(absl::StrCat("a damaged MATLAB file: ", std::string(what)));
}

struct Element {
  uint32_t type = 0;
  std::string_view data;
};

// Data elements one after another.
class Elements {
 public:
  explicit Elements(std::string_view bytes) : bytes_(bytes) {}
  bool done() const { return bytes_.empty(); }

  absl::StatusOr<Element> Next() {
    uint32_t tag[2];
    if (bytes_.size() < sizeof(tag)) return Damaged("it ends in a tag");
    std::memcpy(tag, bytes_.data(), sizeof(tag));
    Element element{.type = tag[0]};
    size_t size = tag[1], begin = sizeof(tag), end;
    if (tag[0] >> 16 != 0) {  // a small element, whose data is in its tag
      element.type = tag[0] & 0xffff;
      size = tag[0] >> 16;
      begin = sizeof(tag[0]);
      if (size > sizeof(tag[1])) return Damaged("a small element of more than 4 bytes");
      end = sizeof(tag);
    } else if (element.type == kCompressed) {
      end = begin + size;
    } else {
      end = begin + (size + 7) / 8 * 8;
    }
    if (size > bytes_.size() - begin) return Damaged("it ends in an element");
    element.data = bytes_.substr(begin, size);
    bytes_.remove_prefix(std::min(end, bytes_.size()));
    return element;
  }

  absl::StatusOr<std::string_view> Next(uint32_t type) {
    ASSIGN_OR_RETURN(const Element element, Next());
    if (element.type != type) return Damaged(absl::StrCat("element of type ", element.type, ", not ", type));
    return element.data;
  }

 private:
  std::string_view bytes_;
};

absl::StatusOr<std::string> Inflate(std::string_view bytes) {
  z_stream stream{};
  if (inflateInit(&stream) != Z_OK) return absl::ResourceExhaustedError("no memory to inflate");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  std::string inflated;
  int result = Z_OK;
  while (result == Z_OK && inflated.size() < kMaxInflated) {
    const size_t before = inflated.size();
    inflated.resize(std::max<size_t>(2 * before, 1 << 16));
    stream.next_out = reinterpret_cast<Bytef*>(inflated.data() + before);
    stream.avail_out = static_cast<uInt>(inflated.size() - before);
    result = inflate(&stream, Z_NO_FLUSH);
    inflated.resize(inflated.size() - stream.avail_out);
  }
  inflateEnd(&stream);
  if (result != Z_STREAM_END) return Damaged("a compressed element does not inflate");
  return inflated;
}

// What begins every matrix; what the matrix holds is in `rest`.
struct Matrix {
  uint8_t matrix_class = 0;
  Elements rest;
};

absl::StatusOr<Matrix> OpenMatrix(std::string_view data) {
  Elements elements(data);
  ASSIGN_OR_RETURN(const std::string_view flags, elements.Next(kUint32));
  RETURN_IF_ERROR(elements.Next(kInt32).status());  // its shape: the data says how much there is
  RETURN_IF_ERROR(elements.Next(kInt8).status());   // its name
  if (flags.empty()) return Damaged("a matrix without a class");
  return Matrix{static_cast<uint8_t>(flags[0]), elements};
}

// The first number of a matrix. MATLAB stores numbers in the smallest type that holds them.
absl::StatusOr<int64_t> Number(std::string_view matrix) {
  ASSIGN_OR_RETURN(Matrix opened, OpenMatrix(matrix));
  ASSIGN_OR_RETURN(const Element element, opened.rest.Next());
  const auto as = [&element](auto value) -> absl::StatusOr<int64_t> {
    if (element.data.size() < sizeof(value)) return Damaged("an empty number");
    std::memcpy(&value, element.data.data(), sizeof(value));
    // Of doubles, what no integer holds, NaN included.
    if (!(value >= 0 && value <= 1e9)) return Damaged("a number that is no ILSVRC2012_ID");
    return static_cast<int64_t>(value);
  };
  switch (element.type) {
    case kInt8:
      return as(int8_t{});
    case kUint8:
      return as(uint8_t{});
    case kInt16:
      return as(int16_t{});
    case kUint16:
      return as(uint16_t{});
    case kInt32:
      return as(int32_t{});
    case kUint32:
      return as(uint32_t{});
    case kDouble:
      return as(double{});
    default:
      return Damaged(absl::StrCat("numbers of type ", element.type));
  }
}

absl::StatusOr<std::string> Text(std::string_view matrix) {
  ASSIGN_OR_RETURN(Matrix opened, OpenMatrix(matrix));
  ASSIGN_OR_RETURN(const Element element, opened.rest.Next());
  if (element.type == kUtf8 || element.type == kInt8 || element.type == kUint8) return std::string(element.data);
  if (element.type != kUint16) return Damaged(absl::StrCat("text of type ", element.type));
  std::string text;
  for (size_t i = 0; i + 1 < element.data.size(); i += 2) {
    if (element.data[i + 1] != 0) return Damaged("a WNID that is not ASCII");
    text += element.data[i];
  }
  return text;
}

// Nothing where the matrix is no struct array with these fields.
absl::StatusOr<std::optional<WnidsById>> Synsets(std::string_view data) {
  ASSIGN_OR_RETURN(Matrix matrix, OpenMatrix(data));
  if (matrix.matrix_class != kStructClass) return std::nullopt;
  ASSIGN_OR_RETURN(const std::string_view width_bytes, matrix.rest.Next(kInt32));
  ASSIGN_OR_RETURN(const std::string_view names, matrix.rest.Next(kInt8));
  int32_t width = 0;
  if (width_bytes.size() != sizeof(width)) return Damaged("fields without a width");
  std::memcpy(&width, width_bytes.data(), sizeof(width));
  if (width <= 0 || names.size() % width != 0) return Damaged("fields of another width than is said");
  std::vector<std::string> fields;
  for (size_t i = 0; i < names.size(); i += width) {
    const std::string_view padded = names.substr(i, width);
    fields.emplace_back(padded.substr(0, padded.find('\0')));
  }
  for (const char* field : {"ILSVRC2012_ID", "WNID"}) {
    if (std::find(fields.begin(), fields.end(), field) == fields.end()) return std::nullopt;
  }
  WnidsById wnids;
  while (!matrix.rest.done()) {
    int64_t id = -1;
    std::string wnid;
    for (const std::string& field : fields) {
      ASSIGN_OR_RETURN(const std::string_view value, matrix.rest.Next(kMatrix));
      if (field == "ILSVRC2012_ID") {
        ASSIGN_OR_RETURN(id, Number(value));
      } else if (field == "WNID") {
        ASSIGN_OR_RETURN(wnid, Text(value));
      }
    }
    if (!wnids.emplace(id, std::move(wnid)).second) return Damaged(absl::StrCat("two classes of ILSVRC2012_ID ", id));
  }
  return wnids;
}

}  // namespace

absl::StatusOr<WnidsById> ParseMetaMat(std::string_view bytes) {
  // The header ends in the version and in two letters that tell the byte order.
  if (bytes.size() < kHeaderSize || bytes.substr(kHeaderSize - 4, 4) != std::string_view("\x00\x01IM", 4)) {
    return absl::InvalidArgumentError("not a little-endian MATLAB 5 file");
  }
  Elements elements(bytes.substr(kHeaderSize));
  while (!elements.done()) {
    ASSIGN_OR_RETURN(Element element, elements.Next());
    std::string inflated;
    if (element.type == kCompressed) {
      ASSIGN_OR_RETURN(inflated, Inflate(element.data));
      ASSIGN_OR_RETURN(element, Elements(inflated).Next());
    }
    if (element.type != kMatrix) continue;
    ASSIGN_OR_RETURN(auto synsets, Synsets(element.data));
    if (synsets.has_value()) return *std::move(synsets);
  }
  return absl::InvalidArgumentError("no struct array of ILSVRC2012_ID and WNID in it");
}

}  // namespace graticule
