// Marks the k largest numbers of each row, the lowest indices among equals: a search for the threshold by counting.
#include <cstring>
#include <type_traits>
#include <utility>

#include "registers.h"

namespace {

template <class T>
using Key = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

// A row as integers in the order of the floats (-0 as 0), padded with the least integer, and their range.
template <class T>
struct Keys {
    using V = dbp::Lanes<Key<T>>;
    static constexpr int L = dbp::LANES<T>;
    static constexpr Key<T> LEAST = std::numeric_limits<Key<T>>::min();
    int64_t n, registers;
    dbp::Buffer<Key<T>> buffer;
    V* key;
    Key<T> low, high;

    explicit Keys(int64_t size)
        : n(size),
          registers((n + L - 1) / L),
          buffer(registers * L),
          key(reinterpret_cast<V*>(static_cast<Key<T>*>(buffer))) {}

    DBP_INLINE static V in_order(dbp::Lanes<T> x) {
        const V bits = reinterpret_cast<V>(x + T(0));
        return bits ^ ((bits >> (8 * sizeof(T) - 1)) & ~LEAST);
    }

    static Key<T> key_of(T x) { return in_order(dbp::Lanes<T>{} + x)[0]; }
    static T value_of(Key<T> key) {
        key ^= key >> (8 * sizeof(T) - 1) & ~LEAST;
        T x;
        std::memcpy(&x, &key, sizeof x);
        return x;
    }

    // What is wanted later is sent for: y and the row that follows x.
    void read(const T* x, T* y) {
        V* const key = this->key;  // here and below: so that it is not read again after each store
        const int64_t whole = n / L;
        V most = V{} + LEAST, least = ~most;
        for (int64_t i = 0; i < whole; i++) {
            dbp::Lanes<T> part;
            std::memcpy(&part, x + i * L, sizeof part);
            __builtin_prefetch(x + n + i * L);
            __builtin_prefetch(y + i * L, 1);
            const V here = key[i] = in_order(part);
            most = here > most ? here : most;
            least = here < least ? here : least;
        }
        if (whole < registers) {
            dbp::Lanes<T> part = {};
            std::memcpy(&part, x + whole * L, (n - whole * L) * sizeof(T));
            V lane;
            for (int l = 0; l < L; l++) lane[l] = l;
            const V inside = lane < static_cast<Key<T>>(n - whole * L), last = in_order(part);
            key[whole] = inside ? last : V{} + LEAST;
            most = key[whole] > most ? key[whole] : most;
            least = inside & (last < least) ? last : least;
        }
        low = dbp::smallest(least), high = ~dbp::smallest(~most);
    }

    int64_t at_least(Key<T> threshold) const {
        const V* const key = this->key;
        V below[4] = {};  // to be subtracted; compilers turn `>=` into more instructions than `<`
        int64_t i = 0;
        for (; i + 4 <= registers; i += 4)
            for (int u = 0; u < 4; u++) below[u] += key[i + u] < threshold;
        for (; i < registers; i++) below[0] += key[i] < threshold;
        return registers * L + dbp::sum(below[0] + below[1] + below[2] + below[3]);
    }

    // The numbers on either side of `threshold`: the least from it up, the greatest below it.
    std::pair<Key<T>, Key<T>> around(Key<T> threshold) const {
        const V* const key = this->key;
        V below = V{} + LEAST, above = ~below;
        for (int64_t i = 0; i < registers; i++) {
            const auto up = key[i] >= threshold;
            above = up & (key[i] < above) ? key[i] : above;
            below = ~up & (key[i] > below) ? key[i] : below;
        }
        return {dbp::smallest(above), ~dbp::smallest(~below)};
    }

