// Shortest paths on grids with a cost for each vertex: LANES instances at once by sweeps, what is left by Dijkstra.
//
// The path is followed back from the target: the vertex before v is its neighbour of least distance, then fewest steps,
// then lowest index. Distances are sums from the source in T, the same for any order of relaxations.
#include <cstring>

#include "kernel.h"
#include "transpose.h"

namespace {

enum Code { NEGATIVE = 1, OUTSIDE = 2, UNREACHABLE = 3 };

template <class T>
constexpr T INF = std::numeric_limits<T>::infinity();

// One batch of problems. Vertices are numbered row by row; a null `open` blocks none, a null `source` is the first
// vertex, a null `target` the last.
template <class T>
struct Problem {
    const T* theta;  // minus the costs
    const uint8_t* open;
    const int64_t* source;
    const int64_t* target;
    T* y;
    int64_t rows, height, width, threads;
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
    int64_t step[NEIGHBOURS];  // in the order of indices

    explicit Frame(int64_t w) : width(w), pitch(w + 2) {
        const int64_t eight[] = {-pitch - 1, -pitch, -pitch + 1, -1, 1, pitch - 1, pitch, pitch + 1};
        const int64_t four[] = {-pitch, -1, 1, pitch};
        std::memcpy(step, EIGHT ? eight : four, sizeof step);
    }
    int64_t padded(int64_t vertex) const { return (vertex / width + 1) * pitch + vertex % width + 1; }
    int64_t plain(int64_t v) const { return (v / pitch - 1) * width + v % pitch - 1; }
};

__extension__ typedef unsigned __int128 Wide;

// (distance, steps, vertex) in one unsigned integer; distances are not negative, so that their bits are in order.
template <class T, class Integer>
struct Packed {
    static constexpr int D = 8 * sizeof(T), REST = 8 * sizeof(Integer) - D, HALF = REST / 2;
    using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    static Integer pack(T distance, int64_t steps, int64_t vertex) {
        Bits bits;
        std::memcpy(&bits, &distance, sizeof(T));
        return static_cast<Integer>(bits) << REST | static_cast<Integer>(steps) << HALF | static_cast<Integer>(vertex);
    }
    static T distance(Integer key) {
        const Bits bits = static_cast<Bits>(key >> REST);
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
    static constexpr int64_t WALL = -2, NEW = -1;
    Frame<EIGHT> frame;
    std::vector<T> cost;
    std::vector<int64_t> before;
    Heap<Integer> heap;

   public:
    __attribute__((noinline)) explicit Dijkstra(const Problem<T>& p) : frame(p.width) {
        const size_t size = (p.height + 2) * frame.pitch;
        cost.resize(size);
        before.resize(size);
        heap.node.resize(size);
    }

    __attribute__((noinline)) void solve(const Problem<T>& p, int64_t row) {
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
                cost[v] = 0 - theta[i];
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
            const int64_t u = Key::vertex(key);
            if (u == t) return true;
            for (const int64_t step : frame.step)
                if (before[u + step] == NEW) reach(u + step, u, Key::distance(key) + cost[u + step], Key::steps(key) + 1);
        }
        return false;
    }

    void reach(int64_t v, int64_t from, T distance, int64_t steps) {
        if (distance == INF<T>) return;
        before[v] = from;
        heap.push(Key::pack(distance, steps, v));
    }
};

template <class T, class Integer, bool EIGHT>
class Sweeps {
    using V = dbp::Lanes<T>;
    static constexpr int L = dbp::LANES<T>;
    const Problem<T>& p;
    Frame<EIGHT> frame;
    dbp::Buffer<T> distances, costs, blocked;
    V *d, *w;
    std::vector<uint8_t> dirty;
    Dijkstra<T, Integer, EIGHT> dijkstra;

   public:
    explicit Sweeps(const Problem<T>& problem)
        : p(problem),
          frame(p.width),
          distances((p.height + 2) * frame.pitch * L),
          costs(p.vertices() * L),
          blocked(p.open ? p.vertices() * L : 0),
          d(reinterpret_cast<V*>(static_cast<T*>(distances))),
          w(reinterpret_cast<V*>(static_cast<T*>(costs))),
          dirty(p.height + 2),
          dijkstra(problem) {}

