#include "backbones/t2t_vit/t2t_vit.h"

#include <cmath>
#include <tuple>
#include <utility>

#include "ATen/TensorOperators.h"
#include "ATen/ops/bmm.h"
#include "ATen/ops/constant_pad_nd.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/linalg_qr.h"
#include "ATen/ops/linear.h"
#include "ATen/ops/scaled_dot_product_attention.h"
#include "absl/strings/str_cat.h"
#include "backbones/block_options.h"
#include "backbones/checks.h"
#include "c10/core/DispatchKeySet.h"
#include "c10/core/GradMode.h"
#include "c10/core/impl/LocalDispatchKeySet.h"
#include "nn/activation_checkpointing.h"
#include "nn/position_encoding.h"
#include "plugin/logging.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

constexpr int64_t kMostTokenWidth = 4096;
constexpr int64_t kTokenSize = 16;  // in pixels: the product of the three splits' strides

// Orthonormal rows times `scale`, drawn uniformly.
at::Tensor Orthogonal(at::Tensor tensor, double scale) {
  if (tensor.is_meta()) return tensor;
  c10::NoGradGuard no_grad;
  const auto [q, r] = at::linalg_qr(at::empty({tensor.size(1), tensor.size(0)}, tensor.options()).normal_());
  // The signs make the factorisation unique, and q as uniform as the normal matrix.
  return tensor.copy_(q.mul(r.diagonal().sign()).t()).mul_(scale);
}

// The overlapping windows of kernel×kernel pixels of a map [B,h,w,C], `stride` apart, zeros around it:
// [B,h/stride·w/stride,C·kernel²] in raster order, entries by channel, then row, then column.
at::Tensor SoftSplit(const at::Tensor& map, int64_t kernel, int64_t stride) {
  const int64_t padding = (kernel - stride + 1) / 2;
  return at::constant_pad_nd(map, {0, 0, padding, padding, padding, padding})
      .unfold(1, kernel, stride)
      .unfold(2, kernel, stride)
      .flatten(3)
      .flatten(1, 2);
}

// Attention of one head among windows, whose width `in` differs from that of what comes out, so that the values take
// the residual's place.
class TokenLayer : public Module {
 public:
  // [B,N,in] to [B,N,width].
  virtual at::Tensor Forward(const at::Tensor& x) const = 0;
};

// y = v + proj(φ(q)·(φ(k)ᵀ·v) / φ(q)·Σφ(k)); out = y + mlp(norm2(y)). φ(u) = exp(w·u - |u|²/2) / √m are the m positive
// random features of the softmax's kernel (arXiv 2009.14794, equation 5), their directions w [m,width] fixed.
class TokenPerformer : public TokenLayer {
 public:
  TokenPerformer(int64_t in, int64_t width, double epsilon, double dropout)
      : width_(width),
        norm1_(in, epsilon),
        kqv_(in, 3 * width),
        proj_(width, width),
        norm2_(width, epsilon),
        mlp_(width, width, /*dropout=*/0, {.first = "0", .second = "2"}),
        dropout_(dropout) {
    RegisterModule("norm1", &norm1_);
    RegisterModule("kqv", &kqv_);
    RegisterModule("proj", &proj_);
    RegisterModule("norm2", &norm2_);
    RegisterModule("mlp", &mlp_);
    RegisterModule("dropout", &dropout_);
    const int64_t features = width / 2;
    w_ = RegisterParameter("w", Orthogonal(NewParameter({features, width}), std::sqrt(features)),
                           {.decay = false, .trainable = false});
  }

  at::Tensor Forward(const at::Tensor& x) const override {
    const std::vector<at::Tensor> kq_v = kqv_.Forward(norm1_.Forward(x)).split_with_sizes({2 * width_, width_}, -1);
    const at::Tensor y = kq_v[1].add(dropout_.Forward(proj_.Forward(Attend(kq_v[0], kq_v[1]))));
    return y.add(dropout_.Forward(mlp_.Forward(norm2_.Forward(y))));
  }
  std::string TypeName() const override { return "TokenPerformer"; }

 private:
  // kq [B,N,2·width], keys before queries, and v [B,N,width] to [B,N,width], in fp32: under autocast too, for the
  // exponentials are out of fp16's range and of bf16's precision.
  at::Tensor Attend(const at::Tensor& kq, const at::Tensor& v) const {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const at::Tensor u = kq.to(at::kFloat).unflatten(-1, {2, width_});
    // √m·φ; the factors cancel in the quotient but for its epsilon of 1e-8.
    const std::vector<at::Tensor> features =
        (at::linear(u, w_) - u.square().sum(-1, /*keepdim=*/true) / 2).exp().unbind(2);
    const at::Tensor &k = features[0], &q = features[1];  // [B,N,m]
    const at::Tensor sums = at::bmm(k.transpose(1, 2), v.to(at::kFloat));
    const at::Tensor weights = at::bmm(q, k.sum(1).unsqueeze(-1));  // [B,N,1]
    return at::bmm(q, sums) / (weights + 1e-8 * w_.size(0));
  }

