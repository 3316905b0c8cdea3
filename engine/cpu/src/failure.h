// How a C++ exception reaches the caller of a C function: as a status, with its text in `failure_text`.
#pragma once

#include <cstdint>
#include <cstdio>
#include <exception>
#include <new>
#include <system_error>

namespace nt {

enum Status : int32_t { DONE = 0, OUT_OF_MEMORY = -1, NO_THREADS = -2, FAILED = -3 };

inline thread_local char failure_text[200] = "";  // of this thread's last call that failed

// Calls function() and returns what became of it.
template <class Function>
int32_t guarded(Function&& function) {
    const auto fail = [](Status status, const char* text) {
        std::snprintf(failure_text, sizeof failure_text, "%s", text);
        return status;
    };
    try {
        function();
        return DONE;
    } catch (const std::bad_alloc& error) {
        return fail(OUT_OF_MEMORY, error.what());
    } catch (const std::system_error& error) {  // of std::thread: nothing else here asks the system for anything
        return fail(NO_THREADS, error.what());
    } catch (const std::exception& error) {
        return fail(FAILED, error.what());
    } catch (...) {
        return fail(FAILED, "unknown exception");
    }
}

}  // namespace nt
