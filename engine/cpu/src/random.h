// The counter-based random numbers of quantize.py: each is a function of (index, key) alone.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace nt {

// The mixer "lowbias32" of C. Wellons' hash prospector (public domain). T: uint32_t or a vector of them.
template <class T>
inline T mix(T x) {
    x ^= x >> 16;
    x *= 0x7FEB352Du;
    x ^= x >> 15;
    x *= 0x846CA68Bu;
    x ^= x >> 16;
    return x;
}

// Streams of random numbers, as in engine/sampling.py; grid g draws from STREAM_NOISE + g.
constexpr uint32_t STREAM_LOD = 0, STREAM_TEXEL = 1, STREAM_NOISE = 2, STREAM_FRACTION = 64;

inline uint32_t stream_key(uint32_t seed, int64_t iteration, uint32_t stream) {
    uint32_t key = seed;
    for (uint32_t word : {static_cast<uint32_t>(iteration), stream}) {
        key ^= word * 0x9E3779B9u + 0x7F4A7C15u;
        key = mix(key);
    }
    return key;
}

// 24 random bits of each index. K: uint32_t, or a vector of one for each.
template <class T, class K>
inline T hash24(T index, K key) {
    return mix((index * 0x9E3779B1u) ^ key) >> 8;
}

inline float hash_uniform(uint32_t index, uint32_t key) {
    return static_cast<float>(static_cast<int32_t>(hash24(index, key))) * 0x1p-24f;
}

}  // namespace nt
