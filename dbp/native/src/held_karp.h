// The shortest tour by dynamic programming over the sets of cities that are left (Held and Karp, "A dynamic programming
// approach to sequencing problems", J. SIAM 10, 1962).
#pragma once

#include "kernel.h"

namespace dbp {

// left[S][j]: the shortest way from city j + 1 through the set S of cities and back to city 0. Ties go to the tour
// that is first in lexicographic order, seen from city 0.
template <class T>
class HeldKarp {
    using V = Lanes<T>;
    static constexpr int L = LANES<T>;
    const int m, blocks, p;  // cities but for the first, in whole registers
    Buffer<T> to_, left_;
    T *const to = to_, *const left = left_;  // to[k][j]: from city j + 1 to city k + 1

   public:
    explicit HeldKarp(int n)
        : m(n - 1), blocks((m + L - 1) / L), p(blocks * L), to_(m * p), left_((size_t(1) << m) * p) {}

    void solve(const T* d, int* tour) {
        const int n = m + 1;
        for (int k = 0; k < m; k++)
            for (int j = 0; j < p; j++) to[k * p + j] = j < m ? d[(j + 1) * n + k + 1] : T(0);
        for (int j = 0; j < p; j++) left[j] = j < m ? d[(j + 1) * n] : T(0);
        switch (blocks) {  // so that a set's ways stay in registers
            case 0: break;
            case 1: fill<1>(); break;
            case 2: fill<2>(); break;
            case 3: fill<3>(); break;
            default: fill<6>();
        }
        uint32_t set = (1u << m) - 1;
        tour[0] = 0;
        for (int step = 1; step < n; step++) {
            T best = 0;
            int next = -1;
            for (int k = 0; k < m; k++) {
                if (!(set >> k & 1)) continue;
                const T way = d[tour[step - 1] * n + k + 1] + left[size_t(set ^ 1u << k) * p + k];
                if (next < 0 || way < best) best = way, next = k;
            }
            tour[step] = next + 1;
            set ^= 1u << next;
        }
    }

   private:
    // Each set of cities but the last, and that set with the last city, which have most of their work in common.
    template <int BLOCKS>
    DBP_INLINE void fill() {
        const size_t last = m - 1, with_last = size_t(1) << last;
        for (size_t set = 0; set < with_last; set++) {
            V best[2][BLOCKS];
            for (int b = 0; b < BLOCKS; b++) best[0][b] = best[1][b] = V{} + std::numeric_limits<T>::infinity();
            for (size_t rest = set; rest; rest &= rest - 1) {
                const int k = __builtin_ctzll(rest);
                const T* way = left + (set ^ size_t(1) << k) * p + k;
                for (int b = 0; b < BLOCKS && (BLOCKS < 6 || b < blocks); b++) {
                    const V step = at(to + k * p, b);
                    best[0][b] = least(best[0][b], step + way[0]);
                    best[1][b] = least(best[1][b], step + way[with_last * p]);
                }
            }
            T* without = left + set * p;
            for (int b = 0; set && b < BLOCKS && (BLOCKS < 6 || b < blocks); b++) at(without, b) = best[0][b];
            for (int b = 0; b < BLOCKS && (BLOCKS < 6 || b < blocks); b++)
                at(without + with_last * p, b) = least(best[1][b], at(to + last * p, b) + without[last]);
        }
    }
    static DBP_INLINE V& at(T* row, int block) { return reinterpret_cast<V*>(row)[block]; }
};

}  // namespace dbp
