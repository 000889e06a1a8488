#include "kernel.h"

DBP_EXPORT int64_t dbp_instruction_set() { return dbp::instruction_set(); }
