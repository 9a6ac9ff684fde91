// Reads protobuf's text format into a tree that keeps the place of everything, knowing nothing of the message it is
// meant for. TextFormat itself stops at the first error and knows no places inside an Any.
#ifndef GRATICULE_TRAINER_TEXT_TREE_H_
#define GRATICULE_TRAINER_TEXT_TREE_H_

#include <string>
#include <string_view>
#include <vector>

namespace graticule {

struct Place {
  std::string file;  // or "--set path=value"
  int line = 0;      // from 1; 0 in what has no lines
  int column = 0;    // from 1; 0 for the line or file as a whole

  // "file:line:column", "file: column 3", "file".
  std::string ToString() const;
};

struct TextError {
  Place place;
  std::string message;
};

struct TextField;

// One value: a scalar as it stands in the text, or the fields of a message.
struct TextValue {
  enum Kind {
    kInteger,  // 6, -6, 0x6
    kString,   // "a", or "a" 'b'
    kOther,    // 0.5, CPU, true, -inf, and what is nothing at all, such as 6x
    kMessage,
  };
  Place place;
  Kind kind = kOther;
  std::string text;               // of a scalar
  std::vector<TextField> fields;  // of a message
};

struct TextField {
  Place place;
  std::string name;  // "depth"; for a plugin what stands in brackets, "type.googleapis.com/graticule.Vit"
  bool is_type = false;
  bool is_list = false;  // [a, b]
  // Whether its value could not be read; the error is recorded already.
  bool broken = false;
  std::vector<TextValue> values;  // one, unless it is a list or broken
};

// `origin` is the place of the text's first character. Errors are added to `errors`; the tree is what could be read.
std::vector<TextField> ParseText(const Place& origin, std::string_view text, std::vector<TextError>* errors);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_TEXT_TREE_H_
