#include "system.h"

#include <cstdint>
#include <cstring>
#include <new>

#include "failure.h"

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <errno.h>
#include <process.h>
#include <windows.h>
#else
#include <pthread.h>
#include <time.h>
#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif
#endif

namespace nt {

#if defined(_WIN32)

void want_huge_pages(void*, size_t) {}  // a privilege there

void give_pages_back(void*, void*) {}

double seconds_now() {
    LARGE_INTEGER ticks, per_second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&per_second);
    return double(ticks.QuadPart) / double(per_second.QuadPart);
}

using Mutex = SRWLOCK;
using Condition = CONDITION_VARIABLE;

static void prepare(Mutex* mutex, Condition* condition) {
    InitializeSRWLock(mutex);
    InitializeConditionVariable(condition);
}
static void release(Mutex*, Condition*) {}
static void lock_now(Mutex* mutex) { AcquireSRWLockExclusive(mutex); }
static void unlock_now(Mutex* mutex) { ReleaseSRWLockExclusive(mutex); }
static void wait_now(Condition* condition, Mutex* mutex) { SleepConditionVariableSRW(condition, mutex, INFINITE, 0); }
static void wake_now(Condition* condition) { WakeAllConditionVariable(condition); }

static unsigned __stdcall run_thread(void* thread) {
    static_cast<SystemThread*>(thread)->run(static_cast<SystemThread*>(thread)->argument);
    return 0;
}

bool start(SystemThread& thread, char* problem, size_t size) {
    thread.handle = reinterpret_cast<void*>(_beginthreadex(nullptr, 0, run_thread, &thread, 0, nullptr));
    if (!thread.handle) copy_text(problem, size, strerror(errno));
    return thread.handle;
}

void join(SystemThread& thread) {
    WaitForSingleObject(thread.handle, INFINITE);
    CloseHandle(thread.handle);
}

#else

void want_huge_pages([[maybe_unused]] void* start, [[maybe_unused]] size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    madvise(start, bytes, MADV_HUGEPAGE);
#endif
}

void give_pages_back([[maybe_unused]] void* begin, [[maybe_unused]] void* end) {
#if defined(__linux__) && defined(MADV_DONTNEED)
    const uintptr_t page = uintptr_t(sysconf(_SC_PAGESIZE));
    const uintptr_t first = (reinterpret_cast<uintptr_t>(begin) + page - 1) / page * page;
    const uintptr_t last = reinterpret_cast<uintptr_t>(end) / page * page;
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
#endif
}

double seconds_now() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
}

using Mutex = pthread_mutex_t;
using Condition = pthread_cond_t;

static void prepare(Mutex* mutex, Condition* condition) {
    pthread_mutex_init(mutex, nullptr);
    pthread_cond_init(condition, nullptr);
}
static void release(Mutex* mutex, Condition* condition) {
    pthread_cond_destroy(condition);
    pthread_mutex_destroy(mutex);
}
static void lock_now(Mutex* mutex) { pthread_mutex_lock(mutex); }
static void unlock_now(Mutex* mutex) { pthread_mutex_unlock(mutex); }
static void wait_now(Condition* condition, Mutex* mutex) { pthread_cond_wait(condition, mutex); }
static void wake_now(Condition* condition) { pthread_cond_broadcast(condition); }

static void* run_thread(void* thread) {
    static_cast<SystemThread*>(thread)->run(static_cast<SystemThread*>(thread)->argument);
    return nullptr;
}

bool start(SystemThread& thread, char* problem, size_t size) {
    static_assert(sizeof(pthread_t) <= sizeof thread.handle);
    pthread_t id;
    const int error = pthread_create(&id, nullptr, run_thread, &thread);
    if (error) copy_text(problem, size, strerror(error));
    else memcpy(&thread.handle, &id, sizeof id);
    return !error;
}

void join(SystemThread& thread) {
    pthread_t id;
    memcpy(&id, &thread.handle, sizeof id);
    pthread_join(id, nullptr);
}

#endif

static_assert(sizeof(Mutex) <= 64 && alignof(Mutex) <= 16 && sizeof(Condition) <= 64 && alignof(Condition) <= 16,
              "Monitor is too small for this system");

static Mutex* mutex_of(unsigned char* place) { return reinterpret_cast<Mutex*>(place); }
static Condition* condition_of(unsigned char* place) { return reinterpret_cast<Condition*>(place); }

Monitor::Monitor() { prepare(new (lock_) Mutex, new (changed_) Condition); }
Monitor::~Monitor() { release(mutex_of(lock_), condition_of(changed_)); }
void Monitor::lock() { lock_now(mutex_of(lock_)); }
void Monitor::unlock() { unlock_now(mutex_of(lock_)); }
void Monitor::wait() { wait_now(condition_of(changed_), mutex_of(lock_)); }
void Monitor::wake_all() { wake_now(condition_of(changed_)); }

}  // namespace nt
