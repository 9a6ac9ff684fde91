#include "trainer/text_apply.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/any.pb.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/message.h"
#include "google/protobuf/text_format.h"
#include "plugin/kind.pb.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

using google::protobuf::Any;
using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::MessageFactory;
using google::protobuf::OneofDescriptor;
using google::protobuf::Reflection;

constexpr char kTypePrefix[] = "type.googleapis.com/";

class NoErrors : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int, int, const std::string&) override {}
};

bool IsMessage(const FieldDescriptor* field) { return field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE; }

bool IsPlugin(const FieldDescriptor* field) { return IsMessage(field) && field->message_type() == Any::descriptor(); }

// The config that a plugin's slot holds; null for a type that the binary does not know.
std::unique_ptr<Message> NewConfig(const std::string& type) {
  const Descriptor* descriptor = DescriptorPool::generated_pool()->FindMessageTypeByName(type);
  if (descriptor == nullptr) return nullptr;
  return std::unique_ptr<Message>(MessageFactory::generated_factory()->GetPrototype(descriptor)->New());
}

std::unique_ptr<Message> Unpack(const Any& plugin) {
  std::unique_ptr<Message> config = NewConfig(AnyTypeName(plugin));
  if (config != nullptr && !config->ParseFromString(plugin.value())) return nullptr;
  return config;
}

std::vector<std::string> EnumNames(const EnumDescriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.value_count(); ++i) {
    if (!absl::EndsWith(type.value(i)->name(), "_UNSPECIFIED")) names.push_back(type.value(i)->name());
  }
  return names;
}

template <typename T>
std::string Range() {
  return absl::StrCat(std::numeric_limits<T>::min(), " to ", std::numeric_limits<T>::max());
}

// Of an integer field.
std::string IntegerRange(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return Range<int32_t>();
    case FieldDescriptor::CPPTYPE_INT64:
      return Range<int64_t>();
    case FieldDescriptor::CPPTYPE_UINT32:
      return Range<uint32_t>();
    default:
      return Range<uint64_t>();
  }
}

// A number that text format turns into infinity in silence.
bool Overflows(const FieldDescriptor& field, const TextValue& value) {
  double number = 0;
  if (!absl::SimpleAtod(value.text, &number) || absl::StrContains(absl::AsciiStrToLower(value.text), "inf"))
    return false;
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_FLOAT) return std::isinf(static_cast<float>(number));
  return field.cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE && std::isinf(number);
}

// What a field takes instead of `value`, or instead of a list.
std::string Expected(const FieldDescriptor& field, const TextValue* value = nullptr) {
  if (value != nullptr && Overflows(field, *value))
    return absl::StrCat("a number that a ", field.cpp_type_name(), " holds");
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_FLOAT:
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return "a number";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_STRING:
      return "a string in quotes";
    case FieldDescriptor::CPPTYPE_ENUM:
      return absl::StrCat("one of ", absl::StrJoin(EnumNames(*field.enum_type()), ", "));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return IsPlugin(&field) ? absl::StrCat("a plugin, { [", kTypePrefix, "...] { ... } }") : "a message, { ... }";
    default: {
      const bool is_integer = value != nullptr && value->kind == TextValue::kInteger;
      return absl::StrCat("an integer", is_integer ? absl::StrCat(" from ", IntegerRange(field)) : "");
    }
  }
}

std::string Found(const TextValue& value) { return value.kind == TextValue::kMessage ? "a message" : value.text; }

std::vector<std::string> FieldNames(const Descriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.field_count(); ++i) names.push_back(type.field(i)->name());
  return names;
}

// "; did you mean 'depth'? Fields: depth, heads" or ". Fields: depth, heads".
std::string Choices(std::string_view wanted, std::string_view what, const std::vector<std::string>& names) {
  const std::string hint = DidYouMean(wanted, names);
  return absl::StrCat(hint.empty() ? "." : hint, " ", std::string(what), ": ",
                      names.empty() ? "none" : absl::StrJoin(names, ", "));
}

// Of messages in messages, where a field is looked for.
constexpr int kLevelsBelow = 4;

