// Rows of memory to lanes: the i-th number of LANES rows side by side.
#pragma once

#include <cstring>

#include "kernel.h"

namespace dbp {

// The first halves of a and b interleaved into a, the second halves into b.
template <class V>
DBP_INLINE void interleave(V& a, V& b) {
    constexpr int L = sizeof(V) / sizeof(a[0]);
#if defined(__clang__)
    V low, high;
    for (int i = 0; i < L; i++) low[i] = (i % 2 ? b : a)[i / 2], high[i] = (i % 2 ? b : a)[L / 2 + i / 2];
#else
    decltype(a < b) index;  // from L on it picks from b; known at compile time, so that this is one instruction
    for (int i = 0; i < L; i++) index[i] = i / 2 + i % 2 * L;
    const V low = __builtin_shuffle(a, b, index), high = __builtin_shuffle(a, b, index + L / 2);
#endif
    a = low;
    b = high;
}

// out[i * stride] = the i-th numbers of LANES rows, for `n` numbers.
template <class T>
DBP_INLINE void transpose(const T* const* rows, Lanes<T>* out, int64_t n, int64_t stride = 1) {
    constexpr int L = LANES<T>;
    int64_t i = 0;
    for (; i + L <= n; i += L) {
        Lanes<T> r[L], next[L];
        for (int l = 0; l < L; l++) std::memcpy(&r[l], rows[l] + i, sizeof r[l]);
        // Interleaving each row with the one half the rows away, log2(L) times, transposes the block.
        for (int half = 1; half < L; half *= 2) {
            for (int k = 0; k < L / 2; k++) {
                next[2 * k] = r[k];
                next[2 * k + 1] = r[k + L / 2];
                interleave(next[2 * k], next[2 * k + 1]);
            }
            std::memcpy(r, next, sizeof r);
        }
        for (int k = 0; k < L; k++) out[(i + k) * stride] = r[k];
    }
    for (; i < n; i++)
        for (int l = 0; l < L; l++) out[i * stride][l] = rows[l][i];
}

}  // namespace dbp
