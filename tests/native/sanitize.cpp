// Every kernel on random sizes and scores, for the sanitizers: `make sanitize`. Arrays are no larger than they must be;
// scores are also tied, huge, tiny, and no numbers at all; one thread and two must agree.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

using Size = int64_t;
using Integers = const int64_t*;

// The same kernel for both types, as overloads of one name.
#define KERNEL(NAME, PARAMETERS, ARGUMENTS)                        \
    extern "C" int64_t dbp_##NAME##_f32 PARAMETERS(float);         \
    extern "C" int64_t dbp_##NAME##_f64 PARAMETERS(double);        \
    int64_t NAME PARAMETERS(float) { return dbp_##NAME##_f32 ARGUMENTS; } \
    int64_t NAME PARAMETERS(double) { return dbp_##NAME##_f64 ARGUMENTS; }

#define FLAT(T) (const T* x, Size n)
#define ROWS(T) (const T* x, T* y, Size rows, Size n, Size threads)
#define CHOICE(T) (const T* x, T* y, Size rows, Size n, Size k, Size threads)
#define TOUR(T) (const T* x, T* y, Size rows, Size n, Size directed, Size kicks, Size threads)
#define SACK(T) (const T* x, Integers weights, Integers capacity, T* y, Size rows, Size n, Size lists, Size limits, Size threads)
#define TREE(T) (const T* x, Integers ends, T* y, Size rows, Size edges, Size nodes, Size graphs, Size threads)
#define ROOTED(T) (const T* x, Integers ends, Integers root, T* y, Size rows, Size edges, Size nodes, Size graphs, Size threads)
#define PATH(T) (const T* x, Integers ends, Integers source, Integers target, T* y, Size rows, Size edges, Size nodes, Size threads)
#define GRID(T)                                                                                                       \
    (const T* x, const uint8_t* open, Integers source, Integers target, T* y, Size rows, Size height, Size width, \
     Size neighbours, Size sweep, Size clip, Size threads)

#define NOISE(T) \
    (T* z, const T* centre, const T* table, Size key, Size offset, Size n, Size period, double scale, Size threads)
#define GRADIENT(T) (const T* grad, const T* weight, T* own, Size rows, Size n, Size threads)
#define WEIGHTED(T) \
    (const T* x, const T* minus, const T* weight, T* out, Size samples, Size few, Size rows, Size n, double scale, \
     Size threads)
#define CONTRASTS(T) (const T* y, const T* x, T* out, Size samples, Size rows, Size n, Size paired, Size threads)
#define CONTRASTS_OF_BYTES(T) \
    (const T* y, const int8_t* x, T* out, Size samples, Size rows, Size n, Size paired, Size threads)
#define MEAN(T) (T* out, const T* x, Size samples, Size n, Size threads)
#define MEAN_OF_BYTES(T) (T* out, const int8_t* x, Size samples, Size n, Size threads)

KERNEL(uniform, NOISE, (z, centre, table, key, offset, n, period, scale, threads))
KERNEL(normal, NOISE, (z, centre, table, key, offset, n, period, scale, threads))
KERNEL(gumbel, NOISE, (z, centre, table, key, offset, n, period, scale, threads))
KERNEL(logistic, NOISE, (z, centre, table, key, offset, n, period, scale, threads))
KERNEL(quantiles, NOISE, (z, centre, table, key, offset, n, period, scale, threads))
KERNEL(own_gradient, GRADIENT, (grad, weight, own, rows, n, threads))
KERNEL(weighted_sum, WEIGHTED, (x, minus, weight, out, samples, few, rows, n, scale, threads))
KERNEL(contrasts, CONTRASTS, (y, x, out, samples, rows, n, paired, threads))
KERNEL(contrasts_of_bytes, CONTRASTS_OF_BYTES, (y, x, out, samples, rows, n, paired, threads))
KERNEL(mean, MEAN, (out, x, samples, n, threads))
KERNEL(mean_of_bytes, MEAN_OF_BYTES, (out, x, samples, n, threads))
KERNEL(one_hot, ROWS, (x, y, rows, n, threads))
KERNEL(finite, FLAT, (x, n))
KERNEL(rank, ROWS, (x, y, rows, n, threads))
KERNEL(top_k, CHOICE, (x, y, rows, n, k, threads))
KERNEL(matching, CHOICE, (x, y, rows, n, k, threads))
KERNEL(tour, TOUR, (x, y, rows, n, directed, kicks, threads))
KERNEL(knapsack, SACK, (x, weights, capacity, y, rows, n, lists, limits, threads))
KERNEL(spanning_tree, TREE, (x, ends, y, rows, edges, nodes, graphs, threads))
KERNEL(arborescence, ROOTED, (x, ends, root, y, rows, edges, nodes, graphs, threads))
KERNEL(graph_path, PATH, (x, ends, source, target, y, rows, edges, nodes, threads))
KERNEL(grid_path, GRID, (x, open, source, target, y, rows, height, width, neighbours, sweep, clip, threads))

namespace {

std::mt19937_64 dice(0);

int64_t upto(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(dice); }

std::vector<int64_t> integers(int64_t count, int64_t low, int64_t high) {
    std::vector<int64_t> values(count);
    for (auto& value : values) value = upto(low, high);
    return values;
}

enum Kind { NORMAL, TIED, ZERO, HUGE_, TINY, NEGATIVE, NONSENSE, KINDS };

template <class T>
std::vector<T> scores(int64_t count, int kind) {
    std::normal_distribution<T> normal;
    const T odd[] = {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity(),
                     -std::numeric_limits<T>::infinity(), T(-0.0)};
    std::vector<T> x(count);
    for (auto& value : x) {
        value = normal(dice);
        if (kind == TIED) value = T(upto(-2, 2));
        if (kind == ZERO) value = 0;
        if (kind == HUGE_) value *= T(1e30);
        if (kind == TINY) value *= T(1e-40);
        if (kind == NEGATIVE) value = value < 0 ? value : -value;
        if (kind == NONSENSE && upto(0, 3) == 0) value = odd[upto(0, 3)];
    }
    return x;
}

// Solves with one thread and with two. Rows after one that failed may be left alone, in either.
template <class T, class Solve>
void both(const char* name, const std::vector<T>& x, int kind, Solve solve) {
    std::vector<T> once(x.size()), twice(x.size());
    const int64_t first = solve(x.data(), once.data(), 1), second = solve(x.data(), twice.data(), 2);
    const bool agree = kind == NONSENSE || (first == second && (first || once == twice));
    if (agree && first >= 0) return;
    std::fprintf(stderr, "%s: one thread and two disagree, or there is no memory\n", name);
    std::exit(1);
}

// Few rows, so that registers are not full, or so many that there is work for two threads.
int64_t rows(double nanoseconds_per_row, bool many) {
    return many ? 2 + static_cast<int64_t>(700e3 / nanoseconds_per_row) : upto(0, 40);
}

template <class T>
void noise(bool many) {
    const int64_t key = dice(), offset = upto(0, 1) ? upto(0, 600) : upto(0, INT64_MAX / 2);
    const std::vector<T> table(4 * (32 * 128 + 1)), room(many ? 300'000 : upto(0, 600));
    const int64_t n = room.size();
    const std::vector<T> centre = scores<T>(upto(1, 700), NORMAL);
    const T* middle = upto(0, 1) ? centre.data() : nullptr;
    const int64_t period = centre.size();
    const auto check = [&](const char* name, auto kernel) {
        both(name, room, ZERO, [&](auto*, auto* z, int64_t t) {
            return kernel(z, middle, table.data(), key, offset, n, period, 0.5, t);
        });
    };
    check("uniform", [](auto... x) { return uniform(x...); });
    check("normal", [](auto... x) { return normal(x...); });
    check("gumbel", [](auto... x) { return gumbel(x...); });
    check("logistic", [](auto... x) { return logistic(x...); });
    check("quantiles", [](auto... x) { return quantiles(x...); });
}

template <class T>
void round(int kind, bool many) {
    noise<T>(many);
    const int64_t n = upto(1, many ? 40 : 400), few = upto(1, 12), m = upto(1, 12), k = upto(1, n);
    int64_t r = rows(n, many);
    both("top_k", scores<T>(r * n, kind), kind, [&](auto* x, auto* y, int64_t t) { return top_k(x, y, r, n, k, t); });
    both("one_hot", scores<T>(r * n, kind), kind, [&](auto* x, auto* y, int64_t t) { return one_hot(x, y, r, n, t); });
    both("finite", scores<T>(r * n, kind), kind, [&](auto* x, auto*, int64_t) { return finite(x, r * n); });
    both("rank", scores<T>(r * n, kind), kind, [&](auto* x, auto* y, int64_t t) { return rank(x, y, r, n, t); });

    const std::vector<T> weight = scores<T>(few * r * n, kind == HUGE_ ? NORMAL : kind);
    const T* minus = upto(0, 1) ? weight.data() : nullptr;
    const int64_t other = upto(0, 1) ? few : 1;
    both("own_gradient", scores<T>(r * n, kind), kind,
         [&](auto* x, auto* y, int64_t t) { return own_gradient(x, weight.data(), y, r, n, t); });
    both("weighted_sum", scores<T>(few * r * n, kind), kind,
         [&](auto* x, auto* y, int64_t t) { return weighted_sum(x, minus, weight.data(), y, few, other, r, n, 0.5, t); });
    const int64_t paired = few % 2 ? 0 : upto(0, 1);
    both("contrasts", scores<T>(few * r * n, kind), kind,
         [&](auto* x, auto* y, int64_t t) { return contrasts(weight.data(), x, y, few, r, n, paired, t); });
    both("mean", scores<T>(few * r * n, kind), kind,
         [&](auto* x, auto* y, int64_t t) { return mean(y, x, few, r * n, t); });
    const std::vector<int8_t> bytes(few * r * n, 1);
    both("contrasts_of_bytes", scores<T>(r * n, kind), kind,
         [&](auto* x, auto* y, int64_t t) { return contrasts_of_bytes(x, bytes.data(), y, 1, r, n, 0, t); });
    both("mean_of_bytes", scores<T>(r * n, kind), kind,
         [&](auto*, auto* y, int64_t t) { return mean_of_bytes(y, bytes.data(), few, r * n, t); });

    r = rows(20 * few * m, many);
    both("matching", scores<T>(r * few * m, kind), kind,
         [&](auto* x, auto* y, int64_t t) { return matching(x, y, r, few, m, t); });

    const int64_t cities = many ? 9 : upto(1, 20), directed = upto(0, 1), kicks = upto(0, 30);
    r = many ? rows(1500, true) : upto(0, 5);
    both("tour", scores<T>(r * cities * cities, kind), kind,
         [&](auto* x, auto* y, int64_t t) { return tour(x, y, r, cities, directed, kicks, t); });

    r = rows(100 * few, many);
    const int64_t lists = upto(0, 1) ? 1 : r, limits = upto(0, 1) ? 1 : r;
    const auto weights = integers(lists * few, 0, 30), capacities = integers(limits, 0, 90);
    both("knapsack", scores<T>(r * few, kind), kind, [&](auto* x, auto* y, int64_t t) {
        return knapsack(x, weights.data(), capacities.data(), y, r, few, lists, limits, t);
    });

    const int64_t nodes = upto(1, 15), edges = upto(1, 50), graphs = upto(0, 1) ? 1 : r;
    const auto ends = integers(2 * graphs * edges, 0, nodes - 1), holes = integers(2 * graphs * edges, -1, nodes - 1);
    const auto roots = integers(r, -1, nodes - 1);
    const auto x = scores<T>(r * edges, kind);
    both("spanning_tree", x, kind, [&](auto* s, auto* y, int64_t t) {
        return spanning_tree(s, ends.data(), y, r, edges, nodes, graphs, t);
    });
    both("arborescence", x, kind, [&](auto* s, auto* y, int64_t t) {
        return arborescence(s, holes.data(), roots.data(), y, r, edges, nodes, graphs, t);
    });

    const auto from = integers(r, 0, nodes - 1), to = integers(r, 0, nodes - 1);
    both("graph_path", scores<T>(r * edges, upto(0, 3) ? NEGATIVE : kind), kind, [&](auto* s, auto* y, int64_t t) {
        return graph_path(s, holes.data(), from.data(), to.data(), y, r, edges, nodes, t);
    });

    const int64_t height = upto(1, 13), width = upto(1, 13), cells = height * width;
    r = rows(3 * cells, many);
    std::vector<uint8_t> open(r * cells);
    for (auto& cell : open) cell = upto(0, 9) > 0;
    const auto source = integers(r, -1, cells), target = integers(r, 0, cells - 1);  // some outside
    const int64_t neighbours = upto(0, 1) ? 8 : 4, sweep = upto(0, 3) > 0, clip = upto(0, 1);
    const bool masked = upto(0, 1), placed = upto(0, 1);
    both("grid_path", scores<T>(r * cells, upto(0, 3) ? NEGATIVE : kind), kind, [&](auto* s, auto* y, int64_t t) {
        return grid_path(s, masked ? open.data() : nullptr, placed ? source.data() : nullptr,
                         placed ? target.data() : nullptr, y, r, height, width, neighbours, sweep, clip, t);
    });
}

}  // namespace

int main() {
    for (int many = 0; many < 3; many++) {
        for (int kind = 0; kind < KINDS; kind++) {
            round<float>(kind, many == 2);
            round<double>(kind, many == 2);
        }
    }
    std::puts("every kernel: nothing found");
}
