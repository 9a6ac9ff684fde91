// Parses any bytes, for model and EMA weights; what is accepted must be writable.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "nn/safetensors.h"
#include "nn/torch_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  for (const bool ema : {false, true}) {
    const auto contents = graticule::ParseTorchFile({reinterpret_cast<const char*>(data), size}, ema);
    if (contents.ok()) graticule::SerializeSafetensors(*contents);
  }
  return 0;
}