    // Rows first, ..., first + count - 1, at most L of them.
    DBP_INLINE void solve(int64_t first, int64_t count) {
        bool swept = count > 1 && valid(first, count);
        if (swept) {
            load(first, count);
            swept = sweep(first, count);
        }
        for (int64_t l = 0; l < count; l++)
            if (!swept || !backtrack(first + l, l)) dijkstra.solve(p, first + l);
    }

   private:
    DBP_INLINE bool valid(int64_t first, int64_t count) const {
        for (int64_t l = 0; l < count; l++)
            if (!p.inside(first + l)) return false;
        return true;
    }

    DBP_INLINE void load(int64_t first, int64_t count) {
        const int64_t n = p.vertices();
        const T* rows[L];
        for (int64_t l = 0; l < L; l++) rows[l] = p.theta + (first + std::min(l, count - 1)) * n;
        if (p.open) {
            for (int64_t l = 0; l < L; l++) {
                const uint8_t* open = p.open + (first + std::min(l, count - 1)) * n;
                T* copy = static_cast<T*>(blocked) + l * n;
                for (int64_t i = 0; i < n; i++) copy[i] = open[i] ? rows[l][i] : -INF<T>;
                rows[l] = copy;
            }
        }
        dbp::transpose(rows, w, n);
    }

    // False where some cost is negative or the sweeps take too long.
    DBP_INLINE bool sweep(int64_t first, int64_t count) {
        const V none = V{} + INF<T>;
        auto valid = none == none;
        for (int64_t i = 0; i < p.vertices(); i++) {
            w[i] = 0 - w[i];
            valid &= w[i] >= 0;
        }
        if (dbp::any(~valid)) return false;
        std::fill(d, d + (p.height + 2) * frame.pitch, none);
        start(first, count);
        int64_t budget = std::max<int64_t>(16, 2 * p.height / 3) * p.height;
        for (bool down = true; budget > 0; down = !down) {
            V limit = none;
            for (int64_t l = 0; l < L; l++) limit[l] = d[frame.padded(p.to(first + std::min(l, count - 1)))][l];
            int64_t relaxed = 0;
            for (int64_t i = 0; i < p.height; i++) relaxed += visit(down ? i : p.height - 1 - i, limit);
            if (!relaxed) return true;
            budget -= relaxed;
        }
        return false;
    }

    DBP_INLINE void start(int64_t first, int64_t count) {
        std::fill(dirty.begin(), dirty.end(), 0);
        for (int64_t l = 0; l < L; l++) {
            const int64_t s = p.from(first + std::min(l, count - 1)), r = s / p.width;
            d[frame.padded(s)][l] = w[s][l];
            dirty[r] = dirty[r + 1] = dirty[r + 2] = 2;
        }
        for (int64_t r = 0; r < p.height; r++)
            if (dirty[r + 1]) spread(r);
    }

    DBP_INLINE void spread(int64_t r) {
        V* here = d + (r + 1) * frame.pitch + 1;
        const V* cost = w + r * p.width;
        for (int64_t c = 1; c < p.width; c++) here[c] = dbp::least(here[c], cost[c] + here[c - 1]);
        for (int64_t c = p.width - 2; c >= 0; c--) here[c] = dbp::least(here[c], cost[c] + here[c + 1]);
    }

    DBP_INLINE bool visit(int64_t r, V limit) {
        if (!dirty[r + 1]) return false;
        dirty[r + 1] = 0;
        if (relax(r, limit)) dirty[r] = dirty[r + 2] = 1;
        return true;
    }

