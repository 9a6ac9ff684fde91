#include "trainer/text_tree.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"

namespace graticule {
namespace {

using google::protobuf::io::Tokenizer;

constexpr int kMaxDepth = 100;

struct Token {
  Tokenizer::Token token;
  bool broken = false;  // the tokenizer has complained about it
};

class Errors : public google::protobuf::io::ErrorCollector {
 public:
  Errors(const Place& origin, std::vector<TextError>* errors) : origin_(origin), errors_(errors) {}

  Place At(int line, int column) const {
    return {origin_.file, origin_.line + line, column + (line == 0 ? origin_.column : 1)};
  }
  Place At(const Token& token) const { return At(token.token.line, token.token.column); }

  void Add(const Place& place, std::string message) { errors_->push_back({place, std::move(message)}); }

  // The tokenizer's; line and column are counted from 0.
  void AddError(int line, int column, const std::string& message) override {
    ++count_;
    // One error for each byte of a letter is too many.
    const bool foreign = absl::StartsWith(message, "Interpreting non ascii");
    if (foreign && foreign_line_ == line) return;
    if (foreign) foreign_line_ = line;
    Add(At(line, column), foreign ? "letters outside ASCII stand in quotes only" : message);
  }

  int count() const { return count_; }

 private:
  const Place origin_;
  std::vector<TextError>* errors_;
  int count_ = 0;
  int foreign_line_ = -1;
};

class Parser {
 public:
  Parser(const Place& origin, std::string_view text, std::vector<TextError>* errors) : errors_(origin, errors) {
    google::protobuf::io::ArrayInputStream stream(text.data(), text.size());
    Tokenizer tokenizer(&stream, &errors_);
    tokenizer.set_comment_style(Tokenizer::SH_COMMENT_STYLE);
    tokenizer.set_allow_f_after_float(true);
    tokenizer.set_require_space_after_number(false);
    int count = errors_.count();
    while (tokenizer.Next()) {
      tokens_.push_back({tokenizer.current(), errors_.count() != count});
      count = errors_.count();
    }
    tokens_.push_back({tokenizer.current()});
  }

  // The fields up to the end, or up to the bracket that closes `opener`, which is consumed.
  std::vector<TextField> ParseFields(const Token* opener) {
    std::vector<TextField> fields;
    while (true) {
      if (AtEnd()) {
        if (opener != nullptr && !is_abandoned_) {
          errors_.Add(errors_.At(*opener), absl::StrCat("'", opener->token.text, "' is never closed"));
        }
        return fields;
      }
      if (Is("}") || Is(">")) {
        if (opener == nullptr) {
          Unexpected("a field's name");
          Advance();
          continue;
        }
        const std::string closer = opener->token.text == "{" ? "}" : ">";
        if (!Is(closer)) {
          Unexpected(absl::StrCat("'", closer, "' for the '", opener->token.text, "'", OfLine(*opener)));
        }
        Advance();
        return fields;
      }
      if (std::optional<TextField> field = ParseField()) {
        fields.push_back(*std::move(field));
        if (Is(",") || Is(";")) Advance();
      }
    }
  }

 private:
  const Token& Current() const { return tokens_[position_]; }
  const Token& After() const { return tokens_[std::min(position_ + 1, tokens_.size() - 1)]; }
  bool AtEnd() const { return Current().token.type == Tokenizer::TYPE_END; }
  static bool Is(const Token& token, std::string_view symbol) {
    return token.token.type == Tokenizer::TYPE_SYMBOL && token.token.text == symbol;
  }
  bool Is(std::string_view symbol) const { return Is(Current(), symbol); }
  bool IsType(Tokenizer::TokenType type) const { return Current().token.type == type; }
  void Advance() {
    if (!AtEnd()) ++position_;
  }

  // Whether the current token continues the one before without a space.
  bool Touches() const {
    const Tokenizer::Token& previous = tokens_[position_ - 1].token;
    return previous.line == Current().token.line && previous.end_column == Current().token.column;
  }

  // A part of a word or number, however wrong.
  bool IsWordPart() const {
    return !AtEnd() && !IsType(Tokenizer::TYPE_STRING) &&
           !(IsType(Tokenizer::TYPE_SYMBOL) && absl::StrContains(",;:={}<>[]", Current().token.text));
  }

  std::string OfLine(const Token& token) const {
    const int line = errors_.At(token).line;
    return line > 0 ? absl::StrCat(" of line ", line) : "";
  }

  void Unexpected(std::string_view expected) {
    // What the tokenizer has complained about needs no second error.
    if (Current().broken) return;
    const std::string found = AtEnd() ? "the end" : absl::StrCat("'", Current().token.text, "'");
    errors_.Add(errors_.At(Current()), absl::StrCat("expected ", std::string(expected), ", found ", found));
  }

