// What every kernel is written with: Lanes, dispatch (one source, three instruction sets), parallel, Failure.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#define DBP_EXPORT extern "C" __attribute__((visibility("default")))

namespace dbp {

constexpr int64_t OUT_OF_MEMORY = -1;

// 64 bytes of T with elementwise arithmetic, comparison and `? :`, for GCC and Clang on any processor: one register of
// AVX-512, two of AVX2, four of SSE or NEON. A function that takes or returns one must be DBP_INLINE.
template <class T>
struct LanesOf {
    typedef T type __attribute__((vector_size(64)));
};
template <class T>
using Lanes = typename LanesOf<T>::type;
template <class T>
constexpr int LANES = 64 / sizeof(T);
#define DBP_INLINE inline __attribute__((always_inline))

// 0: what the compiler targets by default, 1: AVX2, 2: AVX-512.
inline int instruction_set() {
#if defined(__x86_64__)
    static const int level = !__builtin_cpu_supports("avx2")       ? 0
                             : !__builtin_cpu_supports("avx512f")  ? 1
                             : !__builtin_cpu_supports("avx512bw") ? 1
                             : !__builtin_cpu_supports("avx512dq") ? 1
                             : !__builtin_cpu_supports("avx512vl") ? 1
                                                                   : 2;
    return level;
#else
    return 0;
#endif
}

#if defined(__x86_64__)
// `flatten` inlines all that `body` calls, so that it is compiled for the instruction set named here.
template <auto body, class... Args>
__attribute__((target("avx2"), flatten, noinline)) auto as_avx2(Args... args) {
    return body(args...);
}

template <auto body, class... Args>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"), flatten, noinline)) auto as_avx512(Args... args) {
    return body(args...);
}
#endif

// Runs `body(args...)`, compiled for what this machine has. The arithmetic, and so the result, is the same for all.
template <auto body, class... Args>
auto dispatch(Args... args) {
#if defined(__x86_64__)
    if (instruction_set() == 2) return as_avx512<body>(args...);
    if (instruction_set() == 1) return as_avx2<body>(args...);
#endif
    return body(args...);
}

// Calls `work(begin, end)` on pieces of [0, items), on at most `threads` threads, each with 200 us of work or more.
// The threads live as long as the call: nothing is left behind for a fork to lose, and none waits for work.
template <class Work>
int64_t parallel(int64_t items, double nanoseconds_per_item, int64_t threads, Work work) {
    const double useful = items * nanoseconds_per_item / 200e3;
    const int64_t workers = std::min({threads, items, useful < 1e6 ? static_cast<int64_t>(useful) : threads});
    std::atomic<bool> out_of_memory{false};
    auto safely = [&](int64_t begin, int64_t end) {
        try {
            work(begin, end);
        } catch (const std::bad_alloc&) {
            out_of_memory = true;
        }
    };
    if (workers <= 1) {
        if (items > 0) safely(0, items);
        return out_of_memory ? OUT_OF_MEMORY : 0;
    }
    const int64_t piece = std::max<int64_t>(1, items / (workers * 4));
    std::atomic<int64_t> next{0};
    auto take = [&] {
        for (int64_t begin; (begin = next.fetch_add(piece)) < items;) safely(begin, std::min(items, begin + piece));
    };
    std::vector<std::thread> pool;
    try {
        for (int64_t i = 1; i < workers; i++) pool.emplace_back(take);
    } catch (const std::system_error&) {  // no more threads to be had: those that are there do the work
    }
    take();
    for (auto& thread : pool) thread.join();
    return out_of_memory ? OUT_OF_MEMORY : 0;
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
    // What a kernel returns: 0, OUT_OF_MEMORY, or 8 * row + code.
    int64_t status(int64_t of_parallel) const {
        const int64_t seen = first;
        return of_parallel || seen == std::numeric_limits<int64_t>::max() ? of_parallel : seen;
    }
};

}  // namespace dbp
