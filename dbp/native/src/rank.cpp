// Ranks of a row, 1 for the smallest, ties in the order of the indices: counted for short rows, radix sorted for long.
#include <cstring>
#include <type_traits>
#include <utility>

#include "registers.h"

namespace {

constexpr int64_t COUNTED = 24 * dbp::LANES<float>;  // up to here n^2 / lanes comparisons beat a sort
constexpr int64_t MANY = 3000;                       // from here on long digits do

// Of R registers of numbers at a time, from `start` on, how many of the row are less, or equal and before.
template <class T, int R>
class Counted {
    using V = dbp::Lanes<T>;
    using M = decltype(V{} < V{});
    static constexpr int L = dbp::LANES<T>;
    V value[R];
    M before[R];

    // Against the numbers of register `own`: those of the registers before it come before, those after it after.
    template <int own> DBP_INLINE void against(const T* x, int64_t count) {
        M lane;
        for (int l = 0; l < L; l++) lane[l] = l;
        for (int j = 0; j < L && own * L + j < count; j++) {
            const T other = x[own * L + j];
            for (int r = 0; r < own; r++) before[r] -= other < value[r];
            before[own] -= (other < value[own]) | ((other == value[own]) & (lane > j));
            for (int r = own + 1; r < R; r++) before[r] -= other <= value[r];
        }
        if constexpr (own + 1 < R) against<own + 1>(x, count);
    }

   public:
    DBP_INLINE void rank(const T* x, T* rank, int64_t n, int64_t start) {
        const int64_t count = std::min<int64_t>(R * L, n - start);
        T part[R * L];
        std::copy_n(x + start, count, part);
        std::memcpy(value, part, sizeof value);
        for (int r = 0; r < R; r++) before[r] = M{} + 1;
        for (int64_t j = 0; j < start; j++)
            for (int r = 0; r < R; r++) before[r] -= x[j] <= value[r];
        against<0>(x + start, count);
        for (int64_t j = start + count; j < n; j++)
            for (int r = 0; r < R; r++) before[r] -= x[j] < value[r];
        for (int r = 0; r < R; r++)
            for (int l = 0; l < L; l++) part[r * L + l] = static_cast<T>(before[r][l]);
        std::copy_n(part, count, rank + start);
    }
};

template <class T>
void count_row(const T* x, T* rank, int64_t n) {
    constexpr int L = dbp::LANES<T>;
    int64_t start = 0;
    for (; n - start > 2 * L; start += 4 * L) Counted<T, 4>().rank(x, rank, n, start);
    for (; n - start > 0; start += 2 * L) Counted<T, 2>().rank(x, rank, n, start);
}

// What is sorted: a key, and the index of its number. Short keys lie in one integer with it, which is loaded at once.
struct Short {
    uint64_t both;
    uint32_t key() const { return static_cast<uint32_t>(both >> 32); }
    uint32_t index() const { return static_cast<uint32_t>(both); }
    static Short of(uint32_t key, int64_t index) { return {uint64_t(key) << 32 | static_cast<uint32_t>(index)}; }
};
struct Long {
    uint64_t key_, index_;
    uint64_t key() const { return key_; }
    uint64_t index() const { return index_; }
    static Long of(uint64_t key, int64_t index) { return {key, static_cast<uint64_t>(index)}; }
};

// Sorts the indices by DIGITS digits of BITS bits of their keys and writes ranks. Returns where the items are in order, if
// they are KEPT. With more bits to a digit there are fewer passes over the row and longer tables to clear.
template <int BITS, int DIGITS, bool KEPT, class Item, class T, class KeyOf>
Item* radix_sort(KeyOf key_of, Item* a, Item* b, T* rank, int64_t n) {
    constexpr int SIZE = 1 << BITS;
    uint32_t place[DIGITS][SIZE] = {};
    for (int64_t i = 0; i < n; i++) {
        const auto key = key_of(i);
        a[i] = Item::of(key, i);
        for (int d = 0; d < DIGITS; d++) place[d][key >> (BITS * d) & (SIZE - 1)]++;
    }
    for (int d = 0; d < DIGITS; d++) {
        uint32_t start = 0;
        for (uint32_t& next : place[d]) start += std::exchange(next, start);
    }
    const auto pass = [=](const Item* from, Item* to, uint32_t* next, int d, auto last) {
        for (int64_t i = 0; i < n; i++) {
            const Item item = from[i];
            const uint32_t at = next[item.key() >> (BITS * d) & (SIZE - 1)]++;
            if (KEPT || !last) to[at] = item;
            if (last) rank[item.index()] = static_cast<T>(at + 1);
        }
    };
    for (int d = 0; d + 1 < DIGITS; d++, std::swap(a, b)) pass(a, b, place[d], d, std::false_type());
    pass(a, b, place[DIGITS - 1], DIGITS - 1, std::true_type());
    return b;
}

template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

// Unsigned integers in the order of the floats; -0 and 0 are one.
template <class T>
Bits<T> ordered(T x) {
    x += T(0);
    Bits<T> u;
    std::memcpy(&u, &x, sizeof(T));
    constexpr Bits<T> sign = Bits<T>(1) << (8 * sizeof(T) - 1);
    return u & sign ? ~u : u | sign;
}

template <class T>
class Sorted {
    using Whole = std::conditional_t<sizeof(T) == 4, Short, Long>;  // with all the bits of a number as its key
    std::vector<Short> short_a, short_b;
    std::vector<Whole> whole_a, whole_b;

