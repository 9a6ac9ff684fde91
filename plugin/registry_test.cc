#include "plugin/registry.h"

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "google/protobuf/any.pb.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"
#include "google/protobuf/wrappers.pb.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using google::protobuf::Any;
using google::protobuf::Duration;
using google::protobuf::Int32Value;
using google::protobuf::StringValue;
using google::protobuf::Timestamp;
using testing::HasSubstr;

// Two kinds, whose plugins' configs are messages that every binary has.
struct Clock {
  static constexpr char kKind[] = "clock";
  struct Context {
    int offset = 0;
  };
  int64_t seconds = 0;
};

struct Lamp {
  static constexpr char kKind[] = "lamp";
  struct Context {};
};

absl::StatusOr<std::unique_ptr<Clock>> MakeClock(const Duration& config, const Clock::Context& context) {
  if (config.seconds() < 0) return absl::InvalidArgumentError("seconds: must not be negative");
  if (config.seconds() > 1000) throw std::runtime_error("too far ahead");
  return std::make_unique<Clock>(Clock{config.seconds() + context.offset});
}

absl::StatusOr<std::unique_ptr<Clock>> MakeAnotherClock(const Timestamp&, const Clock::Context&) {
  return std::make_unique<Clock>();
}

absl::StatusOr<std::unique_ptr<Lamp>> MakeLamp(const Int32Value&, const Lamp::Context&) {
  return std::make_unique<Lamp>();
}

class RegistryTest : public testing::Test {
 protected:
  Registration<Clock, Duration> duration_{"A duration", "seconds: 1", MakeClock};
  Registration<Clock, Timestamp> timestamp_{"A timestamp", "", MakeAnotherClock};
  Registration<Lamp, Int32Value> lamp_{"A lamp", "", MakeLamp};
};

Any AnyOf(const std::string& type) {
  Any any;
  any.set_type_url("type.googleapis.com/" + type);
  return any;
}

TEST_F(RegistryTest, CreatesByTheTypeOfTheConfig) {
  Duration config;
  config.set_seconds(40);
  Any any;
  any.PackFrom(config);
  const auto clock = Registry<Clock>::Create(any, {.offset = 2});
  ASSERT_TRUE(clock.ok()) << clock.status();
  EXPECT_EQ((*clock)->seconds, 42);
  EXPECT_EQ((*Registry<Clock>::Create(config, {.offset = 3}))->seconds, 43);
}

TEST_F(RegistryTest, PassesOnTheFactorysStatus) {
  Duration config;
  config.set_seconds(-1);
  EXPECT_EQ(Registry<Clock>::Create(config, {}).status(), absl::InvalidArgumentError("seconds: must not be negative"));
}

TEST_F(RegistryTest, WhatTheFactoryThrowsNamesThePlugin) {
  Duration config;
  config.set_seconds(2000);
  EXPECT_EQ(Registry<Clock>::Create(config, {}).status(),
            absl::InternalError("google.protobuf.Duration: too far ahead"));
}

TEST_F(RegistryTest, AnUnknownTypeListsWhatThereIs) {
  const absl::Status status = Registry<Clock>::Create(AnyOf("google.protobuf.Duratoin"), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(
      std::string(status.message()),
      "unknown clock 'google.protobuf.Duratoin'; did you mean 'google.protobuf.Duration'? Registered: "
      "google.protobuf.Duration, google.protobuf.Timestamp; a plugin of your own goes into the deps of your binary");
  EXPECT_THAT(std::string(Registry<Clock>::Create(AnyOf("x.Wholly"), {}).status().message()),
              HasSubstr("unknown clock 'x.Wholly'. Registered: google.protobuf.Duration, "));
}

TEST_F(RegistryTest, APluginOfAnotherKindIsCalledThat) {
  const absl::Status status = Registry<Clock>::Create(Int32Value(), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("'google.protobuf.Int32Value' is a plugin of kind lamp, not clock"));
}

TEST_F(RegistryTest, NoTypeAtAllIsAnError) {
  EXPECT_EQ(Registry<Clock>::Create(Any(), {}).status(), absl::InvalidArgumentError("no clock is chosen"));
}

TEST_F(RegistryTest, AnUnreadableConfigIsAnError) {
  Any any = AnyOf("google.protobuf.Duration");
  any.set_value("\xff\xff\xff");
  EXPECT_EQ(Registry<Clock>::Create(any, {}).status(),
            absl::InvalidArgumentError("unreadable config of google.protobuf.Duration"));
}

TEST_F(RegistryTest, ListsPluginsByKindAndName) {
  std::vector<std::string> names;
  for (const PluginInfo& info : RegisteredPlugins()) names.push_back(info.kind + " " + info.name);
  EXPECT_THAT(names, testing::ElementsAre("clock google.protobuf.Duration", "clock google.protobuf.Timestamp",
                                          "lamp google.protobuf.Int32Value"));
  const PluginInfo info = RegisteredPlugins("clock").front();
  EXPECT_EQ(info.summary, "A duration");
  EXPECT_EQ(info.example, "seconds: 1");
  EXPECT_THAT(info.file, HasSubstr("plugin/registry_test.cc"));
}

TEST_F(RegistryTest, ARegistrationEndsWithItsScope) {
  {
    const Registration<Lamp, StringValue> registration(
        "Another lamp", "", [](const StringValue&, const Lamp::Context&) { return std::make_unique<Lamp>(); });
    EXPECT_TRUE(CheckPluginType("lamp", "google.protobuf.StringValue").ok());
  }
  EXPECT_EQ(CheckPluginType("lamp", "google.protobuf.StringValue").code(), absl::StatusCode::kNotFound);
}

TEST_F(RegistryTest, TheSameConfigMayServeTwoKinds) {
  const Registration<Lamp, Duration> registration(
      "A slow lamp", "", [](const Duration&, const Lamp::Context&) { return std::make_unique<Lamp>(); });
  EXPECT_TRUE(CheckPluginType("lamp", "google.protobuf.Duration").ok());
  EXPECT_TRUE(CheckPluginType("clock", "google.protobuf.Duration").ok());
}

using RegistryDeathTest = RegistryTest;

TEST_F(RegistryDeathTest, ADuplicateIsFatalAndNamesBothFiles) {
  EXPECT_DEATH((Registration<Clock, Duration>("Again", "", MakeClock, "elsewhere/clock.cc")),
               "clock 'google.protobuf.Duration' is registered twice: in .*plugin/registry_test.cc and in "
               "elsewhere/clock.cc");
}

}  // namespace
}  // namespace graticule
