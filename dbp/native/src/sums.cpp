// What backward passes sum: gradients freed of their losses' weights, weighted sums over samples, inner products.
// torch takes several passes and several times as long to start for each.
#include <cstring>

#include "kernel.h"

namespace {

// One gradient and the weight of its loss: own = g / w, or 0 where that is not finite. Whether all of g is finite.
template <class T>
bool freed(const T* g, T w, T* own, int64_t n) {
    using V = dbp::Lanes<T>;
    V odd = {};  // sums of g - g: zero, or not a number
    int64_t i = 0;
    for (; i + dbp::LANES<T> <= n; i += dbp::LANES<T>) {
        V x;
        std::memcpy(&x, g + i, sizeof x);
        const V q = x / w, y = q - q == 0 ? q : V{};
        std::memcpy(own + i, &y, sizeof y);
        odd += x - x;
    }
    T rest = 0;
    for (; i < n; i++) {
        const T q = g[i] / w;
        own[i] = q - q == 0 ? q : 0;
        rest += g[i] - g[i];
    }
    return !dbp::any(odd != 0) && rest == 0;
}

// grad, own: [rows, n]; weight: [rows]. 8 where some gradient is not finite.
template <class T>
int64_t own_gradient(const T* grad, const T* weight, T* own, int64_t rows, int64_t n, int64_t threads) {
    dbp::Failure overflow;
    return overflow.status(dbp::parallel(rows, 2 + 0.05 * sizeof(T) * n, threads, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; row++)
            if (!freed(grad + row * n, weight[row], own + row * n, n)) overflow.report(1, 0);
    }));
}

constexpr int64_t BLOCK = 1024;  // of the numbers of a row: their sums stay in the cache

// x: [samples, rows, n]; minus: null, or [few, rows, n], of which sample s has s % few; weight: [samples, rows];
// out: [rows, n], scale times the sum over the samples of weight * (x - minus).
template <class T>
int64_t weighted_sum(const T* __restrict x, const T* __restrict minus, const T* __restrict weight, T* __restrict out,
                     int64_t samples, int64_t few, int64_t rows, int64_t n, T scale, int64_t threads) {
    const int64_t blocks = (n + BLOCK - 1) / BLOCK;
    const double cost = (minus ? 0.1 : 0.05) * sizeof(T) * std::min(n, BLOCK) * samples;
    return dbp::parallel(rows * blocks, cost, threads, [=](int64_t begin, int64_t end) {
        for (int64_t item = begin; item < end; item++) {
            const int64_t row = item / blocks, start = item % blocks * BLOCK, size = std::min(BLOCK, n - start);
            T* y = out + row * n + start;
            std::fill(y, y + size, T(0));
            for (int64_t s = 0; s < samples; s++) {
                const T w = weight[s * rows + row];
                const T* a = x + (s * rows + row) * n + start;
                if (minus) {
                    const T* b = minus + (s % few * rows + row) * n + start;
                    for (int64_t i = 0; i < size; i++) y[i] += w * (a[i] - b[i]);
                } else {
                    for (int64_t i = 0; i < size; i++) y[i] += w * a[i];
                }
            }
            if (scale != 1)
                for (int64_t i = 0; i < size; i++) y[i] *= scale;
        }
    });
}

// As many numbers as fit in a register of T.
template <class T, class X>
dbp::Lanes<T> load(const X* x) {
    typedef X Few __attribute__((vector_size(dbp::LANES<T> * sizeof(X))));
    Few a;
    std::memcpy(&a, x, sizeof a);
    return __builtin_convertvector(a, dbp::Lanes<T>);
}

template <class T, class X>
T dot(const X* x, const T* y, int64_t n) {
    using V = dbp::Lanes<T>;
    constexpr int64_t L = dbp::LANES<T>, K = 4;  // registers: what one waits for, the other computes
    V sum[K] = {};
    int64_t i = 0;
    for (; i + K * L <= n; i += K * L)
        for (int64_t k = 0; k < K; k++) sum[k] += load<T>(x + i + k * L) * load<T>(y + i + k * L);
    const V all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    T total = 0;
    for (int64_t l = 0; l < L; l++) total += all[l];
    for (; i < n; i++) total += x[i] * y[i];
    return total;
}

// x: [samples, rows, n]; y: [rows, n]; out: [samples, rows], their inner products.
template <class T, class X>
int64_t inner(const X* x, const T* y, T* out, int64_t samples, int64_t rows, int64_t n, int64_t threads) {
    return dbp::parallel(samples * rows, 5 + 0.05 * sizeof(T) * n, threads, [=](int64_t begin, int64_t end) {
        for (int64_t item = begin; item < end; item++) out[item] = dot(x + item * n, y + item % rows * n, n);
    });
}

}  // namespace

#define DBP_SUMS(SUFFIX, T)                                                                                            \
    DBP_EXPORT int64_t dbp_own_gradient_##SUFFIX(const T* grad, const T* weight, T* own, int64_t rows, int64_t n,      \
                                                 int64_t threads) {                                                    \
        return own_gradient(grad, weight, own, rows, n, threads);                                                      \
    }                                                                                                                  \
    DBP_EXPORT int64_t dbp_weighted_sum_##SUFFIX(const T* x, const T* minus, const T* weight, T* out, int64_t samples, \
                                                 int64_t few, int64_t rows, int64_t n, double scale,                   \
                                                 int64_t threads) {                                                    \
        return weighted_sum(x, minus, weight, out, samples, few, rows, n, static_cast<T>(scale), threads);             \
    }                                                                                                                  \
    DBP_EXPORT int64_t dbp_inner_##SUFFIX(const T* x, const T* y, T* out, int64_t samples, int64_t rows, int64_t n,    \
                                          int64_t threads) {                                                           \
        return inner(x, y, out, samples, rows, n, threads);                                                            \
    }                                                                                                                  \
    DBP_EXPORT int64_t dbp_inner_of_bytes_##SUFFIX(const T* y, const int8_t* x, T* out, int64_t samples, int64_t rows, \
                                                   int64_t n, int64_t threads) {                                       \
        return inner(x, y, out, samples, rows, n, threads);                                                            \
    }
DBP_SUMS(f32, float)
DBP_SUMS(f64, double)
