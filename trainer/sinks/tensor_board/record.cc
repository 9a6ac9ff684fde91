#include "trainer/sinks/tensor_board/record.h"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace graticule::tensor_board {
namespace {

// The remainder of each byte by the polynomial, bits reversed.
constexpr std::array<uint32_t, 256> kRemainders = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1) ^ ((remainder & 1) != 0 ? 0x82F63B78u : 0u);
    table[byte] = remainder;
  }
  return table;
}();

template <typename T>
std::string LittleEndian(T value) {
  std::string bytes;
  for (size_t i = 0; i < sizeof(T); ++i) bytes.push_back(static_cast<char>(value >> (8 * i)));
  return bytes;
}

// So that the sum of a record that holds sums is not a trivial one.
std::string MaskedCrc(std::string_view bytes) {
  const uint32_t crc = Crc32c(bytes);
  return LittleEndian<uint32_t>(((crc >> 15) | (crc << 17)) + 0xA282EAD8u);
}

}  // namespace

uint32_t Crc32c(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFFu;
  for (const char byte : bytes) crc = (crc >> 8) ^ kRemainders[(crc ^ static_cast<uint8_t>(byte)) & 0xFF];
  return ~crc;
}

std::string FrameRecord(std::string_view bytes) {
  const std::string length = LittleEndian<uint64_t>(bytes.size());
  std::string record = length + MaskedCrc(length);
  record.append(bytes);
  return record + MaskedCrc(bytes);
}

}  // namespace graticule::tensor_board
