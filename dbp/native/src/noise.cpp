// Noise by a counter: number i of a key's stream is a function of (key, i) alone, whatever is drawn before or beside it.
//
// The random words are those of Threefry4x32 with 13 rounds (12 pass all known tests): Salmon, Moraes, Dror, Shaw,
// "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Philox takes twice as long, for want of a multiplication of
// whole registers. What becomes of the words are plain loops and series, so that all processors draw the same numbers.
#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernel.h"

namespace {

constexpr int BLOCKS = 64;  // of four words, made side by side: word j of block b is at BLOCKS * j + b

template <class T>
using Word = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
template <class T>
using Signed = std::make_signed_t<Word<T>>;
template <class T>
constexpr int BITS = 8 * sizeof(T);
template <class T>
constexpr int EACH = 16 / sizeof(T);  // numbers of a block
template <class T>
constexpr int CHUNK = EACH<T> * BLOCKS;

constexpr int ROUNDS = 13;  // also in the pragma below
constexpr int ROTATIONS[8][2] = {{10, 26}, {11, 21}, {13, 27}, {23, 5}, {6, 20}, {17, 11}, {25, 10}, {18, 20}};

DBP_INLINE void mix(uint32_t& x, uint32_t& y, int rotation) {
    x += y;
    y = (y << rotation | y >> (32 - rotation)) ^ x;
}

// The four words of a block.
DBP_INLINE void threefry(uint64_t key, uint64_t block, uint32_t* w) {
    uint32_t x[4] = {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 0};
    uint32_t k[5] = {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32), 0, 0, 0x1BD11BDA};
    for (int i = 0; i < 4; i++) k[4] ^= k[i], x[i] += k[i];
#pragma GCC unroll 13
    for (int round = 0; round < ROUNDS; round++) {
        const auto& rotation = ROTATIONS[round % 8];
        mix(x[0], x[round % 2 ? 3 : 1], rotation[0]);
        mix(x[2], x[round % 2 ? 1 : 3], rotation[1]);
        if (round % 4 < 3) continue;
        for (int i = 0; i < 4; i++) x[i] += k[(round / 4 + 1 + i) % 5];
        x[3] += round / 4 + 1;
    }
    for (int j = 0; j < 4; j++) w[j * BLOCKS] = x[j];
}

// The words of a chunk: as they are for floats, in pairs for doubles.
template <class T>
void draw(uint64_t key, uint64_t chunk, Word<T>* w) {
    uint32_t word[4 * BLOCKS];
    for (int i = 0; i < BLOCKS; i++) threefry(key, chunk * BLOCKS + i, word + i);
    for (int i = 0; i < CHUNK<T>; i++) {
        if constexpr (sizeof(T) == 4) w[i] = word[i];
        else w[i] = uint64_t{word[CHUNK<T> + i]} << 32 | word[i];
    }
}

template <class To, class From>
DBP_INLINE To bits(From x) {
    To y;
    std::memcpy(&y, &x, sizeof y);
    return y;
}

// n as a floating number; a double if |n| < 2^51, which has no instruction before AVX-512.
DBP_INLINE float number(int32_t n) { return static_cast<float>(n); }
DBP_INLINE double number(int64_t n) {
    constexpr double middle = 6755399441055744;  // 1.5 * 2^52: the last bits of what is near count ones
    return bits<double>(n + bits<int64_t>(middle)) - middle;
}

// c[0] + c[1] z + c[2] z^2 + ...
template <class T, int N>
DBP_INLINE T polynomial(const T (&c)[N], T z) {
    T y = c[N - 1];
#pragma GCC unroll 16
    for (int i = N - 2; i >= 0; i--) y = y * z + c[i];
    return y;
}

template <class T>
struct Series;
template <>
struct Series<float> {
    static constexpr float ATANH[] = {2, 2.f / 3, 2.f / 5, 2.f / 7, 2.f / 9};
    static constexpr float SIN[] = {1, -1.f / 6, 1.f / 120, -1.f / 5040, 1.f / 362880};
    static constexpr float COS[] = {1, -1.f / 2, 1.f / 24, -1.f / 720, 1.f / 40320};
};
template <>
struct Series<double> {
    static constexpr double ATANH[] = {2,      2. / 3,  2. / 5,  2. / 7,  2. / 9, 2. / 11,
                                       2. / 13, 2. / 15, 2. / 17, 2. / 19, 2. / 21};
    static constexpr double SIN[] = {1, -1. / 6, 1. / 120, -1. / 5040, 1. / 362880, -1. / 39916800, 1. / 6227020800,
                                     -1. / 1307674368000, 1. / 355687428096000};
    static constexpr double COS[] = {1, -1. / 2, 1. / 24, -1. / 720, 1. / 40320, -1. / 3628800, 1. / 479001600,
                                     -1. / 87178291200, 1. / 20922789888000};
};

