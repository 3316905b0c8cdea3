// Threads that run the same work together, and a barrier between its phases.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

namespace nt {

// Each of `count` threads waits here for all others; the last one to arrive runs alone() before any goes on.
class Barrier {
  public:
    explicit Barrier(int count) : count_(count) {}

    template <class Alone>
    void wait(Alone&& alone) {
        const unsigned generation = generation_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
            alone();
            arrived_.store(0, std::memory_order_relaxed);
            {
                std::lock_guard<std::mutex> lock(mutex_);
                generation_.store(generation + 1, std::memory_order_release);
            }
            changed_.notify_all();
            return;
        }
        // Phases take about a millisecond: a short spin is enough for threads that finish together. Sleeping after it
        // leaves the core to other programs.
        for (int i = 0; i < SPINS; i++) {
            if (generation_.load(std::memory_order_acquire) != generation) return;
            pause();
        }
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != generation; });
    }

  private:
    static constexpr int SPINS = 1000;

    static void pause() {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }

    const int count_;
    std::atomic<int> arrived_{0};
    std::atomic<unsigned> generation_{0};
    std::mutex mutex_;
    std::condition_variable changed_;
};

// Runs work(thread) on n threads, the caller's among them, and throws the first exception of work() again.
//
// No thread begins before all have started, as the work may contain a barrier for n threads. When one cannot be
// started, none begins, and its std::system_error is thrown.
template <class Work>
void run_threads(int n, Work&& work) {
    std::exception_ptr failure;
    std::mutex mutex;
    const auto run = [&](int thread) {
        try {
            work(thread);
        } catch (...) {
            std::lock_guard<std::mutex> lock(mutex);
            if (!failure) failure = std::current_exception();
        }
    };
    std::promise<bool> starting;
    const std::shared_future<bool> all_started = starting.get_future().share();
    std::vector<std::thread> others;
    try {
        for (int thread = 1; thread < n; thread++)
            others.emplace_back([&run, all_started, thread] {
                if (all_started.get()) run(thread);
            });
    } catch (...) {  // a thread that is destroyed without being joined would end the process
        failure = std::current_exception();
    }
    const bool started = !failure;
    starting.set_value(started);
    if (started) run(0);
    for (std::thread& other : others) other.join();
    if (failure) std::rethrow_exception(failure);
}

// Calls task(index, thread) once for every index below `count`, on n threads, in any order.
template <class Task>
void run_tasks(int n, long count, Task&& task) {
    std::atomic<long> next{0};
    run_threads(n, [&](int thread) {
        for (long index; (index = next.fetch_add(1, std::memory_order_relaxed)) < count;) task(index, thread);
    });
}

}  // namespace nt
