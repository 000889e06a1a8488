// Shortest paths on grids with a cost for each vertex: LANES instances at once by sweeps, what is left by Dijkstra.
//
// The path is followed back from the target: the vertex before v is its neighbour of least distance, then fewest steps,
// then lowest index. Distances are sums from the source in T, the same for any order of relaxations.
#include <cstring>
#include <utility>

#include "kernel.h"
#include "registers.h"
#include "transpose.h"

namespace {

enum Code { NEGATIVE = 1, OUTSIDE = 2, UNREACHABLE = 3 };

template <class T>
constexpr T INF = std::numeric_limits<T>::infinity();

// One batch of problems. Vertices are numbered row by row; a null `open` blocks none, a null `source` is the first
// vertex, a null `target` the last. Without `sweep` all is left to Dijkstra.
template <class T>
struct Problem {
    const T* theta;  // minus the costs
    const uint8_t* open;
    const int64_t* source;
    const int64_t* target;
    T* y;
    int64_t rows, height, width, sweep;
    T highest;  // what greater scores are taken for: 0, or infinity for an error
    dbp::Failure* failure;

    int64_t vertices() const { return height * width; }
    int64_t from(int64_t row) const { return source ? source[row] : 0; }
    int64_t to(int64_t row) const { return target ? target[row] : vertices() - 1; }
    bool inside(int64_t row) const {
        const auto n = static_cast<uint64_t>(vertices());
        return static_cast<uint64_t>(from(row)) < n && static_cast<uint64_t>(to(row)) < n;
    }
};

// A grid with a border of one, so that every vertex has all its neighbours.
template <bool EIGHT>
struct Frame {
    static constexpr int NEIGHBOURS = EIGHT ? 8 : 4;
    int64_t width, pitch;
    int64_t step[NEIGHBOURS], plain_step[NEIGHBOURS];  // to the neighbours, with and without the border

    explicit Frame(int64_t w) : width(w), pitch(w + 2) {
        steps(pitch, step);
        steps(width, plain_step);
    }
    static void steps(int64_t p, int64_t* out) {  // in the order of indices
        const int64_t eight[] = {-p - 1, -p, -p + 1, -1, 1, p - 1, p, p + 1}, four[] = {-p, -1, 1, p};
        std::copy_n(EIGHT ? eight : four, NEIGHBOURS, out);
    }
    int64_t padded(int64_t vertex) const { return (vertex / width + 1) * pitch + vertex % width + 1; }
    int64_t plain(int64_t v) const { return (v / pitch - 1) * width + v % pitch - 1; }
};

__extension__ typedef unsigned __int128 Wide;

// Distances are not negative, so that their bits are in their order.
template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

// (distance, steps, vertex) in one unsigned integer.
template <class T, class Integer>
struct Packed {
    static constexpr int D = 8 * sizeof(T), REST = 8 * sizeof(Integer) - D, HALF = REST / 2;
    static Integer pack(T distance, int64_t steps, int64_t vertex) {
        Bits<T> bits;
        std::memcpy(&bits, &distance, sizeof(T));
        return static_cast<Integer>(bits) << REST | static_cast<Integer>(steps) << HALF | static_cast<Integer>(vertex);
    }
    static T distance(Integer key) {
        const Bits<T> bits = static_cast<Bits<T>>(key >> REST);
        T value;
        std::memcpy(&value, &bits, sizeof(T));
        return value;
    }
    static int64_t steps(Integer key) { return static_cast<int64_t>(key >> HALF & ((Integer(1) << HALF) - 1)); }
    static int64_t vertex(Integer key) { return static_cast<int64_t>(key & ((Integer(1) << HALF) - 1)); }
};

// A heap with four children to a node.
template <class Integer>
struct Heap {
    std::vector<Integer> node;
    size_t size = 0;

    void push(Integer key) {
        size_t i = size++;
        for (; i > 0 && key < node[(i - 1) / 4]; i = (i - 1) / 4) node[i] = node[(i - 1) / 4];
        node[i] = key;
    }
    Integer pop() {
        const Integer top = node[0], last = node[--size];
        size_t i = 0;
        for (size_t child; (child = 4 * i + 1) < size;) {
            size_t least = child;
            for (size_t c = child + 1; c < std::min(child + 4, size); c++)
                if (node[c] < node[least]) least = c;
            if (!(node[least] < last)) break;
            node[i] = node[least];
            i = least;
        }
        node[i] = last;
        return top;
    }
};

template <class T, class Integer, bool EIGHT>
class Dijkstra {
    using Key = Packed<T, Integer>;
    static constexpr int32_t WALL = -2, NEW = -1;
    Frame<EIGHT> frame;
    std::vector<T> cost;
    std::vector<int32_t> before;
    Heap<Integer> heap;

