// The shortest tour by dynamic programming over the sets of cities that are left (Held and Karp, "A dynamic programming
// approach to sequencing problems", J. SIAM 10, 1962).
#pragma once

#include <numeric>

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
        std::iota(tour, tour + n, 0);
        if (n < 3) return;
        for (int k = 0; k < m; k++)
            for (int j = 0; j < p; j++) to[k * p + j] = j < m ? d[(j + 1) * n + k + 1] : T(0);
        for (int j = 0; j < p; j++) left[j] = j < m ? d[(j + 1) * n] : T(0);
        switch (blocks) {  // so that a set's ways stay in registers
            case 1: fill<1>(); break;
            case 2: fill<2>(); break;
            case 3: fill<3>(); break;
            default: fill<6>();
        }
        uint32_t set = (1u << m) - 1;
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
    // A set of the cities but for the first few, and that set with each choice of those: most of their work is the same.
    template <int BLOCKS>
    DBP_INLINE void fill() {
        constexpr int FEW = BLOCKS < 3 ? 2 : 1, CHOICES = 1 << FEW;
        const size_t sets = size_t(1) << m, width = BLOCKS < 6 ? BLOCKS * L : p, used = width / L;
        T *const to = this->to, *const left = this->left;
        for (size_t set = 0; set < sets; set += CHOICES) {
            T* const here = left + set * width;
            V best[CHOICES][BLOCKS];
            for (int c = 0; c < CHOICES; c++)
                for (int b = 0; b < BLOCKS; b++) best[c][b] = V{} + std::numeric_limits<T>::infinity();
            for (size_t rest = set; rest; rest &= rest - 1) {
                const size_t k = __builtin_ctzll(rest);
                const T* way = left + (set ^ size_t(1) << k) * width + k;
                for (size_t b = 0; b < BLOCKS && b < used; b++) {
                    const V step = at(to + k * width, b);
                    for (int c = 0; c < CHOICES; c++) best[c][b] = least(best[c][b], step + way[c * width]);
                }
            }
            for (size_t b = 0; !set && b < BLOCKS && b < used; b++) best[0][b] = at(left, b);
            for (int c = 0; c < CHOICES; c++)
                for (size_t b = 0; b < BLOCKS && b < used; b++) {
                    for (int k = 0; k < FEW; k++)
                        if (c >> k & 1) best[c][b] = least(best[c][b], at(to + k * width, b) + best[c ^ 1 << k][0][k]);
                    at(here + c * width, b) = best[c][b];
                }
        }
    }
    static DBP_INLINE V& at(T* row, int block) { return reinterpret_cast<V*>(row)[block]; }
};

}  // namespace dbp
