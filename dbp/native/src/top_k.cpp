// Marks the k largest numbers of each row, the lowest indices among equals: bisection for the threshold.
#include <cstring>
#include <type_traits>
#include <utility>

#include "registers.h"

namespace {

template <class T>
using Key = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

// Reads a row as integers in the order of the floats (-0 as 0), padded with the least integer; their range.
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

    void read(const T* x) {
        const int64_t whole = n / L;
        V most = V{} + LEAST, least = ~most;
        for (int64_t i = 0; i < whole; i++) {
            dbp::Lanes<T> part;
            std::memcpy(&part, x + i * L, sizeof part);
            key[i] = in_order(part);
            most = key[i] > most ? key[i] : most;
            least = key[i] < least ? key[i] : least;
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
        V even = {}, odd = {};
        int64_t i = 0;
        for (; i + 1 < registers; i += 2) even -= key[i] >= threshold, odd -= key[i + 1] >= threshold;
        if (i < registers) even -= key[i] >= threshold;
        return dbp::sum(even + odd);
    }

    // The numbers on either side of `threshold`: the least from it up, the greatest below it.
    std::pair<Key<T>, Key<T>> around(Key<T> threshold) const {
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
        const Key<T>* each = reinterpret_cast<const Key<T>*>(key);
        int64_t cut = room < n ? 0 : n;
        for (; cut < n && (room -= each[cut] == threshold) >= 0;) cut++;
        const V one = reinterpret_cast<V>(dbp::Lanes<T>{} + T(1));
        const int64_t mixed = (cut + L - 1) / L, whole = n / L;  // registers before the cut, registers of y
        auto marked = [&](int64_t i) { return (i < mixed ? key[i] >= threshold : key[i] > threshold) & one; };
        for (int64_t i = 0; i < whole; i++) {
            const V part = marked(i);
            std::memcpy(y + i * L, &part, sizeof part);
        }
        if (whole < registers) {
            const V part = marked(whole);
            std::memcpy(y + whole * L, &part, (n - whole * L) * sizeof(T));
        }
        for (int64_t i = cut; i < n && i % L; i++) y[i] = each[i] > threshold;
    }
};

// Halfway between two thresholds: between the numbers, or between their bits.
template <class T>
Key<T> halfway(Key<T> low, Key<T> high, bool of_numbers) {
    using U = std::make_unsigned_t<Key<T>>;
    if (of_numbers) {
        const Key<T> middle = Keys<T>::key_of(Keys<T>::value_of(low) / 2 + Keys<T>::value_of(high) / 2);
        if (low < middle && middle <= high) return middle;
    }
    const U range = U(high) - U(low);
    return static_cast<Key<T>>(U(low) + range / 2 + range % 2);
}

template <class T>
void mark(Keys<T>& keys, const T* x, T* y, int64_t k) {
    keys.read(x);
    Key<T> low = keys.low, high = keys.high;
    int64_t above = 0;  // how many are greater than `high`
    for (int pass = 0; low < high; pass++) {
        const Key<T> middle = halfway<T>(low, high, pass < 12 || pass % 2);
        const int64_t count = keys.at_least(middle);
        if (count == k) return keys.write(y, middle, keys.n);
        // That takes some 7 to 14 passes, unless numbers are equal or much closer than the range is wide.
        const auto [up, down] = pass < 16 ? std::pair(middle, static_cast<Key<T>>(middle - 1)) : keys.around(middle);
        if (count > k) low = up;
        else high = down, above = count;
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

DBP_EXPORT int64_t dbp_top_k_f32(const float* x, float* y, int64_t rows, int64_t n, int64_t k, int64_t threads) {
    return top_k(x, y, rows, n, k, threads);
}
DBP_EXPORT int64_t dbp_top_k_f64(const double* x, double* y, int64_t rows, int64_t n, int64_t k, int64_t threads) {
    return top_k(x, y, rows, n, k, threads);
}