// Paths of the fields of a name inside of a message, which is at `path`, and inside of the plugins that it holds.
void FindBelow(const Message& message, const std::string& name, const std::string& path, int levels,
               std::vector<std::string>& found) {
  if (message.GetDescriptor() == Any::descriptor()) {
    const std::unique_ptr<Message> config = Unpack(*google::protobuf::DynamicCastToGenerated<Any>(&message));
    if (config != nullptr) FindBelow(*config, name, path, levels, found);
    return;
  }
  const Reflection* reflection = message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    const std::string field_path = JoinPath(path, field->name());
    if (field->name() == name) found.push_back(field_path);
    if (!IsMessage(field) || field->is_map() || levels == 0) continue;
    if (!field->is_repeated()) {
      FindBelow(reflection->GetMessage(message, field), name, field_path, levels - 1, found);
      continue;
    }
    for (int j = 0; j < reflection->FieldSize(message, field); ++j) {
      FindBelow(reflection->GetRepeatedMessage(message, field, j), name, absl::StrCat(field_path, "[", j, "]"),
                levels - 1, found);
    }
  }
}

bool IsPluginName(std::string_view text) {
  return !text.empty() && absl::ascii_isalpha(text[0]) &&
         std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isalnum(c) || c == '_' || c == '.'; });
}

// The full name of a plugin of a kind, given that or what follows its package.
absl::StatusOr<std::string> FullPluginName(const std::string& kind, const std::string& name) {
  std::vector<std::string> matches, names;
  for (const PluginInfo& info : RegisteredPlugins(kind)) {
    if (info.name == name) return name;
    names.push_back(info.name.substr(info.name.rfind('.') + 1));
    if (names.back() == name) matches.push_back(info.name);
  }
  if (matches.size() == 1) return matches[0];
  if (matches.empty()) {
    return absl::NotFoundError(
        absl::StrCat("unknown ", kind.empty() ? "plugin" : kind, " '", name, "'", Choices(name, "Registered", names)));
  }
  return absl::InvalidArgumentError(absl::StrCat("'", name, "' may be ", absl::StrJoin(matches, " or ")));
}

// "weight" -> "weight", "image_size[1]" -> "image_size".
std::string WithoutIndex(const std::string& path) {
  return absl::EndsWith(path, "]") ? path.substr(0, path.rfind('[')) : path;
}

}  // namespace

std::string SpecError::ToString() const {
  const std::string where = place.ToString();
  return absl::StrCat(where, where.empty() ? "" : ": ", path, path.empty() ? "" : ": ", message);
}

void TextApplier::AddError(const Place& place, std::string_view path, std::string_view message) {
  errors_.push_back({place, std::string(path), std::string(message)});
  if (!path.empty()) failed_.insert(std::string(path));
}

void TextApplier::ForgetPlaces(const std::string& path) {
  auto place = places_.upper_bound(path);
  while (place != places_.end() && absl::StartsWith(place->first, path)) {
    const char next = place->first[path.size()];
    place = next == '.' || next == '[' ? places_.erase(place) : std::next(place);
  }
}

const FieldDescriptor* TextApplier::FindField(const Descriptor& type, const std::string& name, const Place& place,
                                              const std::string& path, const Message* message) {
  if (const FieldDescriptor* field = type.FindFieldByName(name)) return field;
  if (std::vector<std::string> below; message != nullptr) {
    FindBelow(*message, name, path, kLevelsBelow, below);
    for (std::string& meant : below) {
      failed_.insert(meant);
      meant = absl::StrCat("'", meant, "'");
    }
    if (!below.empty()) {
      AddError(place, JoinPath(path, name),
               absl::StrCat("unknown field of ", type.full_name(), "; did you mean ", FirstFew(below), "?"));
      return nullptr;
    }
  }
  const std::vector<std::string> names = FieldNames(type);
  AddError(place, JoinPath(path, name),
           absl::StrCat("unknown field of ", type.full_name(), Choices(name, "Fields", names)));
  // What was probably meant is not set now.
  if (const std::string meant = ClosestName(name, names); !meant.empty()) failed_.insert(JoinPath(path, meant));
  return nullptr;
}

