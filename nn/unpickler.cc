#include "nn/unpickler.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "plugin/status.h"

namespace graticule {
namespace {

using Kind = PickleValue::Kind;

// Checkpoints of the largest models have some ten thousands of values; each takes some 100 bytes here.
constexpr size_t kMaxValues = 4'000'000;

// What a global is to a state dict.
enum class Role { kHolder, kOrderedDict, kStorage, kTensor, kTensorOfAnyType, kParameter, kTensorSubclass };

struct Global {
  Role role;
  at::ScalarType type = at::ScalarType::Undefined;
};

constexpr std::pair<const char*, at::ScalarType> kStorages[] = {
    {"DoubleStorage", at::kDouble},
    {"FloatStorage", at::kFloat},
    {"HalfStorage", at::kHalf},
    {"BFloat16Storage", at::kBFloat16},
    {"LongStorage", at::kLong},
    {"IntStorage", at::kInt},
    {"ShortStorage", at::kShort},
    {"CharStorage", at::kChar},
    {"ByteStorage", at::kByte},
    {"BoolStorage", at::kBool},
    {"ComplexFloatStorage", at::ScalarType::Undefined},
    {"ComplexDoubleStorage", at::ScalarType::Undefined},
};

// Plain data that training checkpoints carry beside the weights; nothing looks into it.
constexpr const char* kHolders[] = {
    // Python 2 and pickles of protocol 2 call `builtins` so.
    "__builtin__.bytearray",
    "__builtin__.complex",
    "__builtin__.dict",
    "__builtin__.frozenset",
    "__builtin__.list",
    "__builtin__.object",
    "__builtin__.set",
    "__builtin__.slice",
    "_codecs.encode",
    "argparse.Namespace",
    "builtins.bytearray",
    "builtins.complex",
    "builtins.dict",
    "builtins.frozenset",
    "builtins.list",
    "builtins.object",
    "builtins.set",
    "builtins.slice",
    "collections.Counter",
    "collections.defaultdict",
    "collections.deque",
    "copy_reg._reconstructor",
    "copyreg._reconstructor",
    "datetime.date",
    "datetime.datetime",
    "datetime.timedelta",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
    "pathlib._local.WindowsPath",
    "torch.Size",
    "torch.Tensor",
    "torch.bfloat16",
    "torch.bool",
    "torch.complex128",
    "torch.complex64",
    "torch.device",
    "torch.float16",
    "torch.float32",
    "torch.float64",
    "torch.float8_e4m3fn",
    "torch.float8_e4m3fnuz",
    "torch.float8_e5m2",
    "torch.float8_e5m2fnuz",
    "torch.int16",
    "torch.int32",
    "torch.int64",
    "torch.int8",
    "torch.nn.parameter.Buffer",
    "torch.nn.parameter.Parameter",
    "torch.uint16",
    "torch.uint32",
    "torch.uint64",
    "torch.uint8",
    "types.SimpleNamespace",
    "yacs.config.CfgNode",
};

const std::map<std::string, Global>& KnownGlobals() {
  static const auto& known = *[] {
    auto* globals = new std::map<std::string, Global>{
        {"collections.OrderedDict", {Role::kOrderedDict}},
        {"torch._utils._rebuild_tensor_v2", {Role::kTensor}},
        {"torch._utils._rebuild_tensor_v3", {Role::kTensorOfAnyType}},
        {"torch._utils._rebuild_parameter", {Role::kParameter}},
        {"torch._utils._rebuild_parameter_with_state", {Role::kParameter}},
        {"torch._tensor._rebuild_from_type_v2", {Role::kTensorSubclass}},
        {"torch.UntypedStorage", {Role::kStorage, at::kByte}},
        {"torch.storage.UntypedStorage", {Role::kStorage, at::kByte}},
    };
    for (const auto& [name, type] : kStorages) {
      (*globals)[std::string("torch.") + name] = {Role::kStorage, type};
      (*globals)[std::string("torch.cuda.") + name] = {Role::kStorage, type};
    }
    for (const char* name : kHolders) (*globals)[name] = {Role::kHolder};
    return globals;
  }();
  return known;
}

}  // namespace

Unpickler::Unpickler(std::string_view bytes) : bytes_(bytes), rest_(bytes) {}

absl::StatusOr<Unpickler::Index> Unpickler::Run() {
  while (true) {
    position_ = bytes_.size() - rest_.size();
    ASSIGN_OR_RETURN(const uint64_t opcode, TakeUnsigned(1));
    if (opcode == '.') {
      if (stack_.size() != 1 || !marks_.empty()) return Error("ends it with other than one value");
      return stack_.front();
    }
    RETURN_IF_ERROR(Step(static_cast<uint8_t>(opcode)));
  }
}

// Opcodes that only protocols 0 and 1 have, and those of out-of-band buffers, never come from torch.save.
absl::Status Unpickler::Step(uint8_t opcode) {
  switch (opcode) {
    case 0x80: {  // PROTO
      ASSIGN_OR_RETURN(const uint64_t protocol, TakeUnsigned(1));
      if (protocol < 2 || protocol > 5) return Error("says protocol ", protocol, "; known are 2 to 5");
      return absl::OkStatus();
    }
    case 0x95:  // FRAME
      return TakeUnsigned(8).status();

    // Constants.
    case 'N':
      return Push({.kind = Kind::kNone});
    case 0x88:  // NEWTRUE
    case 0x89:  // NEWFALSE
      return Push({.kind = Kind::kInt, .number = opcode == 0x88});
    case 'J': {  // BININT
      ASSIGN_OR_RETURN(const int64_t number, TakeSigned(4));
      return Push({.kind = Kind::kInt, .number = number});
    }
    case 'K':    // BININT1
    case 'M': {  // BININT2
      ASSIGN_OR_RETURN(const uint64_t number, TakeUnsigned(opcode == 'K' ? 1 : 2));
      return Push({.kind = Kind::kInt, .number = static_cast<int64_t>(number)});
    }
    case 0x8a:    // LONG1
    case 0x8b: {  // LONG4
      ASSIGN_OR_RETURN(const uint64_t size, TakeUnsigned(opcode == 0x8a ? 1 : 4));
      if (size > sizeof(int64_t)) {
        RETURN_IF_ERROR(Take(size).status());
        return Push({});
      }
      ASSIGN_OR_RETURN(const int64_t number, TakeSigned(size));
      return Push({.kind = Kind::kInt, .number = number});
    }
    case 'G':  // BINFLOAT
      RETURN_IF_ERROR(Take(8).status());
      return Push({});
    case 'U':     // SHORT_BINSTRING, Python 2's str
    case 'T':     // BINSTRING
    case 0x8c:    // SHORT_BINUNICODE
    case 'X':     // BINUNICODE
    case 0x8d: {  // BINUNICODE8
      ASSIGN_OR_RETURN(const std::string_view text, TakeSized(opcode == 0x8d                     ? 8
                                                              : (opcode == 'X' || opcode == 'T') ? 4
                                                                                                 : 1));
      return Push({.kind = Kind::kText, .text = text});
    }
    case 'C':   // SHORT_BINBYTES
    case 'B':   // BINBYTES
    case 0x8e:  // BINBYTES8
    case 0x96:  // BYTEARRAY8
      RETURN_IF_ERROR(TakeSized(opcode == 'C' ? 1 : opcode == 'B' ? 4 : 8).status());
      return Push({});

    // Collections.
    case '(':  // MARK
      marks_.push_back(stack_.size());
      return absl::OkStatus();
    case ')':  // EMPTY_TUPLE
      return PushTuple(0);
    case 0x85:  // TUPLE1
    case 0x86:  // TUPLE2
    case 0x87:  // TUPLE3
      return PushTuple(opcode - 0x84);
    case 't': {  // TUPLE
      ASSIGN_OR_RETURN(std::vector<Index> items, PopToMark());
      return Push({.kind = Kind::kTuple, .items = std::move(items)});
    }
    case ']':  // EMPTY_LIST
      return Push({.kind = Kind::kList});
    case '}':  // EMPTY_DICT
      return Push({.kind = Kind::kDict});
    case 0x8f:  // EMPTY_SET
      return Push({});
    case 0x91:  // FROZENSET
      RETURN_IF_ERROR(PopToMark().status());
      return Push({});
    case 'a': {  // APPEND
      ASSIGN_OR_RETURN(const Index item, Pop());
      return Extend(Kind::kList, {item});
    }
    case 'e': {  // APPENDS
      ASSIGN_OR_RETURN(const std::vector<Index> items, PopToMark());
      return Extend(Kind::kList, items);
    }
    case 's': {  // SETITEM
      ASSIGN_OR_RETURN(const Index value, Pop());
      ASSIGN_OR_RETURN(const Index key, Pop());
      return Extend(Kind::kDict, {key, value});
    }
    case 'u': {  // SETITEMS
      ASSIGN_OR_RETURN(const std::vector<Index> items, PopToMark());
      if (items.size() % 2 != 0) return Error("gives a key no value");
      return Extend(Kind::kDict, items);
    }
    case 0x90: {  // ADDITEMS
      ASSIGN_OR_RETURN(const std::vector<Index> items, PopToMark());
      return Extend(Kind::kOpaque, items);
    }

    // The memo.
    case 'q':  // BINPUT
    case 'r':  // LONG_BINPUT
    {
      ASSIGN_OR_RETURN(const uint64_t key, TakeUnsigned(opcode == 'q' ? 1 : 4));
      return Memoize(key);
    }
    case 0x94:  // MEMOIZE
      return Memoize(memo_.size());
    case 'h':    // BINGET
    case 'j': {  // LONG_BINGET
      ASSIGN_OR_RETURN(const uint64_t key, TakeUnsigned(opcode == 'h' ? 1 : 4));
      return Recall(key);
    }

    // What Python would import and call.
    case 'c': {  // GLOBAL
      ASSIGN_OR_RETURN(const std::string_view module, TakeLine());
      ASSIGN_OR_RETURN(const std::string_view name, TakeLine());
      return PushGlobal(module, name);
    }
    case 0x93: {  // STACK_GLOBAL
      ASSIGN_OR_RETURN(const Index name, Pop());
      ASSIGN_OR_RETURN(const Index module, Pop());
      if (values_[module].kind != Kind::kText || values_[name].kind != Kind::kText) {
        return Error("names a global by other than text");
      }
      return PushGlobal(values_[module].text, values_[name].text);
    }
    case 'Q': {  // BINPERSID
      ASSIGN_OR_RETURN(const Index id, Pop());
      return PushStorage(id);
    }
    case 'R':     // REDUCE
    case 0x81: {  // NEWOBJ
      ASSIGN_OR_RETURN(const Index arguments, Pop());
      ASSIGN_OR_RETURN(const Index callable, Pop());
      return Call(callable, arguments);
    }
    case 0x92: {  // NEWOBJ_EX
      RETURN_IF_ERROR(Pop().status());
      ASSIGN_OR_RETURN(const Index arguments, Pop());
      ASSIGN_OR_RETURN(const Index callable, Pop());
      return Call(callable, arguments);
    }
    case 'b': {  // BUILD: attributes, such as a state dict's _metadata
      RETURN_IF_ERROR(Pop().status());
      ASSIGN_OR_RETURN(const Index object, Top());
      const Kind kind = values_[object].kind;
      if (kind != Kind::kOpaque && kind != Kind::kDict) return Error("gives attributes to a value that has none");
      return absl::OkStatus();
    }
    case 'i':
      return CodeError("calls by the opcode INST");
    case 'o':
      return CodeError("calls by the opcode OBJ");
    case 0x82:
    case 0x83:
    case 0x84:
      return CodeError("names a global by a number (the opcode EXT)");
    default:
      return Error("is the opcode ", absl::StrFormat("0x%02x", opcode), ", which no file of torch.save has");
  }
}

absl::Status Unpickler::CodeError(std::string_view what) const {
  return Error(std::string(what),
               ": read in Python, the file would run code, so it is refused. If you trust it, keep its weights alone: "
               "torch.save(model.state_dict(), FILE)");
}

absl::StatusOr<std::string_view> Unpickler::Take(uint64_t size) {
  if (size > rest_.size()) {
    return Error("asks for ", size, " bytes where ", rest_.size(), " are left: the file may be truncated");
  }
  const std::string_view taken = rest_.substr(0, size);
  rest_.remove_prefix(size);
  return taken;
}

absl::StatusOr<uint64_t> Unpickler::TakeUnsigned(int width) {
  ASSIGN_OR_RETURN(const std::string_view taken, Take(width));
  uint64_t number = 0;
  std::memcpy(&number, taken.data(), width);
  return number;
}

absl::StatusOr<int64_t> Unpickler::TakeSigned(uint64_t width) {
  ASSIGN_OR_RETURN(const std::string_view taken, Take(width));
  int64_t number = !taken.empty() && taken.back() < 0 ? -1 : 0;
  std::memcpy(&number, taken.data(), width);
  return number;
}

absl::StatusOr<std::string_view> Unpickler::TakeSized(int width) {
  ASSIGN_OR_RETURN(const uint64_t size, TakeUnsigned(width));
  return Take(size);
}

absl::StatusOr<std::string_view> Unpickler::TakeLine() {
  const size_t end = rest_.find('\n');
  if (end == std::string_view::npos) return Error("begins a line that has no end: the file may be truncated");
  const std::string_view line = rest_.substr(0, end);
  rest_.remove_prefix(end + 1);
  return line;
}

absl::Status Unpickler::Push(PickleValue value) {
  if (values_.size() >= kMaxValues) return Error("makes more than ", kMaxValues, " values");
  stack_.push_back(static_cast<Index>(values_.size()));
  values_.push_back(std::move(value));
  return absl::OkStatus();
}

absl::StatusOr<Unpickler::Index> Unpickler::Top() const {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) return Error("takes a value where there is none");
  return stack_.back();
}

