// How a failure deep in the kernels reaches the caller of a C function: as a status, with its text in `failure_text`.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__cpp_exceptions)
#include <exception>
#include <new>
#else
#include <csetjmp>
#endif

namespace nt {

enum Status : int32_t { DONE = 0, OUT_OF_MEMORY = -1, NO_THREADS = -2, FAILED = -3 };

inline thread_local char failure_text[200] = "";  // of this thread's last call that failed

// As much of a text as an array of such a size holds.
inline void copy_text(char* to, size_t size, const char* text) {
    const size_t length = strnlen(text, size - 1);
    memmove(to, text, length);
    to[length] = 0;
}

#if defined(__cpp_exceptions)

struct Failure {
    Status status;
    char text[200];
};

// Ends the work of the innermost guarded() around it on this thread.
[[noreturn]] inline void fail(Status status, const char* text) {
    Failure failure{status, ""};
    copy_text(failure.text, sizeof failure.text, text);
    throw failure;
}

// Calls function() and returns what became of it.
template <class Function>
int32_t guarded(Function&& function) {
    const auto failed = [](Status status, const char* text) {
        copy_text(failure_text, sizeof failure_text, text);
        return status;
    };
    try {
        function();
        return DONE;
    } catch (const Failure& failure) {
        return failed(failure.status, failure.text);
    } catch (const std::bad_alloc& error) {
        return failed(OUT_OF_MEMORY, error.what());
    } catch (const std::exception& error) {
        return failed(FAILED, error.what());
    } catch (...) {
        return failed(FAILED, "unknown exception");
    }
}

#else  // a build without the C++ library, see bare.cpp

// Where fail() goes back to. No destructor runs on the way: what the failed work had allocated stays allocated, and it
// must not have held a lock. Programs end after such a failure.
struct Attempt {
    std::jmp_buf start;
    Status status = DONE;
};
inline thread_local Attempt* attempt = nullptr;  // the innermost one of this thread

[[noreturn]] inline void fail(Status status, const char* text) {
    copy_text(failure_text, sizeof failure_text, text);
    attempt->status = status;
    std::longjmp(attempt->start, 1);
}

template <class Function>
int32_t guarded(Function&& function) {
    Attempt own;
    Attempt* const around = attempt;
    if (!setjmp(own.start)) {
        attempt = &own;
        function();
    }
    attempt = around;
    return own.status;
}

#endif

}  // namespace nt
