// What torch asks a CUDA driver for, answered as on a machine with one device: see
// pretended_device.py, whose tensors say that they are on it.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <utility>

namespace {

constexpr auto kCUDA = c10::DeviceType::CUDA;

c10::Stream default_stream() {
  return c10::Stream(c10::Stream::DEFAULT, c10::Device(kCUDA, 0));
}

struct OneDevice final : public c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kCUDA; }
  c10::Device exchangeDevice(c10::Device) const override { return c10::Device(kCUDA, 0); }
  c10::Device getDevice() const override { return c10::Device(kCUDA, 0); }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const noexcept override { return default_stream(); }
  c10::Stream getNewStream(c10::Device, int) const override { return default_stream(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return default_stream(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex,
              const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
};

struct Hooks : public at::CUDAHooksInterface {
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return false; }
  void init() const override {}
  c10::DeviceIndex current_device() const override { return 0; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  bool isPinnedPtr(const void*) const override { return false; }
};

// Where torch looks for its guard.
auto& guard_slot() {
  return c10::impl::device_guard_impl_registry[static_cast<size_t>(kCUDA)];
}

// The hooks are chosen when they are first asked for, and stay: theirs become ours by the table
// of virtual functions, the first word of the object.
void*& hooks_table(const at::CUDAHooksInterface& hooks) {
  return *reinterpret_cast<void**>(const_cast<at::CUDAHooksInterface*>(&hooks));
}

const c10::impl::DeviceGuardImplInterface* guard_before = nullptr;
void* table_before = nullptr;

}  // namespace

extern "C" void install() {
  static const OneDevice guard;
  static const Hooks hooks;
  guard_before = guard_slot().exchange(&guard);
  table_before = std::exchange(hooks_table(at::detail::getCUDAHooks()), hooks_table(hooks));
}

extern "C" void remove_again() {
  guard_slot().store(guard_before);
  hooks_table(at::detail::getCUDAHooks()) = table_before;
}