// log(x) = e log 2 + log(1 + f), sqrt(1/2) <= 1 + f < sqrt(2), and log(1 + f) = 2 atanh(f / (2 + f)).
template <class T>
struct Reduced {
    Signed<T> e;
    T f;
    DBP_INLINE explicit Reduced(T x) {
        constexpr int MANTISSA = sizeof(T) == 4 ? 23 : 52;
        const auto u = bits<Signed<T>>(x);
        const auto from_root = u - bits<Signed<T>>(static_cast<T>(0.70710678118654752440));
        e = from_root >> MANTISSA;
        f = bits<T>(u - (from_root & ~((Signed<T>{1} << MANTISSA) - 1))) - 1;
    }
    DBP_INLINE T log() const {
        const T s = f / (f + 2);
        return number(e) * static_cast<T>(0.69314718055994530942) + s * polynomial(Series<T>::ATANH, s * s);
    }
};

template <class T>
DBP_INLINE T log_of(T x) {
    return Reduced<T>(x).log();
}

// s / 2^(BITS - 1), of a double the first 52 bits.
DBP_INLINE float fraction(int32_t s) { return number(s) * 0x1p-31f; }
DBP_INLINE double fraction(int64_t s) { return number(s >> 12) * 0x1p-51; }
template <class T>
constexpr T HALF_STEP = sizeof(T) == 4 ? static_cast<T>(0x1p-32) : static_cast<T>(0x1p-52);

// Of a uniform U on (0, 1), the distance to the nearer end: at most 1/2, and precise however small.
template <class T>
DBP_INLINE T distance(Word<T> w) {
    const auto s = static_cast<Signed<T>>(w);
    return (fraction(s ^ (s >> (BITS<T> - 1))) + HALF_STEP<T>) / 2;  // of min(w, ~w)
}

template <class T>
DBP_INLINE bool upper(Word<T> w) {
    return static_cast<Signed<T>>(w) < 0;
}

// -log U, precise where it is small as where it is large.
template <class T>
DBP_INLINE T exponential(Word<T> w) {
    const T p = distance<T>(w);
    Reduced<T> u(upper<T>(w) ? 1 - p : p);
    u.f = upper<T>(w) & (u.e == 0) ? -p : u.f;
    return -u.log();
}

// Each turns a chunk's words into its numbers.

template <class T>
struct Uniform {  // on [-1, 1]
    void operator()(const Word<T>* w, T* z) const {
        for (int i = 0; i < CHUNK<T>; i++) z[i] = (upper<T>(w[i]) ? 1 : -1) * (1 - 2 * distance<T>(w[i]));
    }
};

template <class T>
struct Gumbel {
    void operator()(const Word<T>* w, T* z) const {
        for (int i = 0; i < CHUNK<T>; i++) z[i] = -log_of(exponential<T>(w[i]));
    }
};

template <class T>
struct Logistic {
    void operator()(const Word<T>* w, T* z) const {
        for (int i = 0; i < CHUNK<T>; i++) {
            const T p = distance<T>(w[i]), lower = log_of(p / (1 - p));
            z[i] = upper<T>(w[i]) ? -lower : lower;
        }
    }
};

// Box and Muller: the first of two words is the length, the second the angle, of a point in the plane.
template <class T>
struct Normal {
    void operator()(const Word<T>* w, T* z) const {
        for (int j = 0; j < EACH<T>; j += 2) pairs(w + j * BLOCKS, z + j * BLOCKS);
    }
    static void pairs(const Word<T>* __restrict w, T* __restrict z) {
        constexpr T half_turn = static_cast<T>(3.14159265358979323846);
        for (int i = 0; i < BLOCKS; i++) {
            const T length = std::sqrt(2 * exponential<T>(w[i]));
            const Word<T> angle = w[BLOCKS + i];
            const Word<T> quarter = (angle + (Word<T>{1} << (BITS<T> - 3))) >> (BITS<T> - 2);
            const T a = fraction(static_cast<Signed<T>>(angle - (quarter << (BITS<T> - 2)))) * half_turn;
            const T sine = a * polynomial(Series<T>::SIN, a * a), cosine = polynomial(Series<T>::COS, a * a);
            const T x = quarter & 1 ? sine : cosine, y = quarter & 1 ? cosine : sine;
            z[i] = length * ((quarter + 1) & 2 ? -x : x);
            z[BLOCKS + i] = length * (quarter & 2 ? -y : y);
        }
    }
};

