// Maximum spanning arborescences by the method of Chu, Liu and Edmonds: the best edge into each node, cycles contracted.
#include "kernel.h"

namespace {

enum Code { LOST = 1 };

class Edmonds {
    struct Edge {
        int64_t tail, head, index;
    };
    const int64_t nodes;
    std::vector<Edge> edges;      // then those from outside, to each node that may be the root
    std::vector<double> weight, best;
    std::vector<int64_t> label;          // of the nodes that are contracted into one the least
    std::vector<int64_t> into, next;     // the best edge into each, -1 where there is none
    std::vector<int64_t> labels, intos;  // those of all rounds
    std::vector<int64_t> seen, least;
    std::vector<uint8_t> here;  // whether an edge names it
    int64_t inner = 0;          // how many edges are not from outside

   public:
    explicit Edmonds(int64_t n) : nodes(n), best(n), label(n), into(n), next(n), seen(n), least(n), here(n) {}

    // `ends` are pairs of nodes below `nodes`, negative for no edge; a negative root stands for any.
    template <class T>
    bool solve(const T* theta, const int64_t* ends, int64_t count, int64_t root, T* y) {
        read(theta, ends, count, root);
        std::fill(y, y + count, T(0));
        labels.clear();
        intos.clear();
        for (int64_t v = 0; v < nodes; v++) label[v] = v;
        do {
            if (!enter()) return false;
            labels.insert(labels.end(), label.begin(), label.end());
            intos.insert(intos.end(), into.begin(), into.end());
        } while (contract());
        expand();
        int64_t roots = 0;
        for (int64_t v = 0; v < nodes; v++) {
            if (!here[v]) continue;
            const Edge& edge = edges[into[v]];
            if (edge.tail == nodes) roots++;
            else y[edge.index] = 1;
        }
        return roots <= 1;
    }

   private:
    template <class T>
    void read(const T* theta, const int64_t* ends, int64_t count, int64_t root) {
        edges.clear();
        weight.clear();
        std::fill(here.begin(), here.end(), 0);
        if (root >= 0) here[root] = 1;
        for (int64_t i = 0; i < count; i++) {
            const int64_t a = ends[2 * i], b = ends[2 * i + 1];
            if (a < 0 || b < 0) continue;
            here[a] = here[b] = 1;
            if (b == root) continue;
            edges.push_back({a, b, i});
            weight.push_back(theta[i]);
        }
        inner = static_cast<int64_t>(edges.size());
        for (int64_t v = 0; v < nodes; v++) {
            if (!here[v] || (root >= 0 && v != root)) continue;
            edges.push_back({nodes, v, -1});
            weight.push_back(0);
        }
    }

    int64_t tail(const Edge& edge) const { return edge.tail == nodes ? nodes : label[edge.tail]; }

    // The best edge into each node, of equals the first; one from outside only where there is no other.
    bool enter() {
        std::fill(into.begin(), into.end(), -1);
        const auto count = static_cast<int64_t>(edges.size());
        for (int64_t e = 0; e < count; e++) {
            const int64_t b = label[edges[e].head], old = into[b];
            const bool better = old < 0 || (weight[e] > best[b] && (e < inner || old >= inner));
            if (!better || tail(edges[e]) == b) continue;
            best[b] = weight[e];
            into[b] = e;
        }
        for (int64_t v = 0; v < nodes; v++)
            if (here[v] && label[v] == v && into[v] < 0) return false;
        for (int64_t e = 0; e < count; e++) weight[e] -= best[label[edges[e].head]];
        return true;
    }

    // Makes one node of each cycle. Whether there was any.
    bool contract() {
        bool found = false;
        std::fill(seen.begin(), seen.end(), -1);  // in the walk from which node
        for (int64_t v = 0; v < nodes; v++) least[v] = v;
        for (int64_t v = 0; v < nodes; v++) {
            if (!here[v] || label[v] != v) continue;
            int64_t u = v;
            for (; u != nodes && seen[u] < 0; u = before(u)) seen[u] = v;
            if (u == nodes || seen[u] != v || least[u] != u) continue;
            found = true;
            int64_t low = u;
            for (int64_t on = before(u); on != u; on = before(on)) low = std::min(low, on);
            least[u] = low;
            for (int64_t on = before(u); on != u; on = before(on)) least[on] = low;
        }
        for (int64_t v = 0; v < nodes; v++) label[v] = least[label[v]];
        return found;
    }

    int64_t before(int64_t v) const { return tail(edges[into[v]]); }

    // Back through the rounds: the edge into a cycle takes the place of the one that its head had.
    void expand() {
        const int64_t* outer = labels.data() + labels.size() - nodes;
        while (outer != labels.data()) {
            const int64_t *below = outer - nodes, *had = intos.data() + (below - labels.data());
            for (int64_t v = 0; v < nodes; v++) {
                if (!here[v] || below[v] != v) continue;
                const int64_t edge = into[outer[v]];
                next[v] = below[edges[edge].head] == v ? edge : had[v];
            }
            std::swap(into, next);
            outer = below;
        }
    }
};

// theta, y: [rows, edges]; ends: [rows or 1, edges, 2]; root: [rows].
template <class T>
int64_t solve(const T* theta, const int64_t* ends, const int64_t* root, T* y, int64_t rows, int64_t edges, int64_t nodes,
              int64_t graphs, int64_t threads) {
    dbp::Failure failure;
    return failure.status(dbp::parallel(rows, 100 + 30.0 * edges, threads, [&](int64_t begin, int64_t end) {
        Edmonds problem(nodes);
        for (int64_t row = begin; row < end; row++) {
            const int64_t* own = ends + (graphs > 1 ? row : 0) * 2 * edges;
            if (!problem.solve(theta + row * edges, own, edges, root[row], y + row * edges)) failure.report(row, LOST);
        }
    }));
}

}  // namespace

DBP_BOTH(arborescence,
         (const T* theta, const int64_t* ends, const int64_t* root, T* y, int64_t rows, int64_t edges, int64_t nodes,
          int64_t graphs, int64_t threads),
         solve(theta, ends, root, y, rows, edges, nodes, graphs, threads))
