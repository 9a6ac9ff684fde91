#include "trainer/spec_changes.h"

#include <initializer_list>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/protobuf/any.pb.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "google/protobuf/text_format.h"
#include "google/protobuf/util/message_differencer.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

using google::protobuf::Any;
using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::TextFormat;
using google::protobuf::util::MessageDifferencer;

bool IsAny(const Descriptor* type) { return type->full_name() == Any::descriptor()->full_name(); }

// Of a plugin inside of a plugin's config, too, which is no generated message while it is compared.
std::string TypeOf(const Message& plugin) {
  Any any;
  any.set_type_url(
      plugin.GetReflection()->GetString(plugin, plugin.GetDescriptor()->FindFieldByNumber(Any::kTypeUrlFieldNumber)));
  return AnyTypeName(any);
}

const Message& MessageAt(const Message& parent, const FieldDescriptor* field, int index) {
  const Reflection* reflection = parent.GetReflection();
  return field->is_repeated() ? reflection->GetRepeatedMessage(parent, field, index)
                              : reflection->GetMessage(parent, field);
}

std::string Value(const Message& parent, const FieldDescriptor* field, int index) {
  if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
    std::string text;
    TextFormat::PrintFieldValueToString(parent, field, field->is_repeated() ? index : -1, &text);
    return text;
  }
  const Message& message = MessageAt(parent, field, index);
  return IsAny(message.GetDescriptor()) ? TypeOf(message) : absl::StrCat("{ ", message.ShortDebugString(), " }");
}

class ChangesReporter : public MessageDifferencer::Reporter {
 public:
  using Path = std::vector<MessageDifferencer::SpecificField>;

  void ReportAdded(const Message& before, const Message& now, const Path& path) override {
    Add(path, "not set", Value(now, path.back().field, path.back().new_index));
  }
  void ReportDeleted(const Message& before, const Message& now, const Path& path) override {
    Add(path, Value(before, path.back().field, path.back().index), "not set");
  }
  void ReportModified(const Message& before, const Message& now, const Path& path) override {
    const FieldDescriptor* field = path.back().field;
    const int index = path.back().index, new_index = path.back().new_index;
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      // What differs inside has been reported, but for plugins of two types.
      const Message& a = MessageAt(before, field, index);
      const Message& b = MessageAt(now, field, new_index);
      if (!IsAny(a.GetDescriptor()) || TypeOf(a) == TypeOf(b)) return;
    }
    Add(path, Value(before, field, index), Value(now, field, new_index));
  }

  std::vector<std::string> changes;

 private:
  void Add(const Path& fields, const std::string& was, const std::string& is) {
    std::string path;
    for (const MessageDifferencer::SpecificField& part : fields) {
      // The bytes of two plugins of two types, which are reported as a whole.
      if (IsAny(part.field->containing_type())) return;
      path = JoinPath(path, part.field->name());
      if (part.field->is_repeated()) absl::StrAppend(&path, "[", part.index < 0 ? part.new_index : part.index, "]");
    }
    changes.push_back(absl::StrCat(path, " was ", was, " and is ", is));
  }
};

void Ignore(const Descriptor* type, std::initializer_list<int> fields, MessageDifferencer& differencer) {
  for (const int number : fields) differencer.IgnoreField(type->FindFieldByNumber(number));
}

}  // namespace

std::vector<std::string> SpecChanges(const Experiment& before, const Experiment& now) {
  MessageDifferencer differencer;
  Ignore(Experiment::descriptor(), {Experiment::kNameFieldNumber, Experiment::kExpectedFieldNumber}, differencer);
  Ignore(Data::descriptor(),
         {Data::kThreadsFieldNumber, Data::kCacheFieldNumber, Data::kEvalBatchSizeFieldNumber,
          Data::kMaxBrokenFieldNumber},
         differencer);
  Ignore(Trainer::descriptor(),
         {Trainer::kLogIntervalFieldNumber, Trainer::kEvalIntervalFieldNumber, Trainer::kCheckpointIntervalFieldNumber,
          Trainer::kCheckpointStepsFieldNumber, Trainer::kCheckpointMinutesFieldNumber,
          Trainer::kKeepCheckpointsFieldNumber, Trainer::kKeepEveryStepsFieldNumber, Trainer::kOnSaveErrorFieldNumber,
          Trainer::kSinksFieldNumber, Trainer::kGuardFieldNumber, Trainer::kDistributedFieldNumber,
          Trainer::kThreadsFieldNumber, Trainer::kDeviceFieldNumber, Trainer::kBestMetricFieldNumber,
          // These are read by a training that begins.
          Trainer::kInitialCheckpointFieldNumber, Trainer::kInitialEmaFieldNumber},
         differencer);
  ChangesReporter reporter;
  differencer.ReportDifferencesTo(&reporter);
  differencer.Compare(before, now);
  return reporter.changes;
}

}  // namespace graticule