void TextApplier::ApplyFields(const std::vector<TextField>& fields, const std::string& path, Message* message) {
  const Descriptor& type = *message->GetDescriptor();
  std::map<const FieldDescriptor*, const TextField*> seen;
  std::map<const OneofDescriptor*, const TextField*> chosen;
  for (const TextField& text : fields) {
    if (text.is_type) {
      AddError(text.place, path,
               absl::StrCat("expected a field of ", type.full_name(), ", found [", text.name,
                            "]. Fields: ", absl::StrJoin(FieldNames(type), ", ")));
      continue;
    }
    const FieldDescriptor* field = FindField(type, text.name, text.place, path);
    if (field == nullptr) continue;
    const std::string field_path = JoinPath(path, text.name);
    const auto [first, is_first] = seen.emplace(field, &text);
    if (field->is_repeated()) {
      if (is_first) {
        message->GetReflection()->ClearField(message, field);
        ForgetPlaces(field_path);
      }
    } else if (!is_first) {
      AddError(text.place, field_path, absl::StrCat("is given twice, first at ", first->second->place.ToString()));
      continue;
    } else if (const OneofDescriptor* oneof = field->real_containing_oneof()) {
      const auto [other, is_only] = chosen.emplace(oneof, &text);
      if (!is_only) {
        AddError(text.place, field_path,
                 absl::StrCat("excludes ", other->second->name, ", given at ", other->second->place.ToString()));
        continue;
      }
    }
    ApplyField(text, field, field_path, message);
  }
}

void TextApplier::ApplyField(const TextField& text, const FieldDescriptor* field, const std::string& path,
                             Message* message) {
  places_[path] = text.place;
  if (text.broken) {
    failed_.insert(path);
    return;
  }
  if (text.is_list && !field->is_repeated()) {
    AddError(text.place, path, absl::StrCat("expected ", Expected(*field), ", found a list"));
    return;
  }
  const Reflection* reflection = message->GetReflection();
  for (const TextValue& value : text.values) {
    std::string value_path = path;
    if (field->is_repeated()) {
      value_path = absl::StrCat(path, "[", reflection->FieldSize(*message, field), "]");
      places_[value_path] = value.place;
    }
    if (!IsMessage(field)) {
      ApplyScalar(value, field, value_path, message);
    } else if (value.kind != TextValue::kMessage) {
      WrongValue(value, field, value_path);
    } else {
      ApplyMessage(
          value, field, value_path,
          field->is_repeated() ? reflection->AddMessage(message, field) : reflection->MutableMessage(message, field));
    }
  }
}

void TextApplier::WrongValue(const TextValue& value, const FieldDescriptor* field, const std::string& path) {
  AddError(value.place, path, absl::StrCat("expected ", Expected(*field, &value), ", found ", Found(value)));
  // An element that is missing moves those behind it, so nothing more can be said of the list.
  failed_.insert(WithoutIndex(path));
}

void TextApplier::ApplyScalar(const TextValue& value, const FieldDescriptor* field, const std::string& path,
                              Message* message) {
  const EnumDescriptor* type = field->enum_type();
  if (type != nullptr && value.kind == TextValue::kOther && type->FindValueByName(value.text) == nullptr) {
    AddError(value.place, path,
             absl::StrCat("unknown value ", value.text, Choices(value.text, "Allowed", EnumNames(*type))));
    failed_.insert(WithoutIndex(path));
    return;
  }
  const bool is_number_of_enum = type != nullptr && value.kind != TextValue::kOther;
  google::protobuf::TextFormat::Parser parser;
  NoErrors errors;
  parser.RecordErrorsTo(&errors);
  if (value.kind == TextValue::kMessage || is_number_of_enum || Overflows(*field, value) ||
      !parser.ParseFieldValueFromString(value.text, field, message)) {
    WrongValue(value, field, path);
    return;
  }
  if (field->type() == FieldDescriptor::TYPE_STRING) {
    const Reflection* reflection = message->GetReflection();
    const std::string text = field->is_repeated() ? reflection->GetRepeatedString(
                                                        *message, field, reflection->FieldSize(*message, field) - 1)
                                                  : reflection->GetString(*message, field);
    if (!google::protobuf::internal::IsStructurallyValidUTF8(text)) {
      AddError(value.place, path, "expected UTF-8, found other bytes");
      // Messages with such a string can be written, but not read.
      reflection->ClearField(message, field);
      failed_.insert(WithoutIndex(path));
    }
  }
}

