#include "kernel.h"

#ifndef DBP_SOURCES
#define DBP_SOURCES 0
#endif

// Of which sources this library was built: the first 60 bits of their SHA-256.
DBP_EXPORT const int64_t dbp_sources = DBP_SOURCES;

// Which of the three libraries this processor runs: 0 the plain one, 1 AVX2, 2 AVX-512.
DBP_EXPORT int64_t dbp_best_instruction_set() {
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx2")) return 0;
    const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return wide ? 2 : 1;
#else
    return 0;
#endif
}

dbp::Lent dbp::lent{};

// From now on kernels run on torch's threads, in this process.
DBP_EXPORT void dbp_lend_threads(dbp::ParallelFor parallel_for) { dbp::lent = {parallel_for, getpid()}; }
