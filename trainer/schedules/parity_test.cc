// Every schedule against timm's and torch's. The numbers come from tools/parity/make_schedule_fixtures.py (timm 1.0.22,
// torch 2.11.0).
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "plugin/testing.h"
#include "trainer/schedules/schedule.h"

namespace graticule {
namespace {

constexpr ScheduleContext kContext = {.learning_rate = 1e-3, .total_steps = 60, .steps_per_epoch = 5, .epochs = 12};

std::unique_ptr<google::protobuf::Message> ParseConfig(const std::string& plugin, const std::string& text) {
  const auto* type = google::protobuf::DescriptorPool::generated_pool()->FindMessageTypeByName(plugin);
  CHECK(type != nullptr) << plugin;
  std::unique_ptr<google::protobuf::Message> config(
      google::protobuf::MessageFactory::generated_factory()->GetPrototype(type)->New());
  CHECK(google::protobuf::TextFormat::ParseFromString(text, config.get())) << text;
  return config;
}

TEST(ScheduleParityTest, AllStepsAreTimmsAndTorchs) {
  std::ifstream fixture("trainer/schedules/testdata/learning_rates.tsv");
  int cases = 0;
  for (std::string plugin, config, rates;
       std::getline(fixture, plugin, '\t') && std::getline(fixture, config, '\t') && std::getline(fixture, rates);
       ++cases) {
    SCOPED_TRACE(plugin + " { " + config + " }");
    const auto schedule = BuildPlugin<Schedule>(*ParseConfig(plugin, config), kContext);
    std::istringstream expected(rates);
    for (int64_t step = 0; step < kContext.total_steps; ++step) {
      double rate = -1;
      expected >> rate;
      ASSERT_NEAR(schedule->LearningRate(step), rate, 1e-12 * rate) << "step " << step;
    }
  }
  EXPECT_EQ(cases, 48);
}

}  // namespace
}  // namespace graticule
