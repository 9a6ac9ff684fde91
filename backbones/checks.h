// What the configs of all backbones have to satisfy. Each adds an error under `field` where `value` doesn't.
#ifndef GRATICULE_BACKBONES_CHECKS_H_
#define GRATICULE_BACKBONES_CHECKS_H_

#include <cstdint>
#include <string_view>

#include "nn/position_encoding.pb.h"
#include "nn/token_map.h"
#include "plugin/status.h"

namespace graticule {

// These return whether all is well, for checks that build on it.
bool CheckPositive(FieldErrors& errors, std::string_view field, double value);
bool CheckAtLeastZero(FieldErrors& errors, std::string_view field, double value);
// From 1 to `most`: a slip of the keyboard must not ask for all of the memory.
constexpr int64_t kMostLayers = 1000;
constexpr int64_t kMostWidth = 65536;
// Among which each pair has a bias of its own: what is kept of it is the square of this.
constexpr int64_t kMostRelatedTokens = 4096;
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

// Squares of `patch_size` pixels tile the image; errors under "patch_size".
bool CheckPatchSize(FieldErrors& errors, int64_t patch_size, Size2d image);
// A table of positions of this kind has rows of `width` (which may be out of range: an error elsewhere); errors under
// "position".
bool CheckPositionWidth(FieldErrors& errors, PositionEncoding::Kind kind, int64_t width);

// How many prefix tokens a backbone can have at most.
enum class PrefixTokens { kNone, kClassToken, kDistillationToken };
// The pooling asks for no more of them; the error has no field path of its own.
bool CheckPrefixTokens(FieldErrors& errors, const TokenContract& contract, PrefixTokens most);
// A plain transformer of `depth` layers, with or without a position, delivers it as the contract asks; errors under
// "depth" or, where it has none, "position".
bool CheckDelivery(FieldErrors& errors, const TokenContract& contract, int64_t depth, bool has_position);

// The fields of a plain transformer, whose layers are all alike: embed_dim, depth, num_heads, mlp_ratio; and the
// contract's delivery. Returns whether the heads have a width.
template <typename Config>
bool CheckPlainTransformer(FieldErrors& errors, const Config& config, const TokenContract& contract,
                           bool has_position) {
  const bool has_width = CheckCount(errors, "embed_dim", config.embed_dim(), kMostWidth);
  const bool has_heads = CheckHeads(errors, "num_heads", config.num_heads(), config.embed_dim());
  if (CheckCount(errors, "depth", config.depth(), kMostLayers)) {
    CheckDelivery(errors, contract, config.depth(), has_position);
  }
  CheckMlpRatio(errors, "mlp_ratio", config.mlp_ratio(), config.embed_dim());
  return has_width && has_heads;
}

// The other fields that layers have: norm_epsilon, drop_path_rate, projection_dropout, attention_dropout.
template <typename Config>
void CheckLayerFields(FieldErrors& errors, const Config& config) {
  CheckPositive(errors, "norm_epsilon", config.norm_epsilon());
  CheckRate(errors, "drop_path_rate", config.drop_path_rate());
  CheckRate(errors, "projection_dropout", config.projection_dropout());
  CheckRate(errors, "attention_dropout", config.attention_dropout());
}

}  // namespace graticule

#endif  // GRATICULE_BACKBONES_CHECKS_H_
