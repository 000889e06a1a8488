// Marks the k largest numbers of each row, the lowest indices among equals: bisection on the bits of the threshold.
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernel.h"

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
            const V last = in_order(part);
            key[whole] = V{} + LEAST;
            for (int64_t l = 0; l < n - whole * L; l++) {
                key[whole][l] = last[l];
                most[l] = std::max(most[l], last[l]);
                least[l] = std::min(least[l], last[l]);
            }
        }
        low = least[0], high = most[0];
        for (int l = 1; l < L; l++) low = std::min(low, least[l]), high = std::max(high, most[l]);
    }

    int64_t at_least(Key<T> threshold) const {
        V even = {}, odd = {};
        int64_t i = 0;
        for (; i + 1 < registers; i += 2) even -= key[i] >= threshold, odd -= key[i + 1] >= threshold;
        if (i < registers) even -= key[i] >= threshold;
        even += odd;
        int64_t count = 0;
        for (int l = 0; l < L; l++) count += even[l];
        return count;
    }

    // The numbers on either side of `threshold`: the least from it up, the greatest below it.
    std::pair<Key<T>, Key<T>> around(Key<T> threshold) const {
        V below = V{} + LEAST, above = ~below;
        for (int64_t i = 0; i < registers; i++) {
            const auto up = key[i] >= threshold;
            above = up & (key[i] < above) ? key[i] : above;
            below = ~up & (key[i] > below) ? key[i] : below;
        }
        Key<T> least = above[0], most = below[0];
        for (int l = 1; l < L; l++) least = std::min(least, above[l]), most = std::max(most, below[l]);
        return {least, most};
    }

    // Ones from the threshold up, but for those equal to it only the first `room`.
    void write(T* y, Key<T> threshold, int64_t room) const {
        const Key<T>* each = reinterpret_cast<const Key<T>*>(key);
        int64_t cut = room < n ? 0 : n;
        for (; cut < n && (room -= each[cut] == threshold) >= 0;) cut++;
        const V one = reinterpret_cast<V>(dbp::Lanes<T>{} + T(1));
        for (int64_t i = 0; i < registers; i++) {
            const V marked = (i * L < cut ? key[i] >= threshold : key[i] > threshold) & one;
            std::memcpy(y + i * L, &marked, std::min<int64_t>(L, n - i * L) * sizeof(T));
        }
        for (int64_t i = cut; i < n && i % L; i++) y[i] = each[i] > threshold;
    }
};

template <class T>
void mark(Keys<T>& keys, const T* x, T* y, int64_t k) {
    using U = std::make_unsigned_t<Key<T>>;
    keys.read(x);
    Key<T> low = keys.low, high = keys.high;
    int64_t above = 0;  // how many are greater than `high`
    for (int pass = 0; low < high; pass++) {
        const U half = (U(high) - U(low)) / 2 + (U(high) - U(low)) % 2;
        const Key<T> middle = static_cast<Key<T>>(U(low) + half);
        const int64_t count = keys.at_least(middle);
        if (count == k) return keys.write(y, middle, keys.n);
        // That takes up to some 16 passes, unless numbers are equal or much closer than the range is wide.
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
