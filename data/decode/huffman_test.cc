#include "data/decode/huffman.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>
// clang-format off: needs the lines before it
#include <jpeglib.h>
// clang-format on

#include "data/decode/test_jpeg.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

// A file of one interleaved scan in libjpeg's hands, and all that HuffmanScan needs of its header.
class File {
 public:
  explicit File(const std::string& bytes) {
    jpeg_.err = jpeg_std_error(&errors_);
    jpeg_create_decompress(&jpeg_);
    jpeg_mem_src(&jpeg_, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
    jpeg_read_header(&jpeg_, TRUE);
    data = {jpeg_.src->next_input_byte, jpeg_.src->bytes_in_buffer};
    const bool single = jpeg_.num_components == 1;
    for (int c = 0; c < jpeg_.num_components; ++c) {
      const jpeg_component_info& info = jpeg_.comp_info[c];
      const int count = single ? 1 : info.h_samp_factor * info.v_samp_factor;
      blocks.insert(blocks.end(), count, {c, info.dc_tbl_no, info.ac_tbl_no, false});
      most_h_ = std::max(most_h_, info.h_samp_factor);
      most_v_ = std::max(most_v_, info.v_samp_factor);
    }
    mcu_width = single ? 8 : 8 * most_h_;
    mcu_height = single ? 8 : 8 * most_v_;
    columns = (jpeg_.image_width + mcu_width - 1) / mcu_width;
    rows = (jpeg_.image_height + mcu_height - 1) / mcu_height;
    restart_interval = static_cast<int>(jpeg_.restart_interval);
  }
  ~File() { jpeg_destroy_decompress(&jpeg_); }

  bool SetCodes(HuffmanScan& scan) const {
    bool set = true;
    for (int i = 0; i < HuffmanScan::kMaxTables; ++i) {
      if (jpeg_.dc_huff_tbl_ptrs[i] != nullptr) set = set && scan.SetDcCodes(i, CodesOf(*jpeg_.dc_huff_tbl_ptrs[i]));
      if (jpeg_.ac_huff_tbl_ptrs[i] != nullptr) set = set && scan.SetAcCodes(i, CodesOf(*jpeg_.ac_huff_tbl_ptrs[i]));
    }
    return set;
  }

  // By libjpeg: the coefficients of all MCUs, one after another. Those that stand beyond the component's own blocks,
  // to fill up the last MCUs, libjpeg keeps too.
  std::vector<int16_t> Coefficients() {
    std::vector<int16_t> all;
    jvirt_barray_ptr* arrays = jpeg_read_coefficients(&jpeg_);
    const bool single = jpeg_.num_components == 1;
    for (int row = 0; row < rows; ++row) {
      for (int column = 0; column < columns; ++column) {
        for (int c = 0; c < jpeg_.num_components; ++c) {
          const int h = single ? 1 : jpeg_.comp_info[c].h_samp_factor,
                    v = single ? 1 : jpeg_.comp_info[c].v_samp_factor;
          for (int y = 0; y < v; ++y) {
            JBLOCKROW blocks = jpeg_.mem->access_virt_barray(reinterpret_cast<j_common_ptr>(&jpeg_), arrays[c],
                                                             row * v + y, 1, FALSE)[0];
            for (int x = 0; x < h; ++x) {
              const JCOEF* block = blocks[column * h + x];
              all.insert(all.end(), block, block + 64);
            }
          }
        }
      }
    }
    return all;
  }

  std::span<const uint8_t> data;
  std::vector<HuffmanScan::Block> blocks;
  int mcu_width = 0, mcu_height = 0, columns = 0, rows = 0, restart_interval = 0;

 private:
  static HuffmanCodes CodesOf(const JHUFF_TBL& table) {
    HuffmanCodes codes;
    std::memcpy(codes.counts.data(), table.bits + 1, codes.counts.size());
    std::memcpy(codes.symbols.data(), table.huffval, codes.symbols.size());
    return codes;
  }

  jpeg_decompress_struct jpeg_{};
  jpeg_error_mgr errors_{};
  int most_h_ = 1, most_v_ = 1;
};

// Reads `count` MCUs, passing over those that `skip` names. False once one is irregular.
template <typename Skip>
bool Read(HuffmanScan& scan, size_t blocks, int count, const Skip& skip, std::vector<int16_t>& all) {
  for (int i = 0; i < count; ++i) {
    std::vector<int16_t> values(64 * blocks);
    std::vector<HuffmanScan::Coefficients*> pointers;
    for (size_t b = 0; b < blocks; ++b) {
      pointers.push_back(reinterpret_cast<HuffmanScan::Coefficients*>(values.data() + 64 * b));
    }
    if (!scan.ReadMcu(skip(i) ? nullptr : pointers.data())) return false;
    all.insert(all.end(), values.begin(), values.end());
  }
  return true;
}

TEST(HuffmanScanTest, ReadsWhatLibjpegReads) {
  HuffmanScan scan;
  int read = 0;
  for (const TestJpeg& config : TestJpegs(45, 83)) {
    if (config.progressive || !config.interleaved) continue;
    const std::string bytes = Encode(config, ++read);
    File file(bytes);
    ASSERT_TRUE(file.SetCodes(scan));
    const auto read_all = [&](const auto& skip) {
      std::vector<int16_t> all;
      scan.Start(file.data, file.blocks, file.restart_interval);
      EXPECT_TRUE(Read(scan, file.blocks.size(), file.rows * file.columns, skip, all));
      // The end-of-image marker follows.
      EXPECT_EQ(scan.NextMarker(), file.data.data() + file.data.size() - 2);
      return all;
    };
    const std::vector<int16_t> found = read_all([](int) { return false; });
    std::vector<int16_t> halves = read_all([](int i) { return i % 2 == 0; });
    for (HuffmanScan::Block& block : file.blocks) block.mean_only = true;
    std::vector<int16_t> means = read_all([](int) { return false; });
    const std::vector<int16_t> expected = file.Coefficients();
    ASSERT_EQ(found, expected);
    // What was passed over makes no difference to what follows.
    const size_t mcu = 64 * file.blocks.size();
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(halves[i], i / mcu % 2 == 0 ? 0 : expected[i]);
      ASSERT_EQ(means[i], i % 64 == 0 ? expected[i] : 0);
    }
  }
  EXPECT_GT(read, 15);
}

