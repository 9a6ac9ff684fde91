// Puts text trees and overrides onto messages by reflection, through plugins' configs, and finds every mistake on the
// way.
#ifndef GRATICULE_TRAINER_TEXT_APPLY_H_
#define GRATICULE_TRAINER_TEXT_APPLY_H_

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "google/protobuf/any.pb.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "trainer/text_tree.h"

namespace graticule {

struct SpecError {
  Place place;
  std::string path;  // of the field, "backbone.patch_size"; a plugin's type does not stand in it
  std::string message;

  // "file:line:column: path: message", without what is not known.
  std::string ToString() const;
};

// Merges: a singular scalar is set, a message is merged, a repeated field replaces what was there before, a plugin of
// the same type is merged, of another type replaces.
class TextApplier {
 public:
  void Apply(const std::vector<TextField>& fields, google::protobuf::Message* message) {
    ApplyFields(fields, "", message);
  }

  // "trainer.epochs=2", "objectives[0].weight=1", "pooling=Mpvg", "pooling=[type.googleapis.com/graticule.Mpvg] {}".
  // An index equal to the length appends.
  void ApplyOverride(const std::string& text, google::protobuf::Message* message);

  void AddError(const Place& place, std::string_view path, std::string_view message);

  // In the order in which they were found.
  std::vector<SpecError>& errors() { return errors_; }
  // Where each field, list element and plugin was set last.
  const std::map<std::string, Place>& places() const { return places_; }
  // Fields that an error stands for: the text means to set them, and the message does not have what it means.
  const std::set<std::string>& failed() const { return failed_; }

 private:
  using Message = google::protobuf::Message;
  using FieldDescriptor = google::protobuf::FieldDescriptor;

  struct Override {
    Place place;
    std::vector<std::string> parts;  // "objectives", "0", "weight"
    std::string value;
    int value_column = 0;
  };

  // The field of that name; else an error at `place`, and null. One of that name below `message`, where it is given, is
  // what was meant.
  const FieldDescriptor* FindField(const google::protobuf::Descriptor& type, const std::string& name,
                                   const Place& place, const std::string& path, const Message* message = nullptr);
  void ApplyFields(const std::vector<TextField>& fields, const std::string& path, Message* message);
  void ApplyField(const TextField& text, const FieldDescriptor* field, const std::string& path, Message* message);
  void WrongValue(const TextValue& value, const FieldDescriptor* field, const std::string& path);
  void ApplyScalar(const TextValue& value, const FieldDescriptor* field, const std::string& path, Message* message);
  void ApplyMessage(const TextValue& value, const FieldDescriptor* field, const std::string& path, Message* message);
  void ApplyPlugin(const TextValue& value, const FieldDescriptor* field, const std::string& path,
                   google::protobuf::Any* plugin);
  // The override from part `next` of its path on, which is a field of `message`.
  void ApplyAt(const Override& override, size_t next, const std::string& path, Message* message);
  // An override's value as it would stand in a file; nothing, and an error, where it is unreadable. An element is one
  // value of a repeated field.
  std::optional<TextField> ReadValue(const Override& override, const FieldDescriptor* field, bool is_element,
                                     const std::string& path);
  // Forgets the places inside of `path`.
  void ForgetPlaces(const std::string& path);

  std::vector<SpecError> errors_;
  std::map<std::string, Place> places_;
  std::set<std::string> failed_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_TEXT_APPLY_H_
