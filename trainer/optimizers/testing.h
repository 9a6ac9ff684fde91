// What the tests of the optimizers share: steps on the gradients of a fixture
// (tools/parity/make_optimizer_fixtures.py).
#ifndef GRATICULE_TRAINER_OPTIMIZERS_TESTING_H_
#define GRATICULE_TRAINER_OPTIMIZERS_TESTING_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ATen/core/Tensor.h"
#include "ATen/ops/allclose.h"
#include "ATen/ops/equal.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/message.h"
#include "gtest/gtest.h"
#include "nn/safetensors.h"
#include "plugin/logging.h"
#include "plugin/testing.h"
#include "trainer/optimizers/optimizer.h"

namespace graticule {

class OptimizerFixture {
 public:
  // Of trainer/optimizers/NAME/testdata/NAME.safetensors.
  explicit OptimizerFixture(const std::string& name) {
    auto read = ReadSafetensors(absl::StrCat("trainer/optimizers/", name, "/testdata/", name, ".safetensors"));
    CHECK(read.ok()) << read.status();
    fixture_ = *std::move(read);
  }

  const Safetensors& contents() const { return fixture_; }
  int steps() const { return static_cast<int>(fixture_.Find("learning_rates").size(0)); }

  // Fresh ones of these names, of which "bias" does not decay.
  std::vector<TrainedParameter> Parameters(const std::vector<std::string>& names) const {
    std::vector<TrainedParameter> parameters;
    for (const std::string& name : names) {
      TrainedParameter& parameter = parameters.emplace_back();
      parameter.name = name;
      parameter.tensor = fixture_.Find("start." + name).clone().set_requires_grad(true);
      if (name == "bias") parameter.weight_decay_scale = 0;
    }
    return parameters;
  }

  void Step(Optimizer& optimizer, const std::vector<TrainedParameter>& parameters, int step) const {
    for (const TrainedParameter& parameter : parameters) {
      at::Tensor tensor = parameter.tensor;
      const at::Tensor gradient = fixture_.Find(absl::StrCat("grad.", step, ".", parameter.name));
      tensor.mutable_grad() = gradient.defined() ? gradient.clone().view(tensor.sizes()) : gradient;
    }
    optimizer.Step(fixture_.Find("learning_rates")[step].item<double>());
    for (const TrainedParameter& parameter : parameters) {
      const at::Tensor gradient = fixture_.Find(absl::StrCat("grad.", step, ".", parameter.name));
      if (gradient.defined()) EXPECT_TRUE(at::equal(parameter.tensor.grad().view(gradient.sizes()), gradient));
    }
  }

  // All steps, each compared with the case's; and the state in the end, where the fixture has it, with `names` of the
  // fixture's state tensors and of ours.
  void ExpectCase(const std::string& by_case, Optimizer& optimizer, const std::vector<TrainedParameter>& parameters,
                  const std::vector<std::pair<std::string, std::string>>& state_names = {}) const {
    for (int step = 0; step < steps(); ++step) {
      Step(optimizer, parameters, step);
      for (const TrainedParameter& parameter : parameters) {
        const at::Tensor expected = fixture_.Find(absl::StrCat(by_case, ".", step, ".", parameter.name));
        ASSERT_TRUE(expected.defined()) << parameter.name;
        ExpectClose(parameter.tensor.detach().view(expected.sizes()), expected,
                    absl::StrCat(by_case, ": ", parameter.name, " after step ", step));
      }
    }
    const Safetensors state = optimizer.State();
    for (const TrainedParameter& parameter : parameters) {
      for (const auto& [theirs, ours] : state_names) {
        const at::Tensor expected = fixture_.Find(absl::StrCat(by_case, ".state.", theirs, ".", parameter.name));
        const at::Tensor found = state.Find(absl::StrCat(ours, ".", parameter.name));
        ASSERT_TRUE(expected.defined() && found.defined()) << theirs << " of " << parameter.name;
        ExpectClose(found.view(expected.sizes()), expected, absl::StrCat(by_case, ": ", ours, ".", parameter.name));
      }
    }
  }

  // A training that stops after `at` steps, and goes on with another optimizer from what a file would hold of the
  // first.
  void ExpectGoesOnBitForBit(const google::protobuf::Message& config, const std::vector<std::string>& names, int at,
                             TrainedParameter::Role role = TrainedParameter::Role::kOther) const {
    const auto fresh = [&] {
      std::vector<TrainedParameter> parameters = Parameters(names);
      for (TrainedParameter& parameter : parameters) {
        if (parameter.tensor.dim() > 1) parameter.role = role;
      }
      return parameters;
    };
    const std::vector<TrainedParameter> whole = fresh(), parts = fresh();
    const auto optimizer = BuildPlugin<Optimizer>(config, {whole});
    for (int step = 0; step < steps(); ++step) Step(*optimizer, whole, step);
    auto first = BuildPlugin<Optimizer>(config, {parts});
    for (int step = 0; step < at; ++step) Step(*first, parts, step);
    const auto saved = ParseSafetensors(SerializeSafetensors(first->State()));
    ASSERT_TRUE(saved.ok()) << saved.status();
    first.reset();
    const auto second = BuildPlugin<Optimizer>(config, {parts});
    const absl::Status loaded = second->LoadState(*saved);
    ASSERT_TRUE(loaded.ok()) << loaded;
    for (int step = at; step < steps(); ++step) Step(*second, parts, step);
    for (size_t i = 0; i < whole.size(); ++i) EXPECT_TRUE(at::equal(whole[i].tensor, parts[i].tensor)) << names[i];
  }

 private:
  static void ExpectClose(const at::Tensor& found, const at::Tensor& expected, const std::string& what) {
    EXPECT_TRUE(at::allclose(found, expected, 2e-6, 2e-7))
        << what << " is off by " << found.sub(expected).abs().max().item<double>();
  }

  Safetensors fixture_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_OPTIMIZERS_TESTING_H_
