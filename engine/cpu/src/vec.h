// Vectors of floats through the compiler's vector extensions (gcc and clang), and aligned memory.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "failure.h"
#include "system.h"

// A vector is as wide as the widest register of the target. A build may choose another width, for which the compiler
// splits or pads vectors: so the 64-byte code is tested without AVX-512.
#if !defined(NT_VECTOR_BYTES)
#if defined(__AVX512F__)
#define NT_VECTOR_BYTES 64
#elif defined(__AVX__)
#define NT_VECTOR_BYTES 32
#else
#define NT_VECTOR_BYTES 16
#endif
#endif

#if !defined(NT_REGISTERS)
#if defined(__AVX512F__) || defined(__aarch64__)
#define NT_REGISTERS 32
#else
#define NT_REGISTERS 16
#endif
#endif

namespace nt {

constexpr int V = NT_VECTOR_BYTES / 4;  // floats per vector

// W floats, or integers, side by side; arithmetic works lane by lane.
template <int W>
struct Lanes {
    typedef float floats __attribute__((vector_size(W * 4)));
    typedef int32_t ints __attribute__((vector_size(W * 4)));
    typedef uint32_t uints __attribute__((vector_size(W * 4)));
};

using vfloat = Lanes<V>::floats;
using vint = Lanes<V>::ints;

template <int W = V>
inline typename Lanes<W>::floats load(const float* from) {
    typename Lanes<W>::floats value;
    memcpy(&value, from, sizeof value);
    return value;
}

template <int W = V>
inline void store(float* to, const typename Lanes<W>::floats& value) {
    memcpy(to, &value, sizeof value);
}

template <int W>
inline typename Lanes<W>::floats square_root(typename Lanes<W>::floats x) {
    float lanes[W];  // gcc and clang make one instruction of this loop
    memcpy(lanes, &x, sizeof x);
    for (int i = 0; i < W; i++) lanes[i] = __builtin_sqrtf(lanes[i]);
    memcpy(&x, lanes, sizeof x);
    return x;
}

#if defined(__clang__) || __GNUC__ >= 12
// Lanes LANE... of one vector followed by another.
template <int W, class From, size_t... LANE>
inline typename Lanes<W>::floats shuffled(const From& x, const From& y, std::index_sequence<LANE...>) {
    return __builtin_shufflevector(x, y, LANE...);
}

// The lanes of one vector, then those of another.
template <int W>
inline typename Lanes<2 * W>::floats joined(typename Lanes<W>::floats x, typename Lanes<W>::floats y) {
    return shuffled<2 * W>(x, y, std::make_index_sequence<2 * W>());
}

#else
template <int W>
inline typename Lanes<2 * W>::floats joined(typename Lanes<W>::floats x, typename Lanes<W>::floats y) {
    typename Lanes<2 * W>::floats both;
    memcpy(&both, &x, sizeof x);
    memcpy(reinterpret_cast<char*>(&both) + sizeof x, &y, sizeof y);
    return both;
}
#endif

// COUNT vectors of W lanes side by side; part(i): one of them.
template <int W, int COUNT, class Part>
inline typename Lanes<W * COUNT>::floats joined_parts(Part&& part) {
    if constexpr (COUNT == 1)
        return part(0);
    else
        return joined<W * COUNT / 2>(joined_parts<W, COUNT / 2>(part),
                                     joined_parts<W, COUNT / 2>([&](int i) { return part(i + COUNT / 2); }));
}

// The same of rows in memory, from(i): where row i is; and of numbers, each in W lanes.
template <int W, int COUNT, class From>
inline typename Lanes<W * COUNT>::floats joined_rows(From&& from) {
    return joined_parts<W, COUNT>([&](int i) { return load<W>(from(i)); });
}
template <int W, int COUNT, class Value>
inline typename Lanes<W * COUNT>::floats joined_values(Value&& value) {
    return joined_parts<W, COUNT>([&](int i) { return typename Lanes<W>::floats{} + value(i); });
}

// The first or second half of a vector of 2 W lanes.
template <int W>
inline typename Lanes<W>::floats half(const typename Lanes<2 * W>::floats& x, int which) {
    typename Lanes<W>::floats part;
    memcpy(&part, reinterpret_cast<const char*>(&x) + which * sizeof part, sizeof part);
    return part;
}

// Stores COUNT rows of W floats each; to(i): where row i goes.
template <int W, int COUNT, class To>
inline void store_rows(const typename Lanes<W * COUNT>::floats& x, To&& to) {
    if constexpr (COUNT == 1) {
        store<W>(to(0), x);
    } else {
        store_rows<W, COUNT / 2>(half<W * COUNT / 2>(x, 0), to);
        store_rows<W, COUNT / 2>(half<W * COUNT / 2>(x, 1), [&](int i) { return to(i + COUNT / 2); });
    }
}

// Prefetch a cache line: into the second-level cache, for later, or into the first, for the next reads.
inline void prefetch_later(const void* address) {
    __builtin_prefetch(address, 0, 2);
    asm volatile("" : : "r"(address));  // gcc would remove loops that only prefetch
}

// The second-level cache of the core alone, for what will be written.
inline void prefetch_to_write(const void* address) {
    __builtin_prefetch(address, 1, 2);
    asm volatile("" : : "r"(address));
}

inline void prefetch_next(const void* address) {
    __builtin_prefetch(address, 0, 3);
    asm volatile("" : : "r"(address));
}

// NaN stays NaN: in this order each line is one instruction.
template <int W>
inline typename Lanes<W>::floats clamped_lanes(typename Lanes<W>::floats x, float limit) {
    const typename Lanes<W>::floats high = typename Lanes<W>::floats{} + limit, low = -high;
    x = high < x ? high : x;
    return low > x ? low : x;
}

constexpr long align_up(long count, long unit) { return (count + unit - 1) / unit * unit; }

// Floats on cache lines, all 0; pages that are never used cost nothing.
class ZeroPages {
  public:
    explicit ZeroPages(size_t count) : memory_(std::calloc(count + 16, sizeof(float)), std::free) {
        if (!memory_) fail(OUT_OF_MEMORY, "calloc");
    }
    float* data() const {
        return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(memory_.get()) + 63) & ~uintptr_t(63));
    }

  private:
    std::unique_ptr<void, void (*)(void*)> memory_;
};