void TextApplier::ApplyMessage(const TextValue& value, const FieldDescriptor* field, const std::string& path,
                               Message* message) {
  if (IsPlugin(field)) {
    ApplyPlugin(value, field, path, google::protobuf::DynamicCastToGenerated<Any>(message));
  } else {
    ApplyFields(value.fields, path, message);
  }
}

void TextApplier::ApplyPlugin(const TextValue& value, const FieldDescriptor* field, const std::string& path,
                              Any* plugin) {
  const std::string& kind = field->options().GetExtension(graticule::kind);
  if (value.fields.size() != 1 || !value.fields[0].is_type) {
    const TextField* odd = nullptr;
    for (const TextField& text : value.fields) {
      if (odd == nullptr && (!text.is_type || &text != &value.fields[0])) odd = &text;
    }
    std::vector<std::string> names;
    for (const PluginInfo& info : RegisteredPlugins(kind)) names.push_back(info.name);
    AddError(odd == nullptr ? value.place : odd->place, path,
             absl::StrCat("expected one plugin, [", kTypePrefix, "NAME] { ... }, found ",
                          odd == nullptr ? "none"
                          : odd->is_type ? "another one"
                                         : absl::StrCat("'", odd->name, "'"),
                          ". Registered: ", names.empty() ? "none" : absl::StrJoin(names, ", ")));
    return;
  }
  const TextField& text = value.fields[0];
  if (!absl::StartsWith(text.name, kTypePrefix)) {
    AddError(text.place, path, absl::StrCat("a plugin is written [", kTypePrefix, "NAME], found [", text.name, "]"));
    return;
  }
  const std::string name = text.name.substr(sizeof(kTypePrefix) - 1);
  if (!kind.empty()) {
    if (const absl::Status status = CheckPluginType(kind, name); !status.ok()) {
      AddError(text.place, path, std::string(status.message()));
      return;
    }
  }
  if (text.broken) {
    failed_.insert(path);
    return;
  }
  if (text.is_list || text.values[0].kind != TextValue::kMessage) {
    AddError(text.place, path, absl::StrCat("expected { ... } after [", text.name, "]"));
    return;
  }
  std::unique_ptr<Message> config = AnyTypeName(*plugin) == name ? Unpack(*plugin) : nullptr;
  if (config == nullptr) {
    ForgetPlaces(path);
    config = NewConfig(name);
  }
  if (config == nullptr) {
    AddError(text.place, path, absl::StrCat("unknown type '", name, "'"));
    return;
  }
  ApplyFields(text.values[0].fields, path, config.get());
  plugin->PackFrom(*config);
}

void TextApplier::ApplyOverride(const std::string& text, Message* message) {
  Override override;
  override.place.file = absl::StrCat("--set ", text);
  const size_t equals = text.find('=');
  if (equals == std::string::npos) {
    AddError(override.place, "", "expected path=value");
    return;
  }
  const std::string path = absl::StrReplaceAll(text.substr(0, equals), {{"[", "."}, {"]", ""}, {" ", ""}});
  override.parts = absl::StrSplit(path, '.');
  override.value = text.substr(equals + 1);
  override.value_column = equals + 2;
  ApplyAt(override, 0, "", message);
}

