#include "trainer/distributed/ranks.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ATen/ops/empty.h"
#include "ATen/ops/zeros.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "c10/util/Flags.h"
#include "plugin/logging.h"
#include "plugin/status.h"
#include "torch/csrc/distributed/c10d/PrefixStore.hpp"
#include "torch/csrc/distributed/c10d/ProcessGroupGloo.hpp"
#include "torch/csrc/distributed/c10d/TCPStore.hpp"
#include "torch/csrc/distributed/c10d/comm.hpp"
#include "trainer/distributed/device_backend.h"
#include "trainer/distributed/environment.h"
#include "trainer/distributed/heartbeat.h"
#include "trainer/distributed/ranks_state.h"

C10_DECLARE_int(caffe2_log_level);

namespace graticule {
namespace {

using Clock = std::chrono::steady_clock;

// c10's level of a log that has errors alone.
constexpr int kErrors = 2;
// DDP's broadcast_bucket_size.
constexpr size_t kBroadcastBytes = size_t{250} << 20;

// c10d warns, with the stack, of each connection that ends; what it means is in the statuses. Whoever sets LibTorch's
// own variable wants to see it.
void QuietC10d() {
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = kErrors;
}

// The address of this machine that a connection to `host` comes from, empty where there is none: what others can reach
// it by. Machines' own names are often 127.0.1.1 in /etc/hosts.
std::string AddressTowards(const std::string& host, int port) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), absl::StrCat(port).c_str(), &hints, &found) != 0) return "";
  std::string address;
  for (const addrinfo* info = found; info != nullptr && address.empty(); info = info->ai_next) {
    const int fd = socket(info->ai_family, info->ai_socktype, info->ai_protocol);
    if (fd < 0) continue;
    sockaddr_storage own = {};
    socklen_t size = sizeof own;
    char text[NI_MAXHOST];
    // Of a datagram socket: it sends nothing.
    if (connect(fd, info->ai_addr, info->ai_addrlen) == 0 &&
        getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) == 0 &&
        getnameinfo(reinterpret_cast<sockaddr*>(&own), size, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0) {
      address = text;
    }
    close(fd);
  }
  freeaddrinfo(found);
  return address;
}

c10::intrusive_ptr<c10d::Backend> MakeGloo(const c10::intrusive_ptr<c10d::Store>& store,
                                           const LaunchEnvironment& environment, std::chrono::milliseconds timeout) {
  auto options = c10d::ProcessGroupGloo::Options::create(timeout);
  // As torch.distributed does.
  if (const char* names = std::getenv("GLOO_SOCKET_IFNAME"); names != nullptr && *names != '\0') {
    for (const std::string& name : std::vector<std::string>(absl::StrSplit(names, ','))) {
      options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForInterface(name));
    }
  } else {
    const std::string address = AddressTowards(environment.master_address, environment.master_port);
    options->devices.push_back(address.empty() ? c10d::ProcessGroupGloo::createDefaultDevice()
                                               : c10d::ProcessGroupGloo::createDeviceForHostname(address));
  }
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, environment.rank, environment.world_size, options);
}

// Waits until every rank has said that it is there.
absl::Status Meet(c10d::Store& store, int rank, int size, std::chrono::milliseconds timeout) {
  const auto key = [](int rank) { return absl::StrCat("present/", rank); };
  store.set(key(rank), std::string("1"));
  std::vector<std::string> keys;
  for (int i = 0; i < size; ++i) keys.push_back(key(i));
  try {
    store.wait(keys, timeout);
    return absl::OkStatus();
  } catch (const std::exception&) {
    std::vector<int> missing;
    for (int i = 0; i < size; ++i) {
      if (!store.check({key(i)})) missing.push_back(i);
    }
    if (missing.empty()) throw;
    return absl::DeadlineExceededError(absl::StrCat(missing.size() == 1 ? "rank " : "ranks ",
                                                    absl::StrJoin(missing, ", "), " of ", size,
                                                    missing.size() == 1 ? " has" : " have", " not come within ",
                                                    absl::StrFormat("%g", timeout.count() / 1000.0), " s"));
  }
}

// What is left of a sum that arrives later.
class Pending : public Ranks::Maxima {
 public:
  Pending(Ranks::State* state, at::Tensor values, c10::intrusive_ptr<c10d::Work> work)
      : state_(state), values_(std::move(values)), work_(std::move(work)) {}

