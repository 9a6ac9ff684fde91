// What the configs of several backbones say of their layers, under the same names.
#ifndef GRATICULE_BACKBONES_BLOCK_OPTIONS_H_
#define GRATICULE_BACKBONES_BLOCK_OPTIONS_H_

#include <cstdint>

#include "nn/transformer_block.h"

namespace graticule {

// The fields qkv_bias, attention_dropout, projection_dropout, mlp_ratio and norm_epsilon of a config with all defaults
// filled in; drop_path is each layer's own.
template <typename Config>
TransformerBlockOptions BlockOptions(const Config& config, int64_t width, int64_t heads) {
  return {.attention = {.width = width,
                        .heads = heads,
                        .qkv_bias = config.qkv_bias(),
                        .attention_dropout = config.attention_dropout(),
                        .projection_dropout = config.projection_dropout()},
          .mlp_hidden = static_cast<int64_t>(width * config.mlp_ratio()),
          .mlp_dropout = config.projection_dropout(),
          .norm_epsilon = config.norm_epsilon()};
}

}  // namespace graticule

#endif  // GRATICULE_BACKBONES_BLOCK_OPTIONS_H_
