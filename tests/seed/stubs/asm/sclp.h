#ifndef SEED_ASM_SCLP_H
#define SEED_ASM_SCLP_H

#include "../machine.h"

static struct {
	unsigned long hsa_size;
} sclp;

int memcpy_hsa_kernel(void *dest, unsigned long src, size_t count);

/* Only user reads of the vmcore body use it. */
#define memcpy_hsa_user(dest, src, count) (machine_stopped("memcpy_hsa_user"), 0)

#endif