  absl::StatusOr<std::vector<int64_t>> Wait() override {
    RETURN_IF_ERROR(state_->Failure());
    const Clock::time_point begin = Clock::now();
    try {
      work_->wait();
    } catch (...) {
      return state_->Explain("exchange of flags", begin);
    }
    const auto* data = values_.const_data_ptr<int64_t>();
    return std::vector<int64_t>(data, data + values_.numel());
  }

 private:
  Ranks::State* state_;
  at::Tensor values_;
  c10::intrusive_ptr<c10d::Work> work_;
};

class Known : public Ranks::Maxima {
 public:
  explicit Known(std::vector<int64_t> values) : values_(std::move(values)) {}
  absl::StatusOr<std::vector<int64_t>> Wait() override { return values_; }

 private:
  std::vector<int64_t> values_;
};

}  // namespace

Ranks::State::~State() {
  if (failure.ok()) return;
  // What still waits for a rank that is gone would be waited for: the process ends anyway.
  control.release();
  gradients.release();
}

absl::Status Ranks::State::Failure() {
  if (failure.ok()) failure = heartbeat->Aborted();
  return failure;
}

absl::Status Ranks::State::Call(std::string_view what, const std::function<void()>& collective) {
  RETURN_IF_ERROR(Failure());
  heartbeat->CountCall();
  const Clock::time_point begin = Clock::now();
  try {
    collective();
    return absl::OkStatus();
  } catch (...) {
    return Explain(what, begin);
  }
}

absl::Status Ranks::State::Explain(std::string_view what, Clock::time_point begin) {
  const absl::Status error = CurrentExceptionToStatus(what);
  const bool timed_out = std::chrono::duration<double>(Clock::now() - begin).count() > 0.9 * timeout_seconds ||
                         absl::StrContains(error.message(), "imed out") || absl::StrContains(error.message(), "imeout");
  VLOG(1) << error;
  failure = heartbeat->Explain(absl::UnavailableError(absl::StrCat("the ranks lost each other: ", error.message())),
                               timed_out);
  return failure;
}

Ranks::Ranks(int rank, int size, std::unique_ptr<State> state) : rank_(rank), size_(size), state_(std::move(state)) {}

Ranks::~Ranks() = default;

std::unique_ptr<Ranks> Ranks::Alone() { return std::unique_ptr<Ranks>(new Ranks(0, 1, nullptr)); }