// Zeroed memory on cache lines; large blocks on huge pages where the system has them, since training reads at random.
template <class T>
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(size_t count) { resize(count); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    Buffer(Buffer&& other) noexcept : memory_(other.memory_), data_(other.data_), count_(other.count_) {
        other.memory_ = nullptr;
        other.data_ = nullptr;
    }
    ~Buffer() { free(memory_); }

    void resize(size_t count) {
        free(memory_);
        data_ = nullptr;
        count_ = count;
        const size_t bytes = count * sizeof(T) + 64;  // room for a vector that starts at the last element
        const size_t unit = bytes >= 4 * HUGE_PAGE ? HUGE_PAGE : 64;
        // calloc: new pages of the system are zero, so that a large block costs nothing before all threads fill it
        memory_ = calloc(bytes + 2 * unit, 1);
        if (!memory_) fail(OUT_OF_MEMORY, "calloc");
        const uintptr_t start = (reinterpret_cast<uintptr_t>(memory_) + unit - 1) / unit * unit;
        data_ = reinterpret_cast<T*>(start);
        if (unit == HUGE_PAGE) want_huge_pages(data_, (bytes + unit - 1) / unit * unit);
    }

    // Gives the memory of elements first .. last, which lose their values, back to the system where it takes single pages.
    void give_back(size_t first, size_t last) { give_pages_back(data_ + first, data_ + last); }

    T* data() { return data_; }
    const T* data() const { return data_; }
    size_t size() const { return count_; }
    T& operator[](size_t i) { return data_[i]; }
    const T& operator[](size_t i) const { return data_[i]; }

  private:
    void* memory_ = nullptr;
    T* data_ = nullptr;
    size_t count_ = 0;
};

}  // namespace nt