  int64_t width_;
  LayerNorm norm1_;
  Linear kqv_;
  Linear proj_;
  LayerNorm norm2_;
  Mlp mlp_;
  Dropout dropout_;
  at::Tensor w_;
};

// y = v + proj(softmax(q·kᵀ / √in)·v); out = y + mlp(norm2(y)).
class TokenTransformer : public TokenLayer {
 public:
  TokenTransformer(int64_t in, int64_t width, double epsilon)
      : width_(width),
        norm1_(in, epsilon),
        qkv_(in, 3 * width, /*bias=*/false),
        proj_(width, width),
        norm2_(width, epsilon),
        mlp_(width, width) {
    RegisterModule("norm1", &norm1_);
    RegisterModule("attn.qkv", &qkv_);
    RegisterModule("attn.proj", &proj_);
    RegisterModule("norm2", &norm2_);
    RegisterModule("mlp", &mlp_);
  }

  at::Tensor Forward(const at::Tensor& x) const override {
    const std::vector<at::Tensor> qkv = qkv_.Forward(norm1_.Forward(x)).unsqueeze(1).split(width_, -1);
    const at::Tensor attended =
        at::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], /*attn_mask=*/{}, /*dropout_p=*/0, /*is_causal=*/false,
                                         /*scale=*/1 / std::sqrt(static_cast<double>(x.size(-1))));
    const at::Tensor y = qkv[2].add(proj_.Forward(attended)).squeeze(1);
    return y.add(mlp_.Forward(norm2_.Forward(y)));
  }
  std::string TypeName() const override { return "TokenTransformer"; }

 private:
  int64_t width_;
  LayerNorm norm1_;
  Linear qkv_;
  Linear proj_;
  LayerNorm norm2_;
  Mlp mlp_;
};

std::unique_ptr<TokenLayer> NewTokenLayer(const T2tVit& config, int64_t in) {
  if (config.tokens_type() == T2tVit::TRANSFORMER) {
    return std::make_unique<TokenTransformer>(in, config.token_dim(), config.norm_epsilon());
  }
  return std::make_unique<TokenPerformer>(in, config.token_dim(), config.norm_epsilon(), config.token_dropout());
}

T2tVit WithDefaults(const T2tVit& given) {
  T2tVit config;
  config.set_embed_dim(256);
  config.set_depth(7);
  config.set_num_heads(4);
  config.set_mlp_ratio(2);
  config.set_qkv_bias(false);
  config.set_norm_epsilon(1e-5);
  config.set_token_dim(64);
  config.set_class_token_std(0.02);
  config.set_token_dropout(0.1);
  config.MergeFrom(given);
  return config;
}

// All mistakes of a config with its defaults filled in.
absl::Status Check(const T2tVit& config, const BackboneContext& context) {
  FieldErrors errors;
  CheckPrefixTokens(errors, context.contract, PrefixTokens::kClassToken);
  CheckTiles(errors, "", absl::StrCat("tokens of ", kTokenSize, "×", kTokenSize, " pixels"), kTokenSize,
             context.image_size);
  CheckPlainTransformer(errors, config, context.contract, /*has_position=*/true);
  if (config.embed_dim() > 0 && config.embed_dim() % WidthMultiple(PositionEncoding::SINUSOID_1D) != 0) {
    errors.Add("embed_dim", absl::StrCat("must be even for the sinusoid, found ", config.embed_dim()));
  }
  CheckLayerFields(errors, config);
  if (CheckCount(errors, "token_dim", config.token_dim(), kMostTokenWidth) && config.token_dim() < 2) {
    errors.Add("token_dim", "must be 2 or more, found 1");
  }
  CheckAtLeastZero(errors, "class_token_std", config.class_token_std());
  CheckRate(errors, "token_dropout", config.token_dropout());
  CheckRate(errors, "position_dropout", config.position_dropout());
  return errors.ToStatus();
}

}  // namespace

