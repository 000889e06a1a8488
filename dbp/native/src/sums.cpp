// What estimators sum: gradients freed of their losses' weights, weighted sums over samples, contrasts, means.
// torch takes several passes and several times as long to start for each.
#include <cstring>
#include <type_traits>

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

// So many numbers in a vector.
template <class X, int64_t count>
struct VectorOf {
    typedef X type __attribute__((vector_size(count * sizeof(X))));
};
template <class X, int64_t count>
using Vector = typename VectorOf<X, count>::type;

// A register of numbers of T, or one number, V, from an address of as many numbers of T, or of bytes.
template <class V, class X>
DBP_INLINE V read(const X* x) {
    if constexpr (std::is_arithmetic_v<V>) {
        return *x;
    } else if constexpr (sizeof(X) > 1) {
        V a;
        std::memcpy(&a, x, sizeof a);
        return a;
    } else {
        constexpr int64_t count = sizeof(V) / sizeof(V{}[0]);
        Vector<int8_t, count> a;
        std::memcpy(&a, x, sizeof a);
        // Twice as wide at a time: GCC 12 makes one number after the other where it has to widen by four.
        const auto wider = __builtin_convertvector(a, Vector<int16_t, count>);
        return __builtin_convertvector(__builtin_convertvector(wider, Vector<int32_t, count>), V);
    }
}

constexpr int64_t BLOCK = 1024;  // of the numbers of a row: their sums stay in the cache

// Adds the terms of K samples from s on to y, one after the other: `term(sum, s, i)` adds that of sample s to number i.
template <int64_t K, class T, class Term>
void add(T* y, int64_t size, int64_t s, Term term) {
    int64_t i = 0;
    for (; i + dbp::LANES<T> <= size; i += dbp::LANES<T>) {
        dbp::Lanes<T> sum = read<dbp::Lanes<T>>(y + i);
        for (int64_t k = 0; k < K; k++) term(sum, s + k, i);
        std::memcpy(y + i, &sum, sizeof sum);
    }
    for (; i < size; i++)
        for (int64_t k = 0; k < K; k++) term(y[i], s + k, i);
}

template <class T, class Term>
void total(T* y, int64_t size, int64_t samples, Term term) {
    std::fill(y, y + size, T(0));
    int64_t s = 0;
    for (; s + 4 <= samples; s += 4) add<4>(y, size, s, term);
    for (; s < samples; s++) add<1>(y, size, s, term);
}

// x: [samples, rows, n]; minus: null, or [few, rows, n], of which sample s has s % few; weight: [samples, rows];
// out: [rows, n], scale times the sum over the samples of weight * (x - minus).
template <class T>
int64_t weighted_sum(const T* x, const T* minus, const T* weight, T* out, int64_t samples, int64_t few, int64_t rows,
                     int64_t n, T scale, int64_t threads) {
    const int64_t blocks = (n + BLOCK - 1) / BLOCK;
    const double cost = (minus ? 0.1 : 0.05) * sizeof(T) * std::min(n, BLOCK) * samples;
    return dbp::parallel(rows * blocks, cost, threads, [=](int64_t begin, int64_t end) {
        for (int64_t item = begin; item < end; item++) {
            const int64_t row = item / blocks, start = item % blocks * BLOCK, size = std::min(BLOCK, n - start);
            const int64_t first = row * n + start, each = rows * n;
            T* y = out + first;
            const auto plain = [=](auto& sum, int64_t s, int64_t i) {
                sum += weight[s * rows + row] * read<std::decay_t<decltype(sum)>>(x + s * each + first + i);
            };
            const auto less = [=](auto& sum, int64_t s, int64_t i) {
                using V = std::decay_t<decltype(sum)>;
                const V b = read<V>(minus + s % few * each + first + i);
                sum += weight[s * rows + row] * (read<V>(x + s * each + first + i) - b);
            };
            minus ? total(y, size, samples, less) : total(y, size, samples, plain);
            if (scale != 1)
                for (int64_t i = 0; i < size; i++) y[i] *= scale;
        }
    });
}

