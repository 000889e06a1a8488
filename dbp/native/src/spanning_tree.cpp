// Maximum spanning forests by Kruskal's method: edges in the order of falling score, the lower index first among equals.
#include <cstring>
#include <type_traits>

#include "kernel.h"

namespace {

enum Code { OUTSIDE = 1 };

template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

// Unsigned integers in the opposite order of the floats; -0 and 0 are one.
template <class T>
DBP_INLINE Bits<T> falling(T x) {
    x += T(0);
    Bits<T> u;
    std::memcpy(&u, &x, sizeof(T));
    constexpr Bits<T> sign = Bits<T>(1) << (8 * sizeof(T) - 1);
    return u & sign ? u : u ^ ~sign;
}

template <class T>
class Kruskal {
    struct Item {
        Bits<T> key;
        Bits<T> edge;
    };
    const int64_t edges, nodes;
    dbp::Buffer<Item> items, spare;
    std::vector<int32_t> parent;

   public:
    Kruskal(int64_t e, int64_t n) : edges(e), nodes(n), items(e), spare(e), parent(n) {}

    // `ends` are pairs of nodes, each below `nodes`. At most `rank` edges are taken: the size of a spanning forest, or
    // more if it is not known.
    void solve(const T* theta, const int32_t* ends, T* y, int64_t rank) {
        const Item* order = sorted(theta);
        for (int64_t i = 0; i < nodes; i++) parent[i] = static_cast<int32_t>(i);
        std::memset(y, 0, sizeof(T) * edges);
        for (int64_t i = 0, taken = 0; i < edges && taken < rank; i++) {
            const Bits<T> edge = order[i].edge;
            const int32_t a = root(ends[2 * edge]), b = root(ends[2 * edge + 1]);
            if (a == b) continue;
            parent[a] = b;
            y[edge] = 1;
            taken++;
        }
    }

   private:
    DBP_INLINE int32_t root(int32_t node) {
        while (parent[node] != node) node = parent[node] = parent[parent[node]];
        return node;
    }

    // A radix sort by digits of 8 bits for few edges and of 11 for many; digits that all keys share are skipped.
    const Item* sorted(const T* theta) { return edges < 1500 ? by_digits<8>(theta) : by_digits<11>(theta); }

    template <int BITS>
    const Item* by_digits(const T* theta) {
        constexpr int PASSES = (8 * sizeof(T) + BITS - 1) / BITS, SIZE = 1 << BITS;
        uint32_t count[PASSES][SIZE] = {};
        Item *from = items, *to = spare;
        for (int64_t i = 0; i < edges; i++) {
            const Bits<T> key = falling(theta[i]);
            from[i] = {key, static_cast<Bits<T>>(i)};
            for (int p = 0; p < PASSES; p++) count[p][key >> (BITS * p) & (SIZE - 1)]++;
        }
        for (int p = 0; p < PASSES && edges; p++) {
            uint32_t* place = count[p];
            if (place[from[0].key >> (BITS * p) & (SIZE - 1)] == edges) continue;
            uint32_t start = 0;
            for (int d = 0; d < SIZE; d++) {
                const uint32_t here = place[d];
                place[d] = start;
                start += here;
            }
            for (int64_t i = 0; i < edges; i++) to[place[from[i].key >> (BITS * p) & (SIZE - 1)]++] = from[i];
            std::swap(from, to);
        }
        return from;
    }
};

// theta, y: [rows, edges]; ends: [rows or 1, edges, 2].
template <class T>
int64_t solve(const T* theta, const int64_t* ends, T* y, int64_t rows, int64_t edges, int64_t nodes, int64_t graphs, int64_t threads) {
    dbp::Failure failure;
    return failure.status(dbp::parallel(rows, 100 + 25.0 * edges, threads, [&](int64_t begin, int64_t end) {
        Kruskal<T> problem(edges, nodes);
        std::vector<int32_t> narrow(2 * edges);
        for (int64_t row = begin; row < end; row++) {
            if (row == begin || graphs > 1) {
                const int64_t* wide = ends + (graphs > 1 ? row : 0) * 2 * edges;
                bool inside = true;
                for (int64_t i = 0; i < 2 * edges; i++) {
                    inside &= static_cast<uint64_t>(wide[i]) < static_cast<uint64_t>(nodes);
                    narrow[i] = static_cast<int32_t>(wide[i]);
                }
                if (!inside) {
                    failure.report(row, OUTSIDE);
                    return;
                }
            }
            problem.solve(theta + row * edges, narrow.data(), y + row * edges, nodes - 1);
        }
    }));
}

}  // namespace

DBP_BOTH(spanning_tree,
         (const T* theta, const int64_t* ends, T* y, int64_t rows, int64_t edges, int64_t nodes, int64_t graphs,
          int64_t threads),
         solve(theta, ends, y, rows, edges, nodes, graphs, threads))
