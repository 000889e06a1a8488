#include <cstring>

#include "kernel.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

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

namespace {
thread_local char message[256];
}

int64_t dbp::failed(const std::exception& error) {
    std::strncpy(message, error.what(), sizeof message - 1);
    return FAILED;
}

// What the last exception in this thread said.
DBP_EXPORT const char* dbp_failure() { return message; }

dbp::Lent dbp::lent{};

// From now on kernels run on torch's threads, in this process.
DBP_EXPORT void dbp_lend_threads(dbp::ParallelFor parallel_for) { dbp::lent = {parallel_for, getpid()}; }

// Asks for the memory in pages of 2 MB, where the system gives them to those who ask: one is cleared in a fraction of the
// time that 512 small ones take.
DBP_EXPORT void dbp_huge_pages(void* memory, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr uintptr_t PAGE = 1 << 21;
    const auto start = reinterpret_cast<uintptr_t>(memory), first = (start + PAGE - 1) & ~(PAGE - 1);
    const auto last = (start + static_cast<uintptr_t>(bytes)) & ~(PAGE - 1);
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}
