// What the suites of all kinds share. Each suite runs over every plugin that is linked, so a new one can't escape it; a
// repository of one's own links //tests/conformance:suite into a test beside its plugin (tests/out_of_tree).
#ifndef GRATICULE_TESTS_CONFORMANCE_CONFORMANCE_H_
#define GRATICULE_TESTS_CONFORMANCE_CONFORMANCE_H_

#include <cmath>
#include <limits>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "google/protobuf/any.pb.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "nn/module.h"
#include "nn/safetensors.h"
#include "plugin/registry.h"

namespace graticule {

// Plugins as test parameters are shown by their names.
inline void PrintTo(const PluginInfo& info, std::ostream* os) { *os << info.name; }

inline std::string TestName(const testing::TestParamInfo<PluginInfo>& info) {
  std::string name = info.param.name;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
}

// The config message of a plugin, filled from its example.
inline std::unique_ptr<google::protobuf::Message> ExampleMessage(const PluginInfo& info) {
  const auto* descriptor = google::protobuf::DescriptorPool::generated_pool()->FindMessageTypeByName(info.name);
  EXPECT_NE(descriptor, nullptr);
  std::unique_ptr<google::protobuf::Message> message(
      google::protobuf::MessageFactory::generated_factory()->GetPrototype(descriptor)->New());
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(info.example, message.get())) << info.example;
  return message;
}

inline google::protobuf::Any Example(const PluginInfo& info) {
  google::protobuf::Any any;
  any.PackFrom(*ExampleMessage(info));
  return any;
}

// The example with one numeric field at a time set to a value that hardly any field can take.
inline std::vector<google::protobuf::Any> SpoiltExamples(const PluginInfo& info) {
  using google::protobuf::FieldDescriptor;
  std::vector<google::protobuf::Any> spoilt;
  const std::unique_ptr<google::protobuf::Message> example = ExampleMessage(info);
  const google::protobuf::Descriptor* descriptor = example->GetDescriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    if (field->is_repeated()) continue;
    const auto add = [&](auto set) {
      std::unique_ptr<google::protobuf::Message> copy(example->New());
      copy->CopyFrom(*example);
      set(*copy, *copy->GetReflection());
      spoilt.emplace_back().PackFrom(*copy);
    };
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
        add([&](auto& m, const auto& r) { r.SetInt32(&m, field, -1); });
        add([&](auto& m, const auto& r) { r.SetInt32(&m, field, 0); });
        add([&](auto& m, const auto& r) { r.SetInt32(&m, field, 7); });
        break;
      case FieldDescriptor::CPPTYPE_INT64:
        add([&](auto& m, const auto& r) { r.SetInt64(&m, field, -1); });
        break;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        add([&](auto& m, const auto& r) { r.SetDouble(&m, field, -1); });
        add([&](auto& m, const auto& r) { r.SetDouble(&m, field, std::numeric_limits<double>::quiet_NaN()); });
        break;
      case FieldDescriptor::CPPTYPE_FLOAT:
        add([&](auto& m, const auto& r) { r.SetFloat(&m, field, -1); });
        add([&](auto& m, const auto& r) { r.SetFloat(&m, field, std::numeric_limits<float>::quiet_NaN()); });
        break;
      default:
        break;
    }
  }
  return spoilt;
}

// What a mistake in a config may come back as: InvalidArgument or another error a user can act on, never what the
// border makes of an exception.
inline bool IsUserError(const absl::Status& status) {
  return !status.ok() && status.code() != absl::StatusCode::kInternal && !status.message().empty();
}

inline Safetensors Save(const Module& module) {
  Safetensors contents;
  for (const NamedParameter& parameter : module.Parameters()) {
    contents.tensors.emplace_back(parameter.name, parameter.tensor.detach());
  }
  for (const NamedBuffer& buffer : module.Buffers()) contents.tensors.emplace_back(buffer.name, buffer.tensor);
  return contents;
}

// Through the bytes of a file, by name.
inline void Restore(const Safetensors& saved, const Module& module) {
  const auto parsed = ParseSafetensors(SerializeSafetensors(saved));
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  for (const auto& [name, tensor] : Save(module).tensors) {
    ASSERT_TRUE(parsed->Find(name).defined()) << name;
    at::Tensor(tensor).copy_(parsed->Find(name));
  }
}

inline void ExpectFiniteGradients(const Module& module) {
  for (const NamedParameter& parameter : module.Parameters()) {
    if (!parameter.trainable) continue;
    ASSERT_TRUE(parameter.tensor.grad().defined()) << parameter.name << " got no gradient";
    EXPECT_TRUE(parameter.tensor.grad().isfinite().all().item<bool>()) << parameter.name;
  }
}

}  // namespace graticule

#endif  // GRATICULE_TESTS_CONFORMANCE_CONFORMANCE_H_
