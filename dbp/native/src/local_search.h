// Short tours by iterated local search, in double precision.
#pragma once

#include <cmath>
#include <numeric>

#include "kernel.h"

namespace dbp {

// Moves between near neighbours, tried from a queue of the cities whose edges changed: 2-opt and shifts of up to three
// cities, or where direction matters the exchange of two stretches, which turns none round (it is safe on distances that
// are not symmetric, where the length of a 2-opt move is not what it seems). A kick swaps two short stretches; after the
// search it stays if the tour is not longer than the best by more than a random part of a slack that falls to nothing.
class LocalSearch {
    static constexpr int NEAR = 8, KICK = 50;
    const int n, near_;
    bool directed = false;
    std::vector<double> d, far_;  // far_: to each of the neighbours
    std::vector<int> neighbours, tour, place, kept, kept_place, best, queue, spare;
    std::vector<char> queued;
    int head = 0, waiting = 0;
    uint64_t random = 0;
    int64_t moves = 0;

   public:
    explicit LocalSearch(int cities)
        : n(cities), near_(std::min(NEAR, n - 1)), d(size_t(n) * n), far_(n * near_), neighbours(n * near_), tour(n),
          place(n), kept(n), kept_place(n), best(n), queue(n), spare(n), queued(n) {}

    double* distances() { return d.data(); }

    const int* solve(bool has_direction, int64_t kicks) {
        directed = has_direction;
        random = 88172645463325252u;
        moves = 1000 * static_cast<int64_t>(n) + 100 * kicks;  // rounding must not make it go round in circles
        find_neighbours();
        nearest_first();
        for (int i = 0; i < n; i++) push(i);
        improve();
        double slack = 0, excess = 0;
        for (int i = 0; i < n; i++) slack += 2 * std::fabs(at(tour[i], next(tour[i]))) / n;
        best = tour;
        for (int64_t k = 0; k < kicks; k++) {
            kept = tour;
            kept_place = place;
            const double change = kick() - improve();
            const double allowed = slack * (kicks - k) / kicks * (below(1 << 20) + 1) / (1 << 20);
            if (change > 0 && !(excess + change < allowed)) {
                tour.swap(kept);
                place.swap(kept_place);
                continue;
            }
            excess += change;
            if (excess < 0) {
                excess = 0;
                best = tour;
            }
        }
        return best.data();
    }

   private:
    double at(int a, int b) const { return d[size_t(a) * n + b]; }
    int next(int a) const { return tour[place[a] + 1 == n ? 0 : place[a] + 1]; }
    int before(int a) const { return tour[place[a] == 0 ? n - 1 : place[a] - 1]; }
    int step(int a, bool forward) const { return forward ? next(a) : before(a); }
    uint32_t below(uint32_t bound) {  // xorshift: Marsaglia, 2003
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        return static_cast<uint32_t>((random >> 32) * bound >> 32);
    }

    void push(int a) {
        if (queued[a]) return;
        queued[a] = 1;
        queue[head + waiting < n ? head + waiting : head + waiting - n] = a;
        waiting++;
    }

    void find_neighbours() {
        for (int i = 0; i < n; i++) {
            spare.resize(n);
            std::iota(spare.begin(), spare.end(), 0);
            spare.erase(spare.begin() + i);
            auto nearer = [&](int a, int b) { return at(i, a) < at(i, b) || (at(i, a) == at(i, b) && a < b); };
            std::partial_sort(spare.begin(), spare.begin() + near_, spare.end(), nearer);
            std::copy_n(spare.begin(), near_, neighbours.begin() + i * near_);
            for (int k = 0; k < near_; k++) far_[i * near_ + k] = at(i, spare[k]);
        }
        spare.resize(n);
    }

    void nearest_first() {
        std::iota(tour.begin(), tour.end(), 0);
        for (int i = 1; i < n; i++) {
            int best = i;
            for (int j = i + 1; j < n; j++)
                if (at(tour[i - 1], tour[j]) < at(tour[i - 1], tour[best])) best = j;
            std::swap(tour[i], tour[best]);
        }
        for (int i = 0; i < n; i++) place[tour[i]] = i;
    }

    // How much shorter the tour gets.
    double improve() {
        double total = 0;
        while (waiting) {
            const int a = queue[head];
            head = head + 1 == n ? 0 : head + 1;
            waiting--;
            queued[a] = 0;
            for (double gain; moves > 0 && (gain = directed ? improve_directed(a) : improve_at(a)) > 0; moves--) total += gain;
        }
        return total;
    }

    static bool worth(double gain, double scale) { return gain > 0 && gain > 1e-12 * std::fabs(scale); }

