// Ranks of a row, 1 for the smallest, ties in the order of the indices: counted for short rows, radix sorted for long.
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernel.h"

namespace {

constexpr int64_t COUNTED = 12 * dbp::LANES<float>;  // up to here n^2 / lanes comparisons beat a sort
constexpr int64_t MANY = 3000;                       // from here on long digits do

template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

template <class T>
void count_row(const T* x, T* rank, int64_t n) {
    using V = dbp::Lanes<T>;
    constexpr int L = dbp::LANES<T>;
    decltype(V{} < V{}) index;
    for (int l = 0; l < L; l++) index[l] = l;
    for (int64_t start = 0; start < n; start += L) {
        const int here = static_cast<int>(std::min<int64_t>(L, n - start));
        V value = {};
        for (int l = 0; l < here; l++) value[l] = x[start + l];
        auto before = index - index + 1;
        for (int64_t j = 0; j < start; j++) before = x[j] <= value ? before + 1 : before;
        for (int j = 0; j < here; j++) before -= (x[start + j] < value) | ((x[start + j] == value) & (index > j));
        for (int64_t j = start + here; j < n; j++) before = x[j] < value ? before + 1 : before;
        for (int l = 0; l < here; l++) rank[start + l] = static_cast<T>(before[l]);
    }
}

// Unsigned integers in the order of the floats; -0 and 0 are one.
template <class T>
Bits<T> ordered(T x) {
    x += T(0);
    Bits<T> u;
    std::memcpy(&u, &x, sizeof(T));
    constexpr Bits<T> sign = Bits<T>(1) << (8 * sizeof(T) - 1);
    return u & sign ? ~u : u | sign;
}

template <class T>
struct Item {
    Bits<T> key;
    Bits<T> index;
};

// With more bits to a digit there are fewer passes over the row and longer tables to clear.
template <class T, int BITS>
void sort_row(const T* x, T* rank, int64_t n, Item<T>* a, Item<T>* b) {
    constexpr int PASSES = (8 * sizeof(T) + BITS - 1) / BITS, SIZE = 1 << BITS;
    uint32_t count[PASSES][SIZE] = {};
    for (int64_t i = 0; i < n; i++) {
        const Bits<T> key = ordered(x[i]);
        a[i] = {key, static_cast<Bits<T>>(i)};
        for (int p = 0; p < PASSES; p++) count[p][key >> (BITS * p) & (SIZE - 1)]++;
    }
    for (int p = 0; p < PASSES; p++) {
        uint32_t start = 0;
        for (int d = 0; d < SIZE; d++) start += std::exchange(count[p][d], start);
    }
    for (int p = 0; p < PASSES; p++) {
        uint32_t* place = count[p];
        for (int64_t i = 0; i < n; i++) {
            const uint32_t to = place[a[i].key >> (BITS * p) & (SIZE - 1)]++;
            if (p == PASSES - 1) rank[a[i].index] = static_cast<T>(to + 1);
            else b[to] = a[i];
        }
        std::swap(a, b);
    }
}

template <class T>
void rank_rows(const T* x, T* y, int64_t n, int64_t begin, int64_t end) {
    if (n <= COUNTED) {
        for (int64_t row = begin; row < end; row++) count_row(x + row * n, y + row * n, n);
        return;
    }
    std::vector<Item<T>> a(n), b(n);
    const auto sort = n < MANY ? sort_row<T, 8> : sort_row<T, 11>;
    for (int64_t row = begin; row < end; row++) sort(x + row * n, y + row * n, n, a.data(), b.data());
}

template <class T>
int64_t rank(const T* x, T* y, int64_t rows, int64_t n, int64_t threads) {
    const double cost = sizeof(T) * (n <= COUNTED ? 0.01 * n * n : 1.5 * n);
    return dbp::parallel(rows, cost, threads, [=](int64_t begin, int64_t end) { rank_rows(x, y, n, begin, end); });
}

}  // namespace

DBP_EXPORT int64_t dbp_rank_f32(const float* x, float* y, int64_t rows, int64_t n, int64_t threads) {
    return rank(x, y, rows, n, threads);
}
DBP_EXPORT int64_t dbp_rank_f64(const double* x, double* y, int64_t rows, int64_t n, int64_t threads) {
    return rank(x, y, rows, n, threads);
}