absl::StatusOr<Unpickler::Index> Unpickler::Pop() {
  ASSIGN_OR_RETURN(const Index top, Top());
  stack_.pop_back();
  return top;
}

absl::StatusOr<std::vector<Unpickler::Index>> Unpickler::PopToMark() {
  if (marks_.empty()) return Error("takes values from a mark where there is none");
  std::vector<Index> items(stack_.begin() + marks_.back(), stack_.end());
  stack_.resize(marks_.back());
  marks_.pop_back();
  return items;
}

absl::Status Unpickler::PushTuple(int size) {
  std::vector<Index> items(size);
  for (int i = size - 1; i >= 0; --i) {
    ASSIGN_OR_RETURN(items[i], Pop());
  }
  return Push({.kind = Kind::kTuple, .items = std::move(items)});
}

absl::Status Unpickler::Memoize(uint64_t key) {
  ASSIGN_OR_RETURN(const Index top, Top());
  memo_[key] = top;
  if (memo_.size() > kMaxValues) return Error("remembers more than ", kMaxValues, " values");
  return absl::OkStatus();
}

absl::Status Unpickler::Recall(uint64_t key) {
  const auto found = memo_.find(key);
  if (found == memo_.end()) return Error("recalls value ", key, ", which was not remembered");
  stack_.push_back(found->second);
  return absl::OkStatus();
}

