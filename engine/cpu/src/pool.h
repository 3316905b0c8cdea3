// A few threads that go through the same phases together.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace nt {

// Threads wait here for each other; the last one to arrive first does what must be done alone.
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
        // Phases take about a millisecond: a short spin catches threads that finish together, and a sleep after it
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

// Runs work(thread) on n threads, the caller's among them; the first exception is thrown again here.
template <class Work>
void run_threads(int n, Work&& work) {
    std::exception_ptr failure;
    std::mutex mutex;
    const auto guarded = [&](int thread) {
        try {
            work(thread);
        } catch (...) {
            std::lock_guard<std::mutex> lock(mutex);
            if (!failure) failure = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    for (int thread = 1; thread < n; thread++) others.emplace_back(guarded, thread);
    guarded(0);
    for (std::thread& other : others) other.join();
    if (failure) std::rethrow_exception(failure);
}

// Calls task(index, thread) for every index below `count`, on n threads, in any order.
template <class Task>
void run_tasks(int n, long count, Task&& task) {
    std::atomic<long> next{0};
    run_threads(n, [&](int thread) {
        for (long index; (index = next.fetch_add(1, std::memory_order_relaxed)) < count;) task(index, thread);
    });
}

}  // namespace nt
