// What the kernels ask of the operating system: memory, threads, locks, the time. Only system.cpp knows which one it is.
#pragma once

#include <cstddef>

namespace nt {

constexpr size_t HUGE_PAGE = size_t(2) << 20;

// Asks for such pages behind this memory, which begins with one. Systems without them, or that see to it, do nothing.
void want_huge_pages(void* start, size_t bytes);
// Gives the whole pages between two addresses back, where the system takes single pages: what is in them is lost.
void give_pages_back(void* begin, void* end);

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