    double improve_at(int a) {
        const int* near = neighbours.data() + a * near_;
        const double* far = far_.data() + a * near_;
        for (const bool forward : {true, false}) {
            const int b = step(a, forward);
            const double ab = at(a, b);
            for (int i = 0; i < near_ && far[i] < ab; i++) {
                const int c = near[i], e = step(c, forward);
                const double gain = ab - far[i] + at(c, e) - at(b, e);
                if (worth(gain, std::fabs(ab) + std::fabs(at(c, e)))) return exchange(a, b, c, e), gain;
            }
        }
        for (const bool forward : {true, false}) {
            const int p = step(a, !forward);
            int last = a;
            for (int length = 1; length <= 3; length++, last = step(last, forward)) {
                const int q = step(last, forward);
                if (q == p) break;
                const double freed = at(p, a) + at(last, q) - at(p, q);
                for (int i = 0; i < near_ && far[i] < freed; i++) {
                    const int c = near[i];
                    if (within(c, a, length, forward)) continue;
                    for (const bool same : {true, false}) {
                        const int e = step(c, same == forward);
                        if (same ? c == p : c == q) continue;
                        const double gain = freed + at(c, e) - far[i] - at(last, e);
                        if (!worth(gain, std::fabs(freed) + std::fabs(at(c, e)))) continue;
                        if (same) insert(p, a, last, q, c, e, true);
                        else insert(p, a, last, q, e, c, false);
                        return gain;
                    }
                }
            }
        }
        return 0;
    }

    bool within(int c, int a, int length, bool forward) const {
        int distance = forward ? place[c] - place[a] : place[a] - place[c];
        return (distance < 0 ? distance + n : distance) < length;
    }

    // Edges a-b and c-e become a-c and b-e, where b follows a as e follows c.
    void exchange(int a, int b, int c, int e) {
        if (next(a) == b) reverse(place[b], place[c]);
        else reverse(place[a], place[e]);
        push(a), push(b), push(c), push(e);
    }

    // p [first..last] q .. c e becomes p q .. c [first..last] e, or the stretch the other way round.
    void insert(int p, int first, int last, int q, int c, int e, bool same) {
        exchange(p, first, c, e);
        exchange(p, c, q, last);
        if (same) exchange(c, last, first, e);
    }

    // The stretch from place i to place j, or the rest of the tour, which comes to the same.
    void reverse(int i, int j) {
        int length = j - i;
        if (length < 0) length += n;
        length++;
        if (2 * length > n) {
            const int start = j + 1 == n ? 0 : j + 1;
            j = i == 0 ? n - 1 : i - 1;
            i = start;
            length = n - length;
        }
        for (int k = length / 2; k > 0; k--) {
            std::swap(tour[i], tour[j]);
            place[tour[i]] = i;
            place[tour[j]] = j;
            i = i + 1 == n ? 0 : i + 1;
            j = j == 0 ? n - 1 : j - 1;
        }
    }

    // a [b..c] [e..f] g, where a is at place `start`, becomes a [e..f] [b..c] g.
    void swap_stretches(int start, int one, int two) {
        auto where = [&](int i) { return start + i < n ? start + i : start + i - n; };
        for (int i = 0; i < one + two; i++) spare[i] = tour[where(1 + (i < two ? one + i : i - two))];
        for (const int i : {0, 1, one, one + 1, one + two, one + two + 1}) push(tour[where(i)]);
        for (int i = 0; i < one + two; i++) {
            tour[where(1 + i)] = spare[i];
            place[spare[i]] = where(1 + i);
        }
    }

    // How much longer the tour gets.
    double kick() {
        const int longest = std::min(KICK, (n - 2) / 2);
        const int one = 1 + below(longest), two = 1 + below(longest), start = below(n);
        const int a = tour[start], b = next(a);
        const int c = tour[(start + one) % n], e = next(c), f = tour[(start + one + two) % n], g = next(f);
        swap_stretches(start, one, two);
        return at(a, e) + at(f, b) + at(c, g) - at(a, b) - at(c, e) - at(f, g);
    }

    double improve_directed(int a) {
        const int b = next(a);
        const double ab = at(a, b);
        for (int i = 0; i < near_; i++) {
            const int e = neighbours[a * near_ + i], c = before(e);
            const double freed = ab - at(a, e) + at(c, e);
            if (!(at(a, e) < ab)) break;
            for (int f = e; f != a; f = next(f)) {
                const double gain = freed + at(f, next(f)) - at(f, b) - at(c, next(f));
                if (!worth(gain, std::fabs(ab) + std::fabs(at(c, e)) + std::fabs(at(f, next(f))))) continue;
                const int one = place[e] - place[b], two = place[f] - place[e] + 1;
                swap_stretches(place[a], one < 0 ? one + n : one, two < 1 ? two + n : two);
                return gain;
            }
        }
        return 0;
    }
};

}  // namespace dbp