   public:
    explicit Dijkstra(const Problem<T>& p) : frame(p.width) {
        const size_t size = (p.height + 2) * frame.pitch;
        cost.resize(size);
        before.resize(size);
        heap.node.resize(size);
    }

    int64_t settled = 0;  // by the last search

    void solve(const Problem<T>& p, int64_t row) {
        settled = 0;
        if (!p.inside(row)) return p.failure->report(row, OUTSIDE);
        if (!load(p, row)) return p.failure->report(row, NEGATIVE);
        const int64_t s = frame.padded(p.from(row)), t = frame.padded(p.to(row));
        if (!search(s, t)) return p.failure->report(row, UNREACHABLE);
        T* y = p.y + row * p.vertices();
        std::fill(y, y + p.vertices(), T(0));
        for (int64_t v = t; v != s; v = before[v]) y[frame.plain(v)] = 1;
        y[frame.plain(s)] = 1;
    }

   private:
    bool load(const Problem<T>& p, int64_t row) {
        const T* theta = p.theta + row * p.vertices();
        const uint8_t* open = p.open ? p.open + row * p.vertices() : nullptr;
        std::fill(before.begin(), before.end(), WALL);
        bool valid = true;
        for (int64_t r = 0; r < p.height; r++)
            for (int64_t c = 0; c < p.width; c++) {
                const int64_t i = r * p.width + c, v = (r + 1) * frame.pitch + c + 1;
                if (open && !open[i]) continue;
                cost[v] = 0 - std::min(theta[i], p.highest);
                before[v] = NEW;
                valid &= cost[v] >= 0;
            }
        return valid;
    }

    // With costs on vertices the first neighbour to be settled is the one before: each vertex is pushed once.
    bool search(int64_t s, int64_t t) {
        heap.size = 0;
        if (before[s] == WALL || before[t] == WALL) return false;
        reach(s, s, cost[s], 0);
        while (heap.size) {
            const Integer key = heap.pop();
            settled++;
            const int64_t u = Key::vertex(key);
            if (u == t) return true;
            for (const int64_t step : frame.step)
                if (before[u + step] == NEW) reach(u + step, u, Key::distance(key) + cost[u + step], Key::steps(key) + 1);
        }
        return false;
    }

    void reach(int64_t v, int64_t from, T distance, int64_t steps) {
        if (distance == INF<T>) return;
        before[v] = static_cast<int32_t>(from);
        heap.push(Key::pack(distance, steps, v));
    }
};

// A bit for each neighbour of least distance, `above` and `along` numbers away, in the order of indices.
template <bool EIGHT, class T>
DBP_INLINE unsigned closest(const T* at, int64_t above, int64_t along) {
    constexpr int N = Frame<EIGHT>::NEIGHBOURS, W = std::min<int>(N, dbp::LANES<T>), R = N / W;
    typedef T Some __attribute__((vector_size(W * sizeof(T))));
    const T *up = at - above, *down = at + above;
    const T eight[] = {up[-along], up[0], up[along], at[-along], at[along], down[-along], down[0], down[along]};
    const T four[] = {up[0], at[-along], at[along], down[0]};
    Some near[R];
    for (int k = 0; k < N; k++) near[k / W][k % W] = EIGHT ? eight[k] : four[k];
    Some best = near[0];
    for (int r = 1; r < R; r++) best = dbp::least(best, near[r]);
    const T nearest = dbp::smallest(best);
    unsigned found = 0;
    for (int r = 0; r < R; r++) found |= dbp::bits(near[r] == nearest) << r * W;
    return found;
}

// The rest of a path, from a vertex where neighbours tie back to the source, in the fewest steps along links to a
// neighbour of least distance: breadth first to the source, then only what leads there.
template <class T, bool EIGHT>
class Ties {
    struct Visit {
        int64_t vertex, plain;
        int steps;
        unsigned links;
        int next;  // the neighbour to go to, or -1
    };
    const Frame<EIGHT>& frame;
    std::vector<int32_t> place;  // among the visits, from 1 on; 0 where not visited
    std::vector<Visit> visits;

   public:
    Ties(const Frame<EIGHT>& f, int64_t size) : frame(f), place(size) {}