TEST(HuffmanScanTest, LeavesWhatEndsEarly) {
  const std::string bytes = Encode({.height = 30, .width = 30, .restart_interval = 2});
  File file(bytes);
  HuffmanScan scan;
  ASSERT_TRUE(file.SetCodes(scan));
  for (size_t size = 0; size < file.data.size(); ++size) {
    const std::vector<uint8_t> data(file.data.begin(), file.data.begin() + size);  // for the sanitizer
    scan.Start(data, file.blocks, file.restart_interval);
    std::vector<int16_t> all;
    const bool read = Read(
        scan, file.blocks.size(), 4, [](int) { return false; }, all);
    EXPECT_FALSE(read && scan.NextMarker() != nullptr) << size;
  }
}

TEST(HuffmanScanTest, LeavesWrongRestartsAndWhatStandsBeforeMarkers) {
  const std::string bytes = Encode({.height = 16, .width = 32, .restart_interval = 1});
  File file(bytes);
  HuffmanScan scan;
  ASSERT_TRUE(file.SetCodes(scan));
  const auto reads = [&](const std::vector<uint8_t>& data) {
    scan.Start(data, file.blocks, file.restart_interval);
    std::vector<int16_t> all;
    return Read(
               scan, file.blocks.size(), 2, [](int) { return false; }, all) &&
           scan.NextMarker() != nullptr;
  };
  const std::vector<uint8_t> data(file.data.begin(), file.data.end());
  ASSERT_TRUE(reads(data));
  const std::vector<uint8_t> marker = {0xff, 0xd0};
  const size_t restart = std::search(data.begin(), data.end(), marker.begin(), marker.end()) - data.begin();
  ASSERT_LT(restart, data.size());
  std::vector<uint8_t> other = data;
  other[restart + 1] = 0xd1;
  EXPECT_FALSE(reads(other));
  for (const size_t place : {restart, data.size() - 2}) {
    other = data;
    other.insert(other.begin() + place, 0x55);
    EXPECT_FALSE(reads(other));
  }
}

