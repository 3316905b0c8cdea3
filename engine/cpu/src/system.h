// What the kernels ask of the operating system: memory, threads, locks, the time. Only system.cpp knows which one it is.
#pragma once

#include <cstddef>

namespace nt {

constexpr size_t HUGE_PAGE = size_t(2) << 20;

// `bytes` on a cache line, or, of several huge pages and more, on such pages where the system has them. Null: no memory.
void* take_memory(size_t bytes);
void give_memory(void* memory);  // of take_memory; or null

// Seconds since some time in the past, which no change of the clock moves.
double seconds_now();

// A lock, and a way to wait for what others change while they hold it.
class Monitor {
  public:
    Monitor();
    ~Monitor();
    Monitor(const Monitor&) = delete;
    Monitor& operator=(const Monitor&) = delete;
    void lock();
    void unlock();
    void wait();  // the caller has locked it; others may lock it until this returns, after wake_all() or without reason
    void wake_all();

  private:
    alignas(16) unsigned char lock_[64], changed_[64];
};

class Locked {
  public:
    explicit Locked(Monitor& monitor) : monitor_(monitor) { monitor_.lock(); }
    ~Locked() { monitor_.unlock(); }
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;

  private:
    Monitor& monitor_;
};

// A thread that runs a function, and has to be joined.
struct SystemThread {
    void (*run)(void*) = nullptr;
    void* argument = nullptr;
    void* handle = nullptr;
};
bool start(SystemThread& thread, char* problem, size_t size);  // false: it has not started, and `problem` says why
void join(SystemThread& thread);

}  // namespace nt