   public:
    template <int BITS>
    void rank_row(const T* x, T* rank, int64_t n) {
        const bool few_digits = sizeof(T) == 4 && n >= MANY;
        if (few_digits || !by_place<BITS>(x, rank, n)) by_bits<BITS>(x, rank, n);
    }

   private:
    // By where in the range of the row a number lies, in two digits; then numbers of one place are put in order. False if
    // that takes long, as outliers make it.
    template <int BITS>
    bool by_place(const T* x, T* rank, int64_t n) {
        using V = dbp::Lanes<T>;
        V least = V{} + x[0], most = least;
        for (int64_t i = 0; i < n; i += dbp::LANES<T>) {
            V part;
            std::memcpy(&part, x + std::min<int64_t>(i, n - dbp::LANES<T>), sizeof part);
            least = part < least ? part : least;
            most = part > most ? part : most;
        }
        const T low = dbp::smallest(least), high = -dbp::smallest(-most);
        constexpr T PLACES = T(1 << 2 * BITS);
        const T scale = PLACES / (high - low);
        if (!(scale > 0 && scale < std::numeric_limits<T>::max())) return false;
        short_a.resize(n), short_b.resize(n);
        const auto place = [=](int64_t i) {
            const T at = (x[i] - low) * scale, inside = at > 0 ? at : T(0);  // a NaN is not
            return static_cast<uint32_t>(static_cast<int32_t>(inside < PLACES ? inside : PLACES - 1));
        };
        Short* a = radix_sort<BITS, 2, true>(place, short_a.data(), short_b.data(), rank, n);
        int64_t moves = 0;
        for (int64_t i = 1; i < n; i++) {
            const Short item = a[i];
            if (item.key() != a[i - 1].key()) continue;
            int64_t to = i;
            for (; to > 0 && a[to - 1].key() == item.key() && x[a[to - 1].index()] > x[item.index()]; to--) {
                a[to] = a[to - 1];
                rank[a[to].index()] = static_cast<T>(to + 1);
            }
            a[to] = item;
            rank[item.index()] = static_cast<T>(to + 1);
            if ((moves += i - to) > n) return false;
        }
        return true;
    }

    template <int BITS>
    void by_bits(const T* x, T* rank, int64_t n) {
        whole_a.resize(n), whole_b.resize(n);
        const auto bits = [=](int64_t i) { return ordered(x[i]); };
        constexpr int DIGITS = (8 * sizeof(T) + BITS - 1) / BITS;
        radix_sort<BITS, DIGITS, false>(bits, whole_a.data(), whole_b.data(), rank, n);
    }
};

template <class T>
void rank_rows(const T* x, T* y, int64_t n, int64_t begin, int64_t end) {
    if (n <= COUNTED) {
        for (int64_t row = begin; row < end; row++) count_row(x + row * n, y + row * n, n);
        return;
    }
    Sorted<T> sorted;
    for (int64_t row = begin; row < end; row++) {
        if (n < MANY) sorted.template rank_row<8>(x + row * n, y + row * n, n);
        else sorted.template rank_row<11>(x + row * n, y + row * n, n);
    }
}

template <class T>
int64_t rank(const T* x, T* y, int64_t rows, int64_t n, int64_t threads) {
    const double cost = sizeof(T) * (n <= COUNTED ? 0.01 * n * n : 1.5 * n);
    return dbp::parallel(rows, cost, threads, [=](int64_t begin, int64_t end) { rank_rows(x, y, n, begin, end); });
}

}  // namespace

DBP_BOTH(rank, (const T* x, T* y, int64_t rows, int64_t n, int64_t threads), rank(x, y, rows, n, threads))