// x: [samples, n]; out: [n], the mean over the samples.
template <class T, class X>
int64_t mean(const X* x, T* out, int64_t samples, int64_t n, int64_t threads) {
    const double cost = 0.05 * sizeof(X) * std::min(n, BLOCK) * samples;
    return dbp::parallel((n + BLOCK - 1) / BLOCK, cost, threads, [=](int64_t begin, int64_t end) {
        for (int64_t start = begin * BLOCK; start < std::min(n, end * BLOCK); start += BLOCK) {
            const int64_t size = std::min(BLOCK, n - start);
            T* y = out + start;
            total(y, size, samples, [=](auto& sum, int64_t s, int64_t i) {
                sum += read<std::decay_t<decltype(sum)>>(x + s * n + start + i);
            });
            for (int64_t i = 0; i < size; i++) y[i] /= T(samples);
        }
    });
}

// Sums as many terms side by side, and adds these sums in the same order, for registers of every width.
template <class T, class X>
T dot(const X* x, const T* y, int64_t n) {
    using V = dbp::Lanes<T>;
    constexpr int64_t L = dbp::LANES<T>, PARTS = 64 / dbp::LANE_BYTES, K = 4 * PARTS;
    V sum[K] = {};
    int64_t i = 0;
    for (; i + K * L <= n; i += K * L)
        for (int64_t k = 0; k < K; k++) sum[k] += read<V>(x + i + k * L) * read<V>(y + i + k * L);
    T total = 0;
    for (int64_t p = 0; p < PARTS; p++) {
        const V all = (sum[p] + sum[PARTS + p]) + (sum[2 * PARTS + p] + sum[3 * PARTS + p]);
        for (int64_t l = 0; l < L; l++) total += all[l];
    }
    for (; i < n; i++) total += x[i] * y[i];
    return total;
}

// r: [samples, rows]; in the place of each: (the mean of the others - it) / samples, where the mean of none is zero; or,
// paired, (the one half of the samples on - it) / (2 samples).
template <class T>
void contrast(T* r, int64_t samples, int64_t rows, bool paired) {
    const int64_t half = samples / 2;
    for (int64_t i = 0; paired && i < half * rows; i++) {
        r[i] = (r[i + half * rows] - r[i]) / T(2 * samples);
        r[i + half * rows] = -r[i];
    }
    for (int64_t row = 0; !paired && row < rows; row++) {
        double sum = 0;
        for (int64_t s = 0; s < samples; s++) sum += r[s * rows + row];
        const T all = samples > 1 ? sum / samples : 0, others = std::max<int64_t>(samples - 1, 1);
        for (int64_t s = 0; s < samples; s++) r[s * rows + row] = (all - r[s * rows + row]) / others;
    }
}

// x: [samples, rows, n]; y: [rows, n]; out: [samples, rows], the contrasts of their inner products.
template <class T, class X>
int64_t contrasts(const X* x, const T* y, T* out, int64_t samples, int64_t rows, int64_t n, bool paired,
                  int64_t threads) {
    const int64_t status =
        dbp::parallel(samples * rows, 5 + 0.05 * sizeof(T) * n, threads, [=](int64_t begin, int64_t end) {
            for (int64_t item = begin; item < end; item++) out[item] = dot(x + item * n, y + item % rows * n, n);
        });
    contrast(out, samples, rows, paired);
    return status;
}

}  // namespace

DBP_BOTH(own_gradient, (const T* grad, const T* weight, T* own, int64_t rows, int64_t n, int64_t threads),
         own_gradient(grad, weight, own, rows, n, threads))
DBP_BOTH(weighted_sum,
         (const T* x, const T* minus, const T* weight, T* out, int64_t samples, int64_t few, int64_t rows, int64_t n,
          double scale, int64_t threads),
         weighted_sum(x, minus, weight, out, samples, few, rows, n, static_cast<T>(scale), threads))
DBP_BOTH(contrasts,
         (const T* y, const T* x, T* out, int64_t samples, int64_t rows, int64_t n, int64_t paired, int64_t threads),
         contrasts(x, y, out, samples, rows, n, paired, threads))
DBP_BOTH(contrasts_of_bytes,
         (const T* y, const int8_t* x, T* out, int64_t samples, int64_t rows, int64_t n, int64_t paired, int64_t threads),
         contrasts(x, y, out, samples, rows, n, paired, threads))
DBP_BOTH(mean, (T* out, const T* x, int64_t samples, int64_t n, int64_t threads), mean(x, out, samples, n, threads))
DBP_BOTH(mean_of_bytes, (T* out, const int8_t* x, int64_t samples, int64_t n, int64_t threads),
         mean(x, out, samples, n, threads))
