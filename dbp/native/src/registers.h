// Registers of a chosen width with indices beside them, and the smallest lane and the sum of one.
#pragma once

#include <utility>

#include "kernel.h"

namespace dbp {

template <class T, int W> struct Register;
template <int W> struct Register<float, W> {
    typedef float V __attribute__((vector_size(W), may_alias));
    typedef int32_t I __attribute__((vector_size(W), may_alias));
    using Index = int32_t;
};
template <int W> struct Register<double, W> {
    typedef double V __attribute__((vector_size(W), may_alias));
    typedef int64_t I __attribute__((vector_size(W), may_alias));
    using Index = int64_t;
};

// Lanes l and l ^ half change places.
template <int half, class V, size_t... l> DBP_INLINE V swapped(const V& v, std::index_sequence<l...>) {
#if defined(__clang__)
    return __builtin_shufflevector(v, v, (l ^ half)...);
#else
    using I = decltype(v == v);
    return __builtin_shuffle(v, I{(l ^ half)...});
#endif
}

// The smallest lane.
template <class V, int half = 0> DBP_INLINE auto smallest(const V& v) {
    constexpr int L = sizeof(V) / sizeof(v[0]), h = half ? half : L / 2;
    const V both = least(v, swapped<h>(v, std::make_index_sequence<L>()));
    if constexpr (h > 1) return smallest<V, h / 2>(both);
    else return both[0];
}

// All lanes together.
template <class V, int half = 0> DBP_INLINE auto sum(const V& v) {
    constexpr int L = sizeof(V) / sizeof(v[0]), h = half ? half : L / 2;
    const V both = v + swapped<h>(v, std::make_index_sequence<L>());
    if constexpr (h > 1) return sum<V, h / 2>(both);
    else return both[0];
}

}  // namespace dbp