  // After an error: on to what looks like the next field, which begins a line, or to the bracket that closes this
  // message.
  void Skip() {
    int depth = 0;
    while (!AtEnd()) {
      if (depth == 0 && (Is("}") || Is(">"))) return;
      if (Is("{") || Is("<") || Is("[")) ++depth;
      if (depth > 0 && (Is("}") || Is(">") || Is("]"))) --depth;
      const int line = Current().token.line;
      Advance();
      if (depth == 0 && Current().token.line > line) return;
    }
  }

  std::optional<TextField> ParseField() {
    TextField field;
    field.place = errors_.At(Current());
    if (IsType(Tokenizer::TYPE_IDENTIFIER)) {
      field.name = Current().token.text;
      Advance();
    } else if (Is("[")) {
      field.is_type = true;
      Advance();
      while (IsWordPart()) {
        field.name += Current().token.text;
        Advance();
      }
      if (!Is("]")) {
        Unexpected("']' after a plugin's type");
        Skip();
        return std::nullopt;
      }
      Advance();
    } else {
      Unexpected("a field's name");
      Skip();
      return std::nullopt;
    }
    ParseFieldValue(&field);
    return field;
  }

  void ParseFieldValue(TextField* field) {
    const std::string name = field->is_type ? absl::StrCat("[", field->name, "]") : field->name;
    bool colon = Is(":");
    if (colon) {
      Advance();
    } else if (Is("=")) {
      Unexpected(absl::StrCat("':' after ", name));
      colon = true;
      Advance();
    }
    if (Is("[")) {
      ParseList(field);
    } else if (Is("{") || Is("<")) {
      ParseValue(field);
    } else if (IsWordPart() || IsType(Tokenizer::TYPE_STRING)) {
      const bool is_next_field = IsType(Tokenizer::TYPE_IDENTIFIER) &&
                                 (Is(After(), ":") || Is(After(), "=") || Is(After(), "{") || Is(After(), "<"));
      if (is_next_field) {
        NoValue(name, field);
        return;
      }
      if (!colon) Unexpected(absl::StrCat("':' after ", name));
      ParseValue(field);
    } else {
      NoValue(name, field);
    }
  }

  void NoValue(const std::string& name, TextField* field) {
    errors_.Add(field->place, absl::StrCat(name, " has no value"));
    field->broken = true;
  }

  // A scalar or a message; the current token begins one.
  void ParseValue(TextField* field) {
    TextValue value;
    value.place = errors_.At(Current());
    if (Is("{") || Is("<")) {
      value.kind = TextValue::kMessage;
      const Token opener = Current();
      if (++depth_ > kMaxDepth) {
        errors_.Add(value.place, absl::StrCat("messages are nested more than ", kMaxDepth, " deep"));
        position_ = tokens_.size() - 1;
        is_abandoned_ = true;
        field->broken = true;
      } else {
        Advance();
        value.fields = ParseFields(&opener);
      }
      --depth_;
    } else if (IsType(Tokenizer::TYPE_STRING)) {
      value.kind = TextValue::kString;
      while (IsType(Tokenizer::TYPE_STRING)) {
        absl::StrAppend(&value.text, value.text.empty() ? "" : " ", Current().token.text);
        field->broken |= Current().broken;
        Advance();
      }
    } else {
      if (Is("-")) {
        value.text = "-";
        Advance();
      }
      const size_t start = position_;
      while (IsWordPart() && (position_ == start || Touches())) {
        value.text += Current().token.text;
        field->broken |= Current().broken;
        Advance();
      }
      const bool integer = position_ == start + 1 && tokens_[start].token.type == Tokenizer::TYPE_INTEGER;
      value.kind = integer ? TextValue::kInteger : TextValue::kOther;
    }
    field->values.push_back(std::move(value));
  }

  void ParseList(TextField* field) {
    field->is_list = true;
    const Token opener = Current();
    Advance();
    while (!Is("]")) {
      if (!field->values.empty()) {
        if (!Is(",")) {
          Unexpected(absl::StrCat("',' or ']' in the list", OfLine(opener)));
          field->broken = true;
          Skip();
          return;
        }
        Advance();
      }
      if (!Is("{") && !Is("<") && !IsWordPart() && !IsType(Tokenizer::TYPE_STRING)) {
        Unexpected("a value in the list");
        field->broken = true;
        Skip();
        return;
      }
      ParseValue(field);
    }
    Advance();
  }

  Errors errors_;
  std::vector<Token> tokens_;  // the last is the end
  size_t position_ = 0;
  int depth_ = 0;
  bool is_abandoned_ = false;  // too deep to go on
};

}  // namespace

std::string Place::ToString() const {
  if (line > 0) return absl::StrCat(file, ":", line, ":", column);
  return column > 0 ? absl::StrCat(file, ": column ", column) : file;
}

std::vector<TextField> ParseText(const Place& origin, std::string_view text, std::vector<TextError>* errors) {
  return Parser(origin, text, errors).ParseFields(nullptr);
}

}  // namespace graticule
