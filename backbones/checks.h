// What the configs of all backbones have to satisfy. Each adds an error under `field` where `value` doesn't.
#ifndef GRATICULE_BACKBONES_CHECKS_H_
#define GRATICULE_BACKBONES_CHECKS_H_

#include <cstdint>
#include <string_view>

#include "nn/token_map.h"
#include "plugin/status.h"

namespace graticule {

// These return whether all is well, for checks that build on it.
bool CheckPositive(FieldErrors& errors, std::string_view field, double value);
bool CheckAtLeastZero(FieldErrors& errors, std::string_view field, double value);
// From 1 to `most`: a slip of the keyboard must not ask for all of the memory.
constexpr int64_t kMostLayers = 1000;
constexpr int64_t kMostWidth = 65536;
bool CheckCount(FieldErrors& errors, std::string_view field, int64_t count, int64_t most);
// From 0 up to, but not including, 1.
bool CheckRate(FieldErrors& errors, std::string_view field, double value);
// Positive, and divides the width (which may be 0 or less: an error elsewhere).
bool CheckHeads(FieldErrors& errors, std::string_view field, int64_t heads, int64_t width);
// A hidden layer of `ratio` times the width has a width.
bool CheckMlpRatio(FieldErrors& errors, std::string_view field, double ratio, int64_t width);
// Squares of `multiple` pixels tile the image; the error names the nearest sizes that they tile. `what`: "patches of
// 16".
bool CheckTiles(FieldErrors& errors, std::string_view field, std::string_view what, int64_t multiple, Size2d image);

// How many prefix tokens a backbone can have at most.
enum class PrefixTokens { kNone, kClassToken, kDistillationToken };
// The pooling asks for no more of them; the error has no field path of its own.
bool CheckPrefixTokens(FieldErrors& errors, const TokenContract& contract, PrefixTokens most);

}  // namespace graticule

#endif  // GRATICULE_BACKBONES_CHECKS_H_
