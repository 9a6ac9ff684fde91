// The entropy-coded data of baseline JPEG (ITU-T T.81, annex F.2), read some twice as fast as libjpeg-turbo reads it.
#ifndef GRATICULE_DATA_DECODE_HUFFMAN_H_
#define GRATICULE_DATA_DECODE_HUFFMAN_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace graticule {

// Codes as a file tells them: how many there are of 1, ..., 16 bits, and what each stands for, the shortest first.
struct HuffmanCodes {
  std::array<uint8_t, 16> counts;
  std::array<uint8_t, 256> symbols;

  bool operator==(const HuffmanCodes&) const = default;
};

// Reads one interleaved scan of sequential 8-bit JPEG, MCU by MCU. Whatever is irregular, be it damage or just unusual
// (fill bytes, more than padding before a marker), it leaves to a decoder that knows what to make of it.
class HuffmanScan {
 public:
  // Eight rows of eight coefficients.
  using Coefficients = int16_t[64];
  static constexpr int kMaxTables = 4;
  static constexpr int kMaxBlocks = 10;  // of an MCU

  // The codes with that number, from now on. False: they are no prefix codes. Codes that stay cost next to nothing.
  bool SetDcCodes(int number, const HuffmanCodes& codes);
  bool SetAcCodes(int number, const HuffmanCodes& codes);

  struct Block {
    int component;  // below 4; blocks of one component predict each other's mean
    int dc_codes, ac_codes;
    bool mean_only;  // of its coefficients only the first is wanted
  };
  // Of every MCU, in their order; `restart_interval` is in MCUs, 0 for none. `data` begins after the scan's header.
  void Start(std::span<const uint8_t> data, std::span<const Block> blocks, int restart_interval);

  // Adds the next MCU to its blocks, which hold zeros; nullptr: passes over it. False if something is irregular.
  bool ReadMcu(Coefficients* const* blocks);

  // Where the marker stands that follows what was read, nullptr if no marker follows at once.
  const uint8_t* NextMarker();

 private:
  // Canonical codes by their length, with the next 16 bits of the data as a number: those of a code of n bits are
  // below limits[n], and not below limits[n - 1].
  struct Codes {
    bool Set(const HuffmanCodes& from);

    HuffmanCodes codes{};
    std::array<uint32_t, 17> limits{};
    std::array<int, 17> offsets{};
  };
  struct Symbol {
    int length;  // of its code; 0: there is no such code
    int value;
  };
  static Symbol Find(const Codes& codes, uint32_t next16);

  static constexpr int kDcLookup = 9, kAcLookup = 11;  // bits
  // What the next bits begin with, if the code is no longer than that.
  struct DcEntry {
    uint8_t length;  // 0: it is longer
    uint8_t size;
  };
  // What the next bits hold in whole: a coefficient, two, one and the end of the block, or the end alone.
  struct AcEntry {
    int16_t first, second;  // 0 where there is none
    uint8_t to_first;       // how far the first is from the coefficient before: 1 plus the zeros between them
    uint8_t advance;        // how far the last is; one more for an end that follows a coefficient; above 63: see below
    uint8_t bits;
    bool end;
  };
  // The advance of entries whose bits hold no more than a part of a coefficient. If they hold the code, then `bits` is
  // its length, 1 + the zeros is to_first and the size is `first`, else `bits` is 0.
  static constexpr uint8_t kPart = 64;

  struct DcTable {
    Codes codes;
    std::array<DcEntry, 1 << kDcLookup> entries{};
  };
  struct AcTable {
    Codes codes;
    std::array<AcEntry, 1 << kAcLookup> entries{};
  };

  // The next bits, from the highest of `bits` on. What follows the `count` bits in there is the beginning of what
  // stands at `next`, or zero.
  struct Reader {
    void Refill();  // to at least 56 bits
    void RefillByBytes();
    void Drop(int n) {
      bits <<= n;
      count -= n;
    }

    uint64_t bits = 0;
    int count = 0;
    int invented = 0;  // zeros at the end, which stand for what is missing before a marker or the end of the data
    const uint8_t* next = nullptr;
    const uint8_t* end = nullptr;
  };

  struct TabledBlock {
    int component;
    const DcTable* dc;
    const AcTable* ac;
    bool mean_only;
  };

  bool Restart();
  template <bool kKeep>
  bool ReadBlocks(Coefficients* const* blocks);
  static bool ReadDifference(Reader& reader, const DcTable& table, int& difference);
  template <bool kKeep>
  static bool ReadAc(Reader& reader, const AcTable& table, int16_t* block);

  std::array<DcTable, kMaxTables> dc_{};
  std::array<AcTable, kMaxTables> ac_{};
  Reader reader_;
  std::array<TabledBlock, kMaxBlocks> blocks_{};
  int blocks_in_mcu_ = 0;
  std::array<unsigned, 4> means_{};  // of each component's last block
  int restart_interval_ = 0;
  int before_restart_ = 0;  // MCUs
  int restarts_ = 0;
};

}  // namespace graticule

#endif  // GRATICULE_DATA_DECODE_HUFFMAN_H_