// Images to tokens: three splits into overlapping windows, attention among the windows of the first two.
class TokensToToken : public Module {
 public:
  TokensToToken(const T2tVit& config, int64_t channels)
      : attention1_(RegisterModule("attention1", NewTokenLayer(config, channels * 7 * 7))),
        attention2_(RegisterModule("attention2", NewTokenLayer(config, config.token_dim() * 3 * 3))),
        project_(config.token_dim() * 3 * 3, config.embed_dim()) {
    RegisterModule("project", &project_);
  }

  // [B,3,H,W] to [B,H/16·W/16,D].
  at::Tensor Forward(const at::Tensor& images) const {
    const int64_t height = images.size(2), width = images.size(3);
    at::Tensor x = Attend(attention1_, images.permute({0, 2, 3, 1}), 7, 4);
    x = Attend(attention2_, x.unflatten(1, {height / 4, width / 4}), 3, 2);
    return project_.Forward(SoftSplit(x.unflatten(1, {height / 8, width / 8}), 3, 2));
  }
  std::string TypeName() const override { return "TokensToToken"; }

 private:
  // A checkpointed layer keeps the map, whose pixels are in several windows each.
  static at::Tensor Attend(const TokenLayer* layer, const at::Tensor& map, int64_t kernel, int64_t stride) {
    return Checkpointed(
        [=](const at::Tensor& map, const at::Tensor&) { return layer->Forward(SoftSplit(map, kernel, stride)); }, map);
  }

  const TokenLayer* attention1_;
  const TokenLayer* attention2_;
  Linear project_;
};

absl::StatusOr<std::unique_ptr<Backbone>> T2tVitBackbone::Create(const T2tVit& given, const BackboneContext& context) {
  const T2tVit config = WithDefaults(given);
  RETURN_IF_ERROR(Check(config, context));
  return std::unique_ptr<Backbone>(new T2tVitBackbone(config, context));
}

T2tVitBackbone::T2tVitBackbone(const T2tVit& config, const BackboneContext& context)
    : width_(config.embed_dim()),
      grid_(context.image_size / kTokenSize),
      position_dropout_(config.position_dropout()),
      norm_(config.embed_dim(), config.norm_epsilon()),
      delivery_(context.contract.delivery, config.depth(), config.embed_dim(), config.norm_epsilon()) {
  if (context.contract.class_token) {
    class_token_ = RegisterParameter(
        "cls_token", init::TruncNormal(NewParameter({1, 1, width_}), config.class_token_std()), {.decay = false});
  }
  position_ =
      RegisterParameter("pos_embed", NewPositionTable(PositionEncoding::SINUSOID_1D, grid_, prefix_tokens(), width_),
                        {.decay = false, .trainable = false});
  tokens_to_token_ = RegisterModule("tokens_to_token", std::make_unique<TokensToToken>(config, context.channels));
  RegisterModule("pos_drop", &position_dropout_);
  TransformerBlockOptions options = BlockOptions(config, width_, config.num_heads());
  for (int layer = 0; layer < config.depth(); ++layer) {
    options.drop_path = DropPathRate(config.drop_path_rate(), layer, config.depth());
    blocks_.push_back(std::make_unique<TransformerBlock>(options));
    RegisterModule(absl::StrCat("blocks.", layer), blocks_.back().get());
  }
  RegisterModule("norm", &norm_);
  RegisterModule("", &delivery_);
}

TokenMap T2tVitBackbone::Forward(const at::Tensor& images) {
  CHECK(images.size(2) == grid_.height * kTokenSize && images.size(3) == grid_.width * kTokenSize)
      << "images are not of the size that the backbone was built for";
  DeliveredPosition delivered = delivery_.Deliver(position_);
  at::Tensor x = delivered.AddAtInput(PrependTokens({class_token_}, tokens_to_token_->Forward(images)));
  x = position_dropout_.Forward(x);
  for (size_t layer = 0; layer < blocks_.size(); ++layer) x = blocks_[layer]->Forward(x, delivered.AtLayer(layer));
  return {.tokens = delivered.AddAtLastNorm(norm_.Forward(x)),
          .prefix_tokens = prefix_tokens(),
          .grid = grid_,
          .position = position_};
}

at::Tensor T2tVitBackbone::Adapt(const std::string& name, const at::Tensor& loaded) const {
  if (name != "pos_embed") return at::Tensor();
  return AdaptPositionTable(loaded, prefix_tokens(), grid_, width_);
}

namespace {

const Registration<Backbone, T2tVit> kRegistration("Tokens-to-Token ViT: T2T-ViT with performer or transformer",
                                                   "embed_dim: 32 depth: 2 num_heads: 2 token_dim: 8",
                                                   &T2tVitBackbone::Create);

}  // namespace
}  // namespace graticule
