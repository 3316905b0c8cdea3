// What the kernels need of a C++ library, and on Windows of the C library's start-up code, for builds without them: zig
// would make its own first, which takes a minute. Such a build has no exceptions, and no object that is constructed when
// the library is loaded.
#include "failure.h"

#if !defined(__cpp_exceptions)

#include <cstdarg>
#include <cstdlib>
#include <cstring>
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

// Named by libc++, but nothing here is on more than malloc's alignment without Buffer.
void* operator new(size_t, std::align_val_t) { nt::fail(nt::FAILED, "aligned memory"); }
void operator delete(void*, std::align_val_t) noexcept {}
void operator delete(void*, size_t, std::align_val_t) noexcept {}

extern "C" void __cxa_pure_virtual() { std::abort(); }

// libc++ calls this where it would throw; a program may define it, see "Overriding the default termination handler" in
// libc++'s documentation. The text of the exception is its first argument.
_LIBCPP_BEGIN_NAMESPACE_STD
void __libcpp_verbose_abort(const char* format, ...) _NOEXCEPT {
    const char* text = format;
    va_list values;
    va_start(values, format);
    if (std::strstr(format, "%s")) text = va_arg(values, const char*);
    va_end(values);
    nt::fail(nt::FAILED, text);
}
_LIBCPP_END_NAMESPACE_STD

#if defined(_WIN32)

#include <windows.h>

extern "C" {

BOOL WINAPI DllMainCRTStartup(HINSTANCE, DWORD, LPVOID) { return TRUE; }

// Variables of each thread: the loader copies what lies between the first and the last of the sections .tls*.
ULONG _tls_index = 0;
__attribute__((section(".tls"), used)) char _tls_start = 0;
__attribute__((section(".tls$ZZZ"), used)) char _tls_end = 0;
__attribute__((section(".rdata$T"), used)) extern const IMAGE_TLS_DIRECTORY64 _tls_used = {
    ULONGLONG(&_tls_start), ULONGLONG(&_tls_end), ULONGLONG(&_tls_index), 0, 0, {}};

#if defined(__x86_64__)
// Touches each page of a large stack frame, of rax bytes, in turn, as Windows wants it; it changes no register.
__attribute__((naked)) void ___chkstk_ms() {
    asm("push %rcx\n"
        "push %rax\n"
        "lea 24(%rsp), %rcx\n"
        "1: cmp $0x1000, %rax\n"
        "jb 2f\n"
        "sub $0x1000, %rcx\n"
        "orq $0, (%rcx)\n"
        "sub $0x1000, %rax\n"
        "jmp 1b\n"
        "2: sub %rax, %rcx\n"
        "orq $0, (%rcx)\n"
        "pop %rax\n"
        "pop %rcx\n"
        "ret");
}
#elif defined(__aarch64__)
__attribute__((naked)) void __chkstk() {  // of 16 * x15 bytes; x16 and x17 are free
    asm("lsl x16, x15, #4\n"
        "mov x17, sp\n"
        "1: sub x17, x17, #4096\n"
        "subs x16, x16, #4096\n"
        "ldr xzr, [x17]\n"
        "b.gt 1b\n"
        "ret");
}
#endif

}  // extern "C"

#endif
#endif
