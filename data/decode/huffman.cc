#include "data/decode/huffman.h"

#include <algorithm>
#include <cstring>

#include "plugin/logging.h"

namespace graticule {
namespace {

// Where the coefficients of the zigzag order stand: along the diagonals, from one edge to the other and back.
constexpr std::array<uint8_t, 64> ZigzagOrder() {
  std::array<uint8_t, 64> order{};
  int k = 0;
  for (int diagonal = 0; diagonal < 15; ++diagonal) {
    for (int i = 0; i <= diagonal; ++i) {
      const int row = diagonal % 2 == 0 ? diagonal - i : i, column = diagonal - row;
      if (row < 8 && column < 8) order[k++] = static_cast<uint8_t>(8 * row + column);
    }
  }
  return order;
}
constexpr std::array<uint8_t, 64> kZigzag = ZigzagOrder();

// The number that the first `size` bits stand for, 0 to 15 of them: a first bit of 1 begins a positive number, a first
// bit of 0 a negative one, of all ones less.
inline int Signed(uint64_t bits, int size) {
  const int value = static_cast<int>(bits >> 1 >> (63 - size));
  const int less = (1 << size) - 1;
  return value - (static_cast<int64_t>(bits) < 0 ? 0 : less);
}

// Calls visit(first, last, length, symbol) for the codes of up to `lookup` bits: such a code begins the numbers of
// `lookup` bits from `first` to before `last`.
template <typename Visit>
void ForEachCode(const HuffmanCodes& codes, int lookup, const Visit& visit) {
  int first = 0, index = 0;
  for (int length = 1; length <= lookup; ++length) {
    const int step = 1 << (lookup - length);
    for (int i = 0; i < codes.counts[length - 1]; ++i, first += step) {
      visit(first, first + step, length, codes.symbols[index++]);
    }
  }
}

}  // namespace

bool HuffmanScan::Codes::Set(const HuffmanCodes& from) {
  Codes set{.codes = from};
  uint32_t code = 0;
  int index = 0;
  for (int length = 1; length <= 16; ++length) {
    set.offsets[length] = index - static_cast<int>(code);
    code += from.counts[length - 1];
    index += from.counts[length - 1];
    if (code > uint32_t{1} << length || index > 256) return false;
    set.limits[length] = code << (16 - length);
    code <<= 1;
  }
  *this = set;
  return true;
}

HuffmanScan::Symbol HuffmanScan::Find(const Codes& codes, uint32_t next16) {
  for (int length = 1; length <= 16; ++length) {
    if (next16 < codes.limits[length]) {
      return {length, codes.codes.symbols[codes.offsets[length] + static_cast<int>(next16 >> (16 - length))]};
    }
  }
  return {0, 0};
}

bool HuffmanScan::SetDcCodes(int number, const HuffmanCodes& codes) {
  DcTable& table = dc_[number];
  if (codes == table.codes.codes) return true;
  for (const uint8_t size : codes.symbols) {
    if (size > 15) return false;
  }
  if (!table.codes.Set(codes)) return false;
  table.entries.fill({0, 0});
  ForEachCode(codes, kDcLookup, [&table](int first, int last, int length, int size) {
    for (int i = first; i < last; ++i) table.entries[i] = {static_cast<uint8_t>(length), static_cast<uint8_t>(size)};
  });
  return true;
}

bool HuffmanScan::SetAcCodes(int number, const HuffmanCodes& codes) {
  AcTable& table = ac_[number];
  if (codes == table.codes.codes) return true;
  if (!table.codes.Set(codes)) return false;

  // What begins each number, alone.
  std::array<AcEntry, 1 << kAcLookup> one;
  one.fill({0, 0, 0, kPart, 0, false});
  ForEachCode(codes, kAcLookup, [&one](int first, int last, int length, int symbol) {
    const int zeros = symbol >> 4, size = symbol & 15;
    AcEntry entry{
        0, 0, static_cast<uint8_t>(zeros + 1), static_cast<uint8_t>(zeros + 1), static_cast<uint8_t>(length), false};
    if (size == 0 && zeros != 15) entry = {0, 0, 0, 0, static_cast<uint8_t>(length), true};
    if (length + size > kAcLookup) {
      entry.first = static_cast<int16_t>(size);
      entry.advance = kPart;
    } else {
      entry.bits = static_cast<uint8_t>(length + size);
    }
    const int repeats = entry.advance == kPart ? last - first : (last - first) >> size;
    for (int i = first; i < last; i += repeats) {
      if (entry.advance != kPart)
        entry.first = static_cast<int16_t>(Signed(static_cast<uint64_t>(i) << (64 - kAcLookup) << length, size));
      std::fill_n(one.begin() + i, repeats, entry);
    }
  });

  for (int i = 0; i < 1 << kAcLookup; ++i) {
    AcEntry entry = one[i];
    if (entry.advance != kPart && !entry.end) {
      const AcEntry& second = one[(i << entry.bits) & ((1 << kAcLookup) - 1)];
      if (second.advance != kPart && entry.bits + second.bits <= kAcLookup) {
        entry.second = second.first;
        entry.advance = static_cast<uint8_t>(entry.advance + (second.end ? 1 : second.advance));
        entry.bits = static_cast<uint8_t>(entry.bits + second.bits);
        entry.end = second.end;
      }
    }
    table.entries[i] = entry;
  }
  return true;
}

void HuffmanScan::Start(std::span<const uint8_t> data, std::span<const Block> blocks, int restart_interval) {
  CHECK_LE(blocks.size(), blocks_.size());
  reader_ = {};
  reader_.next = data.data();
  reader_.end = data.data() + data.size();
  blocks_in_mcu_ = static_cast<int>(blocks.size());
  for (int i = 0; i < blocks_in_mcu_; ++i) {
    const Block& block = blocks[i];
    blocks_[i] = {block.component, &dc_[block.dc_codes], &ac_[block.ac_codes], block.mean_only};
  }
  means_ = {};
  restart_interval_ = before_restart_ = restart_interval;
  restarts_ = 0;
}

// Eight bytes at once, unless one is 0xff, which may be data or begin a marker.
[[gnu::always_inline]] inline void HuffmanScan::Reader::Refill() {
  if (end - next >= 8) {
    uint64_t bytes;
    std::memcpy(&bytes, next, 8);
    const bool has_ff = (~bytes - 0x0101010101010101) & bytes & 0x8080808080808080;
    if (!has_ff) {
      bits |= __builtin_bswap64(bytes) >> count;
      next += (63 - count) / 8;
      count |= 56;
      return;
    }
  }
  RefillByBytes();
}

[[gnu::noinline]] void HuffmanScan::Reader::RefillByBytes() {
  while (count < 56) {
    uint64_t byte = 0;
    if (next < end && *next != 0xff) {
      byte = *next++;
    } else if (end - next >= 2 && next[1] == 0) {  // 0xff as data
      byte = 0xff;
      next += 2;
    } else {
      invented += 8;
    }
    bits |= byte << (56 - count);
    count += 8;
  }
}

const uint8_t* HuffmanScan::NextMarker() {
  reader_.Refill();
  const bool padding_only = reader_.count - reader_.invented < 8;
  return padding_only && reader_.end - reader_.next >= 2 ? reader_.next : nullptr;
}

bool HuffmanScan::Restart() {
  const uint8_t* marker = NextMarker();
  if (marker == nullptr || marker[1] != 0xd0 + restarts_ % 8) return false;
  ++restarts_;
  before_restart_ = restart_interval_;
  means_ = {};
  reader_ = {.next = marker + 2, .end = reader_.end};
  return true;
}

[[gnu::always_inline]] inline bool HuffmanScan::ReadDifference(Reader& reader, const DcTable& table, int& difference) {
  reader.Refill();
  const DcEntry entry = table.entries[reader.bits >> (64 - kDcLookup)];
  Symbol symbol{entry.length, entry.size};
  if (symbol.length == 0) {
    symbol = Find(table.codes, static_cast<uint32_t>(reader.bits >> 48));
    if (symbol.length == 0) return false;
  }
  difference = Signed(reader.bits << symbol.length, symbol.value);
  reader.Drop(symbol.length + symbol.value);
  return true;
}

template <bool kKeep>
[[gnu::always_inline]] inline bool HuffmanScan::ReadAc(Reader& reader, const AcTable& table, int16_t* block) {
  constexpr int kLookups = 56 / kAcLookup;  // per refill
  int k = 0;                                // the last coefficient
  while (true) {
    reader.Refill();
#pragma clang loop unroll(full)
    for (int i = 0; i < kLookups; ++i) {
      const AcEntry entry = table.entries[reader.bits >> (64 - kAcLookup)];
      if (k + entry.advance > 63) {
        // A single symbol: one that the entry holds no more than a part of, or the block's last.
        reader.Refill();
        Symbol symbol{entry.bits, (entry.to_first - 1) << 4 | entry.first};
        if (entry.advance != kPart || entry.bits == 0) {
          symbol = Find(table.codes, static_cast<uint32_t>(reader.bits >> 48));
          if (symbol.length == 0) return false;
        }
        const int zeros = symbol.value >> 4, size = symbol.value & 15;
        const int value = Signed(reader.bits << symbol.length, size);
        reader.Drop(symbol.length + size);
        if (size == 0 && zeros != 15) return true;
        k += zeros + 1;
        if (k > 63) return false;
        if (kKeep) block[kZigzag[k]] = static_cast<int16_t>(value);
        if (k == 63) return true;
        break;
      }
      if (kKeep)
        block[kZigzag[k + entry.to_first]] = static_cast<int16_t>(block[kZigzag[k + entry.to_first]] + entry.first);
      k += entry.advance;
      reader.Drop(entry.bits);
      if (entry.end) return true;
      if (kKeep) block[kZigzag[k]] = static_cast<int16_t>(block[kZigzag[k]] + entry.second);
      if (k == 63) return true;
    }
  }
}

template <bool kKeep>
bool HuffmanScan::ReadBlocks(Coefficients* const* blocks) {
  Reader reader = reader_;  // in registers
  for (int i = 0; i < blocks_in_mcu_; ++i) {
    const TabledBlock& block = blocks_[i];
    int difference;
    if (!ReadDifference(reader, *block.dc, difference)) return false;
    const unsigned mean = means_[block.component] += static_cast<unsigned>(difference);
    bool read;
    if (kKeep && !block.mean_only) {
      read = ReadAc<true>(reader, *block.ac, *blocks[i]);
    } else {
      read = ReadAc<false>(reader, *block.ac, nullptr);
    }
    if (!read) return false;
    if (kKeep) (*blocks[i])[0] = static_cast<int16_t>(mean);
  }
  reader_ = reader;
  return reader.count >= reader.invented;
}

bool HuffmanScan::ReadMcu(Coefficients* const* blocks) {
  if (restart_interval_ > 0 && before_restart_-- == 0) {
    if (!Restart()) return false;
    --before_restart_;
  }
  return blocks != nullptr ? ReadBlocks<true>(blocks) : ReadBlocks<false>(nullptr);
}

}  // namespace graticule
