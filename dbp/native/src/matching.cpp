// Bipartite assignment: Jonker and Volgenant, "A shortest augmenting path algorithm for dense and sparse linear
// assignment problems", Computing 38, 1987. Four row reductions that never queue a row again (queueing doubles the time
// on geometric costs), then shortest augmenting paths, a register of columns at a time.
//
// Kept throughout: cost[i][j] - v[j] is least at j = x[i] for every assigned row i, and v <= 0 with v = 0 at free
// columns when there are more columns than rows.
//
// Rounding makes these inequalities approximate. In float32 the assignment is returned if their errors, added up, leave no
// doubt that it is the only best one; else it is solved again in float64.
#include <cmath>
#include <cstring>
#include <optional>

#include "registers.h"

namespace {

template <class T, int W> class Assignment {
    using V = typename dbp::Register<T, W>::V;
    using I = typename dbp::Register<T, W>::I;
    using Index = typename dbp::Register<T, W>::Index;
    static constexpr int L = W / sizeof(T);
    static constexpr T inf = std::numeric_limits<T>::infinity();
    static constexpr T ROUNDINGS = 16;  // for each row's least reduced cost; three are those of comparing with it

    const int n, m, p, words;  // rows <= columns, columns padded to whole registers, and 64 to a word
    const bool flipped;
    dbp::Buffer<T> cost_, v_, open_, dist_;
    dbp::Buffer<Index> pred_;
    T *const cost = cost_, *const v = v_, *const open = open_, *const dist = dist_;
    Index* const pred = pred_;
    std::vector<int> x, y;  // the column of a row, the row of a column, or -1
    std::vector<int> waiting, free, scanned, order, low, from, by, stack;
    std::vector<uint64_t> tight_, unused, reachable, stacked, later;  // sets of columns
    std::vector<T> reach;
    std::vector<char> seen;

   public:
    Assignment(int rows, int columns)
        : n(std::min(rows, columns)), m(std::max(rows, columns)), p((m + L - 1) / L * L), words((m + 63) / 64),
          flipped(rows > columns), cost_(at(n, p, 0)), v_(p), open_(p), dist_(p), pred_(p), x(n), y(p), scanned(n),
          order(n + 1), low(n + 1), from(n + 1), by(n + 1), stack(n + 1), tight_(at(n + 1, words, 0)), unused(words),
          reachable(words), stacked(words), later(words), reach(n), seen(n + 1) {
        std::fill_n(cost, at(n, p, 0), inf);  // the padding stays infinite
    }

    // False when a score is not finite, a sum overflows, or rounding leaves doubt; `out` is not written then. Scores are
    // multiplied by `scale`.
    template <class S>
    DBP_INLINE bool solve(const S* theta, S* out, T scale) {
        load(theta, out, scale);
        reduce();
        free.clear();
        for (int j = 0; j < m; j++)
            if (y[j] < 0) free.push_back(j);
        for (int row : waiting)
            if (!augment(row)) return false;
        if (!first_of_the_best()) return false;
        std::memset(out, 0, sizeof(S) * n * m);
        for (int i = 0; i < n; i++) out[flipped ? at(x[i], n, i) : at(i, m, x[i])] = 1;
        return true;
    }

   private:
    static DBP_INLINE size_t at(int row, int width, int column) { return static_cast<size_t>(row) * width + column; }
    static DBP_INLINE V& vec(T* a) { return *reinterpret_cast<V*>(a); }
    static DBP_INLINE I& ivec(Index* a) { return *reinterpret_cast<I*>(a); }
    static DBP_INLINE I iota() {
        I lane;
        for (int l = 0; l < L; l++) lane[l] = l;
        return lane;
    }
    T* row(int i) { return cost + at(i, p, 0); }

    bool square() const { return n == m && n > 1; }

    // Costs are minus scaled scores. If square, v is the least of each column and pred its first row. Sends for the output.
    template <class S>
    DBP_INLINE void load(const S* theta, S* out, T scale) {
        const int n = this->n, m = this->m, p = this->p, width = square() ? p : 0;
        T* const v = this->v;
        Index* const pred = this->pred;
        for (int j = 0; j < p; j++) v[j] = square() && j < m ? inf : 0, pred[j] = 0;
        for (int i = 0; i < n; i++) {
            T* __restrict c = row(i);
            for (size_t j = at(i, m, 0); j < at(i + 1, m, 0); j += 64 / sizeof(S)) __builtin_prefetch(out + j, 1);
            const S* from = theta + (flipped ? i : at(i, m, 0));
            if (flipped) {
                for (int j = 0; j < m; j++) c[j] = -from[at(j, n, 0)] * scale;
            } else {
                for (int j = 0; j < m; j++) c[j] = -from[j] * scale;
            }
            for (int j = 0; j < width; j += L) {
                const V t = vec(c + j);
                auto less = t < vec(v + j);
                vec(v + j) = less ? t : vec(v + j);
                ivec(pred + j) = less ? I{} + i : ivec(pred + j);
            }
        }
    }

    // The two least reduced costs of a row, and the first column that has the least.
    DBP_INLINE void two_least(int i, T& u1, T& u2, int& j1) {
        const V infinite = V{} + inf;
        V m1 = infinite, m2 = infinite;
        I a1 = I{} + p, here = iota();
        for (int j = 0; j < p; j += L, here += L) {
            V t = vec(row(i) + j) - vec(v + j);
            auto less = t < m1;
            V loser = less ? m1 : t;
            m2 = loser < m2 ? loser : m2;
            m1 = less ? t : m1;
            a1 = less ? here : a1;
        }
        u1 = dbp::smallest(m1);
        j1 = static_cast<int>(dbp::smallest(m1 == u1 ? a1 : I{} + p));
        u2 = dbp::smallest(a1 == static_cast<Index>(j1) ? m2 : m1);
    }

    // The least reduced cost of a row but for column j0.
    DBP_INLINE T least_but(int i, int j0) {
        T* const c = row(i);
        const T kept = std::exchange(c[j0], inf);
        V low = V{} + inf;
        for (int j = 0; j < p; j += L) low = dbp::least(low, vec(c + j) - vec(v + j));
        c[j0] = kept;
        return dbp::smallest(low);
    }

    // What comes after the columns' reduction by `load`: reduction transfer and four row reductions. Where scores of -1e30
    // forbid edges, v may fall so far that small differences drown in it: it does for columns only that their rows cannot
    // do without.
    DBP_INLINE void reduce() {
        T u1, u2;
        int j1;
        std::fill(x.begin(), x.end(), -1);
        std::fill(y.begin(), y.end(), -1);
        auto lower = [&](int j, T by) {  // infinite: there is no other column
            const bool lowers = v[j] - by < v[j] && by < inf;
            if (lowers) v[j] -= by;
            return lowers;
        };
        if (square()) {
            for (int j = 0; j < m; j++) {
                const int i = static_cast<int>(pred[j]);
                if (x[i] < 0) x[i] = j, y[j] = i;
            }
            for (int i = 0; i < n; i++) {
                if (x[i] < 0) continue;
                lower(x[i], least_but(i, x[i]));  // that of x[i] is 0
            }
        }
        waiting.clear();
        for (int i = 0; i < n; i++)
            if (x[i] < 0) waiting.push_back(i);
        for (int pass = 0; pass < 4; pass++) {
            size_t kept = 0;
            for (const int i : waiting) {
                two_least(i, u1, u2, j1);
                int loser = i;
                if (j1 < p) {
                    if (!lower(j1, u2 - u1) && y[j1] >= 0 && u2 <= u1) j1 = tied(i, j1, u1);
                    loser = y[j1];
                    x[i] = j1;
                    y[j1] = i;
                }
                if (loser >= 0) x[loser] = -1, waiting[kept++] = loser;
            }
            waiting.resize(kept);
        }
    }

    // Another column of the reduced cost u of row i, a free one if there is any.
    DBP_INLINE int tied(int i, int j1, T u) {
        int other = j1;
        for (int k = 0; k < p; k += L)
            for (unsigned hits = dbp::bits(vec(row(i) + k) - vec(v + k) == u); hits; hits &= hits - 1) {
                const int j = k + __builtin_ctz(hits);
                if (j == j1) continue;
                if (y[j] < 0) return j;
                other = j;
            }
        return other;
    }

    // Dijkstra over columns from a free row to the nearest free column. A column that was reached has open = -inf,
    // which makes every later distance to it infinite without a mask.
    DBP_INLINE bool augment(int root) {
        V best = V{} + inf;
        I best_at{}, here = iota();
        for (int j = 0; j < p; j += L, here += L) {
            V t = vec(row(root) + j) - vec(v + j);
            vec(open + j) = vec(v + j);
            vec(dist + j) = t;
            ivec(pred + j) = I{} + root;
            auto less = t < best;
            best = less ? t : best;
            best_at = less ? here : best_at;
        }
        int reached = 0, j;
        T nearest;
        for (;;) {
            nearest = dbp::smallest(best);
            if (!(nearest < inf)) return false;
            j = static_cast<int>(dbp::smallest(best == nearest ? best_at : I{} + p));
            if (y[j] >= 0)  // among ties, a free column ends the search
                for (int k : free) j = dist[k] == nearest ? k : j;
            const int i = y[j];
            if (i < 0) break;
            if (reached == n) return false;
            const T shift = row(i)[j] - v[j] - nearest;
            scanned[reached] = j;
            reach[reached++] = nearest;
            open[j] = -inf;
            dist[j] = inf;
            best = V{} + inf;
            here = iota();
            for (int k = 0; k < p; k += L, here += L) {
                V t = vec(row(i) + k) - vec(open + k) - shift, d = vec(dist + k);
                auto less = t < d;
                d = less ? t : d;
                vec(dist + k) = d;
                ivec(pred + k) = less ? I{} + i : ivec(pred + k);
                auto nearer = d < best;
                best = nearer ? d : best;
                best_at = nearer ? here : best_at;
            }
        }
        free.erase(std::find(free.begin(), free.end(), j));
        for (int s = 0; s < reached; s++) v[scanned[s]] += reach[s] - nearest;
        for (int i = -1; i != root;) {
            i = static_cast<int>(pred[j]);
            y[j] = i;
            std::swap(j, x[i]);
        }
        return true;
    }

    // Among the optimal assignments, which use edges of least reduced cost only, the first in lexicographic order.
    // Row n stands for the free columns, which may be exchanged for any column with v = 0.
    DBP_INLINE bool first_of_the_best() {
        for (int j = 0; j < m; j++)
            if (y[j] < 0) y[j] = n;
        const T slack = sizeof(T) == 8 || exact() ? 0 : tolerance();
        if (!find_tight(slack)) return false;
        if (!circles()) return true;
        if (slack > 0) return false;
        std::fill(later.begin(), later.end(), ~uint64_t(0));
        for (int i = 0; i < n; i++) {
            take_first(i);
            later[x[i] / 64] &= ~bit(x[i]);
        }
        return true;
    }

    // A better or equally good assignment differs in a circle of edges whose reduced costs less their rows' least ones add
    // up to zero at most. None is below zero by more than its rounding error; so each of them is at most the sum of these
    // errors. Edges within this bound of it are taken for tight: if they make no circle, the optimum is unique.
    T tolerance() const {
        T total = 0;
        for (int i = 0; i < n; i++) total += std::fabs(cost[at(i, p, x[i])] - v[x[i]]);
        return ROUNDINGS * std::numeric_limits<T>::epsilon() * total;
    }

    // Whether all costs are integers so small that no sum of them was rounded.
    bool exact() const {
        const T most = T(0.25) / (std::numeric_limits<T>::epsilon() * n);
        for (int i = 0; i < n; i++) {
            const T* const c = cost + at(i, p, 0);
            bool all = true;
            for (int j = 0; j < m; j++) all &= std::fabs(c[j]) < most && c[j] == T(static_cast<int>(c[j]));
            if (!all) return false;
        }
        return true;
    }

    static DBP_INLINE uint64_t bit(int j) { return uint64_t(1) << (j % 64); }
    // The columns of least reduced cost of a row.
    uint64_t* tight(int node) { return tight_.data() + at(node, words, 0); }
    // The columns that a row has.
    uint64_t own(int node, int w) const { return node == n ? unused[w] : x[node] / 64 == w ? bit(x[node]) : 0; }

    // The edges at most `slack` above their row's least reduced cost. False if some are so far below it, or potentials so
    // large, that `slack` is no bound of the errors.
    DBP_INLINE bool find_tight(T slack) {
        V below{};  // by how much at most, in each lane
        T odd = 0;  // zero, or not a number
        std::fill(unused.begin(), unused.end(), 0);
        for (const int j : free) unused[j / 64] |= bit(j);
        for (int i = 0; i <= n; i++)
            for (int w = 0; w < words; w++) {
                const int first = 64 * w, end = std::min(first + 64, p);
                uint64_t hits = 0;
                if (i < n) {
                    const T u = row(i)[x[i]] - v[x[i]], near = u + slack;
                    odd += u - u;
                    for (int j = first; j < end; j += L) {
                        const V reduced = vec(row(i) + j) - vec(v + j);
                        hits |= uint64_t(dbp::bits(reduced <= near)) << (j - first);
                        if constexpr (sizeof(T) == 4) below = dbp::least(below, reduced - u);
                    }
                } else if (n < m) {
                    for (int j = first; j < end; j += L) hits |= uint64_t(dbp::bits(vec(v + j) >= -slack)) << (j - first);
                }
                if (first + 64 > m) hits &= bit(m) - 1;  // infinite costs are as good as the padding
                tight(i)[w] = hits | own(i, w);          // its own is not among them where scores are no numbers
            }
        if constexpr (sizeof(T) == 8) return true;
        for (int j = 0; j < m; j++) odd += v[j] - v[j];
        return odd == 0 && -dbp::smallest(below) * n <= slack * ((ROUNDINGS - 3) / ROUNDINGS);
    }

    // Rows can pass their columns on in a circle within a strongly connected component (Tarjan, SIAM J. Comput. 1,
    // 1972). Keeps the columns owned in the component of each row; false if there is no circle: the optimum is unique.
    DBP_INLINE bool circles() {
        bool found = false;
        int count = 0, depth = 0, top = 0;
        std::fill(reachable.begin(), reachable.end(), 0);
        std::fill(stacked.begin(), stacked.end(), 0);
        for (int node = 0; node <= n; node++) {
            bool alone = true;  // a row that could have no other column is a component
            for (int w = 0; w < words; w++) alone &= tight(node)[w] == own(node, w);
            order[node] = alone;
            for (int w = 0; !alone && w < words; w++) reachable[w] |= own(node, w);
        }
        auto enter = [&](int node) {
            order[node] = low[node] = ++count;
            from[depth++] = stack[top++] = node;
            for (int w = 0; w < words; w++) {  // who is reached later than this row, it need not look at
                for (uint64_t hits = tight(node)[w] & stacked[w]; hits; hits &= hits - 1)
                    low[node] = std::min(low[node], order[y[64 * w + __builtin_ctzll(hits)]]);
                reachable[w] &= ~own(node, w), stacked[w] |= own(node, w);
            }
        };
        for (int root = 0; root <= n; root++) {
            if (!order[root]) enter(root);
            while (depth) {
                const int node = from[depth - 1];
                int w = 0;
                while (w < words && !(tight(node)[w] & reachable[w])) w++;
                if (w < words) {
                    enter(y[64 * w + __builtin_ctzll(tight(node)[w] & reachable[w])]);
                    continue;
                }
                if (--depth) low[from[depth - 1]] = std::min(low[from[depth - 1]], low[node]);
                if (low[node] < order[node]) continue;
                int first = top;
                while (stack[--first] != node) found = true;
                for (w = 0; w < words; w++) {
                    uint64_t members = 0;
                    for (int s = first; s < top; s++) members |= own(stack[s], w);
                    for (int s = first; s < top; s++) tight(stack[s])[w] &= members;
                    stacked[w] &= ~members;
                }
                top = first;
            }
        }
        return found;
    }

    // Gives row i the first column that it can have while rows before it keep theirs.
    DBP_INLINE void take_first(int i) {
        bool fresh = true;
        for (int w = 0; w <= x[i] / 64; w++) {
            uint64_t hits = tight(i)[w] & later[w];
            if (w == x[i] / 64) hits &= bit(x[i]) - 1;
            for (; hits; hits &= hits - 1) {
                if (std::exchange(fresh, false)) std::fill(seen.begin(), seen.end(), 0);
                if (exchange(i, 64 * w + __builtin_ctzll(hits))) return;
            }
        }
    }

    // Gives column j to row i if its owner finds another column, and so on, until one takes that of i.
    DBP_INLINE bool exchange(int i, int j) {
        const int goal = x[i];
        int top = 0;
        auto enter = [&](int node, int column, int parent) {
            if (!seen[node]) seen[node] = 1, by[node] = column, from[node] = parent, stack[top++] = node;
        };
        enter(y[j], j, i);
        while (top) {
            int node = stack[--top];
            if (!(tight(node)[goal / 64] & bit(goal))) {
                for (int w = 0; w < words; w++)
                    for (uint64_t hits = tight(node)[w] & later[w]; hits; hits &= hits - 1) {
                        const int column = 64 * w + __builtin_ctzll(hits);
                        enter(y[column], column, node);
                    }
                continue;
            }
            for (int column = goal;; column = by[node], node = from[node]) {
                y[column] = node;
                if (node < n) x[node] = column;
                if (node == i) return true;
            }
        }
        return false;
    }
};

// In float64, which takes twice as long, with sums that cannot overflow.
template <class T, int W>
__attribute__((noinline)) bool again(std::optional<Assignment<double, W>>& problem, int64_t n, int64_t m, const T* scores,
                                     T* out) {
    if (!problem) problem.emplace(static_cast<int>(n), static_cast<int>(m));
    return problem->solve(scores, out, 0x1p-40);
}

template <class T, int W>
void rows_of(const T* theta, T* y, int64_t n, int64_t m, int64_t begin, int64_t end, dbp::Failure& failure) {
    Assignment<T, W> problem(static_cast<int>(n), static_cast<int>(m));
    std::optional<Assignment<double, W>> wide;
    for (int64_t b = begin; b < end; b++) {
        const T* scores = theta + b * n * m;
        T* out = y + b * n * m;
        if (!problem.solve(scores, out, 1) && !again(wide, n, m, scores, out)) failure.report(b, 1);
    }
}

// theta, y: [rows, n, m]. Narrow registers are best for small problems, where their smallest lane is what costs.
template <class T>
int64_t solve(const T* theta, T* y, int64_t rows, int64_t n, int64_t m, int64_t threads) {
    dbp::Failure failure;
    const auto piece = std::max(n, m) <= 24 ? rows_of<T, 16> : rows_of<T, dbp::LANE_BYTES>;
    return failure.status(dbp::parallel(rows, 200 + 5.0 * n * m, threads, [&](int64_t begin, int64_t end) {
        piece(theta, y, n, m, begin, end, failure);
    }));
}

}  // namespace

DBP_BOTH(matching, (const T* theta, T* y, int64_t rows, int64_t n, int64_t m, int64_t threads),
         solve(theta, y, rows, n, m, threads))