absl::Status Unpickler::Extend(Kind kind, const std::vector<Index>& items) {
  ASSIGN_OR_RETURN(const Index top, Top());
  PickleValue& collection = values_[top];
  if (collection.kind == Kind::kOpaque) return absl::OkStatus();
  if (collection.kind != kind) return Error("adds items to a value that is no such collection");
  collection.items.insert(collection.items.end(), items.begin(), items.end());
  return absl::OkStatus();
}

absl::Status Unpickler::PushGlobal(std::string_view module, std::string_view name) {
  const std::string full_name = absl::StrCat(std::string(module), ".", std::string(name));
  const auto known = KnownGlobals().find(full_name);
  if (known == KnownGlobals().end()) {
    return CodeError(absl::StrCat("calls for '", absl::CHexEscape(full_name.substr(0, 200)),
                                  "', which is neither part of a tensor nor plain data"));
  }
  const auto& [role, type] = known->second;
  return Push(
      {.kind = Kind::kGlobal, .type = type, .number = static_cast<int64_t>(role), .text = std::string_view(name)});
}

// ("storage", class, key, device, number of elements[, None]); torch.save's only use of persistent ids for tensors.
absl::Status Unpickler::PushStorage(Index id) {
  const std::vector<Index>& items = values_[id].items;
  const auto has = [&](size_t item, Kind kind) { return items.size() > item && values_[items[item]].kind == kind; };
  if (values_[id].kind != Kind::kTuple || !has(0, Kind::kText) || values_[items[0]].text != "storage" ||
      !has(1, Kind::kGlobal) || values_[items[1]].number != static_cast<int64_t>(Role::kStorage) ||
      !has(2, Kind::kText) || !has(4, Kind::kInt)) {
    return Error("refers to something else than the storage of a tensor");
  }
  // Before PyTorch 0.4 a storage could be a part of another.
  if (items.size() > 6 || (items.size() == 6 && !has(5, Kind::kNone))) return Error("refers to a part of a storage");
  const PickleValue storage = {.kind = Kind::kStorage,
                               .type = values_[items[1]].type,
                               .number = values_[items[4]].number,
                               .text = values_[items[2]].text};
  if (storage.number < 0) return Error("says that a storage has ", storage.number, " elements");
  const auto [known, is_new] = storages_.emplace(storage.text, static_cast<Index>(values_.size()));
  if (is_new) return Push(storage);
  const PickleValue& before = values_[known->second];
  if (before.type != storage.type || before.number != storage.number) {
    return Error("describes the storage '", absl::CHexEscape(std::string(storage.text)), "' otherwise than before");
  }
  stack_.push_back(known->second);
  return absl::OkStatus();
}

