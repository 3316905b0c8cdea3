// What the kernels need of a C++ library, for builds that have none. zig would make its own first, which takes a minute;
// such a build has no exceptions, and links with -nostdlib++.
#include "failure.h"

#if !defined(__cpp_exceptions)

#include <cstdarg>
#include <cstdlib>
#include <new>

const std::nothrow_t std::nothrow{};

void* operator new(size_t size) {
    void* const memory = std::malloc(size ? size : 1);
    if (!memory) nt::fail(nt::OUT_OF_MEMORY, "malloc");
    return memory;
}
void* operator new(size_t size, const std::nothrow_t&) noexcept { return std::malloc(size ? size : 1); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }

extern "C" void __cxa_pure_virtual() { std::abort(); }

// libc++ calls this where it would throw: https://libcxx.llvm.org/UserDocumentation.html (overriding verbose abort)
_LIBCPP_BEGIN_NAMESPACE_STD
void __libcpp_verbose_abort(const char* format, ...) _NOEXCEPT {
    char text[200];
    va_list values;
    va_start(values, format);
    std::vsnprintf(text, sizeof text, format, values);
    va_end(values);
    nt::fail(nt::FAILED, text);
}
_LIBCPP_END_NAMESPACE_STD

#endif