    // `x` are the distances, `pitch` apart; from vertex v, number i of y, to vertex s.
    __attribute__((noinline)) void follow(const T* x, int64_t pitch, int64_t v, int64_t i, int64_t s, T* y) {
        visits.clear();
        visit(x, pitch, v, i, 0);
        for (size_t at = 0; !place[s]; at++) {
            const Visit here = visits[at];
            for (unsigned links = here.links; links; links &= links - 1) {
                const int k = __builtin_ctz(links);
                const int64_t u = here.vertex + frame.step[k];
                if (!place[u]) visit(x, pitch, u, here.plain + frame.plain_step[k], here.steps + 1);
            }
        }
        const size_t last = place[s] - 1;
        visits[last].next = 0;
        for (size_t at = last; at-- > 0;) visits[at].next = next(visits[at]);
        const Visit* here = &visits[0];
        for (y[i] = 1; here->vertex != s; y[here->plain] = 1)
            here = &visits[place[here->vertex + frame.step[here->next]] - 1];
        for (const Visit& made : visits) place[made.vertex] = 0;
    }

   private:
    void visit(const T* x, int64_t pitch, int64_t v, int64_t i, int steps) {
        visits.push_back({v, i, steps, closest<EIGHT>(x + v * pitch, frame.pitch * pitch, pitch), -1});
        place[v] = static_cast<int32_t>(visits.size());
    }

    // The first neighbour that is one step nearer to the source on the way there, or -1.
    int next(const Visit& here) const {
        for (unsigned links = here.links; links; links &= links - 1) {
            const int k = __builtin_ctz(links);
            const int32_t to = place[here.vertex + frame.step[k]];
            if (to && visits[to - 1].next >= 0 && visits[to - 1].steps == here.steps + 1) return k;
        }
        return -1;
    }
};

// REGISTERS of instances side by side: what one waits for, the other computes.
template <class T>
constexpr int REGISTERS = dbp::LANE_BYTES == 64 ? 2 : 3;
template <class T>
constexpr int GROUP = REGISTERS<T> * dbp::LANES<T>;

template <class T, class Integer, bool EIGHT>
class Sweeps {
    using V = dbp::Lanes<T>;
    using M = decltype(V{} < V{});
    static constexpr int K = REGISTERS<T>, L = GROUP<T>;
    const Problem<T>& p;
    Frame<EIGHT> frame;
    dbp::Buffer<T> distances, scores, blocked;
    V *d, *w;  // K registers for each vertex, of distances with the border, of scores without
    std::vector<uint8_t> by_above, by_below;  // whether the row above or below has changed since this one was relaxed from it
    int64_t begin[L], end[L];
    Dijkstra<T, Integer, EIGHT> dijkstra;
    Ties<T, EIGHT> ties;
    int64_t budget;  // of rows to relax for a group
    bool probed = false;

   public:
    explicit Sweeps(const Problem<T>& problem)
        : p(problem),
          frame(p.width),
          distances((p.height + 2) * frame.pitch * L),
          scores(p.vertices() * L),
          blocked(p.open ? p.vertices() * L : 0),
          d(reinterpret_cast<V*>(static_cast<T*>(distances))),
          w(reinterpret_cast<V*>(static_cast<T*>(scores))),
          by_above(p.height + 2),
          by_below(p.height + 2),
          dijkstra(problem),
          ties(frame, (p.height + 2) * frame.pitch),
          budget(16 * p.height) {}

    // Rows first, ..., first + count - 1, at most L of them.
    void solve(int64_t first, int64_t count) {
        if (p.sweep && count > 1 && inside(first, count) && load(first, count) && sweep(first, count))
            return backtrack(first, count);
        for (int64_t row = first; row < first + count; row++) dijkstra.solve(p, row);
    }

   private:
    bool inside(int64_t first, int64_t count) const {
        for (int64_t l = 0; l < count; l++)
            if (!p.inside(first + l)) return false;
        return true;
    }

    // The lanes that are left over repeat the last row.
    static int64_t row_of(int64_t lane, int64_t first, int64_t count) { return first + std::min(lane, count - 1); }

