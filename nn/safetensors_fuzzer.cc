// Parses any bytes; what is accepted must be writable, and the same when read again.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "nn/safetensors.h"
#include "plugin/logging.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto contents = graticule::ParseSafetensors({reinterpret_cast<const char*>(data), size});
  if (!contents.ok()) return 0;
  const std::string written = graticule::SerializeSafetensors(*contents);
  const auto again = graticule::ParseSafetensors(written);
  CHECK(again.ok()) << again.status();
  CHECK(graticule::SerializeSafetensors(*again) == written);
  return 0;
}
