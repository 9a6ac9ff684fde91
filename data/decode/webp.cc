#include "data/decode/webp.h"

#include <webp/decode.h>
#include <webp/demux.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "data/decode/alpha.h"

namespace graticule {
namespace {

absl::Status TooEarly() { return absl::OutOfRangeError("broken WebP: the file ends too early"); }

// The frame's pixels, laid over the background.
absl::StatusOr<Image> DecodeFrame(const WebPIterator& frame, const DecodeOptions& options) {
  const int64_t channels = frame.has_alpha ? 4 : 3;
  Image image{frame.height, frame.width, {}};
  image.pixels.resize(channels * image.size().area());
  // Decodes piece by piece, so that it can tell what there is of a file that ends too early.
  const std::unique_ptr<WebPIDecoder, decltype(&WebPIDelete)> decoder(
      WebPINewRGB(frame.has_alpha ? MODE_RGBA : MODE_RGB, image.pixels.data(), image.pixels.size(),
                  static_cast<int>(channels * image.width)),
      WebPIDelete);
  if (decoder == nullptr) return absl::ResourceExhaustedError("no memory for a WebP");
  const VP8StatusCode status = WebPIUpdate(decoder.get(), frame.fragment.bytes, frame.fragment.size);
  const bool ended = status == VP8_STATUS_SUSPENDED || status == VP8_STATUS_NOT_ENOUGH_DATA;
  int rows = frame.height;
  if (ended && (WebPIDecGetRGB(decoder.get(), &rows, nullptr, nullptr, nullptr) == nullptr || rows <= 0 ||
                !options.keep_truncated)) {
    return TooEarly();
  }
  if (!ended && status != VP8_STATUS_OK) {
    return absl::DataLossError(absl::StrCat("broken WebP: libwebp cannot decode it, status ", status));
  }

  if (frame.has_alpha) {
    uint8_t* pixels = image.pixels.data();
    for (int64_t i = 0; i < rows * image.width; ++i) {
      LayOver(options.background, pixels + 4 * i, pixels + Image::kChannels * i);
    }
    image.pixels.resize(Image::kChannels * image.size().area());
  }
  std::fill(image.pixels.begin() + Image::kChannels * rows * image.width, image.pixels.end(), 128);
  return image;
}

}  // namespace

bool IsWebp(std::string_view bytes) {
  return bytes.size() >= 12 && bytes.substr(0, 4) == "RIFF" && bytes.substr(8, 4) == "WEBP";
}

absl::StatusOr<Image> DecodeWebp(std::string_view bytes, const DecodeOptions& options) {
  const WebPData data{reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
  WebPDemuxState state;
  const std::unique_ptr<WebPDemuxer, decltype(&WebPDemuxDelete)> demuxer(WebPDemuxPartial(&data, &state),
                                                                         WebPDemuxDelete);
  const bool ended = state == WEBP_DEMUX_PARSING_HEADER || state == WEBP_DEMUX_PARSED_HEADER;
  if (ended && !options.keep_truncated) return TooEarly();
  if (demuxer == nullptr) return ended ? TooEarly() : absl::DataLossError("broken WebP: no valid sequence of chunks");

  WebPIterator frame{};
  const std::unique_ptr<WebPIterator, decltype(&WebPDemuxReleaseIterator)> release(&frame, WebPDemuxReleaseIterator);
  if (!WebPDemuxGetFrame(demuxer.get(), 1, &frame) || frame.height == 0 || frame.width == 0) {
    return ended ? TooEarly() : absl::DataLossError("broken WebP: it holds no image");
  }
  // Known once there is a frame.
  const int64_t height = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_HEIGHT);
  const int64_t width = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_WIDTH);
  if (height * width > options.max_pixels) {
    return absl::DataLossError(
        absl::StrCat("broken WebP: ", height, "x", width, " is more than ", options.max_pixels, " pixels"));
  }
  ASSIGN_OR_RETURN(Image image, DecodeFrame(frame, options));
  if (image.height == height && image.width == width) return image;

  Image canvas{height, width, Pixels(Image::kChannels * height * width)};
  for (int64_t i = 0; i < height * width; ++i) {
    std::memcpy(&canvas.pixels[Image::kChannels * i], options.background.data(), Image::kChannels);
  }
  for (int64_t y = 0; y < image.height; ++y) {
    const int64_t at = (frame.y_offset + y) * width + frame.x_offset;
    std::memcpy(&canvas.pixels[Image::kChannels * at], &image.pixels[Image::kChannels * y * image.width],
                Image::kChannels * image.width);
  }
  return canvas;
}

}  // namespace graticule