    // False where some cost is negative.
    bool load(int64_t first, int64_t count) {
        const int64_t n = p.vertices();
        const T* rows[L];
        for (int64_t l = 0; l < L; l++) rows[l] = p.theta + row_of(l, first, count) * n;
        if (p.open) {
            for (int64_t l = 0; l < L; l++) {
                const uint8_t* open = p.open + row_of(l, first, count) * n;
                T* copy = static_cast<T*>(blocked) + l * n;
                for (int64_t i = 0; i < n; i++) copy[i] = open[i] ? rows[l][i] : -INF<T>;
                rows[l] = copy;
            }
        }
        M below = M{} == M{};
        for (int k = 0; k < K; k++)
            dbp::transpose(rows + k * dbp::LANES<T>, n, [&](int64_t i, V read) {
                const V score = dbp::least(read, V{} + p.highest);
                w[i * K + k] = score;
                below &= score <= 0;
            });
        return !dbp::any(~below);
    }

    // False where that takes too long.
    bool sweep(int64_t first, int64_t count) {
        std::fill(d, d + (p.height + 2) * frame.pitch * K, V{} + INF<T>);
        start(first, count);
        for (int64_t spent = 0;;) {
            int64_t relaxed = 0;
            V limit[K];
            limits(limit);
            for (int64_t r = 0; r < p.height; r++) relaxed += visit(r, by_above, -1, limit);
            limits(limit);
            for (int64_t r = p.height - 1; r >= 0; r--) relaxed += visit(r, by_below, 1, limit);
            if (!relaxed) return true;
            spent += relaxed;
            if (spent >= budget && !probe(first, spent)) return false;
        }
    }

    // Where sweeping takes longer than on most grids, one search tells how much of it is worth its while: a vertex settled
    // is as much work as 50 or more relaxed for one instance. Whether to go on.
    bool probe(int64_t row, int64_t spent) {
        if (probed) return false;
        probed = true;
        dijkstra.solve(p, row);
        budget = std::max(2 * p.height, 50 * dijkstra.settled / p.width);
        return spent < budget;
    }

    T* distance(int64_t lane) const { return reinterpret_cast<T*>(d) + lane; }
    V* row(int64_t r) const { return d + ((r + 1) * frame.pitch + 1) * K; }

    void start(int64_t first, int64_t count) {
        std::fill(by_above.begin(), by_above.end(), 0);
        std::fill(by_below.begin(), by_below.end(), 0);
        for (int64_t l = 0; l < L; l++) {
            const int64_t s = p.from(row_of(l, first, count));
            begin[l] = frame.padded(s);
            end[l] = frame.padded(p.to(row_of(l, first, count)));
            distance(l)[begin[l] * L] = 0 - reinterpret_cast<const T*>(w)[s * L + l];
            changed(s / p.width);
        }
        for (int64_t r = 0; r < p.height; r++)
            if (by_above[r + 2]) spread(r);
    }

    void spread(int64_t r) {
        V* here = row(r);
        const V* score = w + r * p.width * K;
        for (int64_t i = K; i < p.width * K; i++) here[i] = dbp::least(here[i], here[i - K] - score[i]);
        for (int64_t i = (p.width - 1) * K - 1; i >= 0; i--) here[i] = dbp::least(here[i], here[i + K] - score[i]);
    }

    // What lies beyond the targets cannot matter.
    void limits(V* limit) const {
        for (int64_t l = 0; l < L; l++) reinterpret_cast<T*>(limit)[l] = distance(l)[end[l] * L];
    }

    void changed(int64_t r) { by_below[r] = by_above[r + 2] = 1; }

    bool visit(int64_t r, std::vector<uint8_t>& pending, int64_t from, const V* limit) {
        if (!pending[r + 1]) return false;
        pending[r + 1] = 0;
        if (relax(row(r), row(r + from), w + r * p.width * K, limit)) changed(r);
        return true;
    }

    // Relaxes a row from the row above or below and along itself. True if that may matter to a path to the target: some
    // distance has been lowered to one that is not beyond `bound`.
    DBP_INLINE bool relax(V* here, const V* near, const V* score, const V* bound) {
        const int64_t size = p.width * K;
        const V none = V{} + INF<T>;
        V left[K], behind[K], middle[K], lowest[K];
        for (int k = 0; k < K; k++) {
            left[k] = lowest[k] = none;
            behind[k] = near[k - K];
            middle[k] = near[k];
        }
        for (int64_t i = 0; i < size; i += K)
            for (int k = 0; k < K; k++) {
                const V ahead = near[i + k + K], old = here[i + k], step = score[i + k];
                const V best = EIGHT ? dbp::least(dbp::least(behind[k], middle[k]), ahead) : middle[k];
                left[k] = dbp::least(dbp::least(best, left[k]) - step, old);
                lowest[k] = dbp::least(lowest[k], left[k] < old ? left[k] : none);
                here[i + k] = left[k];
                behind[k] = middle[k];
                middle[k] = ahead;
            }
        M changed = {}, useful = {};
        for (int k = 0; k < K; k++) {
            changed |= lowest[k] < none;
            useful |= lowest[k] <= bound[k];
        }
        if (!dbp::any(changed)) return false;
        V right[K];
        for (int k = 0; k < K; k++) right[k] = left[k];
        for (int64_t i = size - 2 * K; i >= 0; i -= K)
            for (int k = 0; k < K; k++) {
                right[k] = dbp::least(here[i + k], right[k] - score[i + k]);
                here[i + k] = right[k];
            }
        return dbp::any(useful);
    }

