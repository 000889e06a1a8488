// Rows of memory to lanes: the i-th number of LANES rows side by side.
#pragma once

#include <cstring>

#include "kernel.h"

namespace dbp {

// Interleaves a and b, units of UNIT lanes within each SPAN of lanes: the first halves of the spans into a, the second
// halves into b.
template <int UNIT, int SPAN, class V>
DBP_INLINE void interleave(V& a, V& b) {
    constexpr int L = sizeof(V) / sizeof(a[0]);
#if defined(__clang__)
    V low, high;
    for (int i = 0; i < L; i++) {
        const V& from = i / UNIT % 2 ? b : a;
        const int at = i / SPAN * SPAN + i % SPAN / (2 * UNIT) * UNIT + i % UNIT;
        low[i] = from[at], high[i] = from[at + SPAN / 2];
    }
#else
    decltype(a < b) index;  // from L on it picks from b; known at compile time, so that this is one instruction
    for (int i = 0; i < L; i++)
        index[i] = i / SPAN * SPAN + i % SPAN / (2 * UNIT) * UNIT + i % UNIT + (i / UNIT % 2) * L;
    const V low = __builtin_shuffle(a, b, index), high = __builtin_shuffle(a, b, index + SPAN / 2);
#endif
    a = low;
    b = high;
}

// Transposes each SPAN of SPAN / UNIT registers, `stride` apart: interleaving each with the one half of them away, log2
// times, does it.
template <int UNIT, int SPAN, class V>
DBP_INLINE void transpose_spans(V* r, int stride) {
    constexpr int N = SPAN / UNIT;
    for (int half = 1; half < N; half *= 2) {
        V next[N];
        for (int k = 0; k < N / 2; k++) {
            next[2 * k] = r[k * stride];
            next[2 * k + 1] = r[(k + N / 2) * stride];
            interleave<UNIT, SPAN>(next[2 * k], next[2 * k + 1]);
        }
        for (int k = 0; k < N; k++) r[k * stride] = next[k];
    }
}

// Calls each(i, the i-th numbers of LANES rows) for `n` numbers.
template <class T, class Each>
DBP_INLINE void transpose(const T* const* rows, int64_t n, Each each) {
    constexpr int L = LANES<T>, C = 16 / sizeof(T);  // within 16 bytes lanes change places quickly
    Lanes<T> r[L];
    for (int64_t next = 0; next < n && n >= L; next += L) {
        const int64_t i = std::min(next, n - L);
#pragma GCC unroll 16
        for (int l = 0; l < L; l++) std::memcpy(&r[l], rows[l] + i, sizeof r[l]);
#pragma GCC unroll 16
        for (int l = 0; l < L; l += C) transpose_spans<1, C>(r + l, 1);
#pragma GCC unroll 16
        for (int c = 0; c < C; c++) transpose_spans<C, L>(r + c, C);
#pragma GCC unroll 16
        for (int l = 0; l < L; l++) each(i + l, r[l]);
    }
    for (int64_t i = 0; i < n && n < L; i++) {
        for (int l = 0; l < L; l++) r[0][l] = rows[l][i];
        each(i, r[0]);
    }
}

}  // namespace dbp