absl::StatusOr<std::unique_ptr<Ranks>> Ranks::Join(const LaunchEnvironment& environment, c10::Device device,
                                                   double timeout_seconds) {
  if (environment.world_size == 1) return Alone();
  const std::chrono::milliseconds timeout(static_cast<int64_t>(1000 * timeout_seconds));
  const bool hosts_store = environment.rank == 0 && !environment.use_agent_store;
  const std::string place = absl::StrCat(environment.master_address, ":", environment.master_port);
  QuietC10d();
  auto state = std::make_unique<State>();
  state->timeout_seconds = timeout_seconds;
  c10::intrusive_ptr<c10d::Store> tcp_store;
  try {
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(environment.master_port);
    options.isServer = hosts_store;
    options.waitWorkers = false;
    options.timeout = timeout;
    if (hosts_store && environment.listen_fd.has_value()) options.masterListenFd = *environment.listen_fd;
    tcp_store = c10::make_intrusive<c10d::TCPStore>(environment.master_address, options);
  } catch (...) {
    return absl::UnavailableError(
        absl::StrCat(hosts_store ? absl::StrCat("rank 0 can't listen at ", place)
                                 : absl::StrCat("rank ", environment.rank, " can't reach the others' meeting point at ",
                                                place, absl::StrFormat(" within %g s", timeout_seconds)),
                     ": ", CurrentExceptionToStatus("the store").message()));
  }
  const auto prefixed = [&](const std::string& name, const c10::intrusive_ptr<c10d::Store>& store) {
    return c10::make_intrusive<c10d::PrefixStore>(
        absl::StrCat("/worker/attempt_", environment.restart_count, "/graticule/", name), store);
  };
  try {
    RETURN_IF_ERROR(Meet(*prefixed("ranks", tcp_store), environment.rank, environment.world_size, timeout),
                    absl::StrCat(environment.launcher, "'s rank ", environment.rank, " waits at ", place));
    state->store = tcp_store;
    state->questions = prefixed("questions", tcp_store);
    state->control = MakeGloo(prefixed("control", tcp_store), environment, timeout);
    const auto gradients_store = prefixed("gradients", tcp_store);
    c10::intrusive_ptr<c10d::Backend> backend =
        MakeDeviceBackend(gradients_store, environment.rank, environment.world_size, device, timeout);
    HeartbeatOptions options;
    if (backend != nullptr) {
      options.abort = [backend] { backend->abort(); };
    }
    const auto type =
        backend != nullptr ? c10d::ProcessGroup::BackendType::NCCL : c10d::ProcessGroup::BackendType::GLOO;
    if (backend == nullptr) backend = MakeGloo(gradients_store, environment, timeout);
    state->gradients =
        c10::make_intrusive<c10d::ProcessGroup>(gradients_store, environment.rank, environment.world_size);
    state->gradients->setDefaultBackend(type);
    state->gradients->setBackend(device.type(), type, backend);
    if (environment.failure_fd.has_value()) {
      options.failed = [fd = *environment.failure_fd, line = absl::StrCat(environment.rank, "\n")] {
        if (write(fd, line.data(), line.size()) < 0) PLOG(WARNING) << "the launcher can't be told of the failure";
      };
    }
    options.store = prefixed("heartbeat", tcp_store->clone());
    options.timeout_seconds = timeout_seconds;
    // Those who wait for short learn it soon.
    options.interval_seconds = std::clamp(timeout_seconds / 10, 0.3, 1.0);
    options.rank = environment.rank;
    options.size = environment.world_size;
    options.hosts_store = hosts_store;
    options.store_host = environment.use_agent_store ? absl::StrCat("torchrun's agent at ", place) : "rank 0";
    state->heartbeat = std::make_unique<Heartbeat>(std::move(options));
  } catch (...) {
    return Annotate(absl::UnavailableError(CurrentExceptionToStatus("rendezvous").message()),
                    absl::StrCat("rank ", environment.rank, " can't connect to the others"));
  }
  return std::unique_ptr<Ranks>(new Ranks(environment.rank, environment.world_size, std::move(state)));
}

absl::Status Ranks::Sum(at::Tensor values) {
  CHECK(values.device().is_cpu() && values.is_contiguous() &&
        (values.scalar_type() == at::kDouble || values.scalar_type() == at::kLong));
  if (size_ == 1) return absl::OkStatus();
  return state_->Call("sum", [&] {
    std::vector<at::Tensor> tensors = {values};
    state_->control->allreduce(tensors)->wait();
  });
}

absl::StatusOr<std::vector<std::vector<double>>> Ranks::AllGather(const std::vector<double>& values) {
  if (size_ == 1) return std::vector<std::vector<double>>{values};
  std::vector<std::vector<double>> all;
  RETURN_IF_ERROR(state_->Call("gathering of numbers", [&] {
    const auto count = static_cast<int64_t>(values.size());
    at::Tensor own = at::empty({count}, at::kDouble);
    std::copy(values.begin(), values.end(), own.mutable_data_ptr<double>());
    std::vector<at::Tensor> inputs = {own};
    std::vector<std::vector<at::Tensor>> outputs(1);
    for (int i = 0; i < size_; ++i) outputs[0].push_back(at::empty({count}, at::kDouble));
    state_->control->allgather(outputs, inputs)->wait();
    for (const at::Tensor& output : outputs[0]) {
      const auto* data = output.const_data_ptr<double>();
      all.emplace_back(data, data + count);
    }
  }));
  return all;
}

absl::Status Ranks::Broadcast(const std::vector<at::Tensor>& tensors) {
  if (size_ == 1 || tensors.empty()) return absl::OkStatus();
  // Steps that an optimizer counts are on the CPU, whatever the device of its other tensors, and NCCL knows no CPU.
  std::vector<at::Tensor> on_device;
  return state_->Call("broadcast", [&] {
    for (const at::Tensor& tensor : tensors) {
      if (!tensor.is_cpu() || state_->gradients->getDeviceTypes().front() == c10::kCPU) {
        on_device.push_back(tensor);
        continue;
      }
      std::vector<at::Tensor> one = {tensor};
      state_->control->broadcast(one)->wait();
    }
    if (!on_device.empty()) c10d::broadcast_coalesced(state_->gradients, on_device, kBroadcastBytes, 0);
  });
}

