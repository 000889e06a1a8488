// What every kernel is written with: Lanes, Buffer, parallel, Failure.
//
// All sources are compiled three times on x86, for what every processor has, for AVX2 and for AVX-512, into three
// libraries; Python loads the one that fits. The arithmetic, and so the result, is the same in all.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <limits>
#include <new>
#include <thread>
#include <vector>

#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define DBP_EXPORT extern "C" __attribute__((visibility("default")))

// Exports a kernel as dbp_NAME_f32 and dbp_NAME_f64: the same parameters and the same call with T = float and T = double.
// No exception leaves them, which would end the process.
#define DBP_BOTH(NAME, PARAMETERS, ...)                                               \
    namespace NAME##_of_float {                                                       \
    using T = float;                                                                  \
    DBP_EXPORT int64_t dbp_##NAME##_f32 PARAMETERS {                                  \
        return dbp::guarded([&]() -> int64_t { return __VA_ARGS__; });                \
    }                                                                                 \
    }                                                                                 \
    namespace NAME##_of_double {                                                      \
    using T = double;                                                                 \
    DBP_EXPORT int64_t dbp_##NAME##_f64 PARAMETERS {                                  \
        return dbp::guarded([&]() -> int64_t { return __VA_ARGS__; });                \
    }                                                                                 \
    }

namespace dbp {

constexpr int64_t OUT_OF_MEMORY = -1, FAILED = -2;

#if defined(__AVX512F__)
constexpr int LANE_BYTES = 64;
#elif defined(__AVX2__)
constexpr int LANE_BYTES = 32;
#else
constexpr int LANE_BYTES = 16;
#endif

// One register of T with elementwise arithmetic, comparison and `? :`, as GCC and Clang have it on any processor. A
// function that takes or returns one must be DBP_INLINE.
template <class T>
struct LanesOf {
    typedef T type __attribute__((vector_size(LANE_BYTES)));
};
template <class T>
using Lanes = typename LanesOf<T>::type;
template <class T>
constexpr int LANES = LANE_BYTES / sizeof(T);
#define DBP_INLINE inline __attribute__((always_inline))

template <class V>
DBP_INLINE V least(V a, V b) {
    return a < b ? a : b;
}

// One bit for each lane where a comparison holds, of registers of any width.
template <class Mask>
DBP_INLINE unsigned bits(Mask mask) {
    constexpr bool four = sizeof(mask[0]) == 4;
#if defined(__x86_64__)
    if constexpr (sizeof(mask) == 16)
        return four ? _mm_movemask_ps(reinterpret_cast<__m128>(mask)) : _mm_movemask_pd(reinterpret_cast<__m128d>(mask));
#endif
#if defined(__AVX2__)
    if constexpr (sizeof(mask) == 32)
        return four ? _mm256_movemask_ps(reinterpret_cast<__m256>(mask)) : _mm256_movemask_pd(reinterpret_cast<__m256d>(mask));
#endif
#if defined(__AVX512F__)
    if constexpr (sizeof(mask) == 64)
        return four ? _mm512_movepi32_mask(reinterpret_cast<__m512i>(mask)) : _mm512_movepi64_mask(reinterpret_cast<__m512i>(mask));
#endif
    unsigned all = 0;
    for (unsigned l = 0; l < sizeof(mask) / sizeof(mask[0]); l++) all |= static_cast<unsigned>(mask[l] != 0) << l;
    return all;
}

// Whether a comparison of lanes holds anywhere.
template <class Mask>
DBP_INLINE bool any(Mask mask) {
    return bits(mask) != 0;
}

// Uninitialised memory for `size` numbers, aligned for Lanes.
template <class T>
class Buffer {
    T* start;

   public:
    explicit Buffer(size_t size) : start(static_cast<T*>(::operator new(size * sizeof(T), std::align_val_t(64)))) {}
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { ::operator delete(start, std::align_val_t(64)); }
    operator T*() { return start; }
};

// torch's `at::parallel_for`, of its stable ABI, and the process it was lent in; null until then (kernel.cpp). A fork
// does not have the threads that it would call.
using ParallelFor = int32_t (*)(int64_t begin, int64_t end, int64_t grain, void (*)(int64_t, int64_t, void*), void*);
struct Lent {
    ParallelFor parallel_for;
    pid_t process;
};
extern Lent lent;

// Calls `take()` on so many threads and waits for them: torch's own, which are awake soon, or some made for this call.
template <class Take>
void on_threads(int64_t workers, Take take) {
    if (lent.parallel_for && lent.process == getpid()) {
        auto call = [](int64_t, int64_t, void* context) { (*static_cast<Take*>(context))(); };
        lent.parallel_for(0, workers, 1, call, &take);
        return;
    }
    std::vector<std::thread> made;
    try {
        for (int64_t i = 1; i < workers; i++) made.emplace_back(take);
    } catch (const std::exception&) {  // no more threads, or no memory for them: the threads that exist do the work
    }
    take();
    for (auto& thread : made) thread.join();
}

// Keeps what an exception says for `dbp_failure`, per thread; returns FAILED.
int64_t failed(const std::exception& error);

// Returns what `work` returns, or OUT_OF_MEMORY, or FAILED after any other exception.
template <class Work>
int64_t guarded(Work work) {
    try {
        return work();
    } catch (const std::bad_alloc&) {
        return OUT_OF_MEMORY;
    } catch (const std::exception& error) {
        return failed(error);
    }
}

// Calls `work(begin, end)` on pieces of [0, items), on at most `threads` threads, each with 100 us of work or more.
// Returns 0; the first exception of any thread is thrown again here, after all have ended.
template <class Work>
int64_t parallel(int64_t items, double nanoseconds_per_item, int64_t threads, Work work) {
    const double useful = items * nanoseconds_per_item / 100e3;
    const int64_t workers = std::min({threads, items, useful < 1e6 ? static_cast<int64_t>(useful) : threads});
    std::atomic_flag caught = ATOMIC_FLAG_INIT;
    std::exception_ptr thrown;
    auto safely = [&](int64_t begin, int64_t end) {
        try {
            work(begin, end);
        } catch (...) {
            if (!caught.test_and_set()) thrown = std::current_exception();
        }
    };
    if (workers <= 1) {
        if (items > 0) safely(0, items);
    } else {
        const int64_t piece = std::max<int64_t>(1, items / (workers * 8));
        std::atomic<int64_t> next{0};
        on_threads(workers, [&] {
            for (int64_t begin; (begin = next.fetch_add(piece)) < items;) safely(begin, std::min(items, begin + piece));
        });
    }
    if (thrown) std::rethrow_exception(thrown);
    return 0;
}

// The first row that cannot be solved, whichever thread met it, and why: `code` is 1 to 7.
class Failure {
    std::atomic<int64_t> first{std::numeric_limits<int64_t>::max()};

   public:
    void report(int64_t row, int code) {
        const int64_t mine = row * 8 + code;
        int64_t seen = first;
        while (mine < seen && !first.compare_exchange_weak(seen, mine)) {
        }
    }
    // What a kernel returns: 0, or 8 * row + code. Its argument is the call that does the work.
    int64_t status(int64_t) const {
        const int64_t seen = first;
        return seen == std::numeric_limits<int64_t>::max() ? 0 : seen;
    }
};

}  // namespace dbp
