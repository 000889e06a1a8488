// 0/1 knapsacks with integer weights by dynamic programming over capacities, a register of them at a time.
//
// best[c] is the most that items i.. can be worth within c, for i from the last to the first; for each item a bit says
// whether it is worth taking at c.
#include <cstring>
#include <numeric>

#include "kernel.h"

namespace {

enum Code { NEGATIVE_WEIGHT = 1, NEGATIVE_CAPACITY = 2 };

template <class T>
class Knapsack {
    using V = dbp::Lanes<T>;
    static constexpr int64_t L = dbp::LANES<T>;
    const int64_t items;
    std::vector<int64_t> weight, before;  // before: what the items before this one weigh together
    std::vector<int64_t> after;           // what the eligible items from this one on weigh together
    int64_t capacity = 0, blocks = 0;
    std::vector<T> table;         // minus infinity for negative capacities, then best
    std::vector<uint16_t> worth;  // [items, blocks]

   public:
    explicit Knapsack(int64_t n) : items(n), weight(n), before(n), after(n) {}

    // 0, or why there is no solution. Weights are divided by what they have in common.
    int load(const int64_t* weights, int64_t limit) {
        if (limit < 0) return NEGATIVE_CAPACITY;
        int64_t unit = 0, total = 0;
        for (int64_t i = 0; i < items; i++) {
            if (weights[i] < 0) return NEGATIVE_WEIGHT;
            unit = std::gcd(unit, weights[i]);
            before[i] = total;
            total += std::min(weights[i], limit - total);  // at most the limit
        }
        unit = std::max<int64_t>(unit, 1);
        capacity = total / unit;
        blocks = capacity / L + 1;
        for (int64_t i = 0; i < items; i++) {
            weight[i] = weights[i] / unit;
            before[i] /= unit;
        }
        table.assign((2 * blocks + 1) * L, -std::numeric_limits<T>::infinity());
        worth.resize(items * blocks);
        return 0;
    }

    void solve(const T* theta, T* y) {
        T* best = table.data() + (blocks + 1) * L;
        best[0] = 0;
        int64_t all = 0, filled = 0;  // with capacities above `all` there is room for all items from i on
        for (int64_t i = items - 1; i >= 0; i--) {
            if (eligible(theta[i], i)) {
                all += weight[i];
                const int64_t last = std::min(all, capacity);
                std::fill(best + filled + 1, best + last + 1, best[filled]);
                filled = last;
                add(best, worth.data() + i * blocks, theta[i], i, last);
            }
            after[i] = all;
        }
        int64_t left = capacity;
        for (int64_t i = 0; i < items; i++) {
            const bool take = eligible(theta[i], i) && (left >= after[i] || (weight[i] <= left && is_worth(i, left)));
            y[i] = take;
            left -= take * weight[i];
        }
    }

   private:
    bool eligible(T score, int64_t i) const { return score > 0 && weight[i] <= capacity; }

    bool is_worth(int64_t i, int64_t left) const { return worth[i * blocks + left / L] >> left % L & 1; }

    // From the capacity `last` down, so that `best` is read before it is written; what is left when it is an item's turn
    // is at least the capacity less the items before it.
    DBP_INLINE void add(T* best, uint16_t* worth_i, T score, int64_t i, int64_t last) const {
        const int64_t w = weight[i], first = std::max(w, capacity - before[i]) / L;
        for (int64_t block = last / L; block >= first; block--) {
            V without, with;
            std::memcpy(&without, best + block * L, sizeof(V));
            std::memcpy(&with, best + block * L - w, sizeof(V));
            with += score;
            worth_i[block] = static_cast<uint16_t>(dbp::bits(with >= without));
            without = with > without ? with : without;
            std::memcpy(best + block * L, &without, sizeof(V));
        }
    }
};

// theta, y: [rows, items]; weights: [lists, items], capacities: [limits]; of both there are one or as many as rows.
template <class T>
int64_t solve(const T* theta, const int64_t* weights, const int64_t* capacities, T* y, int64_t rows, int64_t items,
              int64_t lists, int64_t limits, int64_t threads) {
    dbp::Failure failure;
    const double cells = static_cast<double>(items) * (rows ? capacities[0] + 1 : 1);
    return failure.status(dbp::parallel(rows, 50 + 30.0 * items + 0.07 * cells, threads, [&](int64_t begin, int64_t end) {
        Knapsack<T> problem(items);
        for (int64_t row = begin; row < end; row++) {
            const bool another = row == begin || lists > 1 || limits > 1;
            const int64_t* weight = weights + (lists > 1 ? row : 0) * items;
            const int code = another ? problem.load(weight, capacities[limits > 1 ? row : 0]) : 0;
            if (code) {
                failure.report(row, code);
                return;
            }
            problem.solve(theta + row * items, y + row * items);
        }
    }));
}

}  // namespace

DBP_BOTH(knapsack,
         (const T* theta, const int64_t* weights, const int64_t* capacities, T* y, int64_t rows, int64_t items,
          int64_t lists, int64_t limits, int64_t threads),
         solve(theta, weights, capacities, y, rows, items, lists, limits, threads))