// Quantiles of any law, linear between nodes: 128 to an octave of the probability to the nearer end, from 2^-33 to 1/2.
// `node` has of each its value and the rise to the next, of the lower half and then of the upper one.
template <class T>
struct Quantiles {
    static constexpr int MANTISSA = sizeof(T) == 4 ? 23 : 52, EACH_OCTAVE = 7, REST = MANTISSA - EACH_OCTAVE;
    static constexpr Word<T> NODES = 32 * (1 << EACH_OCTAVE) + 1;
    const T* node;
    void operator()(const Word<T>* __restrict w, T* __restrict z) const {
        constexpr T first = static_cast<T>(0.5), one = 1;
        Word<T> place[CHUNK<T>];
        for (int i = 0; i < CHUNK<T>; i++) {
            const auto upper = static_cast<Word<T>>(static_cast<Signed<T>>(w[i]) >> (BITS<T> - 1));
            const auto u = bits<Word<T>>(from_end(static_cast<Signed<T>>(w[i] ^ upper)));
            place[i] = (u >> REST) - (bits<Word<T>>(first) >> REST) + (upper & NODES);
            z[i] = bits<T>((u & ((Word<T>{1} << REST) - 1)) << EACH_OCTAVE | bits<Word<T>>(one)) - one;
        }
        for (int i = 0; i < CHUNK<T>; i++) z[i] = node[2 * place[i]] + z[i] * node[2 * place[i] + 1];
    }
    // 2^32 times the probability, 1/2 to 2^31, of the bits but the first.
    static DBP_INLINE float from_end(int32_t s) { return number(s) + 0.5f; }
    static DBP_INLINE double from_end(int64_t s) { return number(s >> 12) * 0x1p-20 + 0.5; }
};

// Numbers `offset` to `offset + n` of the key's stream, times scale, plus a centre: number i has centre[i % period], and
// a null centre is zero. Only Quantiles read the table.
template <template <class> class Distribution, class T>
int64_t fill(T* z, const T* centre, const T* table, int64_t key, int64_t offset, int64_t n, int64_t period, double scale,
             int64_t threads) {
    const auto distribution = [=] {
        if constexpr (std::is_empty_v<Distribution<T>>) return Distribution<T>{};
        else return Distribution<T>{table};
    }();
    const T factor = static_cast<T>(scale);
    const int64_t first = offset / CHUNK<T>, last = (offset + n + CHUNK<T> - 1) / CHUNK<T>;
    return dbp::parallel(n ? last - first : 0, 0.6 * sizeof(T) * CHUNK<T>, threads, [=](int64_t begin, int64_t end) {
        Word<T> words[CHUNK<T>];
        T numbers[CHUNK<T>];
        for (int64_t chunk = first + begin; chunk < first + end; chunk++) {
            draw<T>(key, chunk, words);
            distribution(words, numbers);
            const int64_t start = chunk * CHUNK<T>, stop = std::min(start + CHUNK<T>, offset + n);
            for (int64_t i = std::max(start, offset), run; i < stop; i += run) {
                run = std::min(stop - i, period - i % period);
                const T* number = numbers + (i - start);
                T* out = z + (i - offset);
                for (int64_t j = 0; j < run; j++) out[j] = factor * number[j];
                if (!centre) continue;
                const T* middle = centre + i % period;
                for (int64_t j = 0; j < run; j++) out[j] += middle[j];
            }
        }
    });
}

}  // namespace

#define DBP_NOISE(NAME, DISTRIBUTION)                                                                                   \
    DBP_BOTH(NAME,                                                                                                      \
             (T* z, const T* centre, const T* table, int64_t key, int64_t offset, int64_t n, int64_t period,            \
              double scale, int64_t threads),                                                                           \
             fill<DISTRIBUTION>(z, centre, table, key, offset, n, period, scale, threads))

DBP_NOISE(uniform, Uniform)
DBP_NOISE(normal, Normal)
DBP_NOISE(gumbel, Gumbel)
DBP_NOISE(logistic, Logistic)
DBP_NOISE(quantiles, Quantiles)
