// TensorFlow's framing of records in a file.
#ifndef GRATICULE_TRAINER_SINKS_TENSOR_BOARD_RECORD_H_
#define GRATICULE_TRAINER_SINKS_TENSOR_BOARD_RECORD_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace graticule::tensor_board {

// CRC-32C (Castagnoli), as in RFC 3720.
uint32_t Crc32c(std::string_view bytes);

// A TFRecord: length (uint64), masked CRC of the length (uint32), the bytes, masked CRC of the bytes (uint32); all
// little-endian. https://www.tensorflow.org/tutorials/load_data/tfrecord
std::string FrameRecord(std::string_view bytes);

}  // namespace graticule::tensor_board

#endif  // GRATICULE_TRAINER_SINKS_TENSOR_BOARD_RECORD_H_