    // Relaxes a row from the rows above and below and along itself. True if that may lower a neighbouring row's
    // distances: something changed, and some distance is below that of the target.
    DBP_INLINE bool relax(int64_t r, V limit) {
        const int64_t width = p.width;
        V* here = d + (r + 1) * frame.pitch + 1;
        const V *above = here - frame.pitch, *below = here + frame.pitch, *cost = w + r * width;
        V left = here[-1], behind = left, middle = dbp::least(above[0], below[0]);
        auto changed = left < left;
        for (int64_t c = 0; c < width; c++) {
            const V ahead = dbp::least(above[c + 1], below[c + 1]);
            const V near = EIGHT ? dbp::least(dbp::least(behind, middle), ahead) : middle;
            const V old = here[c];
            left = dbp::least(cost[c] + dbp::least(near, left), old);
            changed |= left < old;
            here[c] = left;
            behind = middle;
            middle = ahead;
        }
        if (!dbp::any(changed)) return false;
        V right = left, lowest = left;
        for (int64_t c = width - 2; c >= 0; c--) {
            right = dbp::least(cost[c] + right, here[c]);
            lowest = dbp::least(lowest, right);
            here[c] = right;
        }
        return dbp::any(lowest < limit);
    }

    // False at a tie, which takes the numbers of steps to break.
    DBP_INLINE bool backtrack(int64_t row, int64_t lane) {
        const T* distance = reinterpret_cast<const T*>(d) + lane;
        const int64_t s = frame.padded(p.from(row)), t = frame.padded(p.to(row));
        if (distance[t * L] == INF<T>) {
            p.failure->report(row, UNREACHABLE);
            return true;
        }
        T* y = p.y + row * p.vertices();
        std::fill(y, y + p.vertices(), T(0));
        for (int64_t v = t; v != s;) {
            y[frame.plain(v)] = 1;
            T best = INF<T>;
            int64_t from = v, ties = 0;
            for (const int64_t step : frame.step) {
                const T x = distance[(v + step) * L];
                ties = x < best ? 0 : ties + (x == best);
                from = x < best ? v + step : from;
                best = x < best ? x : best;
            }
            if (ties) return false;
            v = from;
        }
        y[frame.plain(s)] = 1;
        return true;
    }
};

template <class T, class Integer, bool EIGHT>
void solve_rows(const Problem<T>& p, int64_t begin, int64_t end) {
    Sweeps<T, Integer, EIGHT> sweeps(p);
    constexpr int L = dbp::LANES<T>;
    for (int64_t group = begin; group < end; group++)
        sweeps.solve(group * L, std::min<int64_t>(L, p.rows - group * L));
}

template <class T, bool EIGHT>
int64_t solve(Problem<T> p) {
    dbp::Failure failure;
    p.failure = &failure;
    const bool small = sizeof(T) == 4 && (p.height + 2) * (p.width + 2) < 1 << 16;
    using Small = std::conditional_t<sizeof(T) == 4, uint64_t, Wide>;
    const int64_t groups = (p.rows + dbp::LANES<T> - 1) / dbp::LANES<T>;
    return failure.status(dbp::parallel(groups, 50.0 * p.vertices(), p.threads, [&](int64_t begin, int64_t end) {
        if (small) solve_rows<T, Small, EIGHT>(p, begin, end);
        else solve_rows<T, Wide, EIGHT>(p, begin, end);
    }));
}

template <class T>
int64_t grid_path(const T* theta, const uint8_t* open, const int64_t* source, const int64_t* target, T* y,
                  int64_t rows, int64_t height, int64_t width, int64_t neighbours, int64_t threads) {
    const Problem<T> p{theta, open, source, target, y, rows, height, width, threads, nullptr};
    return neighbours == 8 ? solve<T, true>(p) : solve<T, false>(p);
}

}  // namespace

#define DBP_GRID_PATH(NAME, T)                                                                                     \
    DBP_EXPORT int64_t NAME(const T* theta, const uint8_t* open, const int64_t* source, const int64_t* target,     \
                            T* y, int64_t rows, int64_t height, int64_t width, int64_t neighbours,                 \
                            int64_t threads) {                                                                     \
        return grid_path(theta, open, source, target, y, rows, height, width, neighbours, threads);                \
    }
DBP_GRID_PATH(dbp_grid_path_f32, float)
DBP_GRID_PATH(dbp_grid_path_f64, double)
