// Shortest tours: exact up to 13 cities, by local search above.
#include <cmath>
#include <cstring>

#include "held_karp.h"
#include "local_search.h"

namespace {

constexpr int64_t EXACT = 13;

enum Code { NOT_FINITE = 1 };

// Distances are minus scores; on undirected tours both directions of an edge count.
template <class T, class D>
bool load(const T* theta, int64_t n, bool directed, D* d) {
    bool finite = true;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            d[i * n + j] = i == j ? D(0) : directed ? -D(theta[i * n + j]) : -(D(theta[i * n + j]) + D(theta[j * n + i]));
            finite &= std::isfinite(theta[i * n + j]);
        }
    return finite;
}

template <class T>
void mark(const int* tour, int64_t n, bool directed, T* y) {
    std::memset(y, 0, sizeof(T) * n * n);
    for (int64_t i = 0; n > 1 && i < n; i++) {
        const int a = tour[i], b = tour[i + 1 < n ? i + 1 : 0];
        y[a * n + b] = 1;
        if (!directed) y[b * n + a] = 1;
    }
}

// theta, y: [rows, n, n].
template <class T>
int64_t solve(const T* theta, T* y, int64_t rows, int64_t n, int64_t directed, int64_t kicks, int64_t threads) {
    dbp::Failure failure;
    const double cost = n <= EXACT ? 200 + n * (1 << n) * 0.3 : 3e3 * kicks + 200 * n * n;
    return failure.status(dbp::parallel(rows, cost, threads, [&](int64_t begin, int64_t end) {
        if (n <= EXACT) {
            dbp::HeldKarp<T> exact(n);
            std::vector<T> d(n * n);
            std::vector<int> tour(n);
            for (int64_t row = begin; row < end; row++) {
                if (!load(theta + row * n * n, n, directed, d.data())) return failure.report(row, NOT_FINITE);
                exact.solve(d.data(), tour.data());
                mark(tour.data(), n, directed, y + row * n * n);
            }
        } else {
            dbp::LocalSearch search(n);
            for (int64_t row = begin; row < end; row++) {
                if (!load(theta + row * n * n, n, directed, search.distances())) return failure.report(row, NOT_FINITE);
                mark(search.solve(directed, kicks), n, directed, y + row * n * n);
            }
        }
    }));
}

}  // namespace

DBP_BOTH(tour, (const T* theta, T* y, int64_t rows, int64_t n, int64_t directed, int64_t kicks, int64_t threads),
         solve(theta, y, rows, n, directed, kicks, threads))
