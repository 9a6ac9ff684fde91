#include "data/decode/decode.h"

#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "data/decode/exif.h"
#include "data/decode/jpeg.h"
#include "data/decode/png.h"
#include "data/decode/webp.h"

namespace graticule {
namespace {

using namespace std::string_view_literals;

struct Signature {
  std::string_view bytes;
  size_t offset;
  const char* format;
};

// Formats that people have among their images, to be named in an error.
constexpr Signature kOthers[] = {
    {"GIF8"sv, 0, "a GIF"},           {"BM"sv, 0, "a BMP"},
    {"II*\0"sv, 0, "a TIFF"},         {"MM\0*"sv, 0, "a TIFF"},
    {"ftyp"sv, 4, "an HEIF or AVIF"}, {"<?xml"sv, 0, "an XML"},
    {"<svg"sv, 0, "an SVG"},          {"<!DOCTYPE"sv, 0, "an HTML"},
    {"%PDF"sv, 0, "a PDF"},           {"\0\0\0\x0cjP"sv, 0, "a JPEG 2000"},
    {"8BPS"sv, 0, "a Photoshop"},
};

// What bytes of no known format are.
absl::Status NoImage(std::string_view bytes) {
  if (bytes.empty()) return absl::InvalidArgumentError("the file is empty");
  for (const Signature& other : kOthers) {
    if (bytes.size() >= other.offset && bytes.substr(other.offset, other.bytes.size()) == other.bytes) {
      return absl::UnimplementedError(absl::StrCat("neither a JPEG, a PNG nor a WebP but ", other.format, " file"));
    }
  }
  return absl::InvalidArgumentError(absl::StrCat("neither a JPEG, a PNG nor a WebP; the file begins with \"",
                                                 absl::CHexEscape(std::string(bytes.substr(0, 8))), "\""));
}

// DecodeRegion() without regard to EXIF.
absl::StatusOr<DecodedRegion> DecodeStored(std::string_view bytes, const DecodeOptions& options,
                                           const RegionChooser& choose) {
  if (IsJpeg(bytes)) return DecodeJpeg(bytes, options, choose);
  if (!IsPng(bytes) && !IsWebp(bytes)) return NoImage(bytes);
  ASSIGN_OR_RETURN(Image image, IsPng(bytes) ? DecodePng(bytes, options) : DecodeWebp(bytes, options));
  const std::optional<WantedRegion> wanted = choose(image.size());
  const Box window = wanted ? wanted->window : Box{0, 0, image.size()};
  return DecodedRegion{std::move(image), window};
}

}  // namespace

DecodeOptions DecodeOptions::From(const Decoding& config, FieldErrors& errors) {
  DecodeOptions options;
  options.exif_orientation = config.exif_orientation();
  options.keep_truncated = config.truncated() == Decoding::KEEP;
  const auto& background = config.background();
  if (!background.empty() && background.size() != 3) {
    errors.Add("background", absl::StrCat("must have three numbers (R, G, B), found ", background.size()));
  }
  for (int i = 0; i < background.size(); ++i) {
    if (background[i] < 0 || background[i] > 255) {
      errors.Add(absl::StrCat("background[", i, "]"), absl::StrCat("must be 0 to 255, found ", background[i]));
    } else if (background.size() == 3) {
      options.background[i] = static_cast<uint8_t>(background[i]);
    }
  }
  if (config.max_pixels() < 0 || config.max_pixels() > Image::kMaxPixels) {
    errors.Add("max_pixels", absl::StrCat("must be 1 to ", Image::kMaxPixels, ", found ", config.max_pixels()));
  } else if (config.max_pixels() > 0) {
    options.max_pixels = config.max_pixels();
  }
  return options;
}

absl::StatusOr<DecodedRegion> DecodeRegion(std::string_view bytes, const DecodeOptions& options,
                                           const RegionChooser& choose) {
  const int orientation = options.exif_orientation ? ExifOrientation(bytes) : 1;
  if (orientation == 1) return DecodeStored(bytes, options, choose);
  const auto choose_stored = [&](Size2d stored) {
    std::optional<WantedRegion> wanted = choose(Upright(stored, orientation));
    if (wanted) wanted = {Stored(wanted->window, stored, orientation), Upright(wanted->target, orientation)};
    return wanted;
  };
  ASSIGN_OR_RETURN(DecodedRegion stored, DecodeStored(bytes, options, choose_stored));
  const Box window = Upright(stored.window, stored.image.size(), orientation);
  return DecodedRegion{Upright(std::move(stored.image), orientation), window};
}

absl::StatusOr<Image> DecodeImage(std::string_view bytes, const DecodeOptions& options) {
  const auto choose_all = [](Size2d) { return std::optional<WantedRegion>(); };
  ASSIGN_OR_RETURN(DecodedRegion all, DecodeRegion(bytes, options, choose_all));
  return std::move(all.image);
}

bool HasImageExtension(const std::string& path) {
  const std::string extension = absl::AsciiStrToLower(std::filesystem::path(path).extension().string());
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png" || extension == ".webp";
}

}  // namespace graticule