    // Ones from the threshold up, but for those equal to it only the first `room`.
    void write(T* y, Key<T> threshold, int64_t room) const {
        const V* const key = this->key;
        int64_t mixed = room < n ? 0 : registers;  // the register where room ends
        for (; mixed < registers; mixed++) {
            const int ties = __builtin_popcount(dbp::bits(key[mixed] == threshold));
            if (ties > room) break;
            room -= ties;
        }
        const V one = reinterpret_cast<V>(dbp::Lanes<T>{} + T(1));
        const int64_t whole = n / L;
        auto store = [=](int64_t i, V mark, size_t size) { mark &= one, std::memcpy(y + i * L, &mark, size); };
        for (int64_t i = 0; i < std::min(mixed, whole); i++) store(i, key[i] >= threshold, sizeof(V));
        for (int64_t i = mixed; i < whole; i++) store(i, key[i] > threshold, sizeof(V));
        if (whole < registers)
            store(whole, whole < mixed ? key[whole] >= threshold : key[whole] > threshold, (n - whole * L) * sizeof(T));
        for (int64_t i = mixed * L; room && i < n; i++)
            if (key[mixed][i % L] == threshold) y[i] = 1, room--;
    }
};

// Grows with the count as a threshold falls, about evenly if the numbers are of a logistic distribution: the log of
// the odds, where the bits of a float are near enough to its logarithm.
inline float log_odds(int64_t count, int64_t n) {
    const float above = count + 0.5f, below = n - count + 0.5f;
    int32_t a, b;
    std::memcpy(&a, &above, sizeof a);
    std::memcpy(&b, &below, sizeof b);
    return static_cast<float>(a - b);
}

template <class T>
void mark(Keys<T>& keys, const T* x, T* y, int64_t k) {
    using U = std::make_unsigned_t<Key<T>>;
    keys.read(x, y);
    const int64_t n = keys.n;
    Key<T> low = keys.low, high = keys.high;  // the k-th largest is between them
    int64_t from_low = n, above = 0, off = 0;  // how many are `low` or more, more than `high`, counted last but k
    float over = log_odds(n, n) - log_odds(k, n), under = log_odds(k, n) - log_odds(0, n);
    for (int pass = 0; low < high; pass++) {
        const U range = U(high) - U(low);
        Key<T> middle = static_cast<Key<T>>(U(low) + range / 2 + range % 2);
        if (pass < 8 || pass % 2) {  // some 3 to 8 passes do, unless numbers are much closer than the range is wide
            const T share = n < 256 ? T(0.5) : T(over / (over + under));
            const T between = Keys<T>::value_of(low) * (1 - share) + Keys<T>::value_of(high) * share;
            middle = std::min(std::max(Keys<T>::key_of(between), static_cast<Key<T>>(low + 1)), high);
        }
        if (off == 1) middle = low + 1;
        if (off == -1) middle = high;
        const int64_t count = keys.at_least(middle), last = std::exchange(off, count - k);
        if (off == 0) return keys.write(y, middle, n);
        // One too many or too few, or nothing found: on to the next number.
        const bool near = off == 1 || off == -1 || count == from_low || count == above || pass > 15;
        const auto [up, down] = near ? keys.around(middle) : std::pair(middle, static_cast<Key<T>>(middle - 1));
        // The end that stays a second time is brought nearer (after Dowell, Jarratt, BIT 11, 1971, who halve).
        if (off > 0) {
            low = up, from_low = count, over = log_odds(count, n) - log_odds(k, n);
            if (last > 0) under *= 0.4f;
        } else {
            high = down, above = count, under = log_odds(k, n) - log_odds(count, n);
            if (last < 0) over *= 0.4f;
        }
    }
    keys.write(y, low, k - above);
}

template <class T>
int64_t top_k(const T* x, T* y, int64_t rows, int64_t n, int64_t k, int64_t threads) {
    return dbp::parallel(rows, 50 + 1.0 * n, threads, [=](int64_t begin, int64_t end) {
        Keys<T> keys(n);
        for (int64_t row = begin; row < end; row++) mark(keys, x + row * n, y + row * n, k);
    });
}

}  // namespace

DBP_BOTH(top_k, (const T* x, T* y, int64_t rows, int64_t n, int64_t k, int64_t threads),
         top_k(x, y, rows, n, k, threads))