absl::Status Unpickler::Call(Index callable, Index arguments) {
  if (values_[callable].kind != Kind::kGlobal || values_[arguments].kind != Kind::kTuple) {
    return Error("calls something else than a known global");
  }
  const std::vector<Index>& items = values_[arguments].items;
  switch (static_cast<Role>(values_[callable].number)) {
    case Role::kHolder:
      return Push({});
    case Role::kOrderedDict:
      if (!items.empty()) return Error("makes an OrderedDict of arguments, which torch.save does not");
      return Push({.kind = Kind::kDict});
    case Role::kTensor:
      return PushTensor(items, /*typed_storage=*/true);
    case Role::kTensorOfAnyType:
      return PushTensor(items, /*typed_storage=*/false);
    case Role::kParameter:
      if (items.empty() || values_[items[0]].kind != Kind::kTensor) return Error("makes a parameter of no tensor");
      stack_.push_back(items[0]);
      return absl::OkStatus();
    case Role::kTensorSubclass: {  // (function, class, its arguments, attributes)
      const auto has = [&](size_t item, Kind kind) { return items.size() > item && values_[items[item]].kind == kind; };
      // One subclass in another would be a recursion without bound.
      if (!has(0, Kind::kGlobal) || values_[items[0]].number == static_cast<int64_t>(Role::kTensorSubclass) ||
          !has(2, Kind::kTuple)) {
        return Error("makes a tensor of a class of its own in an unknown way");
      }
      return Call(items[0], items[2]);
    }
    case Role::kStorage:
      break;
  }
  return Error("calls ", std::string(values_[callable].text), ", which torch.save does not");
}

// (storage, offset, sizes, strides, …)
absl::Status Unpickler::PushTensor(const std::vector<Index>& arguments, bool typed_storage) {
  constexpr Kind kKinds[] = {Kind::kStorage, Kind::kInt, Kind::kTuple, Kind::kTuple};
  if (arguments.size() < std::size(kKinds)) return Error("makes a tensor of too few arguments");
  for (size_t i = 0; i < std::size(kKinds); ++i) {
    if (values_[arguments[i]].kind != kKinds[i]) return Error("makes a tensor of wrong arguments");
  }
  return Push({.kind = Kind::kTensor,
               // Only types that are none of safetensors' come without a storage class of their own.
               .type = typed_storage ? values_[arguments[0]].type : at::ScalarType::Undefined,
               .number = values_[arguments[1]].number,
               .items = {arguments[0], arguments[2], arguments[3]}});
}

}  // namespace graticule