TEST(HuffmanScanTest, RefusesWhatAreNoPrefixCodes) {
  HuffmanScan scan;
  HuffmanCodes codes{};
  codes.counts[0] = 3;  // of one bit
  EXPECT_FALSE(scan.SetAcCodes(0, codes));
  codes.counts = {0, 0, 0, 0, 0, 0, 0, 0, 200, 200};  // more than there are symbols
  EXPECT_FALSE(scan.SetAcCodes(0, codes));
  codes = {};
  codes.counts[0] = 1;
  codes.symbols[0] = 16;  // bits
  EXPECT_FALSE(scan.SetDcCodes(0, codes));
}

// One block of codes made by hand: "0" is a coefficient of one bit that follows no zero, "10" one of 15 bits after 14
// zeros, "110" sixteen zeros, and "111" is no code.
TEST(HuffmanScanTest, KnowsTheLastCoefficientAndWhatWouldLieBehind) {
  HuffmanScan scan;
  HuffmanCodes dc{}, ac{};
  dc.counts[0] = 1;
  dc.symbols[0] = 0;
  ac.counts[0] = ac.counts[1] = ac.counts[2] = 1;
  ac.symbols[0] = 0x01;
  ac.symbols[1] = 0xef;
  ac.symbols[2] = 0xf0;
  ASSERT_TRUE(scan.SetDcCodes(0, dc));
  ASSERT_TRUE(scan.SetAcCodes(0, ac));
  const HuffmanScan::Block block{0, 0, 0, false};
  HuffmanScan::Coefficients values;
  const auto read = [&](const std::string& bits) {
    std::vector<uint8_t> data;
    for (size_t i = 0; i < bits.size(); i += 8) {
      uint8_t byte = 0;
      for (size_t j = i; j < i + 8; ++j) byte = static_cast<uint8_t>(byte << 1 | (j >= bits.size() || bits[j] == '1'));
      data.push_back(byte);
      if (byte == 0xff) data.push_back(0);
    }
    data.insert(data.end(), {0xff, 0xd9});
    std::fill(std::begin(values), std::end(values), int16_t{0});
    scan.Start(data, {&block, 1}, 0);
    HuffmanScan::Coefficients* blocks = &values;
    return scan.ReadMcu(&blocks) && scan.NextMarker() != nullptr;
  };
  const std::string one = "01", minus_one = "00", wide = "10" + std::string(14, '0') + "1", zeros = "110";
  std::string ones;
  for (int i = 0; i < 63; ++i) ones += i % 2 == 0 ? one : minus_one;
  ASSERT_TRUE(read("0" + ones));
  EXPECT_EQ(values[0], 0);
  EXPECT_EQ(values[1], 1);
  EXPECT_EQ(values[8], -1);
  EXPECT_EQ(values[16], 1);
  EXPECT_EQ(values[63], 1);
  EXPECT_FALSE(read("0" + ones.substr(2)));  // one is missing
  ASSERT_TRUE(read("0" + zeros + zeros + zeros + wide));
  EXPECT_EQ(values[63], 1 - 32767);
  EXPECT_EQ(std::count(std::begin(values), std::end(values), 0), 63);
  EXPECT_FALSE(read("0" + one + zeros + zeros + zeros + wide));
  EXPECT_FALSE(read("0" + one + "111"));
  EXPECT_FALSE(read("1"));
}

}  // namespace
}  // namespace graticule
