// Shortest paths in a graph that all rows share: LANES rows at once, one pass over the nodes in topological order, or
// passes until nothing changes where there are cycles.
//
// Of paths of one length that with the fewest edges is taken, and of these, from the target back, the edges of lowest
// index: distances are kept with the number of edges and the last of them.
#include <type_traits>

#include "kernel.h"
#include "transpose.h"

namespace {

enum Code { LOST = 1, ENDLESS = 2 };

// The edges into each node, in the order in which the nodes are visited. Pairs of negative numbers are no edges.
struct Graph {
    struct Edge {
        int64_t tail, index;
    };
    std::vector<Edge> into;
    std::vector<int64_t> begin, order;  // edges of order[i]: into[begin[i]], ..., into[begin[i + 1] - 1]
    bool acyclic;

    Graph(const int64_t* ends, int64_t edges, int64_t nodes) : begin(1, 0) {
        const Adjacency entering(ends + 1, ends, edges, nodes), leaving(ends, ends + 1, edges, nodes);
        std::vector<int64_t> open(nodes);  // edges into a node from nodes that are not in order yet
        for (int64_t v = 0; v < nodes; v++) {
            open[v] = entering.first[v + 1] - entering.first[v];
            if (!open[v]) order.push_back(v);
        }
        for (size_t next = 0; next < order.size(); next++)
            for (int64_t k = leaving.first[order[next]]; k < leaving.first[order[next] + 1]; k++)
                if (const int64_t head = ends[2 * leaving.edge[k] + 1]; --open[head] == 0) order.push_back(head);
        acyclic = static_cast<int64_t>(order.size()) == nodes;
        for (int64_t v = 0; v < nodes; v++)
            if (open[v]) order.push_back(v);
        for (const int64_t v : order) {
            for (int64_t k = entering.first[v]; k < entering.first[v + 1]; k++)
                into.push_back({ends[2 * entering.edge[k]], entering.edge[k]});
            begin.push_back(static_cast<int64_t>(into.size()));
        }
    }

   private:
    // The edges at each node, edge[first[v]], ..., edge[first[v + 1] - 1], in the order of their indices.
    struct Adjacency {
        std::vector<int64_t> first, edge;

        Adjacency(const int64_t* at, const int64_t* other, int64_t edges, int64_t nodes) : first(nodes + 2), edge(edges) {
            for (int64_t e = 0; e < edges; e++)
                if (at[2 * e] >= 0 && other[2 * e] >= 0) first[at[2 * e] + 2]++;
            for (int64_t v = 0; v < nodes; v++) first[v + 2] += first[v + 1];
            for (int64_t e = 0; e < edges; e++)
                if (at[2 * e] >= 0 && other[2 * e] >= 0) edge[first[at[2 * e] + 1]++] = e;
        }
    };
};

template <class T>
class Paths {
    using V = dbp::Lanes<T>;
    using M = decltype(V{} < V{});
    using Index = std::remove_reference_t<decltype(M{}[0])>;
    static constexpr int L = dbp::LANES<T>;
    struct State {
        V distance, steps;
        M last;  // edge, -1 at the source and where no path leads
    };
    const Graph& graph;
    const int64_t edges, nodes;
    dbp::Buffer<V> score, start;
    dbp::Buffer<State> state;

   public:
    Paths(const Graph& g, int64_t e, int64_t n) : graph(g), edges(e), nodes(n), score(e), start(n), state(n) {}

    // `count` rows from `first` on, at most L.
    void solve(const T* theta, const int64_t* ends, const int64_t* source, const int64_t* target, T* y, int64_t first,
               int64_t count, dbp::Failure& failure) {
        const T* rows[L];
        const V infinite = V{} + std::numeric_limits<T>::infinity();
        for (int64_t v = 0; v < nodes; v++) {
            start[v] = infinite;
            state[v] = {infinite, V{}, M{} - 1};
        }
        for (int64_t l = 0; l < L; l++) {
            const int64_t row = first + std::min(l, count - 1);  // lanes that are left over repeat the last row
            rows[l] = theta + row * edges;
            start[source[row]][l] = 0;
        }
        dbp::transpose(rows, edges, [&](int64_t e, V read) { score[e] = read; });
        bool changes = true;
        for (int64_t pass = 0; changes && pass < (graph.acyclic ? 1 : 2 * nodes + 2); pass++) changes = relax();
        for (int64_t row = first; row < first + count; row++) {
            if (changes && !graph.acyclic) failure.report(row, ENDLESS);
            else trace(ends, source[row], target[row], y + row * edges, row, row - first, failure);
        }
    }

   private:
    bool relax() {
        auto changed = V{} < V{};
        for (int64_t i = 0; i < nodes; i++) {
            const int64_t v = graph.order[i];
            State best = {start[v], V{}, M{} - 1};
            for (int64_t k = graph.begin[i]; k < graph.begin[i + 1]; k++) {
                const Graph::Edge edge = graph.into[k];
                const State& before = state[edge.tail];
                const V distance = before.distance - score[edge.index], steps = before.steps + 1;
                const M better = (distance < best.distance) | ((distance == best.distance) & (steps < best.steps));
                best.distance = better ? distance : best.distance;
                best.steps = better ? steps : best.steps;
                best.last = better ? M{} + static_cast<Index>(edge.index) : best.last;
            }
            changed |= (best.distance != state[v].distance) | (best.steps != state[v].steps);
            state[v] = best;
        }
        return dbp::any(changed);
    }

    void trace(const int64_t* ends, int64_t source, int64_t target, T* y, int64_t row, int64_t lane, dbp::Failure& failure) {
        std::fill(y, y + edges, T(0));
        const T total = state[target].distance[lane];
        if (total - total != 0) return failure.report(row, LOST);  // infinite: out of reach, or the sum overflowed
        for (int64_t v = target, steps = 0; v != source; v = ends[2 * state[v].last[lane]], steps++) {
            if (state[v].last[lane] < 0 || steps > nodes) return failure.report(row, LOST);
            y[state[v].last[lane]] = 1;
        }
    }
};

// theta, y: [rows, edges]; ends: [edges, 2]; source, target: [rows].
template <class T>
int64_t solve(const T* theta, const int64_t* ends, const int64_t* source, const int64_t* target, T* y, int64_t rows,
              int64_t edges, int64_t nodes, int64_t threads) {
    constexpr int L = dbp::LANES<T>;
    if (!rows) return 0;  // and maybe no graph
    dbp::Failure failure;
    const Graph graph(ends, edges, nodes);
    return failure.status(dbp::parallel((rows + L - 1) / L, 4.0 * L * edges, threads, [&](int64_t begin, int64_t end) {
        Paths<T> paths(graph, edges, nodes);
        for (int64_t group = begin; group < end; group++)
            paths.solve(theta, ends, source, target, y, group * L, std::min<int64_t>(L, rows - group * L), failure);
    }));
}

}  // namespace

DBP_BOTH(graph_path,
         (const T* theta, const int64_t* ends, const int64_t* source, const int64_t* target, T* y, int64_t rows,
          int64_t edges, int64_t nodes, int64_t threads),
         solve(theta, ends, source, target, y, rows, edges, nodes, threads))