    // A path on its way back from the target.
    struct Walk {
        const T* at;  // among the distances
        T* y;
        int64_t lane, row;
    };

    // Some paths at a time, a step of each in turn: a step waits for the one before it.
    void backtrack(int64_t first, int64_t count) {
        constexpr int64_t TOGETHER = 4;
        std::fill(p.y + first * p.vertices(), p.y + (first + count) * p.vertices(), T(0));
        for (int64_t next = 0; next < count; next += TOGETHER) {
            const int64_t walking = std::min(TOGETHER, count - next);
            Walk walks[TOGETHER];
            for (int64_t l = 0; l < walking; l++) walks[l] = walk(next + l, first + next + l);
            for (bool going = true; going;) {
                going = false;
                for (int64_t l = 0; l < walking; l++) going |= step_back(walks[l]);
            }
        }
    }

    const T* reached(int64_t lane, int64_t v) const { return distance(lane) + v * L; }

    Walk walk(int64_t lane, int64_t row) {
        const bool lost = distance(lane)[end[lane] * L] == INF<T>;
        if (lost) p.failure->report(row, UNREACHABLE);
        return {reached(lane, lost ? begin[lane] : end[lane]), p.y + row * p.vertices() + p.to(row), lane, row};
    }

    // To the neighbour of least distance; where several have it, at once to the source. Whether there was a step to take.
    DBP_INLINE bool step_back(Walk& walk) {
        *walk.y = 1;
        const T *const source = reached(walk.lane, begin[walk.lane]), *const at = walk.at;
        if (at == source) return false;
        const unsigned found = closest<EIGHT>(at, frame.pitch * L, L);
        if (found & (found - 1)) {
            T* y = p.y + walk.row * p.vertices();
            const T* x = reached(walk.lane, 0);
            ties.follow(x, L, (at - x) / L, walk.y - y, begin[walk.lane], y);
            walk.at = source;
            return false;
        }
        walk.at += frame.step[__builtin_ctz(found)] * L;
        walk.y += frame.plain_step[__builtin_ctz(found)];
        return true;
    }
};

template <class T, class Integer, bool EIGHT>
void solve_rows(const Problem<T>& p, int64_t begin, int64_t end) {
    Sweeps<T, Integer, EIGHT> sweeps(p);
    constexpr int L = GROUP<T>;
    for (int64_t group = begin; group < end; group++)
        sweeps.solve(group * L, std::min<int64_t>(L, p.rows - group * L));
}

template <class T, bool EIGHT>
int64_t solve(Problem<T> p, int64_t threads) {
    dbp::Failure failure;
    p.failure = &failure;
    const bool small = sizeof(T) == 4 && (p.height + 2) * (p.width + 2) < 1 << 16;
    using Small = std::conditional_t<sizeof(T) == 4, uint64_t, Wide>;
    const int64_t groups = (p.rows + GROUP<T> - 1) / GROUP<T>;
    return failure.status(dbp::parallel(groups, 3.0 * GROUP<T> * p.vertices(), threads, [&](int64_t begin, int64_t end) {
        if (small) solve_rows<T, Small, EIGHT>(p, begin, end);
        else solve_rows<T, Wide, EIGHT>(p, begin, end);
    }));
}

template <class T>
int64_t grid_path(Problem<T> p, int64_t neighbours, int64_t threads) {
    return neighbours == 8 ? solve<T, true>(p, threads) : solve<T, false>(p, threads);
}

}  // namespace

DBP_BOTH(grid_path,
         (const T* theta, const uint8_t* open, const int64_t* source, const int64_t* target, T* y, int64_t rows,
          int64_t height, int64_t width, int64_t neighbours, int64_t sweep, int64_t clip, int64_t threads),
         grid_path<T>({theta, open, source, target, y, rows, height, width, sweep, clip ? T(0) : INF<T>, nullptr},
                      neighbours, threads))
