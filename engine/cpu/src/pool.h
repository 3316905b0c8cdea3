// Threads that run the same work together, and a barrier between its phases.
#pragma once

#include <atomic>
#include <vector>

#include "failure.h"
#include "system.h"

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
                Locked locked(changed_);
                generation_.store(generation + 1, std::memory_order_release);
            }
            changed_.wake_all();
            return;
        }
        // Phases take about a millisecond: a short spin is enough for threads that finish together. Sleeping after it
        // leaves the core to other programs.
        for (int i = 0; i < SPINS; i++) {
            if (generation_.load(std::memory_order_acquire) != generation) return;
            pause();
        }
        Locked locked(changed_);
        while (generation_.load(std::memory_order_acquire) == generation) changed_.wait();
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
    Monitor changed_;
};

// Runs work(thread) on n threads, the caller's among them, and fails as the first work() that fails.
//
// No thread begins before all have started, as the work may contain a barrier for n threads. When one cannot be
// started, none begins.
template <class Work>
void run_threads(int n, Work&& work) {
    struct Shared {
        Work& work;
        Monitor changed;
        enum { STARTING, STARTED, NONE } state;
        int32_t status;  // of the first failure, as `text`
        char text[sizeof failure_text];

        void run(int thread) {
            const int32_t ended = guarded([&] { work(thread); });
            if (ended == DONE) return;
            Locked locked(changed);
            if (status == DONE) copy_text(text, sizeof text, failure_text), status = ended;
        }
    } shared{work, {}, Shared::STARTING, DONE, ""};
    struct Other : SystemThread {
        Shared* shared;
        int number;
    };
    std::vector<Other> others(n - 1);
    size_t started = 0;
    for (Other& other : others) {
        other.shared = &shared, other.number = int(started) + 1, other.argument = &other;
        other.run = [](void* argument) {
            Other& self = *static_cast<Other*>(argument);
            {
                Locked locked(self.shared->changed);
                while (self.shared->state == Shared::STARTING) self.shared->changed.wait();
                if (self.shared->state == Shared::NONE) return;
            }
            self.shared->run(self.number);
        };
        if (!start(other, shared.text, sizeof shared.text)) {
            shared.status = NO_THREADS;
            break;
        }
        started++;
    }
    {
        Locked locked(shared.changed);
        shared.state = shared.status == DONE ? Shared::STARTED : Shared::NONE;
    }
    shared.changed.wake_all();
    if (shared.state == Shared::STARTED) shared.run(0);
    for (size_t i = 0; i < started; i++) join(others[i]);
    if (shared.status != DONE) fail(Status(shared.status), shared.text);
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