absl::Status Ranks::Barrier() {
  if (size_ == 1) return absl::OkStatus();
  return Sum(at::zeros({1}, at::kLong));
}

absl::StatusOr<std::string> Ranks::BroadcastText(std::string text) {
  if (size_ == 1) return text;
  RETURN_IF_ERROR(state_->Call("broadcast of a text", [&] {
    at::Tensor length = at::empty({1}, at::kLong);
    *length.mutable_data_ptr<int64_t>() = static_cast<int64_t>(text.size());
    std::vector<at::Tensor> tensors = {length};
    state_->control->broadcast(tensors)->wait();
    text.resize(*length.const_data_ptr<int64_t>());
    if (text.empty()) return;
    at::Tensor bytes = at::empty({static_cast<int64_t>(text.size())}, at::kByte);
    std::memcpy(bytes.mutable_data_ptr(), text.data(), text.size());
    tensors = {bytes};
    state_->control->broadcast(tensors)->wait();
    std::memcpy(text.data(), bytes.const_data_ptr(), text.size());
  }));
  return text;
}

absl::StatusOr<std::vector<std::string>> Ranks::GatherTexts(const std::string& text) {
  if (size_ == 1) return std::vector<std::string>{text};
  ASSIGN_OR_RETURN(const auto lengths, AllGather({static_cast<double>(text.size())}));
  size_t longest = 0;
  for (const auto& length : lengths) longest = std::max(longest, static_cast<size_t>(length[0]));
  std::vector<std::string> texts(size_);
  if (longest == 0) return texts;
  RETURN_IF_ERROR(state_->Call("gathering of texts", [&] {
    const auto count = static_cast<int64_t>(longest);
    at::Tensor own = at::zeros({count}, at::kByte);
    std::memcpy(own.mutable_data_ptr(), text.data(), text.size());
    std::vector<at::Tensor> inputs = {own};
    std::vector<std::vector<at::Tensor>> outputs(1);
    for (int i = 0; i < size_; ++i) outputs[0].push_back(at::empty({count}, at::kByte));
    state_->control->allgather(outputs, inputs)->wait();
    for (int i = 0; i < size_; ++i) {
      texts[i].assign(static_cast<const char*>(outputs[0][i].const_data_ptr()), static_cast<size_t>(lengths[i][0]));
    }
  }));
  return texts;
}

absl::StatusOr<std::unique_ptr<Ranks::Maxima>> Ranks::StartMax(const std::vector<int64_t>& values) {
  if (size_ == 1) return std::unique_ptr<Maxima>(new Known(values));
  at::Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<int64_t>());
  c10::intrusive_ptr<c10d::Work> work;
  RETURN_IF_ERROR(state_->Call("exchange of flags", [&] {
    std::vector<at::Tensor> tensors = {tensor};
    c10d::AllreduceOptions options;
    options.reduceOp = c10d::ReduceOp::MAX;
    work = state_->control->allreduce(tensors, options);
  }));
  return std::unique_ptr<Maxima>(new Pending(state_.get(), tensor, work));
}

void Ranks::Ask(const std::string& what) {
  if (size_ == 1) return;
  try {
    state_->questions->set(what, std::string("1"));
  } catch (const std::exception& error) {
    VLOG(1) << error.what();
  }
}

bool Ranks::Asked(const std::string& what) {
  if (size_ == 1) return false;
  try {
    return state_->questions->check({what});
  } catch (const std::exception& error) {
    VLOG(1) << error.what();
    return false;
  }
}

absl::Status Ranks::Failure() { return size_ == 1 ? absl::OkStatus() : state_->Failure(); }

void Ranks::SetProgress(int64_t step, std::string_view phase) {
  if (size_ > 1) state_->heartbeat->SetProgress(step, phase);
}

void Ranks::ReportFailure(std::string_view words) {
  if (size_ > 1) state_->heartbeat->ReportFailure(words);
}

}  // namespace graticule