std::optional<TextField> TextApplier::ReadValue(const Override& override, const FieldDescriptor* field, bool is_element,
                                                const std::string& path) {
  std::string source = override.value;
  const std::string value(absl::StripAsciiWhitespace(source));
  const char first = value.empty() ? '\0' : value[0];
  bool is_list = field->is_repeated() && !is_element && first == '[';
  if (is_list && IsPlugin(field)) {
    // Of plugins, "[{ … }, …]" is a list and "[type.googleapis.com/…] { … }" is one.
    const std::string inside(absl::StripLeadingAsciiWhitespace(value.substr(1)));
    is_list = inside.empty() || absl::StrContains("{<]", inside.substr(0, 1));
  }
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING && first != '"' && first != '\'' && !is_list) {
    TextField text;
    text.place = override.place;
    text.values.push_back(
        {override.place, TextValue::kString, absl::StrCat("\"", absl::CEscape(override.value), "\""), {}});
    return text;
  }
  if (value.empty()) {
    AddError(override.place, path, absl::StrCat("expected ", Expected(*field), ", found nothing"));
    return std::nullopt;
  }
  if (IsPlugin(field) && IsPluginName(value)) {
    const absl::StatusOr<std::string> name = FullPluginName(field->options().GetExtension(graticule::kind), value);
    if (!name.ok()) {
      AddError(override.place, path, std::string(name.status().message()));
      return std::nullopt;
    }
    source = absl::StrCat("[", kTypePrefix, *name, "] {}");
  }
  const bool is_body = IsMessage(field) && !is_list && first != '{' && first != '<';
  const std::string before = is_body ? "value {" : "value:";
  const Place origin = {override.place.file, 0, override.value_column - static_cast<int>(before.size())};
  std::vector<TextError> errors;
  const std::vector<TextField> fields = ParseText(origin, absl::StrCat(before, source, is_body ? "\n}" : ""), &errors);
  for (const TextError& error : errors) AddError(error.place, path, error.message);
  if (!errors.empty()) return std::nullopt;
  if (fields.size() != 1) {
    AddError(fields[1].place, path, "expected one value, found more behind it");
    return std::nullopt;
  }
  TextField text = fields[0];
  text.place = override.place;
  if (is_element && text.is_list) {
    AddError(override.place, path, absl::StrCat("expected ", Expected(*field), ", found a list"));
    return std::nullopt;
  }
  // The column of the only value helps nobody.
  if (!text.is_list) text.values[0].place = override.place;
  return text;
}

void TextApplier::ApplyAt(const Override& override, size_t next, const std::string& path, Message* message) {
  if (message->GetDescriptor() == Any::descriptor()) {
    Any* plugin = google::protobuf::DynamicCastToGenerated<Any>(message);
    const std::unique_ptr<Message> config = Unpack(*plugin);
    if (config == nullptr) {
      AddError(override.place, path, absl::StrCat("holds no plugin yet; choose it by ", path, "=NAME"));
      return;
    }
    ApplyAt(override, next, path, config.get());
    plugin->PackFrom(*config);
    return;
  }
  const FieldDescriptor* field =
      FindField(*message->GetDescriptor(), override.parts[next], override.place, path, message);
  if (field == nullptr) return;
  const Reflection* reflection = message->GetReflection();
  const std::string field_path = JoinPath(path, field->name());
  const bool is_last = ++next == override.parts.size();
  if (is_last) {
    if (const std::optional<TextField> text = ReadValue(override, field, /*is_element=*/false, field_path)) {
      if (field->is_repeated()) {
        reflection->ClearField(message, field);
        ForgetPlaces(field_path);
      }
      ApplyField(*text, field, field_path, message);
    }
    return;
  }
  if (!field->is_repeated()) {
    if (!IsMessage(field)) {
      AddError(override.place, field_path, absl::StrCat("is no message, so it has no '", override.parts[next], "'"));
      return;
    }
    ApplyAt(override, next, field_path, reflection->MutableMessage(message, field));
    return;
  }
  const int size = reflection->FieldSize(*message, field);
  int index = 0;
  if (!absl::SimpleAtoi(override.parts[next], &index) || index < 0 || index > size) {
    AddError(override.place, field_path,
             absl::StrCat("expected an index from 0 to ", size, " (", size, " appends), found '", override.parts[next],
                          "'"));
    return;
  }
  const std::string element_path = absl::StrCat(field_path, "[", index, "]");
  const bool is_element = ++next == override.parts.size();
  if (!is_element && !IsMessage(field)) {
    AddError(override.place, element_path, absl::StrCat("is no message, so it has no '", override.parts[next], "'"));
    return;
  }
  std::optional<TextField> text;
  if (is_element) {
    text = ReadValue(override, field, /*is_element=*/true, element_path);
    if (!text.has_value()) return;
  }
  places_[element_path] = override.place;
  if (!IsMessage(field)) {
    ApplyScalar(text->values[0], field, element_path, message);
    // It came to the end.
    if (index < size && reflection->FieldSize(*message, field) > size) {
      reflection->SwapElements(message, field, index, size);
      reflection->RemoveLast(message, field);
    }
    return;
  }
  Message* element = index == size ? reflection->AddMessage(message, field)
                                   : reflection->MutableRepeatedMessage(message, field, index);
  if (is_element) {
    ApplyMessage(text->values[0], field, element_path, element);
  } else {
    ApplyAt(override, next, element_path, element);
  }
}

}  // namespace graticule
