// Marks the largest number of each row, the first among equals.
#include <cstring>

#include "kernel.h"

namespace {

template <class T>
T largest(const T* x, int64_t n) {
    using V = dbp::Lanes<T>;
    V most = V{} + x[0];
    int64_t i = 0;
    for (; i + dbp::LANES<T> <= n; i += dbp::LANES<T>) {
        V part;
        std::memcpy(&part, x + i, sizeof part);
        most = part > most ? part : most;
    }
    T one = most[0];
    for (int l = 1; l < dbp::LANES<T>; l++) one = std::max<T>(one, most[l]);
    for (; i < n; i++) one = std::max(one, x[i]);
    return one;
}

template <class T>
int64_t one_hot(const T* x, T* y, int64_t rows, int64_t n, int64_t threads) {
    return dbp::parallel(rows, 10 + 0.1 * sizeof(T) * n, threads, [=](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; row++) {
            const T* scores = x + row * n;
            const T most = largest(scores, n);
            int64_t first = 0;
            while (first < n - 1 && scores[first] != most) first++;
            std::memset(y + row * n, 0, n * sizeof(T));
            y[row * n + first] = 1;
        }
    });
}

}  // namespace

DBP_BOTH(one_hot, (const T* x, T* y, int64_t rows, int64_t n, int64_t threads), one_hot(x, y, rows, n, threads))
