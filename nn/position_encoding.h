// Tables of absolute positions: pos_0 of the design, [1,T,D].
#ifndef GRATICULE_NN_POSITION_ENCODING_H_
#define GRATICULE_NN_POSITION_ENCODING_H_

#include <cstdint>

#include "ATen/core/Tensor.h"
#include "nn/position_encoding.pb.h"
#include "nn/token_map.h"

namespace graticule {

// Multiple that the width must be of: 4 for the 2-D sinusoids, 2 for the 1-D one, else 1.
int64_t WidthMultiple(PositionEncoding::Kind kind);

// A fresh table for `prefix_tokens` + h·w tokens, on the CPU or the meta device as NewParameter: for LEARNED a normal
// of `std` cut at ±2. Undefined for NONE.
at::Tensor NewPositionTable(PositionEncoding::Kind kind, Size2d grid, int64_t prefix_tokens, int64_t width,
                            double std = 0.02);
// Whether the table is a weight; the others are fixed.
bool IsTrained(PositionEncoding::Kind kind);

// A table [1,prefix+N,D] of one grid made to fit another: patch rows by antialiased bicubic interpolation, prefix rows
// as they are. Same result as timm's resample_abs_pos_embed.
at::Tensor ResizePositionTable(const at::Tensor& table, int64_t prefix_tokens, Size2d from, Size2d to);

// A table from a checkpoint [1,T',D] made to fit `prefix_tokens` + h·w tokens. Its own prefix may be longer, by a class
// token or a distillation token: rows are dropped from the prefix's end. It may have no prefix at all (the position was
// added before the class token came): its rows are zeros then. Its grid is `to` where the sizes allow that, else
// square. Undefined where neither fits, or the width differs.
at::Tensor AdaptPositionTable(const at::Tensor& loaded, int64_t prefix_tokens, Size2d to, int64_t width);

}  // namespace graticule

#endif  // GRATICULE_NN_POSITION_ENCODING_H_
